//! `kill -9` of `wherry up` at random moments, while several clients create, stop, start and delete.
//!
//! The seed decides what the clients do and when the kills come; it is printed, and `WHERRY_E2E_SEED` takes it again. What
//! the machine does in between is its own, so a replay is the same storm, not the same raindrops.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng as _, TryRng as _};
use wherry_api_client::{Client, ClientError, ListOptions};
use wherry_api_types::{Instance, InstanceState, MeterKind, Resource};

use crate::support::{Observer, PROJECT, World, shell};

const CLIENTS: u64 = 4;
/// `WHERRY_E2E_STORM_SECONDS` makes it longer.
const STORM: Duration = Duration::from_secs(20);
/// A client waits this long for a service that is killed again and again.
const PATIENCE: Duration = Duration::from_secs(40);
const SETTLED_WITHIN: Duration = Duration::from_secs(40);
/// From a kill to the moment at which the next Wherry undoes what was half done, in seconds.
const UNPROVED_MOST: f64 = 6.0;
const MOST_LIVE_EACH: usize = 3;

/// What a client was told, and asked for last.
struct Owned {
    id: String,
    tag: String,
    wanted: InstanceState,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_leaked_or_billed_twice() {
    let seed =
        std::env::var("WHERRY_E2E_SEED").map_or_else(|_| SysRng.try_next_u64().unwrap(), |seed| seed.parse().unwrap());
    println!("WHERRY_E2E_SEED={seed}");
    let seconds = std::env::var("WHERRY_E2E_STORM_SECONDS").map(|text| text.parse().unwrap());
    let lasts = seconds.map_or(STORM, Duration::from_secs);
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::start().await;
    let tags = format!("storm-{}-", std::process::id());
    let observer = Observer::start(&tags);

    let calm = AtomicBool::new(false);
    let clients = (0..CLIENTS).map(|number| {
        let random = StdRng::seed_from_u64(seed.wrapping_add(1 + number));
        ask_in_a_storm(world.client.clone(), world.tool.clone(), format!("{tags}{number}"), random, &calm)
    });
    let clients = futures_util::future::join_all(clients.collect::<Vec<_>>());
    let wherry = &mut world.wherry;
    let storm = async {
        let begun = Instant::now();
        let mut kills = 0;
        while begun.elapsed() < lasts {
            // Now and then before it is even up.
            let most = if random.random_bool(0.3) { 400 } else { 2_500 };
            tokio::time::sleep(Duration::from_millis(random.random_range(10..most))).await;
            wherry.kill();
            kills += 1;
            wherry.launch();
        }
        wherry.kill();
        wherry.start().await;
        calm.store(true, Ordering::Relaxed);
        kills
    };
    let (owned, kills) = tokio::join!(clients, storm);
    let owned: Vec<Owned> = owned.into_iter().flatten().collect();
    println!("{kills} kills, {} instances", owned.len());
    assert!(kills >= 8 && owned.len() >= 6, "the storm was too mild: {kills} kills, {} instances", owned.len());

    let now = settled(&world, &owned).await;
    check_no_instance_lost_or_doubled(&world, &owned).await;
    check_engine(&world, &now);
    check_bills(&world, &owned, &observer).await;

    let live = owned.iter().filter(|owned| owned.wanted != InstanceState::Deleted);
    futures_util::future::join_all(live.map(|owned| world.delete(&owned.id))).await;
    check_bills(&world, &owned, &observer).await;
    check_nothing_leaked(&world).await;
    world.finish().await;
}

/// One client: asks until it is told, remembers what it was told.
async fn ask_in_a_storm(
    client: Client,
    image: String,
    tag: String,
    mut random: StdRng,
    calm: &AtomicBool,
) -> Vec<Owned> {
    let mut all: Vec<Owned> = Vec::new();
    let mut number = 0;
    while !calm.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        let live: Vec<usize> = (0..all.len()).filter(|index| all[*index].wanted != InstanceState::Deleted).collect();
        if live.len() < MOST_LIVE_EACH && (live.is_empty() || random.random_bool(0.5)) {
            number += 1;
            let made = create(&client, &image, &format!("{tag}-{number}"), &mut random).await;
            assert!(all.iter().all(|owned| owned.id != made.id), "two creates, one instance: {}", made.id);
            all.push(Owned { id: made.id, tag: format!("{tag}-{number}"), wanted: InstanceState::Running });
            continue;
        }
        let owned = &mut all[live[random.random_range(0..live.len())]];
        let wanted = match (random.random_range(0..10), owned.wanted) {
            (0..3, _) => InstanceState::Deleted,
            (_, InstanceState::Running) => InstanceState::Stopped,
            _ => InstanceState::Running,
        };
        let asked = until_told(async || match wanted {
            InstanceState::Deleted => client.delete_instance(PROJECT, &owned.id).await,
            InstanceState::Stopped => client.stop_instance(PROJECT, &owned.id).await,
            _ => client.start_instance(PROJECT, &owned.id).await,
        });
        match asked.await {
            Ok(_) => owned.wanted = wanted,
            Err(error) => assert_eq!(error.status(), Some(409), "{} to be {wanted}: {error}", owned.tag),
        }
    }
    all
}

/// Creates with the tag as name and as idempotency key, and sometimes asks once more.
async fn create(client: &Client, image: &str, tag: &str, random: &mut StdRng) -> Instance {
    // Some end when they are asked to, some only when they are killed.
    let script =
        if random.random_bool(0.5) { "trap 'exit 0' TERM; while :; do sleep 9 & wait $!; done" } else { "sleep 999" };
    let mut body = shell(tag, image, &format!(": {tag}; {script}; exit 1"));
    body.stop_grace_seconds = Some(1);
    let ask = async || client.create_instance(PROJECT, &body, Some(tag)).await;
    let made = until_told(ask).await.unwrap();
    if random.random_bool(0.3) {
        let again = until_told(ask).await.unwrap();
        assert_eq!(again.id, made.id, "the same key must mean the same instance");
    }
    made
}

/// Asks again while the service is away; any other answer is an answer.
async fn until_told(ask: impl AsyncFn() -> Result<Instance, ClientError>) -> Result<Instance, ClientError> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.status().is_none_or(|status| status == 503) && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            told => return told,
        }
    }
}

/// Waits until everything is as it was last asked for.
async fn settled(world: &World, owned: &[Owned]) -> BTreeMap<String, InstanceState> {
    let mut now = BTreeMap::new();
    let begun = Instant::now();
    for owned in owned {
        let left = SETTLED_WITHIN.saturating_sub(begun.elapsed()).max(Duration::from_secs(1));
        let waited = world.client.wait_instance(PROJECT, &owned.id, &[owned.wanted], left).await;
        let waited = waited.unwrap_or_else(|error| panic!("{} was acknowledged and is lost: {error}", owned.tag));
        assert!(waited.reached, "{} is to be {}: {:#?}", owned.tag, owned.wanted, waited.instance);
        now.insert(owned.id.clone(), waited.instance.state);
    }
    now
}

async fn check_no_instance_lost_or_doubled(world: &World, owned: &[Owned]) {
    let known: BTreeSet<&str> = owned.iter().map(|owned| owned.id.as_str()).collect();
    let mut options = ListOptions { states: InstanceState::ALL.to_vec(), limit: Some(200), ..ListOptions::default() };
    let mut listed = Vec::new();
    loop {
        let page = world.client.instances(PROJECT, &options).await.unwrap();
        listed.extend(page.items);
        options.cursor = page.next;
        if options.cursor.is_none() {
            break;
        }
    }
    for instance in &listed {
        assert!(known.contains(instance.id.as_str()), "nobody was told of {instance:#?}");
    }
    let live: Vec<&Owned> = owned.iter().filter(|owned| owned.wanted != InstanceState::Deleted).collect();
    for owned in &live {
        let same: Vec<_> = listed
            .iter()
            .filter(|instance| instance.name == owned.tag && instance.state != InstanceState::Deleted)
            .collect();
        assert_eq!(same.len(), 1, "{}: {same:#?}", owned.tag);
    }
}

/// One container in a sandbox of its own for each running instance, and none for anything else.
fn check_engine(world: &World, now: &BTreeMap<String, InstanceState>) {
    let engine = world.wherry.engine();
    let mut running: BTreeMap<&str, u32> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for container in engine.iter().filter(|thing| thing.is_container() && thing.pid.is_some()) {
        let instance = container.instance().unwrap();
        assert!(now.contains_key(instance), "without a record: {container:?}");
        *running.entry(instance).or_default() += 1;
        assert!(used.insert(container.sandbox.as_deref().unwrap()), "two in one sandbox: {engine:#?}");
    }
    for (id, state) in now {
        let found = running.get(id.as_str()).copied().unwrap_or(0);
        assert_eq!(found, u32::from(*state == InstanceState::Running), "containers of {id}, which is {state}");
    }
    for sandbox in engine.iter().filter(|thing| !thing.is_container()) {
        assert!(used.contains(sandbox.id.as_str()) || sandbox.was_kept_ready(), "nothing runs in {sandbox:?}");
    }
}

/// Bills against what the observer saw. Both ends of an interval are floored to seconds, so each run may differ by one.
async fn check_bills(world: &World, owned: &[Owned], observer: &Observer) {
    let runs = observer.runs();
    for owned in owned {
        let usage = world.client.instance_usage(PROJECT, &owned.id).await.unwrap();
        let sightings = runs.get(&owned.tag).map(Vec::as_slice).unwrap_or_default();
        for pair in sightings.windows(2) {
            assert!(pair[0].last <= pair[1].first, "{} ran twice at once: {pair:?}", owned.tag);
        }
        let metered = usage.lines.iter().filter(|line| line.kind == MeterKind::Run && line.resource == Resource::Cpu);
        let mut metered: Vec<_> = metered.map(|line| [&line.from, &line.to].map(|time| seconds(time))).collect();
        metered.sort_unstable();
        for pair in metered.windows(2) {
            assert!(pair[0][1] <= pair[1][0], "{}: seconds billed twice: {metered:?}", owned.tag);
        }
        let billed: i64 = metered.iter().map(|[from, to]| to - from).sum();
        let mut seen = 0.0;
        for sighting in sightings {
            let duration = sighting.last - sighting.first;
            let is_metered = metered.iter().any(|[from, _]| (whole(*from) - sighting.first).abs() < 1.5);
            // A start that a kill cut short is undone, and what nobody can prove is not billed.
            assert!(is_metered || duration < UNPROVED_MOST, "{} ran unbilled: {sighting:?}, {usage:#?}", owned.tag);
            seen += if is_metered { duration } else { 0.0 };
        }
        let tolerance = 1.2 * whole(i64::try_from(sightings.len().max(metered.len())).unwrap());
        assert!(
            (whole(billed) - seen).abs() <= tolerance + heartbeat(&usage),
            "{} ran {seen:.2} s and is billed {billed} s: {sightings:?}, {metered:?}, {usage:#?}",
            owned.tag
        );
    }
}

/// Seconds since the epoch fit until 2106.
fn whole(seconds: i64) -> f64 {
    f64::from(u32::try_from(seconds).unwrap())
}

/// An open interval ends at the last proof of life, which is up to some seconds old.
fn heartbeat(usage: &wherry_api_types::Usage) -> f64 {
    if usage.lines.iter().any(|line| line.open) { 4.0 } else { 0.0 }
}

fn seconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_second()
}

/// After the last delete only sandboxes that are kept ready for the next create may be there, each with one of everything.
async fn check_nothing_leaked(world: &World) {
    let begun = Instant::now();
    loop {
        let engine = world.wherry.engine();
        let ready = engine.len();
        let owned = engine.iter().filter(|thing| thing.is_container() || thing.instance().is_some()).count();
        let traces = world.wherry.traces();
        let mounts = world.wherry.engine_mounts();
        let mounted = |word: &str| mounts.iter().filter(|line| line.contains(word)).count();
        let left = [
            ("containers and sandboxes of instances", owned, 0),
            ("addresses that the filter admits", world.wherry.admitted(), 0),
            ("shims", traces.iter().filter(|line| line.contains("/containerd-shim")).count(), ready),
            ("address leases", world.wherry.leases().len(), ready),
            (
                "routes to instances",
                traces.iter().filter(|line| line.contains(" dev veth") && !line.contains("local")).count(),
                ready,
            ),
            ("root file systems", mounted(" - overlay "), ready),
            ("network namespaces", mounted("/netns/"), ready),
            ("cgroups of sandboxes", sandbox_cgroups(&traces), ready),
        ];
        let wrong: Vec<_> = left.iter().filter(|(_, found, expected)| found != expected).collect();
        if wrong.is_empty() {
            return;
        }
        let all = || format!("{traces:#?}\n{mounts:#?}\n{engine:#?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "leaked (what, found, expected): {wrong:#?}\n{}", all());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Names right below the root of ours, in whichever hierarchy.
fn sandbox_cgroups(traces: &[String]) -> usize {
    let below = traces.iter().filter_map(|line| line.strip_prefix("cgroup /sys/fs/cgroup/")?.split('/').nth(2));
    below.collect::<BTreeSet<_>>().len()
}
