//! What is on the played machine, and what was said of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Weak;

use wherry_agent_api::{Desired, DesiredInstance};
use wherry_model::{Action, ContainerExit, EndReason, Fact, Generation, InstanceId, JournalId, Observation, Timestamp};

use crate::{digest, main_container};

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) journal: JournalId,
    next_seq: u64,
    pub(super) unacknowledged: VecDeque<Observation>,
    pub(super) said: Vec<Observation>,
    pub(super) history: Vec<Ran>,
    pub(super) breaks_next_start: bool,
    /// The lease epoch of the desired state that it holds.
    pub(super) epoch: u64,
    pub(super) instances: BTreeMap<InstanceId, Local>,
    /// By instance and run; outlives the containers, as log files do.
    pub(super) output: BTreeMap<(InstanceId, u32), Vec<u8>>,
    /// Conversations; those that were left are gone.
    pub(super) sessions: Vec<Weak<()>>,
    first_address: Ipv4Addr,
    addresses_given: u32,
}

/// One generation of one instance on the machine.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) generation: Generation,
    /// The latest run; the one before the first as long as nothing ran.
    pub(super) run: u32,
    pub(super) running_since: Option<Timestamp>,
    /// The latest end was followed by the promise of a restart.
    restarts: bool,
    stopped: bool,
    /// It is ended when the lease ends.
    fenced: bool,
    /// The revision of the container that the latest run was started for.
    revision: u32,
}

impl Local {
    pub(super) fn waits_for_restart(&self) -> bool {
        self.restarts && !self.stopped && self.running_since.is_none()
    }
}

/// A run of a container, as it really was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// Of which instance.
    pub instance: InstanceId,
    /// When its process was started.
    pub from: Timestamp,
    /// When it had ended; absent while it runs.
    pub to: Option<Timestamp>,
}

impl Machine {
    pub(super) fn new(journal: JournalId, first_address: Ipv4Addr) -> Self {
        Self {
            journal,
            next_seq: 1,
            unacknowledged: VecDeque::new(),
            said: Vec::new(),
            history: Vec::new(),
            breaks_next_start: false,
            epoch: 0,
            instances: BTreeMap::new(),
            output: BTreeMap::new(),
            sessions: Vec::new(),
            first_address,
            addresses_given: 0,
        }
    }

    pub(super) fn begin_journal(&mut self, journal: JournalId) {
        self.journal = journal;
        self.next_seq = 1;
        self.unacknowledged.clear();
        self.said.clear();
    }

    pub(super) fn forget_through(&mut self, seq: u64) {
        self.unacknowledged.retain(|observation| observation.seq > seq);
    }

    pub(super) fn say(
        &mut self,
        instance: InstanceId,
        generation: Generation,
        at: Timestamp,
        fact: Fact,
    ) -> Observation {
        let revision = self.instances.get(&instance).map_or(0, |local| local.revision);
        let observation = Observation { seq: self.next_seq, instance, generation, revision, at, fact };
        self.next_seq += 1;
        self.unacknowledged.push_back(observation.clone());
        self.said.push(observation.clone());
        observation
    }

    /// Takes a desired state whole: what is not in it is not this machine's any more, and is ended before anything else.
    pub(super) fn obey(&mut self, desired: &Desired, now: Timestamp) {
        let listed = |id: &InstanceId| desired.instances.iter().any(|instance| instance.id == *id);
        let unlisted: Vec<InstanceId> = self.instances.keys().filter(|id| !listed(id)).copied().collect();
        for id in unlisted {
            self.exit(id, 143, Some(15), None, now);
            self.instances.remove(&id);
        }
        self.epoch = self.epoch.max(desired.epoch);
        for instance in &desired.instances {
            self.step(instance, now);
        }
    }

    /// The lease is over.
    pub(super) fn fence(&mut self, now: Timestamp) {
        let fenced = self.instances.iter().filter(|(_, local)| local.fenced).map(|(id, _)| *id);
        for id in fenced.collect::<Vec<_>>() {
            self.exit(id, 143, Some(15), None, now);
        }
    }

    /// Does and journals all that is to be done about `desired`.
    fn step(&mut self, desired: &DesiredInstance, now: Timestamp) {
        let known = self.instances.get(&desired.id).map(|local| local.generation);
        match desired.action {
            Action::Run if known != Some(desired.generation) => self.begin(desired, now),
            Action::Run => self.renew(desired, now),
            Action::Stop => self.stop(desired, now),
            Action::Remove => {
                self.stop(desired, now);
                self.say(desired.id, desired.generation, now, Fact::Removed);
                self.instances.remove(&desired.id);
                self.output.retain(|(instance, _), _| *instance != desired.id);
            }
        }
    }

    fn begin(&mut self, desired: &DesiredInstance, now: Timestamp) {
        // An older generation is ended before a newer one begins.
        self.exit(desired.id, 143, Some(15), None, now);
        self.adopt(desired);
        let say = |machine: &mut Self, fact| drop(machine.say(desired.id, desired.generation, now, fact));
        let cached = desired.containers.iter().all(|container| container.digest.is_some());
        if !cached {
            say(self, Fact::PullStarted { container: main_container() });
        }
        if std::mem::take(&mut self.breaks_next_start) {
            let message = "there is no such image".to_owned();
            say(self, Fact::Failed { reason: EndReason::ImagePullFailed, message });
            return;
        }
        say(self, Fact::Pulled { container: main_container(), digest: digest(), cached });
        let address = self.next_address();
        say(self, Fact::SandboxReady { address });
        self.start(desired.id, now);
    }

    /// Ends a run that is out of date and begins another.
    fn renew(&mut self, desired: &DesiredInstance, now: Timestamp) {
        let wanted = revision_of(desired);
        let Some(local) = self.instances.get_mut(&desired.id) else { return };
        if local.revision >= wanted {
            return;
        }
        if let Some(started_at) = local.running_since.take() {
            for ran in self.history.iter_mut().filter(|ran| ran.instance == desired.id && ran.to.is_none()) {
                ran.to = Some(now);
            }
            let reason = EndReason::Restarted;
            let exit = ContainerExit { finished_at: now, exit_code: 143, signal: Some(15), reason, message: None };
            let (container, run) = (main_container(), local.run);
            let fact = Fact::ContainerExited { container, run, started_at, exit, restart_at: Some(now) };
            self.say(desired.id, desired.generation, now, fact);
        }
        let Some(local) = self.instances.get_mut(&desired.id) else { return };
        local.revision = wanted;
        if desired.containers.iter().any(|container| container.digest.is_none()) {
            let fact = Fact::Pulled { container: main_container(), digest: digest(), cached: true };
            self.say(desired.id, desired.generation, now, fact);
        }
        self.start(desired.id, now);
    }

    fn adopt(&mut self, desired: &DesiredInstance) {
        let local = Local {
            generation: desired.generation,
            run: desired.first_run.saturating_sub(1),
            running_since: None,
            restarts: false,
            stopped: false,
            fenced: desired.fence_after_seconds.is_some(),
            revision: revision_of(desired),
        };
        self.instances.insert(desired.id, local);
    }

    fn stop(&mut self, desired: &DesiredInstance, now: Timestamp) {
        if self.instances.get(&desired.id).is_none_or(|local| local.generation != desired.generation) {
            self.adopt(desired);
        }
        self.exit(desired.id, 143, Some(15), None, now);
        let Some(local) = self.instances.get_mut(&desired.id) else { return };
        if !std::mem::replace(&mut local.stopped, true) {
            self.say(desired.id, desired.generation, now, Fact::SandboxStopped);
        }
    }

    pub(super) fn start(&mut self, instance: InstanceId, now: Timestamp) {
        let local = self.instances.get_mut(&instance).expect("the instance is on this machine");
        assert!(local.running_since.is_none(), "a container of the instance runs already");
        local.run += 1;
        local.running_since = Some(now);
        local.restarts = false;
        self.history.push(Ran { instance, from: now, to: None });
        let (generation, run) = (local.generation, local.run);
        self.say(
            instance,
            generation,
            now,
            Fact::ContainerStarted { container: main_container(), run, started_at: now },
        );
    }

    /// Nothing to do when nothing runs.
    pub(super) fn exit(
        &mut self,
        instance: InstanceId,
        exit_code: i32,
        signal: Option<u8>,
        restart_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let Some(local) = self.instances.get_mut(&instance) else { return };
        let Some(started_at) = local.running_since.take() else { return };
        local.restarts = restart_at.is_some();
        for ran in self.history.iter_mut().filter(|ran| ran.instance == instance && ran.to.is_none()) {
            ran.to = Some(now);
        }
        let (generation, run) = (local.generation, local.run);
        let reason = if signal.is_some() { EndReason::StoppedByUser } else { EndReason::Exited };
        let exit = ContainerExit { finished_at: now, exit_code, signal, reason, message: None };
        let fact = Fact::ContainerExited { container: main_container(), run, started_at, exit, restart_at };
        self.say(instance, generation, now, fact);
    }

    /// The first end that is not acknowledged: nothing later may be proved, or it would be billed beyond that end.
    pub(super) fn proved_until(&self) -> Option<Timestamp> {
        let ends = self.unacknowledged.iter().filter_map(|observation| match &observation.fact {
            Fact::ContainerExited { exit, .. } => Some(exit.finished_at),
            _ => None,
        });
        ends.min()
    }

    fn next_address(&mut self) -> Ipv4Addr {
        self.addresses_given += 1;
        // The first address of the range is the gateway's.
        Ipv4Addr::from_bits(self.first_address.to_bits() + 1 + self.addresses_given)
    }
}

/// A played machine runs instances of one container.
fn revision_of(desired: &DesiredInstance) -> u32 {
    desired.containers.first().map_or(0, |container| container.revision)
}
