//! One simulated node as values: what it was told to keep, what it "runs", its journal, and the record of what really ran for the
//! auditor. No clock, no socket: time is handed in, facts come out.
//!
//! It keeps the rules of a real agent: an older generation ends before a newer one begins, what is not listed any more is ended
//! without a word, a fact stays in the journal until it is acknowledged, and no proof of life is later than an end that is not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use wherry_agent_api::{Desired, DesiredInstance, RunningContainer};
use wherry_model::{
    Action, ContainerExit, ContainerName, Digest, EndReason, Fact, Generation, InstanceId, Observation, Timestamp,
};

use super::delays;
use crate::system::Seeded;

/// What images are said to be.
const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
/// How a program of the load generator says how long it runs: `sleep SECONDS`.
const PROGRAM: &str = "sleep";

/// A run of an instance on a node, as it really was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) instance: InstanceId,
    pub(crate) generation: Generation,
    pub(crate) cpu_millis: u64,
    pub(crate) memory_mib: u64,
    pub(crate) from: Timestamp,
    /// Absent while it runs.
    pub(crate) to: Option<Timestamp>,
}

/// A node without its connection.
#[derive(Debug)]
pub(crate) struct Machine {
    random: Seeded,
    /// Whether anything is ever started.
    starts: bool,
    next_seq: u64,
    pub(crate) unacknowledged: VecDeque<Observation>,
    instances: BTreeMap<InstanceId, Local>,
    /// What happens by itself next.
    due: BTreeSet<(Timestamp, InstanceId, Generation)>,
    first_address: Ipv4Addr,
    fresh_addresses: u32,
    free_addresses: Vec<u32>,
    pub(crate) epoch: u64,
    pub(crate) runs: Vec<Run>,
}

/// One generation of one instance here.
#[derive(Debug)]
struct Local {
    generation: Generation,
    container: ContainerName,
    run: u32,
    state: State,
    stopped: bool,
    cpu_millis: u64,
    memory_mib: u64,
    /// How long its program runs.
    life: Option<Duration>,
    /// Its place in the node's range.
    address: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Until its start is due.
    Coming,
    /// `record` is its place in [`Machine::runs`].
    Running {
        since: Timestamp,
        record: usize,
    },
    Ended,
}

impl Machine {
    pub(crate) fn new(seed: u64, first_address: Ipv4Addr, starts: bool) -> Self {
        Self {
            random: Seeded::new(seed),
            starts,
            next_seq: 1,
            unacknowledged: VecDeque::new(),
            instances: BTreeMap::new(),
            due: BTreeSet::new(),
            first_address,
            fresh_addresses: 0,
            free_addresses: Vec::new(),
            epoch: 0,
            runs: Vec::new(),
        }
    }

    /// Takes a desired state whole.
    pub(crate) fn obey(&mut self, desired: &Desired, now: Timestamp) {
        let listed: BTreeSet<InstanceId> = desired.instances.iter().map(|instance| instance.id).collect();
        let unlisted: Vec<InstanceId> = self.instances.keys().filter(|id| !listed.contains(id)).copied().collect();
        for id in unlisted {
            self.exit(id, 143, EndReason::StoppedByUser, now);
            self.forget(id);
        }
        self.epoch = self.epoch.max(desired.epoch);
        for instance in &desired.instances {
            let known = self.instances.get(&instance.id).map(|local| local.generation);
            match instance.action {
                Action::Run if known != Some(instance.generation) => self.begin(instance, now),
                Action::Run => {}
                Action::Stop => self.stop(instance, now),
                Action::Remove => {
                    self.stop(instance, now);
                    self.say(instance.id, instance.generation, now, Fact::Removed);
                    self.forget(instance.id);
                }
            }
        }
    }

    /// When [`Self::advance`] has something to do.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// Does what is due: starts what was coming, ends what has run for its life.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        while let Some((at, id, generation)) = self.due.first().copied().filter(|(at, ..)| *at <= now) {
            self.due.remove(&(at, id, generation));
            let Some(local) = self.instances.get(&id).filter(|local| local.generation == generation) else { continue };
            match local.state {
                State::Coming => self.start(id, now),
                State::Running { .. } => self.exit(id, 0, EndReason::Exited, now),
                State::Ended => {}
            }
        }
    }

    pub(crate) fn acknowledge(&mut self, through: u64) {
        while self.unacknowledged.front().is_some_and(|observation| observation.seq <= through) {
            self.unacknowledged.pop_front();
        }
    }

    /// What runs, as a heartbeat lists it.
    pub(crate) fn running(&self) -> Vec<RunningContainer> {
        let running = self.instances.iter().filter(|(_, local)| matches!(local.state, State::Running { .. }));
        running
            .map(|(id, local)| RunningContainer {
                instance: *id,
                generation: local.generation,
                container: local.container.clone(),
                run: local.run,
            })
            .collect()
    }

    /// Up to when life can be proved: not beyond an end that is not acknowledged.
    pub(crate) fn proved_until(&self, now: Timestamp) -> Timestamp {
        let ends = self.unacknowledged.iter().filter_map(|observation| match &observation.fact {
            Fact::ContainerExited { exit, .. } => Some(exit.finished_at),
            _ => None,
        });
        ends.min().map_or(now, |end| end.min(now))
    }

    fn begin(&mut self, desired: &DesiredInstance, now: Timestamp) {
        // An older generation is ended before a newer one begins.
        self.exit(desired.id, 143, EndReason::StoppedByUser, now);
        self.forget(desired.id);
        let Some(main) = desired.containers.first() else { return };
        let specs = desired.specs();
        let (cpu_millis, memory_mib) = specs.fold((0, 0), |(cpu, memory), spec| {
            (cpu + u64::from(spec.cpu.get()), memory + u64::from(spec.memory.get()))
        });
        let local = Local {
            generation: desired.generation,
            container: main.spec.name.clone(),
            run: desired.first_run.saturating_sub(1),
            state: State::Coming,
            stopped: false,
            cpu_millis,
            memory_mib,
            life: life_of(&main.spec.command),
            address: None,
        };
        self.instances.insert(desired.id, local);
        if self.starts {
            let delay = delays::draw(&mut self.random);
            self.due.insert((now.plus(delay), desired.id, desired.generation));
        }
    }

    fn start(&mut self, id: InstanceId, now: Timestamp) {
        let place = self.free_addresses.pop().unwrap_or_else(|| {
            self.fresh_addresses += 1;
            self.fresh_addresses
        });
        let record = self.runs.len();
        let Some(local) = self.instances.get_mut(&id) else { return };
        local.run += 1;
        local.address = Some(place);
        local.state = State::Running { since: now, record };
        let (generation, container, run) = (local.generation, local.container.clone(), local.run);
        let (cpu_millis, memory_mib) = (local.cpu_millis, local.memory_mib);
        self.runs.push(Run { instance: id, generation, cpu_millis, memory_mib, from: now, to: None });
        if let Some(life) = local.life {
            self.due.insert((now.plus(life), id, generation));
        }
        // The first address of the range is the gateway's.
        let address = Ipv4Addr::from_bits(self.first_address.to_bits() + 1 + place);
        if let Ok(digest) = DIGEST.parse::<Digest>() {
            self.say(id, generation, now, Fact::Pulled { container: container.clone(), digest, cached: true });
        }
        self.say(id, generation, now, Fact::SandboxReady { address });
        self.say(id, generation, now, Fact::ContainerStarted { container, run, started_at: now });
    }

    fn stop(&mut self, desired: &DesiredInstance, now: Timestamp) {
        if self.instances.get(&desired.id).is_none_or(|local| local.generation != desired.generation) {
            self.begin(desired, now);
        }
        self.exit(desired.id, 143, EndReason::StoppedByUser, now);
        let Some(local) = self.instances.get_mut(&desired.id) else { return };
        // What was only coming does not come any more.
        local.state = State::Ended;
        if !std::mem::replace(&mut local.stopped, true) {
            self.say(desired.id, desired.generation, now, Fact::SandboxStopped);
        }
    }

    /// Nothing to do when nothing runs.
    fn exit(&mut self, id: InstanceId, exit_code: i32, reason: EndReason, now: Timestamp) {
        let Some(local) = self.instances.get_mut(&id) else { return };
        let State::Running { since, record } = local.state else { return };
        local.state = State::Ended;
        if let Some(run) = self.runs.get_mut(record) {
            run.to = Some(now);
        }
        let (generation, container, run) = (local.generation, local.container.clone(), local.run);
        let signal = (exit_code > 128).then_some(15);
        let exit = ContainerExit { finished_at: now, exit_code, signal, reason, message: None };
        let fact = Fact::ContainerExited { container, run, started_at: since, exit, restart_at: None };
        self.say(id, generation, now, fact);
    }

    fn forget(&mut self, id: InstanceId) {
        if let Some(local) = self.instances.remove(&id) {
            self.free_addresses.extend(local.address);
        }
    }

    fn say(&mut self, instance: InstanceId, generation: Generation, at: Timestamp, fact: Fact) {
        let observation = Observation { seq: self.next_seq, instance, generation, revision: 0, at, fact };
        self.next_seq += 1;
        self.unacknowledged.push_back(observation);
    }
}

/// How long the program runs; until it is stopped when it does not say.
fn life_of(command: &[String]) -> Option<Duration> {
    let [program, seconds] = command else { return None };
    let seconds = seconds.parse::<f64>().ok().filter(|_| program == PROGRAM)?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The command that [`life_of`] reads.
pub(crate) fn command(life: Option<Duration>) -> Vec<String> {
    let seconds = life.map_or_else(|| "infinity".to_owned(), |life| format!("{:.3}", life.as_secs_f64()));
    vec![PROGRAM.to_owned(), seconds]
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
