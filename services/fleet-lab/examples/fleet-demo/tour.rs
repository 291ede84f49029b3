//! The tour: a fleet comes up, works, loses a replica and a machine, and its books are right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::TryStreamExt as _;
use tokio::sync::mpsc;
use wherry_api_client::{Client, LogOptions, UsageOptions};
use wherry_api_types::{InstanceState, OnNodeLoss};
use wherry_demo_images::recipes;
use wherry_fleet_lab::Fleet;

use crate::ledger::{Ledger, Order, Size};
use crate::loss::{self, Dead};
use crate::rest::Rest;
use crate::steps::Steps;
use crate::{bill, clock, sight};

pub(crate) const PROJECT: &str = "default";
/// Shorter than what the service ships with (15 s, 300 s and 45 s), so that nobody has to wait.
pub(crate) const CONTROL_SETTINGS: &str =
    "[fleet]\ndetection_seconds = 10\nfence_after_seconds = 15\nfence_margin_seconds = 20\n";
pub(crate) const DETECTION_SECONDS: i64 = 10;
/// Nothing is placed anew earlier than this after the last proof of life.
pub(crate) const FENCE_SECONDS: i64 = 15 + 10;
/// Small machines: placement fills one before it wakes the next, so that empty ones can be taken away.
pub(crate) const MACHINE_SETTINGS: &str = "cpu_millis = 1000\nmemory_mib = 1024\n[containerd]\nwarm_sandboxes = 1\n";

const MACHINES: usize = 3;
/// Two of them fill a machine.
const NAMED: Size = Size { cpu_millis: 400, memory_mib: 64 };
const SMALL: Size = Size { cpu_millis: 10, memory_mib: 16 };
const NAMES: [(&str, OnNodeLoss); 5] = [
    ("shop", OnNodeLoss::Keep),
    ("cart", OnNodeLoss::Replace),
    ("blog", OnNodeLoss::Keep),
    ("mail", OnNodeLoss::Replace),
    ("news", OnNodeLoss::Keep),
];
const SMALL_ONES: usize = 10;
/// The replica is killed once so many were acknowledged.
const KILLED_AFTER: usize = 3;
const HEARD_WITHIN: Duration = Duration::from_secs(30);
const LOGGED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the steps hand on.
struct World {
    ledger: Ledger,
    rest: Rest,
    web: String,
    tool: String,
    begun: i64,
}

/// Shows everything.
pub(crate) async fn give(steps: &mut Steps, fleet: &mut Fleet) -> Result<()> {
    println!(
        "   times are shortened for the show: silent after {DETECTION_SECONDS} s, placed anew after {FENCE_SECONDS} s"
    );
    println!("   (as shipped: 15 s and 345 s)");
    let begun = clock::now();
    let (web, tool) = steps.step("push two images to the registry", publish(fleet)).await?;
    steps.step("start two replicas of the control plane: wherry migrate, wherry control", control_plane(fleet)).await?;
    steps.step("three machines join, each by the command that `wherry admin node token` prints", join(fleet)).await?;
    let rest = Rest::connect(&fleet.replicas).await?;
    let mut world = World { ledger: Ledger::default(), rest, web, tool, begun };
    let world = &mut world;
    steps.step("create five instances over REST, through replica control-0", create(fleet, world)).await?;
    steps
        .step("one talks to another on another machine by name; entered through control-1", talk(fleet, world))
        .await?;
    steps.step("kill -9 of control-0 while creates come in", lose_replica(fleet, world)).await?;
    steps.step("what control-0 acknowledged, control-1 has", acknowledged(fleet, world)).await?;
    let victim = victim(&fleet.replicas[1].client()?, &world.ledger).await?;
    let title = format!("power off {victim}");
    let client = fleet.replicas[1].client()?;
    let mut dead = steps.step(&title, loss::power_off(fleet, &client, &world.ledger, &victim)).await?;
    steps
        .step("its instances become unknown", loss::until_unknown(fleet, &client, &mut world.ledger, &mut dead))
        .await?;
    steps
        .step(
            "after fencing, `replace` is placed anew and `keep` waits",
            loss::until_replaced(fleet, &client, &mut world.ledger, &dead),
        )
        .await?;
    steps.step("the survivors go on; a replaced one is found by its name", survivors(&client, world, &dead)).await?;
    steps.step("stop what runs", stop(&client, world)).await?;
    steps.step("the bill, line by line against what ran", bills(fleet, &client, world)).await?;
    steps.step("control-0 comes back and says the same", come_back(fleet, &client, world)).await
}

/// How to look around, for `--stay`.
pub(crate) fn print_use(fleet: &Fleet, binary: &Path) {
    println!("\nIt stays until Ctrl-C. Try:");
    for replica in &fleet.replicas {
        let key = replica.data().join("client.json");
        let place = format!("--server {} --key {}", replica.url(""), key.display());
        println!("  {} ps {place}", binary.display());
        println!("  {} admin nodes {place}", binary.display());
    }
    if let Some(replica) = fleet.replicas.last() {
        println!("  documentation: {}", replica.url("/docs"));
    }
}

async fn publish(fleet: &Fleet) -> Result<(String, String)> {
    let address = fleet.registry.address();
    let web = recipes::web()?.push(&address, "demo/web", "1").await?;
    let tool = recipes::tool()?.push(&address, "demo/tool", "1").await?;
    println!("   {web}\n   {tool}");
    Ok((web, tool))
}

async fn control_plane(fleet: &mut Fleet) -> Result<()> {
    for _ in 0..2 {
        let index = fleet.add_replica().await.context("read its log, named below")?;
        let replica = &fleet.replicas[index];
        let pid = replica.program.pid().unwrap_or_default();
        println!("   {} at {}, API {}, process {pid}", replica.host.name, replica.host.address, replica.url(""));
    }
    Ok(())
}

async fn join(fleet: &mut Fleet) -> Result<()> {
    let invitation = fleet.invite().await?;
    let fingerprint: String = invitation.fingerprint.chars().take(20).collect();
    println!("   # WHERRY_JOIN_TOKEN=wjt_… wherry node --join {} --ca-fingerprint {fingerprint}…", invitation.url);
    let mut names = Vec::new();
    for _ in 0..MACHINES {
        let index = fleet.add_machine().await?;
        names.push(fleet.machines[index].host.name.clone());
    }
    fleet.joined(&names).await.context("`wherry doctor` checks this machine")?;
    let binary = fleet.binary().to_owned();
    let listing = fleet.replicas[1].cli(&binary, &["admin", "nodes"]).await?;
    println!("   # wherry admin nodes        (through control-1)");
    for line in listing.lines() {
        println!("   {line}");
    }
    Ok(())
}

async fn create(fleet: &Fleet, world: &mut World) -> Result<()> {
    for (name, on_node_loss) in NAMES {
        let order = Order::new(name, &world.web, NAMED, on_node_loss, &[]);
        let asked = clock::now();
        let instance = world.rest.create(&order.body, &order.idempotency_key).await?;
        world.ledger.records.push(order.acknowledged(&instance, asked));
    }
    ensure!(world.rest.replica() == 0, "control-0 did not take the creates, control-1 did");
    let client = fleet.replicas[0].client()?;
    let ids: Vec<String> = world.ledger.records.iter().map(|record| record.id.clone()).collect();
    let running = sight::until_running(&client, &mut world.ledger, &ids).await?;
    let nodes = sight::nodes(&client).await?;
    let mut used = BTreeSet::new();
    for instance in &running {
        let place = sight::machine_of(instance, &nodes)?;
        let policy = world.ledger.named(&instance.name)?.on_node_loss.as_str();
        let address = instance.address.as_deref().unwrap_or_default();
        println!("   {:<6} {:<8} {policy:<8} {address:<12} {place}", instance.name, instance.state.as_str());
        used.insert(place);
    }
    ensure!(
        used.len() == MACHINES,
        "they are on {used:?} only: they do not fit two machines, so all three must have some"
    );
    Ok(())
}

/// Two that run on different machines.
async fn far_apart(client: &Client, ledger: &Ledger) -> Result<(String, String)> {
    let places = places(client, ledger).await?;
    let here = places.values().next().context("nothing runs")?;
    let [from, to] = [here.first(), places.values().nth(1).and_then(|there| there.first())];
    Ok((from.context("nothing runs")?.clone(), to.context("all run on one machine")?.clone()))
}

/// Names of the running web servers by machine.
async fn places(client: &Client, ledger: &Ledger) -> Result<BTreeMap<String, Vec<String>>> {
    let nodes = sight::nodes(client).await?;
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in ledger.records.iter().filter(|record| record.size.cpu_millis == NAMED.cpu_millis) {
        let instance = client.instance(PROJECT, &record.id).await?;
        if instance.state == InstanceState::Running {
            places.entry(sight::machine_of(&instance, &nodes)?).or_default().push(record.name.clone());
        }
    }
    Ok(places)
}

async fn talk(fleet: &Fleet, world: &World) -> Result<()> {
    let client = fleet.replicas[1].client()?;
    let (from, to) = far_apart(&client, &world.ledger).await?;
    fetch(&client, &from, &to).await?;
    let begun = Instant::now();
    loop {
        let pieces: Vec<Vec<u8>> =
            client.logs(PROJECT, &to, "main", &LogOptions::default()).await?.try_collect().await?;
        let text = String::from_utf8_lossy(&pieces.concat()).into_owned();
        // The program writes the line of the request when it likes.
        if text.contains("serving /www") && text.lines().count() > 1 {
            println!("   # wherry logs {to}        (through control-1)");
            text.lines().take(3).for_each(|line| println!("   | {line}"));
            return Ok(());
        }
        ensure!(begun.elapsed() < LOGGED_WITHIN, "the log of {to} does not hold the request: {text}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Fetches the page of one instance from within another, by its bare name: with `nc`, because the `wget` of Debian's static busybox
/// crashes. A name that has moved is cached for some seconds.
async fn fetch(client: &Client, from: &str, to: &str) -> Result<()> {
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {to} 80");
    let begun = Instant::now();
    let page = loop {
        match sight::run_in(client, from, &["sh", "-c", &script]).await {
            Ok(page) if page.contains("<h1>") => break page,
            Ok(page) if begun.elapsed() > HEARD_WITHIN => {
                bail!("{from} asks {to} by its name and hears something else: {page}")
            }
            Err(error) if begun.elapsed() > HEARD_WITHIN => {
                return Err(error.context(format!("{from} does not reach {to} by its name")));
            }
            Ok(_) | Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    };
    let title = page.lines().find(|line| line.contains("<h1>")).unwrap_or_default();
    println!("   # wherry exec {from} -- sh -c \"{script}\"\n   | {}", title.trim());
    Ok(())
}

async fn lose_replica(fleet: &mut Fleet, world: &mut World) -> Result<()> {
    let (sender, mut acknowledged) = mpsc::channel(SMALL_ONES);
    let command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"];
    let orders = (0..SMALL_ONES)
        .map(|number| Order::new(&format!("small-{number}"), &world.tool, SMALL, OnNodeLoss::Replace, &command));
    let (mut rest, orders): (Rest, Vec<Order>) = (world.rest.clone(), orders.collect());
    let creating = tokio::spawn(async move {
        for order in orders {
            let asked = clock::now();
            let instance = rest.create(&order.body, &order.idempotency_key).await?;
            let by = rest.replica();
            // Nobody listens any more only when the tour is over.
            let _ = sender.send((order.acknowledged(&instance, asked), by, Instant::now())).await;
        }
        anyhow::Ok(())
    });
    let (mut by_each, mut killed, mut served) = ([0_usize; 2], None, None);
    while let Some((record, by, at)) = acknowledged.recv().await {
        world.ledger.records.push(record);
        by_each[by] += 1;
        if by == 1 && served.is_none() {
            served = Some(at);
        }
        if by_each[0] == KILLED_AFTER && killed.is_none() {
            fleet.replicas[0].kill();
            killed = Some(Instant::now());
        }
    }
    creating.await.context("the creates ended")??;
    world.rest = Rest::connect(&fleet.replicas[1..]).await?;
    let [first, second] = by_each;
    ensure!(first >= KILLED_AFTER && second > 0, "the creates ended before the replica did: {first} and {second}");
    if let (Some(killed), Some(served)) = (killed, served) {
        let gap = served.saturating_duration_since(killed).as_millis();
        println!(
            "   {first} acknowledged by control-0, {second} by control-1, the first of them {gap} ms after the kill"
        );
    }
    let client = fleet.replicas[1].client()?;
    let started = world.ledger.records.iter().filter(|record| record.spans.is_empty());
    let ids: Vec<String> = started.map(|record| record.id.clone()).collect();
    sight::until_running(&client, &mut world.ledger, &ids).await?;
    println!("   all {} run: agents went over to control-1", world.ledger.records.len());
    let (from, to) = far_apart(&client, &world.ledger).await?;
    fetch(&client, &from, &to).await
}

/// Every create that got an answer is there, once; one that is sent again gives the same instance.
async fn acknowledged(fleet: &Fleet, world: &mut World) -> Result<()> {
    let client = fleet.replicas[1].client()?;
    for record in &world.ledger.records {
        let found = client.instance(PROJECT, &record.name).await.with_context(|| format!("{} is lost", record.name))?;
        ensure!(found.id == record.id, "{} is another instance now: {} and {}", record.name, record.id, found.id);
        let again = world.rest.create(&record.body, &record.idempotency_key).await?;
        ensure!(again.id == record.id, "the create of {} made another instance when it was sent again", record.name);
    }
    let listed = client.instances(PROJECT, &wherry_api_client::ListOptions::default()).await?.items.len();
    ensure!(
        listed == world.ledger.records.len(),
        "there are {listed} instances, {} were acknowledged",
        world.ledger.records.len()
    );
    println!("   {listed} acknowledged, {listed} there, each sent again gives the same id");
    Ok(())
}

/// The machine with the most to lose: one with both kinds.
async fn victim(client: &Client, ledger: &Ledger) -> Result<String> {
    for (machine, names) in places(client, ledger).await? {
        let policies: Vec<OnNodeLoss> =
            names.iter().map(|name| ledger.named(name).map(|record| record.on_node_loss)).collect::<Result<_>>()?;
        if policies.contains(&OnNodeLoss::Keep) && policies.contains(&OnNodeLoss::Replace) {
            return Ok(machine);
        }
    }
    bail!("no machine has both an instance to keep and one to replace: placement has changed, change the tour")
}

async fn survivors(client: &Client, world: &World, dead: &Dead) -> Result<()> {
    let is_lost = |id: &str| dead.instances.iter().any(|(lost, _)| lost == id);
    let named = world.ledger.records.iter().filter(|record| record.size.cpu_millis == NAMED.cpu_millis);
    let (lost, safe): (Vec<_>, Vec<_>) = named.partition(|record| is_lost(&record.id));
    for record in world.ledger.records.iter().filter(|record| !is_lost(&record.id)) {
        let instance = client.instance(PROJECT, &record.id).await?;
        let runs = instance.containers.iter().map(|container| container.runs.len()).sum::<usize>();
        ensure!(
            instance.state == InstanceState::Running && runs == 1,
            "{} was not on {} and is {} after {runs} runs",
            record.name,
            dead.machine,
            instance.state
        );
    }
    let replaced =
        lost.iter().find(|record| record.on_node_loss == OnNodeLoss::Replace).context("nothing was replaced")?;
    let from = safe.first().context("nothing has survived")?;
    fetch(client, &from.name, &replaced.name).await
}

async fn stop(client: &Client, world: &mut World) -> Result<()> {
    let running =
        world.ledger.records.iter().filter(|record| record.spans.last().is_some_and(|span| span.ended.is_none()));
    let ids: Vec<String> = running.map(|record| record.id.clone()).collect();
    sight::stop(client, &mut world.ledger, &ids).await?;
    println!("   {} stopped", ids.len());
    Ok(())
}

async fn bills(fleet: &Fleet, client: &Client, world: &World) -> Result<()> {
    ensure!(fleet.replicas.len() == 2, "this is about two replicas");
    bill::check(&client.usage(&window(world)?).await?, &world.ledger)
}

fn window(world: &World) -> Result<UsageOptions> {
    let (from, to) = (clock::text(world.begun)?, clock::text(clock::now() + 1)?);
    Ok(UsageOptions { project: None, from: Some(from), to: Some(to) })
}

async fn come_back(fleet: &mut Fleet, client: &Client, world: &World) -> Result<()> {
    fleet.replicas[0].start().await?;
    let returned = fleet.replicas[0].client()?;
    let window = window(world)?;
    let [here, there] = [returned.usage(&window).await?, client.usage(&window).await?];
    ensure!(here == there, "the replicas do not agree on the bill: {} and {}", here.total, there.total);
    for record in &world.ledger.records {
        let [here, there] =
            [returned.instance(PROJECT, &record.id).await?, client.instance(PROJECT, &record.id).await?];
        ensure!(here == there, "the replicas do not agree on {}: {here:?} and {there:?}", record.name);
    }
    println!("   the same bill and the same {} instances", world.ledger.records.len());
    Ok(())
}
