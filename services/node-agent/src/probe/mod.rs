//! Asks containers how they are: one task for the whole node.
//!
//! - Which runs are probed is read from what runs, what is desired and what was said; a run is probed from the moment at
//!   which its start was said, by whichever agent is there. Counts of failures in a row are kept in memory: an agent that
//!   comes back counts from nothing, and what was said to be ready stays so until a probe says otherwise.
//! - A change of readiness is said; a container that must be ended is given to the worker of its instance.
//! - Each probe waits for its own answer and for no other. At most so many connections and so many programs at a time as
//!   [`crate::AtOnce`] says, of one tenant half of them; a probe that waits for its turn is late and has not failed.
//! - An engine that does not answer decides nothing.

mod gauge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use wherry_agent_api::DesiredInstance;
use wherry_model::{Action, Check, ContainerName, Fact, Generation, InstanceId, Probe, TenantId};
use wherry_runtime::{ContainerId, ContainerState};

use crate::blocking::blocking;
use crate::check::{self, Finding, Place};
use crate::journal::RunMemory;
use crate::node::Node;
use crate::permits::Permits;
use crate::plan::{self, Seen, SeenContainer};
use crate::verdict::{self, Verdict};

use self::gauge::{Decision, Gauges, Kind};

/// How often notes of containers that are gone are cleared away.
const CLEAR_EVERY: Duration = Duration::from_mins(10);

/// One run that is probed.
struct Probed {
    instance: InstanceId,
    generation: Generation,
    revision: u32,
    container: ContainerName,
    run: u32,
    tenant: TenantId,
    place: Place,
    gauges: Gauges,
}

/// An answer to a probe.
struct Answer {
    container: ContainerId,
    kind: Kind,
    asked: Duration,
    finding: Finding,
}

struct Prober {
    node: Arc<Node>,
    began: Instant,
    probed: BTreeMap<ContainerId, Probed>,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    sockets: Arc<Permits>,
    programs: Arc<Permits>,
    cleared: Option<Instant>,
}

/// Probes for ever.
pub(crate) async fn keep(node: Arc<Node>) {
    let mut rounds = node.observer.watcher();
    let mut desired = node.desired.watch();
    let at_once = node.config.at_once;
    let mut prober = Prober {
        node,
        began: Instant::now(),
        probed: BTreeMap::new(),
        asked: FuturesUnordered::new(),
        sockets: Arc::new(Permits::new(at_once.probe_connections)),
        programs: Arc::new(Permits::new(at_once.probe_programs)),
        cleared: None,
    };
    loop {
        prober.ask_what_is_due();
        let due = prober.probed.values().filter_map(|probed| probed.gauges.next_due()).min();
        let began = prober.began;
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(began + due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = rounds.changed() => prober.follow().await,
            _ = desired.changed() => prober.follow().await,
            Some(answer) = prober.asked.next() => prober.take(answer),
            () = wait => {}
        }
    }
}

impl Prober {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Brings the list of what is probed up to date. What cannot be known now stays as it is.
    async fn follow(&mut self) {
        let Some(snapshot) = self.node.observer.latest() else { return };
        let known = self.node.desired.watch().borrow().instances.clone();
        let mut there: BTreeSet<ContainerId> = BTreeSet::new();
        for (id, desired) in &known {
            let is_probed = desired.action == Action::Run && desired.specs().any(|spec| !spec.probes.is_empty());
            let seen = snapshot.instances.get(id).filter(|_| is_probed);
            let Some(seen) = seen else { continue };
            let running = seen.containers.iter().filter(|container| {
                container.state == ContainerState::Running && container.generation == desired.generation
            });
            for container in running {
                if self.look_at(desired, seen, container) {
                    there.insert(container.id.clone());
                }
            }
        }
        self.probed.retain(|container, _| there.contains(container));
        self.clear(&snapshot).await;
    }

    /// Whether the run is to be probed.
    fn look_at(&mut self, desired: &DesiredInstance, all: &Seen, seen: &SeenContainer) -> bool {
        let Some(wanted) = desired.container(&seen.name).filter(|wanted| !wanted.spec.probes.is_empty()) else {
            return false;
        };
        let memory = self.node.journal.memory(desired.id).filter(|memory| memory.generation == desired.generation);
        let Some(memory) = memory else { return false };
        let said = memory.container(&seen.name);
        let (RunMemory::Running { started_at }, Some(address)) = (said.state, memory.address) else { return false };
        if said.run != seen.run {
            return false;
        }
        if seen.revision < wanted.revision {
            // Until it is ended it is probed as it was; what is asked for now is about the next run. Who comes after this agent
            // does not know how that was, and asks nothing: the probes of another program could end what runs well.
            return self.probed.contains_key(&seen.id) && !plan::is_due(desired, &memory, all, wanted);
        }
        let probes = &wanted.spec.probes;
        if self.probed.get(&seen.id).is_some_and(|known| known.gauges.is_of(probes) && known.place.address == address) {
            return true;
        }
        let ran = self.node.clock.now().since(started_at);
        // A run that is older than this agent began before its zero, which is as good as at its zero.
        let began = self.now().saturating_sub(ran);
        let probed = Probed {
            instance: desired.id,
            generation: desired.generation,
            revision: seen.revision,
            container: seen.name.clone(),
            run: seen.run,
            tenant: desired.tenant,
            place: Place { container: seen.id.clone(), address, host: desired.name.clone() },
            gauges: Gauges::new(probes, began, said.ready),
        };
        self.probed.insert(seen.id.clone(), probed);
        true
    }

    fn ask_what_is_due(&mut self) {
        let now = self.now();
        for (container, probed) in &mut self.probed {
            for (kind, probe) in probed.gauges.take_due(now) {
                let permits = if matches!(probe.check, Check::Exec { .. }) { &self.programs } else { &self.sockets };
                let (node, permits, tenant) = (self.node.clone(), permits.clone(), probed.tenant);
                let (container, place) = (container.clone(), probed.place.clone());
                self.asked.push(Box::pin(async move {
                    let finding = ask(&node, &permits, tenant, &place, &probe).await;
                    Answer { container, kind, asked: now, finding }
                }));
            }
        }
    }

    fn take(&mut self, answer: Answer) {
        let now = self.now();
        // Of what is not probed any more, nobody wants to know.
        let Some(probed) = self.probed.get_mut(&answer.container) else { return };
        let finding = match answer.finding {
            Finding::Well => Some(Ok(())),
            Finding::Ill(message) => Some(Err(message)),
            Finding::Nothing(message) => {
                tracing::debug!(container = %answer.container, message, "a probe has learnt nothing");
                None
            }
        };
        let Some(decision) = probed.gauges.answered(answer.kind, answer.asked, now, finding) else { return };
        let (ready, message) = match decision {
            Decision::Condemned(message) => {
                let verdict = Verdict::new(wherry_model::EndReason::ProbeFailed, message);
                return self.node.findings.condemn(probed.instance, &answer.container, verdict);
            }
            Decision::Ready => (true, None),
            Decision::Unready(message) => (false, Some(message)),
        };
        let (container, run) = (probed.container.clone(), probed.run);
        let fact = Fact::Readiness { container, run, ready, message };
        self.node.journal.say_of(probed.instance, probed.generation, probed.revision, fact);
        // Others may have waited for that.
        self.node.findings.look(probed.instance);
    }

    /// Forgets what was noted of containers that are not there any more.
    async fn clear(&mut self, snapshot: &crate::observer::Snapshot) {
        if self.cleared.is_some_and(|at| at.elapsed() < CLEAR_EVERY) {
            return;
        }
        self.cleared = Some(Instant::now());
        let all = snapshot.instances.values().flat_map(|seen| &seen.containers);
        let there: BTreeSet<ContainerId> = all.map(|container| container.id.clone()).collect();
        self.node.findings.keep_only(&there);
        let folder = self.node.config.data_folder.clone();
        blocking(move || verdict::keep_only(&folder, &there)).await;
    }
}

async fn ask(node: &Node, permits: &Permits, tenant: TenantId, place: &Place, probe: &Probe) -> Finding {
    let _permit = permits.acquire(tenant).await;
    check::perform(&*node.runtime, place, &probe.check, probe.timeout.duration()).await
}
