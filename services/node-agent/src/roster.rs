//! Keeps one worker for every instance that is desired, that was spoken of, that the engine shows, or that has logs.
//!
//! Wakes a worker when its part of the desired state or of the engine's picture has changed. Workers end by themselves when
//! nothing is left of an instance that is not desired.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::task::TaskTracker;
use wherry_model::{Action, InstanceId};

use crate::blocking::blocking;
use crate::desired::Known;
use crate::firewall::Admitted;
use crate::guard;
use crate::node::Node;
use crate::observer::Snapshot;
use crate::worker::Worker;

/// The tasks of the agent and how to begin another.
pub(crate) type Spawn = Arc<dyn Fn(&TaskTracker, futures_util::future::BoxFuture<'static, ()>) + Send + Sync>;

struct Roster {
    node: Arc<Node>,
    spawn: Spawn,
    tasks: TaskTracker,
    workers: BTreeMap<InstanceId, Arc<Notify>>,
    ended: mpsc::UnboundedSender<InstanceId>,
}

/// Runs for ever.
pub(crate) async fn keep(node: Arc<Node>, tasks: TaskTracker, spawn: Spawn) {
    let mut desired = node.desired.watch();
    let mut rounds = node.observer.watcher();
    // At most one message a worker is under way, so the channel is bounded by the workers.
    let (ended, mut endings) = mpsc::unbounded_channel();
    let mut roster = Roster { node, spawn, tasks, workers: BTreeMap::new(), ended };
    let mut shown = loop {
        match roster.node.observer.latest() {
            Some(snapshot) => break snapshot,
            None => rounds.changed().await,
        }
    };
    let mut known = desired.borrow_and_update().clone();
    count_replaceable(&roster.node, &known);
    roster.node.gate.begin(already_admitted(&roster.node, &known, &shown));
    for instance in traces(&roster.node, &known, &shown).await {
        roster.wake(instance);
    }
    loop {
        tokio::select! {
            biased;
            () = changed(&mut desired) => {
                let next = desired.borrow_and_update().clone();
                for instance in differing(&known.instances, &next.instances) {
                    roster.wake(instance);
                }
                if next.confirmed && !known.confirmed {
                    roster.wake_all();
                }
                known = next;
                count_replaceable(&roster.node, &known);
            }
            () = rounds.changed() => {
                let Some(next) = roster.node.observer.latest() else { continue };
                for instance in differing(&shown.instances, &next.instances) {
                    roster.wake(instance);
                }
                shown = next;
            }
            () = roster.node.findings.some() => {
                for instance in roster.node.findings.take() {
                    roster.wake(instance);
                }
            }
            Some(instance) = endings.recv() => {
                roster.workers.remove(&instance);
                // It may have been asked for, or shown, while it was ending.
                if known.instances.contains_key(&instance) || shown.instances.contains_key(&instance) {
                    roster.wake(instance);
                }
            }
        }
    }
}

fn count_replaceable(node: &Node, known: &Known) {
    let listed = known.instances.values().filter(|desired| guard::is_replaceable(desired)).count();
    // As long as nobody knows, there may be one.
    let count = listed.max(usize::from(known.unreadable));
    node.board.set(|status| &mut status.replaceable, count);
}

async fn changed(desired: &mut watch::Receiver<Known>) {
    if desired.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Keys whose values differ, or that only one side has.
fn differing<V: PartialEq>(before: &BTreeMap<InstanceId, V>, after: &BTreeMap<InstanceId, V>) -> BTreeSet<InstanceId> {
    let keys: BTreeSet<&InstanceId> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(key) != after.get(key)).copied().collect()
}

/// Every instance of which anything is known or left.
async fn traces(node: &Arc<Node>, known: &Known, shown: &Snapshot) -> BTreeSet<InstanceId> {
    let mut instances: BTreeSet<InstanceId> = node.journal.instances().into_iter().collect();
    instances.extend(known.instances.keys());
    instances.extend(shown.instances.keys());
    let folders = [node.config.logs_folder(), node.config.volumes_folder()];
    let with_files = blocking(move || {
        let entries = folders.into_iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect::<Vec<InstanceId>>()
    });
    instances.extend(with_files.await);
    instances
}

/// Instances that ran before this agent began, and run on.
fn already_admitted(node: &Node, known: &Known, shown: &Snapshot) -> BTreeMap<InstanceId, Admitted> {
    let entry = |(instance, desired): (&InstanceId, &Arc<wherry_agent_api::DesiredInstance>)| {
        let memory = node.journal.memory(*instance)?;
        let sandbox = shown.instances.get(instance)?.sandbox_of(desired.generation)?;
        let runs = desired.action == Action::Run && sandbox.ready && memory.generation == desired.generation;
        let address = memory.address.filter(|_| runs)?;
        let ports = desired.ports().cloned().collect();
        Some((*instance, Admitted { address, tenant: desired.tenant, project: desired.project, ports }))
    };
    known.instances.iter().filter_map(entry).collect()
}

impl Roster {
    fn wake(&mut self, instance: InstanceId) {
        if let Some(wakeup) = self.workers.get(&instance) {
            wakeup.notify_one();
            return;
        }
        let wakeup = Arc::new(Notify::new());
        self.workers.insert(instance, wakeup.clone());
        let worker = Worker::new(self.node.clone(), instance, wakeup);
        let ended = self.ended.clone();
        let work = async move {
            worker.work().await;
            // The roster may have ended before.
            let _roster_is_there = ended.send(instance);
        };
        (self.spawn)(&self.tasks, Box::pin(work));
    }

    fn wake_all(&self) {
        for wakeup in self.workers.values() {
            wakeup.notify_one();
        }
    }
}
