//! Engines that end nothing, and files that say nothing: what may run elsewhere ends all the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wherry_model::lifecycle::Ask;
use wherry_model::{ContainerExit, EndReason, InstanceId, InstanceState as S, OnNodeLoss, RestartPolicy};
use wherry_runtime::fake::{Fault, RunWitness};
use wherry_runtime::{ContainerConfig, ContainerRuntime as _, ContainerStatus, Labels, RuntimeError, SandboxConfig};

use super::world::World;
use crate::{Guard, Sight};

/// The lease of these worlds, and the least margin that a fleet can have.
const FENCE: Duration = Duration::from_mins(1);
const MARGIN: Duration = Duration::from_secs(20);

/// When processes ended, since the world began.
#[derive(Debug)]
struct Ends {
    begun: tokio::time::Instant,
    seen: Mutex<Vec<(String, Duration)>>,
}

impl Ends {
    fn watch(world: &World) -> Arc<Self> {
        let ends = Arc::new(Self { begun: tokio::time::Instant::now(), seen: Mutex::default() });
        world.runtime.show(ends.clone());
        ends
    }

    fn of(&self, id: InstanceId) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|(instance, _)| *instance == id.to_string()).map(|(_, at)| *at).collect()
    }
}

impl RunWitness for Ends {
    fn started(&self, _container: &ContainerStatus) {}

    fn ended(&self, container: &ContainerStatus) {
        let ended = (container.labels["wherry/instance"].clone(), self.begun.elapsed());
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
    }
}

fn guard(world: &World) -> Guard {
    let (folder, node) = (world.folder.path().to_owned(), world.config().machine.node);
    Guard::new(folder, node, world.boot, Arc::new(world.clock.clone()), Arc::new(world.runtime.clone()))
}

/// One that may run elsewhere, and one that may not; both run.
async fn two(world: &World) -> (InstanceId, InstanceId) {
    let (id, kept) = (world.create("serve", RestartPolicy::Never), world.create("serve", RestartPolicy::Always));
    let mut instance = world.instance(id);
    instance.spec.on_node_loss = OnNodeLoss::Replace;
    world.control.put(instance);
    world.until_state(id, S::Running).await;
    world.until_state(kept, S::Running).await;
    (id, kept)
}

fn first_end(world: &World, id: InstanceId) -> ContainerExit {
    world.instance(id).containers[0].runs[0].end.clone().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_keeps_nothing_alive_that_may_run_elsewhere() {
    for is_down in [false, true] {
        let world = World::new();
        let ends = Ends::watch(&world);
        let _agent = world.agent().await;
        let (id, kept) = two(&world).await;
        let hang =
            |hangs| if is_down { world.runtime.set_engine_down(hangs) } else { world.runtime.set_engine_stuck(hangs) };
        // Nothing is proved of an engine that does not answer, so the lease runs out by that alone.
        let silent_from = world.elapsed();
        hang(true);
        tokio::time::sleep(Duration::from_mins(5)).await;
        let ended = ends.of(id);
        assert_eq!(ended.len(), 1, "down: {is_down}");
        assert!(ended[0] < silent_from + FENCE + MARGIN, "{ended:?}, silent from {silent_from:?}");
        assert!(ends.of(kept).is_empty());
        assert_eq!(world.instance(id).state, S::Running, "nobody saw it end yet");

        hang(false);
        world.until_run(id, 2).await;
        let end = first_end(&world, id);
        assert_eq!((end.reason, end.exit_code), (EndReason::NodeLost, 137));
        assert_eq!(end.finished_at, world.begun().plus(ended[0]), "it is billed to its true end");
        assert_eq!(world.instance(kept).containers[0].runs.len(), 1);
        for id in [id, kept] {
            world.control.ask(id, Ask::Delete);
            world.until_state(id, S::Deleted).await;
        }
        world.assert_clean().await;
        let notes = std::fs::read_dir(world.folder.path().join("fenced")).unwrap().count();
        assert_eq!(notes, 0, "notes are left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_ends_it_past_an_engine_that_hangs_and_stays_until_that_answers() {
    let world = World::new();
    let ends = Ends::watch(&world);
    let agent = world.agent().await;
    let (id, kept) = two(&world).await;
    agent.buried().await;
    world.runtime.set_engine_stuck(true);
    tokio::time::sleep(FENCE + Duration::from_secs(5)).await;
    assert_eq!(guard(&world).look().await.unwrap(), Sight { ended: 1, is_over: false });
    assert_eq!(guard(&world).look().await.unwrap(), Sight { ended: 0, is_over: false });
    assert!(ends.of(kept).is_empty());
    world.runtime.set_engine_stuck(false);
    assert_eq!(guard(&world).look().await.unwrap(), Sight { ended: 0, is_over: true });
    let _agent = world.agent().await;
    world.until_run(id, 2).await;
    assert_eq!(first_end(&world, id).reason, EndReason::NodeLost, "not the program's own end");
    assert_eq!(first_end(&world, id).finished_at, world.begun().plus(ends.of(id)[0]));
}

#[tokio::test(start_paused = true)]
async fn a_guard_outlives_an_engine_that_is_gone_while_there_is_something_to_end() {
    let world = World::new();
    let agent = world.agent().await;
    let (id, _) = two(&world).await;
    let ends = Ends::watch(&world);
    agent.buried().await;
    world.runtime.set_engine_down(true);
    let is_gone = tokio_util::sync::CancellationToken::new();
    is_gone.cancel();
    guard(&world).keep(is_gone, || false).await;
    assert_eq!(ends.of(id).len(), 1, "it left before the lease was over");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_by_force_is_not_said_to_have_ended_and_is_tried_again() {
    let world = World::new();
    let ends = Ends::watch(&world);
    let _agent = world.agent().await;
    let (id, _) = two(&world).await;
    world.control.set_away(true);
    world.runtime.inject("StopContainer", Fault::HangBefore, u32::MAX);
    let fault = Fault::Fail(RuntimeError::Internal { message: "a process waits for its disk".into() });
    world.runtime.inject("EndByForce", fault.clone(), u32::MAX);
    tokio::time::sleep(FENCE * 2).await;
    let lies = guard(&world).look().await;
    assert!(lies.is_err() && ends.of(id).is_empty(), "{lies:?}");
    world.runtime.inject("EndByForce", fault, 1);
    tokio::time::sleep(MARGIN).await;
    assert_eq!(ends.of(id).len(), 1);
}

/// The engine was at a start when it was ended by force.
#[tokio::test(start_paused = true)]
async fn what_begins_after_the_end_by_force_is_ended_too() {
    let world = World::new();
    let ends = Ends::watch(&world);
    let _agent = world.agent().await;
    let (id, _) = two(&world).await;
    let of_it = |labels: &Labels| labels["wherry/instance"] == id.to_string();
    let listed = world.containers().await.into_iter().find(|container| of_it(&container.labels)).unwrap();
    let status = world.runtime.container(&listed.id).await.unwrap().unwrap();
    world.control.set_away(true);
    world.runtime.inject("StopContainer", Fault::HangBefore, u32::MAX);
    tokio::time::sleep(FENCE + MARGIN).await;
    assert_eq!(ends.of(id).len(), 1);

    let sandbox = SandboxConfig {
        name: "late".into(),
        uid: "late".into(),
        cgroup_name: id.to_string(),
        log_directory: world.folder.path().to_owned(),
        ..SandboxConfig::default()
    };
    let made = world.runtime.run_sandbox(&sandbox).await.unwrap();
    let labels = Labels::from([("wherry/run".to_owned(), "2".to_owned())]);
    let labels = listed.labels.into_iter().chain(labels).collect();
    let command = ["sh", "-c", "serve"].map(str::to_owned).to_vec();
    let config =
        ContainerConfig { name: "late".into(), image: status.image, command, labels, ..ContainerConfig::default() };
    let late = world.runtime.create_container(&made, &sandbox, &config).await.unwrap();
    world.runtime.start_container(&late).await.unwrap();
    tokio::time::sleep(MARGIN).await;
    assert_eq!(ends.of(id).len(), 2);
}

/// Where the file would be: torn, gone, and not to be read at all.
fn spoil(world: &World, how: u8) {
    let path = world.folder.path().join("desired.json");
    match how {
        0 => std::fs::write(&path, "{torn").unwrap(),
        1 => std::fs::remove_file(&path).unwrap(),
        _ => {
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_desired_state_switches_no_fence_off() {
    for (how, hangs) in [(0, false), (1, false), (2, false), (0, true)] {
        let world = World::new();
        let ends = Ends::watch(&world);
        let agent = world.agent().await;
        let (id, kept) = two(&world).await;
        agent.buried().await;
        world.control.set_away(true);
        spoil(&world, how);
        let agent = world.agent().await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(ends.of(id).is_empty(), "the lease holds");
        assert_eq!(agent.status().borrow().replaceable, 1, "there is something to guard");
        world.runtime.set_engine_stuck(hangs);
        tokio::time::sleep(FENCE).await;
        assert_eq!((ends.of(id).len(), ends.of(kept).len()), (1, 0), "how: {how}, hangs: {hangs}");
        world.runtime.set_engine_stuck(false);
        if how == 2 {
            std::fs::remove_dir(world.folder.path().join("desired.json")).unwrap();
        }
        world.control.set_away(false);
        world.until_run(id, 2).await;
        assert_eq!(first_end(&world, id).reason, EndReason::NodeLost);
        assert_eq!(world.instance(kept).containers[0].runs.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_desired_state_switches_no_guard_off() {
    for how in 0..3 {
        let world = World::new();
        let ends = Ends::watch(&world);
        let agent = world.agent().await;
        let (id, kept) = two(&world).await;
        agent.buried().await;
        spoil(&world, how);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(guard(&world).look().await.unwrap(), Sight { ended: 0, is_over: false }, "the lease holds");
        tokio::time::sleep(FENCE).await;
        // Neither does a disk that takes no note.
        std::fs::write(world.folder.path().join("fenced"), "no folder").unwrap();
        assert_eq!(guard(&world).look().await.unwrap(), Sight { ended: 1, is_over: true });
        assert_eq!((ends.of(id).len(), ends.of(kept).len()), (1, 0));
    }
}

/// Made by an agent that did not write down whether it may run elsewhere.
#[test]
fn what_nothing_is_known_of_ends_first() {
    let said = |text: &str| {
        crate::labels::fence_after_seconds(&Labels::from([("wherry/fence-after-seconds".to_owned(), text.to_owned())]))
    };
    assert_eq!((said("never"), said("300"), said("soon")), (None, Some(300), Some(10)));
    assert_eq!(crate::labels::fence_after_seconds(&Labels::new()), Some(10));
}
