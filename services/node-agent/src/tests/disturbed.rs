//! Lives with disturbances: agents, engines and control planes that go and come, stale messages, full disks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wherry_agent_api::ControlPlane as _;
use wherry_model::lifecycle::Ask;
use wherry_model::{EndReason, Fact, InstanceState as S, RestartPolicy};
use wherry_runtime::fake::Fault;
use wherry_runtime::{ContainerRuntime as _, Labels, RuntimeError, SandboxConfig};

use super::world::World;
use crate::journal::{JournalDisk, JournalFolder};
use crate::labels;
use crate::{Agent, Phase};

const WHILE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_new_agent_adopts_what_runs() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    let before = world.containers().await;
    let applied = world.firewall.applied();
    let (calls, rules) = (world.runtime.calls("StartContainer"), world.firewall.in_force());
    agent.shut_down(WHILE).await;
    assert_eq!(world.running().await.len(), 1, "stopping the agent stops nothing");
    assert_eq!(world.firewall.in_force(), rules);
    let _again = world.agent().await;
    tokio::time::sleep(WHILE).await;
    assert_eq!(world.containers().await, before);
    assert_eq!((world.runtime.calls("StartContainer"), world.firewall.in_force()), (calls, rules));
    assert_eq!(world.firewall.applied(), applied + 1, "at no moment was it cut off");
    assert_eq!(world.instance(id).containers[0].runs.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_exit_while_no_agent_was_there_is_told_with_its_own_time() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("sleep 60; exit 9", RestartPolicy::Never);
    world.until_state(id, S::Running).await;
    drop(agent);
    tokio::time::sleep(Duration::from_mins(10)).await;
    let _again = world.agent().await;
    world.until_state(id, S::Failed).await;
    let run = world.instance(id).containers[0].runs[0].clone();
    let end = run.end.unwrap();
    assert_eq!((end.exit_code, end.finished_at.since(run.started_at)), (9, Duration::from_mins(1)));
}

#[tokio::test(start_paused = true)]
async fn an_agent_converges_and_keeps_its_word_without_a_control_plane() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("sleep 5; exit 1", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    world.control.set_away(true);
    agent.shut_down(WHILE).await;
    let _again = world.agent().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(world.runtime.calls("StartContainer") >= 3, "it restarts by the policy");
    assert_eq!(world.instance(id).containers[0].runs.len(), 1, "nothing was taken");
    world.control.set_away(false);
    world.until_run(id, 3).await;
    let runs = &world.instance(id).containers[0].runs;
    assert!(runs.windows(2).all(|pair| pair[1].number == pair[0].number + 1 && pair[0].end.is_some()));
}

#[tokio::test(start_paused = true)]
async fn an_older_desired_state_is_refused_and_a_doubled_one_changes_nothing() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    let revision = world.control.revision();
    agent.shut_down(WHILE).await;
    let instance = world.instance(id);
    world.control.forget(id);
    world.control.turn_back(revision - 1);
    world.control.ignore_floor(true);
    let again = world.agent().await;
    tokio::time::sleep(WHILE).await;
    assert_eq!(world.running().await.len(), 1, "an older state that does not list it removes nothing");
    assert!(again.status().borrow().control_plane_trouble.as_ref().unwrap().contains("older"));
    world.control.put(instance);
    world.control.turn_back(revision);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.runtime.calls("StartContainer"), 1);
    assert_eq!(again.status().borrow().control_plane_trouble, None);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_desires_is_removed_but_only_on_the_control_planes_word() {
    let world = World::new();
    let stranger = world.create("serve", RestartPolicy::Always);
    let node = world.config().machine.node;
    let desired = world.control.desired(node, None).await.unwrap().unwrap().instances.remove(0);
    world.control.forget(stranger);
    world.control.set_away(true);
    let config = SandboxConfig {
        name: "stranger".into(),
        uid: "stranger".into(),
        labels: labels::of_sandbox(node, &desired),
        log_directory: world.folder.path().to_owned(),
        ..SandboxConfig::default()
    };
    world.runtime.run_sandbox(&config).await.unwrap();
    let foreign = SandboxConfig { name: "foreign".into(), uid: "foreign".into(), labels: Labels::new(), ..config };
    world.runtime.run_sandbox(&foreign).await.unwrap();
    std::fs::create_dir_all(world.config().logs_of(stranger)).unwrap();
    let agent = world.agent().await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(world.runtime.list_sandboxes(&Labels::new()).await.unwrap().len(), 2, "nobody has spoken yet");
    assert_eq!(agent.status().borrow().count(Phase::Unconfirmed), 1);
    world.control.set_away(false);
    world.until("it is gone", |w| !w.config().logs_of(stranger).exists()).await;
    let left = world.runtime.list_sandboxes(&Labels::new()).await.unwrap();
    assert_eq!(left.iter().map(|sandbox| sandbox.name.as_str()).collect::<Vec<_>>(), ["foreign"], "not ours");
    assert_eq!(world.control.facts(stranger), []);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_not_listed_any_more_leaves_no_trace() {
    let world = World::new();
    let _agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    world.control.forget(id);
    world.until("its logs are gone", |w| !w.config().logs_of(id).exists()).await;
    world.assert_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_vanished_ended_at_the_last_proof() {
    for crash in [false, true] {
        let world = World::new();
        let mut agent = Some(world.agent().await);
        let id = world.create("serve", RestartPolicy::Always);
        world.until_state(id, S::Running).await;
        tokio::time::sleep(Duration::from_secs(21)).await;
        let last_proof = world.control.heartbeats().last().unwrap().at;
        if crash {
            agent = None;
            tokio::time::sleep(Duration::from_mins(5)).await;
        }
        let sandbox = world.containers().await[0].sandbox.clone();
        world.runtime.remove_sandbox(&sandbox).await.unwrap();
        if agent.is_none() {
            agent = Some(world.agent().await);
        }
        world.until_run(id, 2).await;
        let end = world.instance(id).containers[0].runs[0].end.clone().unwrap();
        assert_eq!(end.reason, EndReason::NodeLost);
        let from_proof = end.finished_at.since(last_proof).max(last_proof.since(end.finished_at));
        assert!(from_proof <= Duration::from_secs(5), "{from_proof:?}");
        assert_ne!(world.containers().await[0].sandbox, sandbox, "in a new sandbox");
        drop(agent);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_an_end_is_dated_at_the_last_proof_before_it() {
    let mut world = World::new();
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    tokio::time::sleep(Duration::from_secs(21)).await;
    let last_proof = world.control.heartbeats().last().unwrap().at;
    drop(agent);
    tokio::time::sleep(Duration::from_mins(5)).await;
    // The engine of the new boot says that it is over, and dates it at its own start.
    let container = world.containers().await.remove(0);
    world.runtime.exit_container(&container.id, 255);
    world.runtime.break_sandbox(&container.sandbox);
    world.boot = "b1".repeat(16).parse().unwrap();
    let _agent = world.agent().await;
    world.until_run(id, 2).await;
    let end = world.instance(id).containers[0].runs[0].end.clone().unwrap();
    assert_eq!(end.reason, EndReason::NodeLost);
    assert!(end.finished_at <= last_proof && last_proof.since(end.finished_at) <= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_broken_sandbox_is_replaced() {
    let world = World::new();
    let _agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    let sandbox = world.containers().await[0].sandbox.clone();
    world.runtime.break_sandbox(&sandbox);
    world.until_run(id, 2).await;
    assert_eq!(world.containers().await.len(), 1);
    assert_eq!(world.runtime.list_sandboxes(&Labels::new()).await.unwrap().len(), 1);
    let address = world.instance(id).address.unwrap();
    assert_eq!(world.firewall.in_force().unwrap().instances[0].1.address, address);
}

#[tokio::test(start_paused = true)]
async fn a_dead_engine_proves_nothing_and_ends_nothing() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    tokio::time::sleep(WHILE).await;
    world.runtime.set_engine_down(true);
    let beats = world.control.heartbeats().len();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(world.control.heartbeats().len() <= beats + 1, "no proof, no heartbeat");
    assert!(agent.status().borrow().runtime_trouble.is_some());
    world.control.ask(id, Ask::Stop);
    tokio::time::sleep(WHILE).await;
    assert_eq!(world.instance(id).state, S::Stopping);
    world.runtime.set_engine_down(false);
    world.until_state(id, S::Stopped).await;
    assert_eq!(world.instance(id).containers[0].runs.len(), 1);
    assert_eq!(agent.status().borrow().runtime_trouble, None);
}

#[tokio::test(start_paused = true)]
async fn calls_that_hang_or_fail_are_made_good() {
    for call in
        ["RunPodSandbox", "PodSandboxStatus", "CreateContainer", "StartContainer", "ContainerStatus", "PullImage"]
    {
        let internal = Fault::Fail(RuntimeError::Internal { message: "told to fail".into() });
        let down = Fault::Fail(RuntimeError::Unavailable { message: "told to be away".into() });
        for fault in [Fault::HangBefore, Fault::HangAfter, internal, down] {
            let world = World::new();
            world.runtime.inject(call, fault.clone(), 2);
            let _agent = world.agent().await;
            let id = world.create("serve", RestartPolicy::Always);
            world.until_state(id, S::Running).await;
            tokio::time::sleep(WHILE).await;
            assert_eq!((world.running().await.len(), world.containers().await.len()), (1, 1), "{call} {fault:?}");
            assert_eq!(world.instance(id).containers[0].runs.len(), 1, "{call} {fault:?}");
        }
    }
    for call in ["StopContainer", "StopPodSandbox", "RemovePodSandbox", "ContainerStatus", "RemoveContainer"] {
        for fault in [Fault::HangBefore, Fault::HangAfter] {
            let world = World::new();
            let _agent = world.agent().await;
            let id = world.create("serve", RestartPolicy::Always);
            world.until_state(id, S::Running).await;
            world.runtime.inject(call, fault, 2);
            world.control.ask(id, Ask::Delete);
            world.until_state(id, S::Deleted).await;
            world.until("no trace", |w| !w.config().logs_of(id).exists()).await;
            world.assert_clean().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_firewall_nothing_starts() {
    let world = World::new();
    world.firewall.fail(10);
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.runtime.calls("StartContainer"), 0);
    assert!(agent.status().borrow().instance_troubles[&id].contains("packet filter"));
    world.until_state(id, S::Running).await;
    assert!(agent.status().borrow().instance_troubles.is_empty());
}

struct FullDisk {
    real: JournalFolder,
    full: Arc<AtomicBool>,
}

impl JournalDisk for FullDisk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.real.write_at(offset, bytes)
    }

    fn replace_snapshot(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.real.replace_snapshot(bytes)
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_full_disk_nothing_new_is_done_and_nothing_is_lost() {
    let world = World::new();
    let full = Arc::new(AtomicBool::new(false));
    let seam = full.clone();
    let disk = |real| FullDisk { real, full: seam };
    let agent = Agent::start_on_disk(world.config(), world.parts(), disk).await.unwrap();
    let id = world.create("sleep 30; exit 1", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    full.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(world.runtime.calls("StartContainer"), 1, "the exit cannot be kept, so nothing follows it");
    assert_eq!(world.containers().await.len(), 1, "the evidence is kept");
    assert!(agent.status().borrow().instance_troubles[&id].contains("free space"));
    assert!(agent.status().borrow().journal_trouble.is_some());
    assert_eq!(world.instance(id).state, S::Running);
    full.store(false, Ordering::SeqCst);
    world.until_run(id, 2).await;
    let facts = world.control.facts(id);
    let exits = facts.iter().filter(|fact| matches!(fact, Fact::ContainerExited { run: 1, .. })).count();
    assert_eq!(exits, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_before_it_is_on_record_what_it_is() {
    let world = World::new();
    let full = Arc::new(AtomicBool::new(true));
    let seam = full.clone();
    let disk = |real| FullDisk { real, full: seam };
    let _agent = Agent::start_on_disk(world.config(), world.parts(), disk).await.unwrap();
    let id = world.create("serve", RestartPolicy::Always);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((world.runtime.calls("PullImage"), world.runtime.calls("StartContainer")), (1, 0));
    full.store(false, Ordering::SeqCst);
    world.until_state(id, S::Running).await;
    assert_eq!(world.runtime.calls("StartContainer"), 1);
}
