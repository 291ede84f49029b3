//! Proof of life: what runs, asked of the engine just now. An engine that does not answer proves nothing, so nothing is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wherry_agent_api::{ControlError, Heartbeat, PullProgress, RunningContainer};
use wherry_model::{InstanceId, Timestamp};

use crate::blocking::blocking;
use crate::desired::Known;
use crate::fence;
use crate::journal::{Untold, UntoldRun};
use crate::node::Node;
use crate::observer::Snapshot;

/// Proofs are kept on disk at least so often.
const STORE_EVERY: Duration = Duration::from_secs(4);

/// How long the engine may take to say how far pulls are.
const PROGRESS_WITHIN: Duration = Duration::from_secs(1);

/// Proves life for ever.
pub(crate) async fn keep(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(node.config.heartbeat_every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stored: Option<Instant> = None;
    loop {
        ticks.tick().await;
        fence::passed(&node).await;
        let Ok(snapshot) = node.observer.fresh().await else { continue };
        if stored.is_none_or(|at| at.elapsed() >= STORE_EVERY) {
            stored = Some(Instant::now());
            store_proofs(&node).await;
        }
        node.board.set(|status| &mut status.journal_trouble, node.journal.check().err());
        if node.desired.is_removed() {
            // The session finds out whether it is a node again.
            continue;
        }
        let heartbeat = heartbeat(&node, &snapshot).await;
        let (epoch, sent_at) = (heartbeat.epoch, node.lease.now());
        // The next one is due soon and is as good; a slow control plane must not hold up the proofs on disk.
        match tokio::time::timeout(node.config.heartbeat_every, node.control.heartbeat(heartbeat)).await {
            Ok(Ok(())) => {
                if node.desired.epoch() == epoch {
                    let lease = node.lease.clone();
                    if let Err(error) = blocking(move || lease.renew(epoch, sent_at)).await {
                        tracing::warn!(%error, "the lease cannot be kept on disk");
                    }
                }
                node.board.set(|status| &mut status.last_heartbeat, Some(snapshot.at));
            }
            Ok(Err(ControlError::Fenced { epoch })) => fenced(&node, epoch).await,
            Ok(Err(error)) => tracing::debug!(%error, "a heartbeat was not taken"),
            Err(_) => tracing::debug!("a heartbeat was not taken in time"),
        }
    }
}

/// The control plane lives in another epoch: what was this node's may be elsewhere. Its desired state says what is left.
async fn fenced(node: &Arc<Node>, epoch: u64) {
    let known = node.desired.epoch();
    // Who has no desired state yet is about to get its first.
    if epoch == known || node.desired.revision().is_none() {
        return;
    }
    tracing::warn!(epoch, known, "the control plane has fenced this node; it asks anew what to run");
    if epoch > known {
        let lease = node.lease.clone();
        if let Err(error) = blocking(move || lease.revoke()).await {
            tracing::warn!(%error, "that the lease is over cannot be kept on disk");
        }
    }
    node.fenced_out.notify_one();
}

async fn store_proofs(node: &Arc<Node>) {
    let proofs = node.proofs.clone();
    if let Err(error) = blocking(move || proofs.store()).await {
        tracing::warn!(%error, "the last proof of life cannot be kept on disk");
    }
}

async fn heartbeat(node: &Node, snapshot: &Snapshot) -> Heartbeat {
    let at = proved_until(snapshot, &node.journal.untold(), &node.desired.watch().borrow(), |run| {
        node.proofs.of(run.instance, &(run.container.clone(), run.run)).map(|proof| proof.at)
    });
    let running = snapshot.running().map(|(instance, container)| RunningContainer {
        instance,
        generation: container.generation,
        container: container.name.clone(),
        run: container.run,
    });
    let machine = &node.config.machine;
    Heartbeat {
        node: machine.node,
        boot: machine.boot,
        epoch: node.desired.epoch(),
        at,
        running: running.collect(),
        pulls: pulls(node).await,
    }
}

/// Life is not proved past an end that the control plane does not know yet: it would bill up to the proof, beyond that end,
/// if this node fell silent before the report arrives.
///
/// Such an end is in the journal and not acknowledged, or not even there: the engine does not show a run any more that was
/// said to have started. That one may have ended right after its last proof of life. A picture that is older than a start
/// holds nothing back: the start is later than the picture.
fn proved_until(
    snapshot: &Snapshot,
    untold: &Untold,
    desired: &Known,
    last_proof: impl Fn(&UntoldRun) -> Option<Timestamp>,
) -> Timestamp {
    let is_shown = |run: &UntoldRun| {
        snapshot.running().any(|(instance, shown)| {
            (instance, shown.generation, &shown.name, shown.run)
                == (run.instance, run.generation, &run.container, run.run)
        })
    };
    // Of what it has taken from this node, or runs in a later generation, the control plane believes nothing any more.
    let is_believed = |run: &UntoldRun| match desired.instances.get(&run.instance) {
        Some(listed) => listed.generation <= run.generation,
        None => !desired.confirmed,
    };
    let vanished = untold.running.iter().filter(|run| is_believed(run) && !is_shown(run));
    let bounds = vanished.map(|run| last_proof(run).map_or(run.started_at, |proof| proof.max(run.started_at)));
    bounds.chain(untold.earliest_end).fold(snapshot.at, Timestamp::min)
}

/// How far the pulls of each instance are, all its images together.
async fn pulls(node: &Node) -> Vec<PullProgress> {
    let pulling = node.pulling().clone();
    let references: Vec<String> = pulling.values().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    if references.is_empty() {
        return Vec::new();
    }
    // That it is slow must not cost the proof of life.
    let asked = tokio::time::timeout(PROGRESS_WITHIN, node.runtime.pull_progress(&references));
    let Ok(Ok(known)) = asked.await else { return Vec::new() };
    let known: BTreeMap<&String, _> = references.iter().zip(known).collect();
    let mut sums: BTreeMap<InstanceId, PullProgress> = BTreeMap::new();
    for ((instance, _), reference) in &pulling {
        let Some(part) = known.get(reference) else { continue };
        let nothing =
            PullProgress { instance: *instance, done_bytes: 0, total_bytes: 0, done_layers: 0, total_layers: 0 };
        let sum = sums.entry(*instance).or_insert(nothing);
        sum.done_bytes = sum.done_bytes.saturating_add(part.done_bytes);
        sum.total_bytes = sum.total_bytes.saturating_add(part.total_bytes);
        sum.done_layers = sum.done_layers.saturating_add(part.done_layers);
        sum.total_layers = sum.total_layers.saturating_add(part.total_layers);
    }
    sums.into_values().collect()
}

#[cfg(test)]
mod tests {
    use wherry_agent_api::{DesiredInstance, DesiredMore};
    use wherry_model::{Action, ContainerName, Generation, InstanceName, RestartPolicy};
    use wherry_runtime::{ContainerId, ContainerState, SandboxId};

    use super::*;
    use crate::plan::{Seen, SeenContainer};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn instance() -> InstanceId {
        "01".repeat(16).parse().unwrap()
    }

    fn run(started_at: i64) -> UntoldRun {
        let container = ContainerName::new("main").unwrap();
        UntoldRun { instance: instance(), generation: Generation(2), container, run: 3, started_at: at(started_at) }
    }

    /// Asked at 100; shows run 3 of generation 2 in this state, if any.
    fn picture(state: Option<ContainerState>) -> Snapshot {
        let run = run(0);
        let container = state.map(|state| SeenContainer {
            id: ContainerId::new("c"),
            sandbox: SandboxId::new("s"),
            generation: run.generation,
            name: run.container,
            run: run.run,
            revision: 0,
            state,
        });
        let seen = Seen { sandboxes: vec![], containers: container.into_iter().collect() };
        Snapshot {
            at: at(100),
            instances: BTreeMap::from([(run.instance, seen)]),
            fence_after_seconds: BTreeMap::new(),
        }
    }

    fn desired(generation: Option<u64>, confirmed: bool) -> Known {
        let listed = generation.map(|generation| DesiredInstance {
            id: instance(),
            generation: Generation(generation),
            action: Action::Run,
            tenant: "02".repeat(16).parse().unwrap(),
            project: "03".repeat(16).parse().unwrap(),
            name: InstanceName::new("web").unwrap(),
            search_domain: "x.example".to_owned(),
            containers: vec![],
            restart_policy: RestartPolicy::Always,
            stop_grace_seconds: 10,
            first_run: 1,
            fence_after_seconds: None,
            more: DesiredMore::default(),
        });
        let instances = listed.into_iter().map(|listed| (listed.id, listed.into())).collect();
        Known { revision: Some(1), confirmed, instances, ..Known::default() }
    }

    fn untold(started_at: i64) -> Untold {
        Untold { earliest_end: None, running: vec![run(started_at)] }
    }

    fn proof(seconds: i64) -> impl Fn(&UntoldRun) -> Option<Timestamp> {
        move |_| Some(at(seconds))
    }

    #[test]
    fn what_runs_is_proved_up_to_the_question() {
        let shown = picture(Some(ContainerState::Running));
        assert_eq!(proved_until(&shown, &untold(10), &desired(Some(2), true), proof(100)), at(100));
        assert_eq!(proved_until(&shown, &Untold::default(), &desired(None, true), proof(1)), at(100));
    }

    #[test]
    fn an_end_that_is_not_acknowledged_holds_the_proof_back() {
        let shown = picture(Some(ContainerState::Running));
        for (end, expected) in [(70, 70), (130, 100)] {
            let told = Untold { earliest_end: Some(at(end)), running: vec![] };
            assert_eq!(proved_until(&shown, &told, &desired(Some(2), true), proof(1)), at(expected));
        }
    }

    #[test]
    fn a_run_that_is_not_shown_any_more_and_whose_end_was_not_said_holds_it_back_to_its_last_proof() {
        for state in [None, Some(ContainerState::Exited), Some(ContainerState::Unknown)] {
            for known in [desired(Some(2), true), desired(Some(2), false), desired(None, false)] {
                assert_eq!(proved_until(&picture(state), &untold(10), &known, proof(98)), at(98), "{state:?}");
                assert_eq!(proved_until(&picture(state), &untold(10), &known, |_| None), at(10), "{state:?}");
            }
        }
    }

    #[test]
    fn a_picture_from_before_the_start_holds_nothing_back() {
        assert_eq!(proved_until(&picture(None), &untold(101), &desired(Some(2), true), |_| None), at(100));
    }

    #[test]
    fn what_is_not_this_nodes_any_more_holds_nothing_back() {
        assert_eq!(proved_until(&picture(None), &untold(10), &desired(Some(3), true), proof(20)), at(100));
        assert_eq!(proved_until(&picture(None), &untold(10), &desired(None, true), proof(20)), at(100));
    }
}
