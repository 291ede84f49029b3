use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::fact::{ContainerExit, Fact, Observation};
use crate::id::{InstanceId, NodeId, ProjectId, TenantId};
use crate::instance::{Action, EndReason, InstanceState, Intent, Leaving};
use crate::name::{ContainerName, InstanceName, ProjectName};
use crate::quantity::{CpuMillis, MemoryMib};
use crate::spec::{ContainerSpec, InstanceSpec, OnNodeLoss};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn main_container() -> ContainerName {
    ContainerName::new("main").unwrap()
}

fn node() -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(9))
}

fn other_node() -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(10))
}

fn newborn() -> Instance {
    let image = "r.example/web:1".parse().unwrap();
    let container = ContainerSpec::new(main_container(), image, CpuMillis::new(100), MemoryMib::new(64));
    let spec = InstanceSpec::new(vec![container]);
    create(
        Birth {
            id: InstanceId::from_uuid(Uuid::from_u128(1)),
            tenant: TenantId::from_uuid(Uuid::from_u128(2)),
            project: ProjectId::from_uuid(Uuid::from_u128(3)),
            project_name: ProjectName::default_project(),
            name: InstanceName::new("web").unwrap(),
            spec,
            node: Some(node()),
            actor: "key:1".into(),
        },
        at(0),
    )
    .after
}

fn seen(instance: &Instance, seconds: i64, fact: Fact) -> Result<Change, Ignored> {
    let observation = Observation {
        seq: 1,
        instance: instance.id,
        generation: instance.generation,
        revision: 0,
        at: at(seconds),
        fact,
    };
    observe(instance, &observation, at(seconds))
}

fn started(run: u32, seconds: i64) -> Fact {
    Fact::ContainerStarted { container: main_container(), run, started_at: at(seconds) }
}

fn exited(run: u32, from: i64, to: i64, exit_code: i32, restart_at: Option<i64>) -> Fact {
    Fact::ContainerExited {
        container: main_container(),
        run,
        started_at: at(from),
        exit: ContainerExit { finished_at: at(to), exit_code, signal: None, reason: EndReason::Exited, message: None },
        restart_at: restart_at.map(at),
    }
}

#[test]
fn the_usual_life() {
    let instance = newborn();
    let running = seen(&instance, 5, started(1, 5)).unwrap();
    assert_eq!(running.after.state, InstanceState::Running);
    assert_eq!(running.meter, [MeterEdge::Open { kind: MeterKind::Run, at: at(5), late: false }]);

    let stopping = intend(&running.after, Ask::Stop, "key:1", at(9)).unwrap().unwrap();
    assert_eq!((stopping.after.state, stopping.after.action()), (InstanceState::Stopping, Action::Stop));
    let ended = seen(&stopping.after, 10, exited(1, 5, 10, 143, None)).unwrap();
    assert_eq!(ended.meter, [MeterEdge::Close { kind: MeterKind::Run, at: at(10) }]);
    let stopped = seen(&ended.after, 11, Fact::SandboxStopped).unwrap();
    assert_eq!((stopped.after.state, stopped.releases), (InstanceState::Stopped, Some(node())));

    let again = intend(&stopped.after, Ask::Start(node()), "key:1", at(20)).unwrap().unwrap();
    assert_eq!((again.after.first_run, again.after.generation, again.takes), (2, Generation(2), Some(node())));
    let deleting = intend(&again.after, Ask::Delete, "key:1", at(21)).unwrap().unwrap();
    let gone = seen(&deleting.after, 22, Fact::Removed).unwrap();
    assert_eq!((gone.after.state, gone.releases), (InstanceState::Deleted, Some(node())));
    assert_eq!(seen(&gone.after, 23, started(2, 23)), Err(Ignored::Gone));
}

#[test]
fn a_failing_container_restarts_and_counts() {
    let running = seen(&newborn(), 5, started(1, 5)).unwrap().after;
    let waiting = seen(&running, 6, exited(1, 5, 6, 1, Some(16))).unwrap().after;
    assert_eq!((waiting.state, waiting.action()), (InstanceState::Starting, Action::Run));
    let running = seen(&waiting, 16, started(2, 16)).unwrap().after;
    assert_eq!(running.containers[0].restart_count, 1);
    let done = seen(&running, 17, exited(2, 16, 17, 0, None)).unwrap().after;
    assert_eq!((done.state, done.reason), (InstanceState::Succeeded, Some(EndReason::Exited)));
}

#[test]
fn silence_closes_at_the_last_proof_and_return_bills_what_is_proved() {
    let running = seen(&newborn(), 5, started(1, 5)).unwrap().after;
    let unknown = silence(&running, at(20), at(35)).unwrap();
    assert_eq!(unknown.meter, [MeterEdge::Close { kind: MeterKind::Run, at: at(20) }]);
    assert_eq!(silence(&unknown.after, at(20), at(40)), None);

    let back = recover(&unknown.after, &[(main_container(), 1)], at(60)).unwrap();
    assert_eq!(back.after.state, InstanceState::Running);
    assert_eq!(back.meter, [MeterEdge::Open { kind: MeterKind::Run, at: at(20), late: true }]);

    assert_eq!(recover(&unknown.after, &[], at(60)), None, "a proof from before its start does not show it either");

    let exit_seen = seen(&unknown.after, 60, exited(1, 5, 30, 0, None)).unwrap();
    assert_eq!(
        exit_seen.meter,
        [
            MeterEdge::Open { kind: MeterKind::Run, at: at(20), late: true },
            MeterEdge::Close { kind: MeterKind::Run, at: at(30) }
        ]
    );
}

#[test]
fn an_exit_whose_start_was_never_reported_is_billed_from_its_start() {
    let done = seen(&newborn(), 9, exited(1, 3, 8, 0, None)).unwrap();
    assert_eq!(
        done.meter,
        [
            MeterEdge::Open { kind: MeterKind::Run, at: at(3), late: false },
            MeterEdge::Close { kind: MeterKind::Run, at: at(8) }
        ]
    );
}

#[test]
fn start_waits_for_the_stop_to_finish() {
    let running = seen(&newborn(), 5, started(1, 5)).unwrap().after;
    let stopping = intend(&running, Ask::Stop, "k", at(6)).unwrap().unwrap().after;
    assert_eq!(intend(&stopping, Ask::Start(node()), "k", at(7)), Err(Refusal::StillStopping));
    let failed =
        seen(&running, 7, Fact::Failed { reason: EndReason::StartFailed, message: "no".into() }).unwrap().after;
    assert_eq!(intend(&failed, Ask::Start(node()), "k", at(8)), Err(Refusal::StillStopping));
}

#[test]
fn a_move_ends_here_before_it_begins_elsewhere() {
    let running = seen(&newborn(), 5, started(1, 5)).unwrap().after;
    let leaving = leave(&running, Leaving::Move, at(6)).unwrap().after;
    assert_eq!((leaving.state, leaving.intent, leaving.action()), (InstanceState::Stopping, Intent::Run, Action::Stop));
    assert_eq!(place(&leaving, other_node(), at(7)), None, "it may still run");
    let ended = seen(&leaving, 8, exited(1, 5, 8, 1, None)).unwrap().after;
    let waiting = seen(&ended, 9, Fact::SandboxStopped).unwrap();
    assert_eq!((waiting.after.state, waiting.releases), (InstanceState::Pending, Some(node())));
    assert_eq!((waiting.after.generation, waiting.after.node), (Generation(2), None));
    let placed = place(&waiting.after, other_node(), at(10)).unwrap();
    assert_eq!((placed.after.state, placed.takes), (InstanceState::Scheduled, Some(other_node())));
    assert_eq!((placed.after.first_run, placed.after.action()), (2, Action::Run));
}

#[test]
fn what_came_to_its_own_end_is_not_moved() {
    let running = seen(&newborn(), 5, started(1, 5)).unwrap().after;
    let leaving = leave(&running, Leaving::Move, at(6)).unwrap().after;
    let done = seen(&leaving, 7, exited(1, 5, 6, 0, None)).unwrap().after;
    assert_eq!((done.state, done.reason), (InstanceState::Succeeded, Some(EndReason::Exited)));
}

#[test]
fn a_user_has_the_last_word_on_a_move() {
    let running = seen(&newborn(), 5, started(1, 5)).unwrap().after;
    let leaving = leave(&running, Leaving::Move, at(6)).unwrap().after;
    let stopping = intend(&leaving, Ask::Stop, "k", at(7)).unwrap().unwrap().after;
    let stopped = seen(&stopping, 8, Fact::SandboxStopped).unwrap().after;
    assert_eq!((stopped.state, stopped.reason), (InstanceState::Stopped, Some(EndReason::StoppedByUser)));
    let evicted = leave(&running, Leaving::Evict, at(6)).unwrap().after;
    let stopped = seen(&evicted, 8, Fact::SandboxStopped).unwrap().after;
    assert_eq!((stopped.state, stopped.reason), (InstanceState::Stopped, Some(EndReason::Evicted)));
}

#[test]
fn only_what_may_be_replaced_leaves_a_lost_node() {
    let running = seen(&newborn(), 5, started(1, 5)).unwrap().after;
    let kept = silence(&running, at(20), at(35)).unwrap().after;
    assert_eq!(lose(&kept, at(20), false, at(400)), None);
    let failed = lose(&kept, at(20), true, at(400)).unwrap();
    assert_eq!((failed.after.state, failed.after.reason), (InstanceState::Failed, Some(EndReason::NodeLost)));
    assert_eq!(failed.releases, Some(node()));
    let mut replaced = kept;
    replaced.spec.on_node_loss = OnNodeLoss::Replace;
    let waiting = lose(&replaced, at(20), false, at(400)).unwrap();
    assert_eq!((waiting.after.state, waiting.releases), (InstanceState::Pending, Some(node())));
    assert_eq!(waiting.after.containers[0].runs[0].end.as_ref().unwrap().finished_at, at(20));
    let deleting = intend(&replaced, Ask::Delete, "k", at(401)).unwrap().unwrap().after;
    assert_eq!(lose(&deleting, at(20), false, at(402)).unwrap().after.state, InstanceState::Deleted);
}

#[test]
fn what_ended_on_a_machine_that_is_gone_can_be_deleted_and_started() {
    let running = seen(&newborn(), 5, started(1, 5)).unwrap().after;
    assert_eq!(forsake(&running, at(6)), None, "there is something to end");
    let stopping = intend(&running, Ask::Stop, "k", at(6)).unwrap().unwrap().after;
    let stopped = seen(&stopping, 7, Fact::SandboxStopped).unwrap().after;
    let forsaken = forsake(&stopped, at(8)).unwrap();
    assert_eq!((forsaken.after.state, forsaken.after.node), (InstanceState::Stopped, None));
    assert_eq!((forsaken.releases, forsake(&forsaken.after, at(9))), (None, None));
    let deleted = intend(&forsaken.after, Ask::Delete, "k", at(9)).unwrap().unwrap();
    assert_eq!((deleted.after.state, deleted.releases), (InstanceState::Deleted, None));
    let again = intend(&forsaken.after, Ask::Start(other_node()), "k", at(9)).unwrap().unwrap();
    assert_eq!((again.takes, again.after.generation), (Some(other_node()), Generation(2)));
}

#[test]
fn who_waits_is_told_why_once() {
    let mut replaced = newborn();
    replaced.spec.on_node_loss = OnNodeLoss::Replace;
    assert_eq!(explain(&replaced, "no room", at(1)), None);
    let waiting = lose(&replaced, at(1), false, at(400)).unwrap().after;
    let told = explain(&waiting, "no room", at(401)).unwrap().after;
    assert_eq!(told.message.as_deref(), Some("it waits for a place: no room"));
    assert_eq!((told.state, explain(&told, "no room", at(402))), (InstanceState::Pending, None));
    assert_eq!(place(&told, other_node(), at(403)).unwrap().after.message, None);
}

#[derive(Debug, Clone)]
enum Step {
    Stop,
    Start,
    Delete,
    Restart(bool),
    Update(u32),
    Expire,
    Pull,
    PullRetry,
    Pulled,
    Ready,
    Started(u32),
    Exited(u32, bool, bool),
    Failed,
    SandboxStopped,
    Removed,
    Silence(i64),
    Recover(u32),
    Leave(Leaving),
    Lose(bool),
    Forsake,
    Explain,
    Place,
    OldGeneration,
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let step = prop_oneof![
        Just(Step::Stop),
        Just(Step::Start),
        Just(Step::Delete),
        any::<bool>().prop_map(Step::Restart),
        (1_u32..4).prop_map(Step::Update),
        Just(Step::Expire),
        Just(Step::Pull),
        Just(Step::PullRetry),
        Just(Step::Pulled),
        Just(Step::Ready),
        (1_u32..6).prop_map(Step::Started),
        (1_u32..6, any::<bool>(), any::<bool>()).prop_map(|(run, ok, again)| Step::Exited(run, ok, again)),
        Just(Step::Failed),
        Just(Step::SandboxStopped),
        Just(Step::Removed),
        (0_i64..20).prop_map(Step::Silence),
        (1_u32..6).prop_map(Step::Recover),
        prop_oneof![Just(Leaving::Move), Just(Leaving::Evict)].prop_map(Step::Leave),
        any::<bool>().prop_map(Step::Lose),
        Just(Step::Forsake),
        Just(Step::Explain),
        Just(Step::Place),
        Just(Step::OldGeneration),
    ];
    // Clocks may jump back a little: a step's time is not always later than the one before.
    prop::collection::vec((-3_i64..10, step), 1..60)
}

fn apply(instance: &Instance, now: i64, step: &Step) -> Option<Change> {
    match step {
        Step::Stop => intend(instance, Ask::Stop, "k", at(now)).ok().flatten(),
        Step::Start => intend(instance, Ask::Start(node()), "k", at(now)).ok().flatten(),
        Step::Delete => intend(instance, Ask::Delete, "k", at(now)).ok().flatten(),
        Step::Restart(pull) => restart(instance, None, *pull, "k", at(now)).ok().flatten(),
        Step::Update(size) => {
            let mut spec = instance.spec.clone();
            spec.containers[0].cpu = CpuMillis::new(100 * size);
            spec.ttl_seconds = Some(*size);
            update(instance, &spec, "k", at(now)).ok().flatten()
        }
        Step::Expire => expire(instance, at(now)),
        Step::Pull => seen(instance, now, Fact::PullStarted { container: main_container() }).ok(),
        Step::PullRetry => seen(
            instance,
            now,
            Fact::PullRetrying { container: main_container(), message: "down".into(), retry_at: at(now + 5) },
        )
        .ok(),
        Step::Pulled => {
            let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
            seen(instance, now, Fact::Pulled { container: main_container(), digest, cached: false }).ok()
        }
        Step::Ready => seen(instance, now, Fact::SandboxReady { address: Ipv4Addr::new(10, 0, 0, 2) }).ok(),
        Step::Started(run) => seen(instance, now, started(*run, now)).ok(),
        Step::Exited(run, ok, again) => {
            seen(instance, now, exited(*run, now - 2, now, i32::from(!ok), again.then_some(now + 10))).ok()
        }
        Step::Failed => {
            seen(instance, now, Fact::Failed { reason: EndReason::ImagePullFailed, message: "no".into() }).ok()
        }
        Step::SandboxStopped => seen(instance, now, Fact::SandboxStopped).ok(),
        Step::Removed => seen(instance, now, Fact::Removed).ok(),
        Step::Silence(back) => silence(instance, at(now - back), at(now)),
        Step::Recover(run) => recover(instance, &[(main_container(), *run)], at(now)),
        Step::Leave(how) => leave(instance, *how, at(now)),
        Step::Lose(confirmed_off) => lose(instance, at(now - 5), *confirmed_off, at(now)),
        Step::Forsake => forsake(instance, at(now)),
        Step::Explain => explain(instance, "no room", at(now)),
        Step::Place => place(instance, other_node(), at(now)),
        Step::OldGeneration => {
            let observation = Observation {
                seq: 1,
                instance: instance.id,
                generation: Generation(instance.generation.0 - 1),
                revision: 0,
                at: at(now),
                fact: started(1, now),
            };
            let ignored = observe(instance, &observation, at(now));
            assert!(ignored.is_err());
            None
        }
    }
}

use std::net::Ipv4Addr;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_order_of_asks_and_facts_keeps_the_invariants(steps in steps(), replaced in any::<bool>()) {
        let mut instance = newborn();
        instance.spec.on_node_loss = if replaced { OnNodeLoss::Replace } else { OnNodeLoss::Keep };
        let mut held = true;
        let mut open: BTreeMap<MeterKind, Timestamp> = BTreeMap::new();
        let mut until: BTreeMap<MeterKind, Timestamp> = BTreeMap::new();
        let mut now = 100;
        for (delta, step) in steps {
            now += delta;
            let Some(change) = apply(&instance, now, &step) else { continue };
            prop_assert_ne!(instance.state, InstanceState::Deleted, "a deleted instance changed");
            prop_assert_eq!(change.from, instance.revision);
            prop_assert_eq!(change.after.revision, Revision(instance.revision.0 + 1));
            prop_assert!(change.after.generation >= instance.generation);
            prop_assert!(change.after.version() >= instance.version());
            if change.after.spec.demand() != instance.spec.demand() && instance.holds_resources {
                prop_assert!(change.releases.is_some(), "another amount was not given back and taken");
            }
            if change.releases.is_some() {
                prop_assert!(held, "given back twice");
                held = false;
            }
            if change.takes.is_some() {
                prop_assert!(!held, "taken twice");
                held = true;
            }
            prop_assert_eq!(held, change.after.holds_resources);
            for edge in &change.meter {
                match edge {
                    MeterEdge::Open { kind, at, .. } => {
                        prop_assert!(!open.contains_key(kind), "opened twice");
                        prop_assert!(until.get(kind).is_none_or(|until| at >= until), "overlap");
                        open.insert(*kind, *at);
                    }
                    MeterEdge::Close { kind, at } => {
                        let since = open.remove(kind);
                        prop_assert!(since.is_some_and(|since| since <= *at), "closed without open, or before it");
                        until.insert(*kind, *at);
                    }
                }
            }
            let after = &change.after;
            if after.run_meter.open_since.is_some() {
                prop_assert!(after.any_container_runs(), "metered although nothing runs");
                prop_assert!(after.holds_resources, "metered although nothing is reserved");
            }
            if after.state == InstanceState::Running {
                prop_assert!(after.any_container_runs() && after.run_meter.open_since.is_some());
            }
            if after.state.is_settled() {
                prop_assert!(!after.any_container_runs() && after.run_meter.open_since.is_none());
                prop_assert!(after.pull_meter.open_since.is_none());
                prop_assert!(after.state == InstanceState::Deleted || after.reason.is_some(), "ended without a reason");
            }
            if after.state == InstanceState::Pending {
                prop_assert!(!after.holds_resources && after.node.is_none() && after.address.is_none());
                prop_assert!(!after.any_container_runs() && after.intent == Intent::Run);
            }
            prop_assert!(after.node.is_some() || !after.holds_resources);
            prop_assert!(after.expires_at.is_none() || after.state.is_settled());
            prop_assert!(after.leaving.is_none() || after.state == InstanceState::Stopping);
            if after.state == InstanceState::Deleted {
                prop_assert!(!after.holds_resources && after.intent == Intent::Delete);
            }
            instance = change.after;
        }
    }
}
