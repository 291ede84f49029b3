//! The journal: everything that the agent has said, until the control plane has taken it.
//!
//! Saying a fact numbers it, folds it into what the agent remembers ([`Memory`]) and queues it for the disk; one task
//! writes whatever is queued with one fsync. A fact is sent only when it is on disk.
//!
//! Who waits for the disk: only a worker that is about to destroy the evidence of what it said (a container, a sandbox).
//! If the agent dies before the write, its successor reads the same evidence and says the same. Pulls and starts never
//! wait. When the disk refuses, [`Journal::check`] says why and no worker acts until the write has succeeded.
//!
//! On disk: `journal.log`, one checked line per fact; `said.json`, the journal's id and what was remembered up to a
//! number. When the log has grown and most facts are taken, a new snapshot is written and the log emptied. The same happens
//! when all are taken and nothing was said for a while, and when the agent stops: the release before, which cuts the log at
//! a fact that it does not know, is left a snapshot without facts. It ignores fields that it does not know.
//! Numbers are contiguous for ever; if the log does not continue its snapshot, the journal is lost and another begins with a new id.
//!
//! A new id ([`Journal::renew`]) and an instance that is set aside ([`Journal::set_aside`]) are in a new snapshot, with an
//! empty log behind it, before anything is sent accordingly.

mod file;
mod line;
mod memory;
mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use uuid::Uuid;
use wherry_model::{Clock, ContainerName, Entropy, Fact, Generation, InstanceId, JournalId, Observation, Timestamp};

pub(crate) use self::file::{JournalDisk, JournalFolder};
use self::line::Line;
pub(crate) use self::memory::{ContainerMemory, Memory, RunMemory, counts_as_restart};

/// `said.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    journal: JournalId,
    /// The last number that is covered.
    through: u64,
    /// What was said up to there and is not acknowledged.
    #[serde(deserialize_with = "line::understood")]
    facts: VecDeque<Observation>,
    instances: BTreeMap<InstanceId, Memory>,
    #[serde(default)]
    aside: BTreeSet<InstanceId>,
}

/// What the control plane believes to run, or does not know the end of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Untold {
    /// Of the ends that it has not acknowledged, on disk or not, set aside or not.
    pub(crate) earliest_end: Option<Timestamp>,
    /// Runs whose start was said and whose end was not.
    pub(crate) running: Vec<UntoldRun>,
}

/// A run whose end was not said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UntoldRun {
    pub(crate) instance: InstanceId,
    pub(crate) generation: Generation,
    pub(crate) container: ContainerName,
    pub(crate) run: u32,
    pub(crate) started_at: Timestamp,
}

/// How the disk stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Written {
    /// Number of the last fact on disk.
    through: u64,
    /// Why the last write failed, if it did.
    failure: Option<String>,
}

#[derive(Debug)]
struct State {
    id: JournalId,
    last_said: u64,
    /// On disk or not, not acknowledged.
    facts: VecDeque<Observation>,
    memories: BTreeMap<InstanceId, Memory>,
    /// Instances whose facts go a way of their own.
    aside: BTreeSet<InstanceId>,
    file_bytes: u64,
    /// Whether the snapshot on disk has facts that were not acknowledged when it was written.
    carries_facts: bool,
    /// Whether the log has a line of a later release, for which it is kept until it is long.
    has_foreign: bool,
    /// Counts the snapshots that were asked for.
    snapshots_wanted: u64,
}

/// The journal of one node.
pub(crate) struct Journal {
    clock: Arc<dyn Clock>,
    max_bytes: u64,
    opened_through: u64,
    state: Mutex<State>,
    written: watch::Sender<Written>,
    /// How many of the snapshots that were asked for are on disk.
    snapshots_made: watch::Sender<u64>,
    to_write: Notify,
}

impl Journal {
    /// Reads the folder's journal, or begins one. What a crash tore off is cut at the first write.
    pub(crate) fn open(
        folder: &Path,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
        max_bytes: u64,
    ) -> io::Result<(Self, JournalFolder)> {
        let (mut disk, found) = JournalFolder::open(folder)?;
        let (lines, good_bytes) = line::decode_all(&found.lines);
        if good_bytes < found.lines.len() {
            tracing::warn!(cut_bytes = found.lines.len() - good_bytes, "the journal has a torn tail, it is cut");
        }
        let known = found.snapshot.and_then(|bytes| serde_json::from_slice::<Snapshot>(&bytes).ok());
        let continues = |snapshot: &Snapshot| {
            let mut expected = lines.first().map_or(snapshot.through + 1, Line::seq);
            expected <= snapshot.through + 1
                && lines.iter().all(|line| std::mem::replace(&mut expected, line.seq() + 1) == line.seq())
        };
        let (snapshot, lines, file_bytes) = if let Some(snapshot) = known.filter(continues) {
            (snapshot, lines, good_bytes)
        } else {
            if !found.lines.is_empty() {
                tracing::error!(facts = lines.len(), "the journal does not fit its snapshot; a new one begins");
            }
            let journal = JournalId::generate(&*clock, entropy);
            let (facts, instances, aside) = (VecDeque::new(), BTreeMap::new(), BTreeSet::new());
            let snapshot = Snapshot { journal, through: 0, facts, instances, aside };
            disk.write_at(0, &[])?;
            disk.replace_snapshot(&encode(&snapshot))?;
            (snapshot, Vec::new(), 0)
        };
        let mut state = State {
            id: snapshot.journal,
            last_said: snapshot.through,
            carries_facts: !snapshot.facts.is_empty(),
            has_foreign: lines.iter().any(|line| matches!(line, Line::Foreign { .. })),
            facts: snapshot.facts,
            memories: snapshot.instances,
            aside: snapshot.aside,
            snapshots_wanted: 0,
            file_bytes: u64::try_from(file_bytes).unwrap_or(u64::MAX),
        };
        for line in lines.into_iter().filter(|line| line.seq() > snapshot.through) {
            match line {
                Line::Fact(observation) => state.remember(&observation),
                Line::Foreign { seq } => state.last_said = seq,
            }
        }
        let written = Written { through: state.last_said, failure: None };
        let journal = Self {
            clock,
            max_bytes,
            opened_through: state.last_said,
            state: Mutex::new(state),
            written: watch::channel(written).0,
            snapshots_made: watch::channel(0).0,
            to_write: Notify::new(),
        };
        Ok((journal, disk))
    }

    pub(crate) fn id(&self) -> JournalId {
        self.state().id
    }

    /// The last number that an earlier agent used.
    pub(crate) const fn opened_through(&self) -> u64 {
        self.opened_through
    }

    /// Goes on under a new id, with the numbers as they are; returns when that is on disk.
    pub(crate) async fn renew(&self, id: JournalId) {
        self.change(|state| state.id = id).await;
    }

    /// The facts of this instance go a way of their own from now on; returns when that is on disk.
    pub(crate) async fn set_aside(&self, instance: InstanceId) {
        self.change(|state| {
            state.aside.insert(instance);
        })
        .await;
    }

    /// The facts of this instance go with all others again, unless some wait: their numbers are behind what was
    /// acknowledged of the others. Returns when that is on disk.
    pub(crate) async fn take_back(&self, instance: InstanceId) {
        let is_waiting = |state: &State| state.facts.iter().any(|fact| fact.instance == instance);
        self.change(|state| {
            if !is_waiting(state) {
                state.aside.remove(&instance);
            }
        })
        .await;
    }

    /// Instances whose facts go a way of their own.
    pub(crate) fn aside(&self) -> BTreeSet<InstanceId> {
        self.state().aside.clone()
    }

    /// In which journal the facts of an instance that is set aside are numbered. The same for ever, and nobody else's.
    pub(crate) fn id_aside(&self, instance: InstanceId) -> JournalId {
        let mixed = self.id().as_uuid().as_u128() ^ instance.as_uuid().as_u128();
        JournalId::from_uuid(Uuid::from_u128(mixed))
    }

    async fn change(&self, change: impl FnOnce(&mut State)) {
        let wanted = {
            let mut state = self.state();
            change(&mut state);
            state.snapshots_wanted += 1;
            state.snapshots_wanted
        };
        self.to_write.notify_one();
        // The sender lives in `self`, so the channel cannot close.
        drop(self.snapshots_made.subscribe().wait_for(|made| *made >= wanted).await);
    }

    /// Numbers a fact, remembers it and queues it for the disk. Returns its number.
    pub(crate) fn say(&self, instance: InstanceId, generation: Generation, fact: Fact) -> u64 {
        self.say_of(instance, generation, 0, fact)
    }

    /// The same of a revision of a container.
    pub(crate) fn say_of(&self, instance: InstanceId, generation: Generation, revision: u32, fact: Fact) -> u64 {
        tracing::info!(%instance, %generation, revision, fact = ?fact, "said");
        let at = self.clock.now();
        let mut state = self.state();
        let observation = Observation { seq: state.last_said + 1, instance, generation, revision, at, fact };
        state.remember(&observation);
        let seq = state.last_said;
        drop(state);
        self.to_write.notify_one();
        seq
    }

    /// Waits until everything said so far is on disk; for ever while the disk refuses.
    pub(crate) async fn settled(&self) {
        let last_said = self.state().last_said;
        // The sender lives in `self`, so the channel cannot close.
        drop(self.written.subscribe().wait_for(|written| written.through >= last_said).await);
    }

    /// Why nothing may be done now, if so.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(failure) = &self.written.borrow().failure {
            return Err(format!("the journal cannot be written: {failure}; free space on the agent's disk"));
        }
        let bytes = self.state().file_bytes;
        if bytes > self.max_bytes {
            return Err(format!(
                "the journal has {bytes} bytes that the control plane has not taken; mend the line to it"
            ));
        }
        Ok(())
    }

    /// What was said of an instance, if anything.
    pub(crate) fn memory(&self, instance: InstanceId) -> Option<Memory> {
        self.state().memories.get(&instance).cloned()
    }

    /// All instances of which something was said.
    pub(crate) fn instances(&self) -> Vec<InstanceId> {
        self.state().memories.keys().copied().collect()
    }

    /// Forgets an instance of which no trace is left. Idempotent.
    pub(crate) fn forget(&self, instance: InstanceId) {
        self.state().memories.remove(&instance);
    }

    /// The oldest facts that are on disk and not acknowledged, at most `most`; none of instances that are set aside.
    pub(crate) fn unacknowledged(&self, most: usize) -> Vec<Observation> {
        self.on_disk(most, |state, fact| !state.aside.contains(&fact.instance))
    }

    /// The same of one instance that is set aside.
    pub(crate) fn unacknowledged_aside(&self, instance: InstanceId, most: usize) -> Vec<Observation> {
        self.on_disk(most, |_, fact| fact.instance == instance)
    }

    fn on_disk(&self, most: usize, wanted: impl Fn(&State, &Observation) -> bool) -> Vec<Observation> {
        let written = self.written.borrow().through;
        let state = self.state();
        let on_disk = state.facts.iter().take_while(|fact| fact.seq <= written);
        on_disk.filter(|fact| wanted(&state, fact)).take(most).cloned().collect()
    }

    /// Runs and ends that the control plane may not know to be over: one picture, taken at one moment.
    pub(crate) fn untold(&self) -> Untold {
        let state = self.state();
        let end = |fact: &Observation| match &fact.fact {
            Fact::ContainerExited { exit, .. } => Some(exit.finished_at),
            _ => None,
        };
        let runs_of = |(instance, memory): (&InstanceId, &Memory)| {
            let run = |(name, said): (&ContainerName, &ContainerMemory)| match said.state {
                RunMemory::Running { started_at } => {
                    let (instance, generation, container) = (*instance, memory.generation, name.clone());
                    Some(UntoldRun { instance, generation, container, run: said.run, started_at })
                }
                RunMemory::NotStarted | RunMemory::Waiting { .. } | RunMemory::Over => None,
            };
            memory.containers.iter().filter_map(run).collect::<Vec<_>>()
        };
        Untold {
            earliest_end: state.facts.iter().filter_map(end).min(),
            running: state.memories.iter().flat_map(runs_of).collect(),
        }
    }

    /// Waits until there is something to send.
    pub(crate) async fn something_to_send(&self) {
        let mut written = self.written.subscribe();
        while self.unacknowledged(1).is_empty() {
            if written.changed().await.is_err() {
                return;
            }
        }
    }

    /// The control plane has stored everything up to `through`, but for instances that are set aside.
    pub(crate) fn acknowledged(&self, through: u64) {
        self.forget_facts(through, |state, fact| !state.aside.contains(&fact.instance));
    }

    /// The same of one instance that is set aside.
    pub(crate) fn acknowledged_aside(&self, instance: InstanceId, through: u64) {
        self.forget_facts(through, |_, fact| fact.instance == instance);
    }

    fn forget_facts(&self, through: u64, stored: impl Fn(&State, &Observation) -> bool) {
        let through = through.min(self.written.borrow().through);
        let mut state = self.state();
        let mut facts = std::mem::take(&mut state.facts);
        facts.retain(|fact| fact.seq > through || !stored(&state, fact));
        state.facts = facts;
        drop(state);
        self.to_write.notify_one();
    }

    /// Facts that are not acknowledged.
    pub(crate) fn pending(&self) -> usize {
        self.state().facts.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn snapshot(&self) -> Snapshot {
        let (facts, instances, aside) = (self.facts.clone(), self.memories.clone(), self.aside.clone());
        Snapshot { journal: self.id, through: self.last_said, facts, instances, aside }
    }

    /// Whether the control plane has taken everything, and the disk still says it.
    fn is_tidy_due(&self) -> bool {
        self.facts.is_empty() && !self.has_foreign && (self.file_bytes > 0 || self.carries_facts)
    }

    fn remember(&mut self, observation: &Observation) {
        self.last_said = observation.seq;
        self.memories.entry(observation.instance).or_insert_with(|| Memory::new(observation.generation)).fold(
            observation.generation,
            observation.revision,
            &observation.fact,
        );
        self.facts.push_back(observation.clone());
    }
}

fn encode(snapshot: &Snapshot) -> Vec<u8> {
    // Plain data with string keys: serde_json cannot fail on it.
    serde_json::to_vec(snapshot).unwrap_or_default()
}

#[cfg(test)]
mod tests;
