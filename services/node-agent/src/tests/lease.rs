//! What may be replaced is ended when nobody renews the lease, and everything else runs on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{Ack, ControlError, ControlPlane, Desired, Heartbeat, NodeHello, Report, Surroundings, Welcome};
use wherry_model::lifecycle::Ask;
use wherry_model::{EndReason, InstanceId, InstanceState as S, NodeId, OnNodeLoss, RestartPolicy};
use wherry_runtime::ContainerStatus;
use wherry_runtime::fake::{Fault, RunWitness};

use super::world::World;
use crate::agent::AgentParts;
use crate::{Agent, Guard, Sight};

/// Longer than the fence of a minute and what ending takes.
const PAST_THE_FENCE: Duration = Duration::from_secs(65);

fn replaceable(world: &World) -> InstanceId {
    replaceable_that(world, "serve")
}

fn replaceable_that(world: &World, program: &str) -> InstanceId {
    let id = world.create(program, RestartPolicy::Never);
    let mut instance = world.instance(id);
    instance.spec.on_node_loss = OnNodeLoss::Replace;
    world.control.put(instance);
    id
}

#[tokio::test(start_paused = true)]
async fn what_may_be_replaced_ends_with_the_lease_and_comes_back_with_it() {
    let world = World::new();
    let _agent = world.agent().await;
    let (kept, id) = (world.create("serve", RestartPolicy::Always), replaceable(&world));
    world.until_state(kept, S::Running).await;
    world.until_state(id, S::Running).await;
    world.control.set_away(true);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(world.running().await.len(), 2, "the lease holds");
    tokio::time::sleep(PAST_THE_FENCE.saturating_sub(Duration::from_secs(50))).await;
    assert_eq!(world.running().await.len(), 1);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(world.running().await.len(), 1, "and nothing starts it");
    world.control.set_away(false);
    world.until_run(id, 2).await;
    let end = world.instance(id).containers[0].runs[0].end.clone().unwrap();
    assert_eq!(end.reason, EndReason::NodeLost);
    assert_eq!(world.instance(kept).containers[0].runs.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_extends_no_lease_and_a_reboot_ends_it() {
    let mut world = World::new();
    let agent = world.agent().await;
    let id = replaceable(&world);
    world.until_state(id, S::Running).await;
    world.control.set_away(true);
    tokio::time::sleep(Duration::from_secs(40)).await;
    agent.shut_down(Duration::from_secs(5)).await;
    let agent = world.agent().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.running().await.len(), 1);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(world.running().await.len(), 0);
    world.control.set_away(false);
    world.until_run(id, 2).await;
    world.control.set_away(true);
    agent.buried().await;
    world.boot = "b1".repeat(16).parse().unwrap();
    let _agent = world.agent().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.running().await.len(), 0, "what was renewed before the boot counts for nothing");
}

/// What the control plane was told and what processes did, in order.
#[derive(Debug, Default)]
struct Order(Mutex<Vec<String>>);

impl Order {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what.into());
    }

    fn begin(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What happened before `what`, which did.
    fn before(&self, what: &str) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = all.iter().position(|happened| happened == what);
        all[..place.unwrap_or_else(|| panic!("no {what} in {all:?}"))].to_vec()
    }
}

impl RunWitness for Order {
    fn started(&self, container: &ContainerStatus) {
        self.note(format!("start of {}", container.labels["wherry/instance"]));
    }

    fn ended(&self, container: &ContainerStatus) {
        self.note(format!("end of {}", container.labels["wherry/instance"]));
    }
}

struct Overheard {
    inner: Arc<dyn ControlPlane>,
    order: Arc<Order>,
}

#[async_trait]
impl ControlPlane for Overheard {
    async fn hello(&self, hello: NodeHello) -> Result<Welcome, ControlError> {
        self.inner.hello(hello).await
    }

    async fn desired(&self, node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        self.inner.desired(node, have).await
    }

    async fn report(&self, report: Report) -> Result<Ack, ControlError> {
        self.order.note("report");
        self.inner.report(report).await
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError> {
        self.order.note("heartbeat");
        self.inner.heartbeat(heartbeat).await
    }

    async fn surroundings(&self, node: NodeId, have: Option<u64>) -> Result<Option<Surroundings>, ControlError> {
        self.inner.surroundings(node, have).await
    }
}

async fn overheard(world: &World, order: &Arc<Order>) -> Agent {
    let parts = world.parts();
    let control = Arc::new(Overheard { inner: parts.control.clone(), order: order.clone() });
    Agent::start_on_disk(world.config(), AgentParts { control, ..parts }, |disk| disk).await.unwrap()
}

/// Replaceable and slow to end, and one beside it that may stay and always has something to tell.
async fn two(world: &World) -> (InstanceId, InstanceId) {
    let id = replaceable_that(world, "trap '' TERM; serve");
    let beside = world.create("sleep 1; exit 1", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    world.until_run(beside, 2).await;
    (id, beside)
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_frozen_past_its_lease_fences_before_all_else() {
    for frozen_seconds in [61, 62, 63, 64, 65, 66, 67, 300] {
        let (world, order) = (World::new(), Arc::new(Order::default()));
        world.runtime.show(order.clone());
        let _agent = overheard(&world, &order).await;
        let (id, beside) = two(&world).await;
        order.begin();
        // As after SIGCONT: everything that was due is due at once.
        tokio::time::advance(Duration::from_secs(frozen_seconds)).await;
        world.until_run(id, 2).await;
        let (this, other) = (format!("end of {id}"), format!("end of {beside}"));
        // The other's process ends by itself, whatever the agent does.
        let early: Vec<String> = order.before(&this).into_iter().filter(|what| *what != other).collect();
        assert!(early.is_empty(), "frozen for {frozen_seconds} s: {early:?}");
        assert_eq!(world.instance(id).containers[0].runs[0].end.clone().unwrap().reason, EndReason::NodeLost);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_begins_past_the_lease_fences_before_all_else() {
    let (world, order) = (World::new(), Arc::new(Order::default()));
    world.runtime.show(order.clone());
    let agent = overheard(&world, &order).await;
    let (id, _) = two(&world).await;
    agent.buried().await;
    tokio::time::sleep(PAST_THE_FENCE).await;
    assert!(!world.running().await.is_empty(), "nobody is there to end it");
    order.begin();
    let _agent = overheard(&world, &order).await;
    world.until_run(id, 2).await;
    assert_eq!(order.before(&format!("end of {id}")), Vec::<String>::new());
}

/// Its own grace is longer than the control plane waits before it takes the instance.
#[tokio::test(start_paused = true)]
async fn what_is_being_stopped_ends_with_the_lease_too() {
    for agent_dies in [false, true] {
        let world = World::new();
        let agent = world.agent().await;
        let id = world.create("trap '' TERM; serve", RestartPolicy::Always);
        let mut instance = world.instance(id);
        instance.spec.on_node_loss = OnNodeLoss::Replace;
        instance.spec.stop_grace_seconds = 600;
        world.control.put(instance);
        world.until_state(id, S::Running).await;
        world.control.ask(id, Ask::Stop);
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.control.set_away(true);
        if agent_dies {
            agent.buried().await;
            let (folder, node) = (world.folder.path().to_owned(), world.config().machine.node);
            let guard =
                Guard::new(folder, node, world.boot, Arc::new(world.clock.clone()), Arc::new(world.runtime.clone()));
            assert_eq!(guard.look().await.unwrap(), Sight { ended: 0, is_over: false }, "there is something to guard");
            tokio::time::sleep(PAST_THE_FENCE * 2).await;
            assert_eq!(guard.look().await.unwrap().ended, 1);
        } else {
            tokio::time::sleep(PAST_THE_FENCE * 2).await;
        }
        assert_eq!(world.running().await.len(), 0, "agent dies: {agent_dies}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_ended_at_all_holds_the_others_up_for_a_while_only() {
    let world = World::new();
    let _agent = world.agent().await;
    let (id, beside) = two(&world).await;
    world.control.set_away(true);
    for call in ["StopContainer", "EndByForce"] {
        world.runtime.inject(call, Fault::HangBefore, u32::MAX);
    }
    tokio::time::sleep(PAST_THE_FENCE).await;
    let runs = world.instance(beside).containers[0].runs.len();
    world.control.set_away(false);
    world.until_run(beside, u32::try_from(runs).unwrap() + 2).await;
    world.runtime.heal();
    // By then the lease is renewed, and it need not end any more.
    world.until_state(id, S::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_fenced_node_ends_what_is_its_no_more_and_goes_on_in_the_new_epoch() {
    let world = World::new();
    let agent = world.agent().await;
    let (kept, id) = (world.create("serve", RestartPolicy::Always), replaceable(&world));
    world.until_state(kept, S::Running).await;
    world.until_state(id, S::Running).await;
    let (hellos, fenced_at) = (world.control.hellos(), world.elapsed());
    world.control.fence(id);
    world.until("it is asked anew what to run", |world| world.control.hellos() > hellos).await;
    let latency = world.elapsed().saturating_sub(fenced_at);
    assert!(latency < Duration::from_secs(5), "no long poll was waited for: {latency:?}");
    world
        .until("the new epoch is lived in", |world| {
            world.control.heartbeats().last().is_some_and(|beat| beat.epoch == 2 && beat.running.len() == 1)
        })
        .await;
    assert_eq!(world.running().await.len(), 1);
    assert_eq!(world.instance(kept).containers[0].runs.len(), 1, "what may stay was not touched");
    assert_eq!(world.control.hellos(), hellos + 1);
    agent.buried().await;
    let next = replaceable(&world);
    let _agent = world.agent().await;
    world.until_state(next, S::Running).await;

    // The control plane's store was put back to before the fence.
    world.control.set_epoch(1);
    world
        .until("that epoch is lived in", |world| world.control.heartbeats().last().is_some_and(|b| b.epoch == 1))
        .await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(world.running().await.len(), 2, "its lease is renewed in that epoch too");
    assert_eq!(world.instance(next).containers[0].runs.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_guard_ends_it_when_no_agent_does() {
    let mut world = World::new();
    let guard = |world: &World| {
        let (folder, node) = (world.folder.path().to_owned(), world.config().machine.node);
        Guard::new(folder, node, world.boot, Arc::new(world.clock.clone()), Arc::new(world.runtime.clone()))
    };
    let (nothing_yet, covered) = (Sight { ended: 0, is_over: true }, Sight { ended: 0, is_over: false });
    assert_eq!(guard(&world).look().await.unwrap(), nothing_yet, "there is no agent yet");
    let agent = world.agent().await;
    assert_eq!(agent.status().borrow().replaceable, 0);
    let (kept, id) = (world.create("serve", RestartPolicy::Always), replaceable(&world));
    world.until_state(kept, S::Running).await;
    world.until_state(id, S::Running).await;
    assert_eq!(agent.status().borrow().replaceable, 1);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(guard(&world).look().await.unwrap(), covered, "the agent renews the lease");
    agent.buried().await;
    tokio::time::sleep(Duration::from_secs(58)).await;
    assert_eq!(guard(&world).look().await.unwrap(), covered, "an agent would have come first");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(guard(&world).look().await.unwrap(), Sight { ended: 1, is_over: true });
    assert_eq!(guard(&world).look().await.unwrap(), Sight { ended: 0, is_over: true }, "once is enough");
    assert_eq!(world.running().await.len(), 1, "what may stay was not touched");

    // The next agent tells it, and runs it again as soon as it has a lease.
    let agent = world.agent().await;
    world.until_run(id, 2).await;
    agent.buried().await;
    world.boot = "b1".repeat(16).parse().unwrap();
    assert_eq!(guard(&world).look().await.unwrap().ended, 1, "a lease of another boot is none");
}

#[tokio::test(start_paused = true)]
async fn a_guard_stays_as_long_as_it_is_needed_and_goes_when_another_takes_over() {
    let world = World::new();
    let agent = world.agent().await;
    let id = replaceable(&world);
    world.until_state(id, S::Running).await;
    let is_gone = CancellationToken::new();
    let guard = || {
        let (folder, node) = (world.folder.path().to_owned(), world.config().machine.node);
        Guard::new(folder, node, world.boot, Arc::new(world.clock.clone()), Arc::new(world.runtime.clone()))
    };
    let (watch, gone) = (guard(), is_gone.clone());
    let mut watching = tokio::spawn(async move { watch.keep(gone, || true).await });
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(!watching.is_finished(), "the agent is there");
    agent.buried().await;
    is_gone.cancel();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!watching.is_finished() && world.running().await.len() == 1, "the lease holds");
    (&mut watching).await.unwrap();
    assert_eq!(world.running().await.len(), 0);

    let without_engine = guard();
    world.runtime.set_engine_down(true);
    without_engine.keep(is_gone.clone(), || false).await;
    world.runtime.set_engine_down(false);

    let (watch, never) = (guard(), CancellationToken::new());
    let watching = tokio::spawn(async move { watch.keep(never, || true).await });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!watching.is_finished());
    std::fs::write(world.folder.path().join("guard.pid"), "1").unwrap();
    watching.await.unwrap();
}
