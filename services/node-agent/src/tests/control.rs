//! A control plane in memory: the real lifecycle functions over a map. It checks what the agent promises of its journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use wherry_agent_api::{
    Ack, ControlError, ControlPlane, Desired, DesiredInstance, Heartbeat, NodeHello, Report, Surroundings, Welcome,
};
use wherry_model::lifecycle::{Ask, Change, MeterEdge, intend, observe};
use wherry_model::{Fact, Instance, InstanceId, InstanceState, JournalId, NodeId, Observation, SecretText, Timestamp};

#[derive(Default)]
struct State {
    instances: BTreeMap<InstanceId, Instance>,
    /// How far each journal is stored.
    stored: BTreeMap<JournalId, u64>,
    /// The journal of the last hello.
    journal: Option<JournalId>,
    /// Whether it goes above what the agent holds.
    ignores_floor: bool,
    /// It fails on every report with a fact of one of these.
    poison: BTreeSet<InstanceId>,
    /// There was poison: what is sent may leave it out.
    choked: bool,
    facts: Vec<Observation>,
    edges: Vec<(InstanceId, MeterEdge)>,
    heartbeats: Vec<Heartbeat>,
    around: Option<Surroundings>,
    /// The lease epoch.
    epoch: u64,
    hellos: usize,
    away: bool,
    /// What it answers whatever it is asked.
    refusal: Option<ControlError>,
    /// How often it has.
    refused: usize,
}

/// The control plane of one node.
pub(super) struct FakeControl {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
    /// Counts changes of what is around.
    around: watch::Sender<u64>,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

impl FakeControl {
    pub(super) fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            state: Mutex::new(State { epoch: 1, ..State::default() }),
            revision: watch::channel(1).0,
            around: watch::channel(0).0,
            now: Box::new(now),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, instance: Instance) {
        self.state().instances.insert(instance.id, instance);
        self.revision.send_modify(|revision| *revision += 1);
    }

    pub(super) fn ask(&self, id: InstanceId, ask: Ask) {
        let change = intend(&self.get(id), ask, "test", (self.now)()).unwrap();
        let mut state = self.state();
        if let Some(change) = change {
            apply(&mut state, change);
        }
        drop(state);
        self.revision.send_modify(|revision| *revision += 1);
    }

    pub(super) fn get(&self, id: InstanceId) -> Instance {
        self.state().instances[&id].clone()
    }

    /// Changes the record as a user's edit would.
    pub(super) fn edit(&self, id: InstanceId, edit: impl FnOnce(&mut Instance)) {
        let mut state = self.state();
        let instance = state.instances.get_mut(&id).unwrap();
        edit(instance);
        instance.revision.0 += 1;
        drop(state);
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// Forgets an instance as if it had never been.
    pub(super) fn forget(&self, id: InstanceId) {
        self.state().instances.remove(&id);
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// Takes an instance from the node, as a fence does. Nobody who waits for the desired state is woken: a heartbeat finds
    /// out.
    pub(super) fn fence(&self, id: InstanceId) {
        let mut state = self.state();
        state.instances.remove(&id);
        state.epoch += 1;
        drop(state);
        self.revision.send_if_modified(|revision| {
            *revision += 1;
            false
        });
    }

    /// The epoch of a store that was restored from an older copy.
    pub(super) fn set_epoch(&self, epoch: u64) {
        self.state().epoch = epoch;
        self.revision.send_modify(|revision| *revision += 1);
    }

    pub(super) fn refused(&self) -> usize {
        self.state().refused
    }

    pub(super) fn hellos(&self) -> usize {
        self.state().hellos
    }

    /// What is around the node from now on.
    pub(super) fn surround(&self, around: Surroundings) {
        self.state().around = Some(around);
        self.around.send_modify(|count| *count += 1);
    }

    pub(super) fn set_away(&self, away: bool) {
        self.state().away = away;
    }

    /// What it answers from now on whatever it is asked. Nobody who waits for an answer is woken.
    pub(super) fn refuse(&self, refusal: Option<ControlError>) {
        self.state().refusal = refusal;
    }

    /// Goes back to an older revision, as a store restored from a copy would.
    pub(super) fn turn_back(&self, revision: u64) {
        self.revision.send_replace(revision);
    }

    pub(super) fn ignore_floor(&self, ignores_floor: bool) {
        self.state().ignores_floor = ignores_floor;
    }

    /// From now on facts of these fail every report that they are in.
    pub(super) fn set_poison(&self, poison: impl IntoIterator<Item = InstanceId>) {
        let mut state = self.state();
        state.poison = poison.into_iter().collect();
        state.choked = true;
    }

    pub(super) fn journals(&self) -> BTreeMap<JournalId, u64> {
        self.state().stored.clone()
    }

    pub(super) fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    pub(super) fn facts(&self, id: InstanceId) -> Vec<Fact> {
        self.state().facts.iter().filter(|seen| seen.instance == id).map(|seen| seen.fact.clone()).collect()
    }

    pub(super) fn edges(&self, id: InstanceId) -> Vec<MeterEdge> {
        self.state().edges.iter().filter(|(of, _)| *of == id).map(|(_, edge)| *edge).collect()
    }

    pub(super) fn heartbeats(&self) -> Vec<Heartbeat> {
        self.state().heartbeats.clone()
    }

    fn answers(&self) -> Result<MutexGuard<'_, State>, ControlError> {
        let mut state = self.state();
        if let Some(refusal) = state.refusal.clone() {
            state.refused += 1;
            return Err(refusal);
        }
        if state.away { Err(ControlError::Unavailable("told to be away".to_owned())) } else { Ok(state) }
    }
}

fn apply(state: &mut State, change: Change) {
    let known = state.instances.get(&change.after.id).unwrap();
    assert_eq!(known.revision, change.from);
    state.edges.extend(change.meter.iter().map(|edge| (change.after.id, *edge)));
    state.instances.insert(change.after.id, change.after);
}

/// What is sealed as `open:` and a password is opened.
fn desired_of(instance: &Instance) -> DesiredInstance {
    let mut desired = DesiredInstance::of(instance, "p.example".to_owned(), 60);
    for known in &instance.spec.registry_credentials {
        if let Some(plain) = known.password.as_str().strip_prefix("open:") {
            desired.more.secrets.insert(&known.password, SecretText::new(plain.to_owned()));
        }
    }
    desired
}

#[async_trait]
impl ControlPlane for FakeControl {
    async fn hello(&self, hello: NodeHello) -> Result<Welcome, ControlError> {
        let mut state = self.answers()?;
        state.journal = Some(hello.journal);
        state.hellos += 1;
        if let Some(floor) = hello.desired_revision.filter(|floor| *floor > self.revision() && !state.ignores_floor) {
            self.revision.send_replace(floor + 1);
        }
        Ok(Welcome { endpoints: Vec::new() })
    }

    async fn desired(&self, _node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        let mut revision = self.revision.subscribe();
        let newer = revision.wait_for(|revision| have.is_none_or(|have| *revision > have));
        let outcome = tokio::time::timeout(Duration::from_secs(30), newer).await;
        let revision = match outcome {
            Err(_) => None,
            Ok(revision) => Some(*revision.unwrap()),
        };
        let state = self.answers()?;
        let listed = state.instances.values().filter(|instance| instance.state != InstanceState::Deleted);
        let instances = listed.map(desired_of).collect();
        Ok(revision.map(|revision| Desired { revision, epoch: state.epoch, instances, kept: Vec::new() }))
    }

    async fn report(&self, report: Report) -> Result<Ack, ControlError> {
        let mut state = self.answers()?;
        let Some(introduced) = state.journal else { return Err(ControlError::UnknownNode) };
        assert!(report.observations.len() <= Report::MAX_OBSERVATIONS);
        if report.observations.iter().any(|observation| state.poison.contains(&observation.instance)) {
            return Err(ControlError::Unavailable("told to choke".to_owned()));
        }
        let mut listed_changed = false;
        let mut through = state.stored.get(&report.journal).copied().unwrap_or(0);
        let is_whole = !state.choked && state.stored.keys().all(|journal| *journal == introduced);
        for observation in report.observations {
            if observation.seq <= through {
                continue;
            }
            assert!(
                !is_whole || report.journal != introduced || observation.seq == through + 1,
                "numbers are contiguous"
            );
            through = observation.seq;
            state.stored.insert(report.journal, through);
            state.facts.push(observation.clone());
            let Some(instance) = state.instances.get(&observation.instance).cloned() else { continue };
            if let Ok(change) = observe(&instance, &observation, (self.now)()) {
                listed_changed |=
                    change.after.state == InstanceState::Deleted || desired_of(&change.after) != desired_of(&instance);
                apply(&mut state, change);
            }
        }
        drop(state);
        if listed_changed {
            self.revision.send_modify(|revision| *revision += 1);
        }
        Ok(Ack { through })
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError> {
        let mut state = self.answers()?;
        if heartbeat.epoch != state.epoch {
            return Err(ControlError::Fenced { epoch: state.epoch });
        }
        state.heartbeats.push(heartbeat);
        Ok(())
    }

    async fn surroundings(&self, _node: NodeId, have: Option<u64>) -> Result<Option<Surroundings>, ControlError> {
        let mut count = self.around.subscribe();
        let found = |state: &State| state.around.clone().filter(|around| have != Some(around.tag));
        let news = async {
            loop {
                let found = self.answers().map(|state| found(&state));
                if !matches!(found, Ok(None)) {
                    return found;
                }
                // The sender lives in `self`, so the channel cannot close.
                drop(count.changed().await);
            }
        };
        tokio::time::timeout(Duration::from_secs(30), news).await.unwrap_or_else(|_| self.answers().map(|_| None))
    }
}
