//! F38 on the programs themselves: a fleet of the release before becomes one of this tree, goes back, and comes again in the
//! other order, while it is used.
//!
//! After each step what is new works with all of the other kind: a replica with every machine, a machine through every replica. So each
//! pair of an agent and a replica of different releases has started, logged, entered and deleted an instance. What ran before the
//! first step is the same process after the last.
//!
//! The program of the release before is made by `cargo xtask previous-release`, from the commit that `.config/previous-release` names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use tokio::task::JoinHandle;
use wherry_api_client::{Client, ClientError, LogOptions};
use wherry_api_types::{ExecRequest, InstanceCreate, InstanceState, NodeState, OnNodeLoss};
use wherry_fleet_lab::{FleetOptions, PROJECT, Program};

use crate::support::{Crowd, LOOK_EVERY, Lab, again, binary, reach, seed, server, told, until};

const REPLICAS: usize = 2;
const MACHINES: usize = 2;
/// What each instance prints first.
const GREETING: &str = "ready";

/// Upgrades in the order of `docs/operations.md`, all the way back, and the upgrade in another order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f38_a_fleet_of_the_release_before_is_upgraded_and_goes_back_while_it_is_used() {
    let (before, today) = (previous(), binary());
    let options = FleetOptions { replicas: REPLICAS, machines: MACHINES, ..FleetOptions::new(before.clone()) };
    let mut lab = Lab::start_of(options).await;
    let residents = Residents::settle(&lab).await;
    let mut crowd = Crowd::start(&lab, 1, seed());
    let readers = Readers::start(&lab, &residents);
    crowd.more(2).await;

    // As it is written: the schema while the release before runs, the replicas, the machines.
    lab.fleet.replicas[0].cli(&today, &["migrate"]).await.unwrap();
    let mut way = Way { lab: &mut lab, crowd: &mut crowd, residents: &residents, readers: &readers };
    let clients = way.lab.clients();
    way.works("the schema is of today", &[0, 1], &clients).await;
    way.replica(0, &today).await;
    takes_nothing_new(way.lab).await;
    way.replica(1, &today).await;
    for machine in 0..MACHINES {
        way.machine(machine, &today).await;
    }
    // Back, the replicas first: agents of today have nobody but replicas of the release before.
    for replica in (0..REPLICAS).rev() {
        way.replica(replica, &before).await;
    }
    for machine in (0..MACHINES).rev() {
        way.machine(machine, &before).await;
    }
    // Again, crosswise.
    way.machine(0, &today).await;
    way.replica(1, &today).await;
    way.machine(1, &today).await;
    way.replica(0, &today).await;

    let (answers, reads) = (crowd.leave().await, readers.leave().await);
    println!("F38: {answers} creates and deletes were answered on the way, {reads} logs and programs");
    residents.are_as_they_were(&lab);
    for id in &residents.ids {
        let now = reach(&lab.clients(), id, InstanceState::Running).await;
        assert_eq!((now.containers[0].restart_count, now.containers[0].runs.len()), (0, 1), "{now:#?}");
    }
    lab.finish().await;
}

/// The first replica of today refuses what the other one, of the release before, would drop.
async fn takes_nothing_new(lab: &Lab) {
    let client = lab.fleet.replicas[0].client().unwrap();
    let body = InstanceCreate { ttl_seconds: Some(60), ..greeter(lab, "new") };
    let refused = client.create_instance(PROJECT, &body, None).await.unwrap_err();
    assert_eq!(refused.code(), Some("upgrade_under_way"), "{refused}");
}

/// The program of the release before.
fn previous() -> PathBuf {
    if let Some(path) = std::env::var_os("WHERRY_PREVIOUS_BINARY") {
        return PathBuf::from(path);
    }
    let text = include_str!("../../../../.config/previous-release");
    let commit = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap();
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(3).unwrap().join(format!("previous-release/wherry-{commit}"));
    assert!(path.exists(), "{} is missing: run `cargo xtask previous-release` first", path.display());
    path
}

/// Instances that are there the whole time: on each machine one that stays with it, and one that may be replaced, so that leases,
/// fences and guards are at work.
struct Residents {
    ids: Vec<String>,
    /// Process and time of its making, as the witness saw them.
    processes: BTreeMap<String, Vec<(u32, Duration)>>,
}

impl Residents {
    async fn settle(lab: &Lab) -> Self {
        let mut ids = Vec::new();
        for machine in 0..MACHINES {
            let only = only_open(lab, Some(machine)).await;
            for on_node_loss in [OnNodeLoss::Keep, OnNodeLoss::Replace] {
                let body = InstanceCreate {
                    on_node_loss: Some(on_node_loss),
                    ..greeter(lab, &format!("resident-{only}-{}", ids.len()))
                };
                let (clients, plan) = (lab.clients(), lab.history.plan(body));
                let made = told(&clients, 0, async |client| lab.history.create(client, &plan).await).await;
                reach(&clients, &made.id, InstanceState::Running).await;
                seen(lab, &made.id, &only).await;
                has_greeted(&lab.clients()[0], &made.id).await;
                ids.push(made.id);
            }
        }
        only_open(lab, None).await;
        let processes = ids.iter().map(|id| (id.clone(), processes(lab, id))).collect();
        Self { ids, processes }
    }

    fn are_as_they_were(&self, lab: &Lab) {
        for (id, before) in &self.processes {
            assert_eq!(&processes(lab, id), before, "an upgrade has touched {id}");
        }
    }
}

/// What is done step by step, and looked at after each.
struct Way<'a> {
    lab: &'a mut Lab,
    crowd: &'a mut Crowd,
    residents: &'a Residents,
    readers: &'a Readers,
}

impl Way<'_> {
    async fn replica(&mut self, index: usize, binary: &Path) {
        self.lab.fleet.replicas[index].upgrade(binary).await.unwrap();
        // A release may need a key that the one before did not have: its first replica makes it.
        self.lab.fleet.share_keys(index).unwrap();
        let replica = &mut self.lab.fleet.replicas[index];
        is_what_runs(&replica.program, binary);
        let (name, client) = (replica.host.name.clone(), replica.client().unwrap());
        self.works(&format!("{name} runs {}", binary.display()), &[0, 1], &[client]).await;
    }

    async fn machine(&mut self, index: usize, binary: &Path) {
        let name = self.lab.fleet.machines[index].host.name.clone();
        // A start that the end of the agent cuts short is undone.
        self.lab.history.doubt(&name);
        self.lab.fleet.machines[index].upgrade(binary).await.unwrap();
        self.works(&format!("{name} runs {}", binary.display()), &[index], &self.lab.clients()).await;
        is_what_runs(&self.lab.fleet.machines[index].program, binary);
        self.lab.history.doubt_ends(&name);
    }

    /// Each of these machines starts an instance, tells what it prints, runs a program in it and ends it, through each of these
    /// replicas; customers and readers were served meanwhile; the residents noticed nothing.
    async fn works(&mut self, step: &str, machines: &[usize], clients: &[Client]) {
        let begun = Instant::now();
        let (answered, read) = (self.crowd.acknowledged(), self.readers.count());
        for machine in machines {
            let only = only_open(self.lab, Some(*machine)).await;
            let plan = self.lab.history.plan(greeter(self.lab, "probe"));
            let made = told(clients, 0, async |client| self.lab.history.create(client, &plan).await).await;
            reach(clients, &made.id, InstanceState::Running).await;
            seen(self.lab, &made.id, &only).await;
            for client in clients {
                has_greeted(client, &made.id).await;
                told(std::slice::from_ref(client), 0, async |client| entered(client, &made.id).await).await;
            }
            told(clients, 1, async |client| self.lab.history.delete(client, &made.id).await).await;
            reach(clients, &made.id, InstanceState::Deleted).await;
        }
        only_open(self.lab, None).await;
        let missing = (answered + 2).saturating_sub(self.crowd.acknowledged());
        self.crowd.more(missing).await;
        until("readers are served", async || {
            self.readers.are_content();
            (self.readers.count() >= read + 2).then_some(())
        })
        .await;
        self.residents.are_as_they_were(self.lab);
        println!("F38: {step}; it works, {:?} later", begun.elapsed());
    }
}

/// Somebody who reads output of the residents and runs programs in them, through one replica after the other.
struct Readers {
    task: JoinHandle<()>,
    over: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
}

impl Readers {
    fn start(lab: &Lab, residents: &Residents) -> Self {
        let (over, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_over, count) = (Arc::clone(&over), Arc::clone(&reads));
        let (clients, ids) = (lab.clients(), residents.ids.clone());
        let task = tokio::spawn(async move {
            for (turn, id) in ids.iter().cycle().enumerate() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                visit(&clients, turn, id).await;
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { task, over, reads }
    }

    fn count(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// Fails when a reader was told something that no caller can use; what it was stands in the test's output.
    fn are_content(&self) {
        assert!(!self.task.is_finished(), "a reader has left");
    }

    async fn leave(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.reads.load(Ordering::Relaxed)
    }
}

/// Reads its output and runs a program in it, asking until both was answered.
async fn visit(clients: &[Client], first: usize, id: &str) {
    let begun = Instant::now();
    for client in clients.iter().cycle().skip(first % clients.len()) {
        let visited = async {
            let text = printed(client, id).await?;
            assert!(text.contains(GREETING), "{id} has printed {text:?}");
            entered(client, id).await
        };
        match visited.await {
            Ok(()) => return,
            Err(error) => again(client, error, begun).await,
        }
    }
}

fn greeter(lab: &Lab, name: &str) -> InstanceCreate {
    let mut body = server(&lab.image, name);
    if let Some(script) = body.containers[0].command.last_mut() {
        *script = format!("echo {GREETING}; {script}");
    }
    body
}

/// All that it has printed.
async fn printed(client: &Client, id: &str) -> Result<String, ClientError> {
    let pieces: Vec<Vec<u8>> = client.logs(PROJECT, id, "main", &LogOptions::default()).await?.try_collect().await?;
    Ok(String::from_utf8_lossy(&pieces.concat()).into_owned())
}

/// Waits until this replica shows what it prints first.
async fn has_greeted(client: &Client, id: &str) {
    until(&format!("the output of {id} through {}", client.server()), async || {
        let text = told(std::slice::from_ref(client), 0, async |client| printed(client, id).await).await;
        text.contains(GREETING).then_some(())
    })
    .await;
}

async fn entered(client: &Client, id: &str) -> Result<(), ClientError> {
    let command = ["/bin/sh", "-c", "echo $((6 * 7)); exit 3"].map(str::to_owned).to_vec();
    let output = client
        .exec(
            PROJECT,
            id,
            "main",
            &ExecRequest { command, stdin: None, stdin_encoding: None, timeout_seconds: Some(20) },
        )
        .await?;
    assert_eq!((output.exit_code, output.stdout.as_slice()), (3, b"42\n".as_slice()), "in {id}");
    Ok(())
}

/// Leaves new instances this machine alone, or all of them; its name. Some machine is open at any moment: customers are at work.
async fn only_open(lab: &Lab, machine: Option<usize>) -> String {
    let clients = lab.clients();
    let names: Vec<String> = lab.fleet.machines.iter().map(|machine| machine.host.name.clone()).collect();
    let (open, shut): (Vec<usize>, Vec<usize>) =
        (0..names.len()).partition(|index| machine.is_none_or(|machine| machine == *index));
    for index in open {
        told(&clients, index, async |client| client.uncordon_node(&names[index]).await).await;
        for client in &clients {
            until(&format!("{} is ready", names[index]), async || {
                let node = told(std::slice::from_ref(client), 0, async |client| client.node(&names[index]).await).await;
                (node.state == NodeState::Ready).then_some(())
            })
            .await;
        }
    }
    for index in shut {
        told(&clients, index, async |client| client.cordon_node(&names[index]).await).await;
    }
    machine.map(|machine| names[machine].clone()).unwrap_or_default()
}

/// Waits until the witness has seen it run, on this machine.
async fn seen(lab: &Lab, id: &str, machine: &str) {
    let run = until(&format!("{id} is seen to run"), async || lab.history.runs(id).first().cloned()).await;
    assert_eq!(run.machine, machine, "{id}");
}

fn processes(lab: &Lab, id: &str) -> Vec<(u32, Duration)> {
    lab.history.runs(id).into_iter().map(|run| (run.pid, run.made)).collect()
}

/// The kernel says which program it is.
fn is_what_runs(program: &Program, binary: &Path) {
    let runs = std::fs::read_link(format!("/proc/{}/exe", program.pid().unwrap())).unwrap();
    assert_eq!(runs, binary.canonicalize().unwrap());
}
