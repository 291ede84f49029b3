//! The agents' side of the application: desired state down, facts up, proof of life.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use wherry_agent_api::{
    Ack, ControlError, ControlPlane, Desired, DesiredContainer, DesiredInstance, Heartbeat, NodeHello, PullProgress,
    Report,
};
use wherry_model::lifecycle::{self, Change};
use wherry_model::{ContainerName, Instance, InstanceId, NodeId, NodeState, Observation};
use wherry_store::{NodeRegistration, ReportOutcome};

use crate::{Control, Error, Progress, lock};

/// How long an agent waits for news before it asks again.
const DESIRED_WAIT: Duration = Duration::from_secs(30);

/// How often a report whose records changed meanwhile is computed again.
const MAX_ATTEMPTS: u32 = 16;

/// When each node was last heard, on the monotonic clock of this process. A process that has just started has heard
/// everybody "now": nobody is judged by the time that the control plane itself was away.
#[derive(Default)]
pub(crate) struct Silence {
    heard: HashMap<NodeId, Instant>,
    /// Nodes that may have instances which are believed unknown, each with the number of its latest doubt. A doubt ends
    /// when its instances are taken out of it, not when that begins: the caller may go away in between.
    doubtful: HashMap<NodeId, u64>,
    doubts: u64,
}

impl Silence {
    /// Since when nothing was heard of the node; from now on if it was never heard here.
    pub(crate) fn heard(&mut self, node: NodeId) -> Instant {
        if let Some(at) = self.heard.get(&node) {
            return *at;
        }
        let now = Instant::now();
        self.heard.insert(node, now);
        self.doubt(node);
        now
    }

    pub(crate) fn doubt(&mut self, node: NodeId) {
        self.doubts += 1;
        self.doubtful.insert(node, self.doubts);
    }

    /// Notes that the node was heard; gives the doubt that it was in.
    fn note(&mut self, node: NodeId) -> Option<u64> {
        self.heard(node);
        self.heard.insert(node, Instant::now());
        self.doubtful.get(&node).copied()
    }

    /// Ends this doubt, unless there is a newer one.
    fn resolve(&mut self, node: NodeId, doubt: u64) {
        if self.doubtful.get(&node) == Some(&doubt) {
            self.doubtful.remove(&node);
        }
    }
}

#[async_trait]
impl ControlPlane for Control {
    async fn hello(&self, hello: NodeHello) -> Result<(), ControlError> {
        let registration = NodeRegistration {
            id: hello.node,
            name: hello.name,
            architecture: hello.architecture,
            capacity: hello.capacity,
            range: hello.range,
            boot: hello.boot,
            held_revision: hello.desired_revision.unwrap_or(0),
        };
        self.store().register_node(&registration, self.now()).await.map_err(Error::from)?;
        self.learn_node(hello.node).await?;
        lock(&self.inner.silence).heard(hello.node);
        Ok(())
    }

    async fn desired(&self, node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        let deadline = Instant::now() + DESIRED_WAIT;
        loop {
            let seen = self.store().position();
            let record = self.store().node(node).await.map_err(Error::from)?.ok_or(ControlError::UnknownNode)?;
            if have.is_none_or(|have| record.desired_revision > have) {
                let found = self.store().instances_on(node).await.map_err(Error::from)?;
                let (revision, instances) = found.ok_or(ControlError::UnknownNode)?;
                let instances = instances.iter().map(|instance| self.desired_instance(instance)).collect();
                return Ok(Some(Desired { revision, instances }));
            }
            if tokio::time::timeout_at(deadline, self.store().changed(seen)).await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn report(&self, report: Report) -> Result<Ack, ControlError> {
        if report.observations.len() > Report::MAX_OBSERVATIONS {
            return Err(ControlError::Refused(format!("a report has at most {} facts", Report::MAX_OBSERVATIONS)));
        }
        for _ in 0..MAX_ATTEMPTS {
            let after = self.store().acknowledged(report.node, report.journal).await.map_err(Error::from)?;
            let fresh: Vec<&Observation> = report.observations.iter().filter(|fact| fact.seq > after).collect();
            let Some(last) = fresh.last() else { return Ok(Ack { through: after }) };
            if !fresh.windows(2).all(|pair| matches!(pair, [one, two] if one.seq < two.seq)) {
                return Err(ControlError::Refused("the facts of a report are in order of their numbers".to_owned()));
            }
            let through = last.seq;
            let changes = self.changes_of(report.node, &fresh).await?;
            let stored = self.write_report((report.node, report.journal), after, through, changes).await;
            if stored.is_err() && self.store().node(report.node).await.map_err(Error::from)?.is_none() {
                return Err(ControlError::UnknownNode);
            }
            match stored? {
                ReportOutcome::Applied(through) => return Ok(Ack { through }),
                ReportOutcome::Superseded(_) | ReportOutcome::LostRace => {}
            }
        }
        Err(ControlError::Unavailable("the instances of this report are being changed by many at once".to_owned()))
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError> {
        // Heard is heard, also while the store cannot write it down.
        let doubt = lock(&self.inner.silence).note(heartbeat.node);
        let at = heartbeat.at.min(self.now());
        if !self.store().prove_life(heartbeat.node, at).await.map_err(Error::from)? {
            return Err(ControlError::UnknownNode);
        }
        let progress = |pull: &PullProgress| {
            (pull.instance, Progress { done_bytes: pull.done_bytes, total_bytes: pull.total_bytes })
        };
        lock(&self.inner.progress).insert(heartbeat.node, heartbeat.pulls.iter().map(progress).collect());
        if let Some(doubt) = doubt {
            self.welcome_back(&heartbeat).await?;
            lock(&self.inner.silence).resolve(heartbeat.node, doubt);
        }
        Ok(())
    }
}

impl Control {
    fn desired_instance(&self, instance: &Instance) -> DesiredInstance {
        let containers = instance.spec.containers.iter().map(|spec| DesiredContainer {
            spec: spec.clone(),
            digest: instance.container(&spec.name).and_then(|status| status.image_digest.clone()),
        });
        DesiredInstance {
            id: instance.id,
            generation: instance.generation,
            action: instance.action(),
            tenant: instance.tenant,
            project: instance.project,
            name: instance.name.clone(),
            search_domain: self.inner.config.project_domain(instance.tenant, instance.project),
            containers: containers.collect(),
            restart_policy: instance.spec.restart_policy,
            stop_grace_seconds: instance.spec.stop_grace_seconds,
            first_run: instance.first_run,
        }
    }

    /// What the facts change, each change computed on top of the ones before. Facts about instances that are not this
    /// node's are skipped: a node speaks only of what is assigned to it.
    async fn changes_of(&self, node: NodeId, facts: &[&Observation]) -> Result<Vec<Change>, Error> {
        let now = self.now();
        let mut records: HashMap<InstanceId, Option<Instance>> = HashMap::new();
        let mut changes = Vec::new();
        for fact in facts {
            let record = match records.entry(fact.instance) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let found = self.store().instance_of_any_tenant(fact.instance).await?;
                    unknown.insert(found.filter(|instance| instance.node == Some(node)))
                }
            };
            let Some(record) = record else {
                tracing::warn!(instance = %fact.instance, "a node spoke of an instance that is not its own");
                continue;
            };
            match lifecycle::observe(record, fact, now) {
                Ok(change) => {
                    *record = change.after.clone();
                    changes.push(change);
                }
                Err(ignored) => tracing::debug!(instance = %fact.instance, seq = fact.seq, %ignored, "fact ignored"),
            }
        }
        Ok(changes)
    }

    /// The node was silent, or this process is new: its instances are taken out of doubt.
    async fn welcome_back(&self, heartbeat: &Heartbeat) -> Result<(), Error> {
        let Some(record) = self.store().node(heartbeat.node).await? else { return Ok(()) };
        if record.state == NodeState::Silent {
            self.store().set_node_state(heartbeat.node, NodeState::Ready).await?;
        }
        self.learn_node(heartbeat.node).await?;
        let Some((_, instances)) = self.store().instances_on(heartbeat.node).await? else { return Ok(()) };
        for instance in instances.into_iter().filter(|instance| instance.unknown_since.is_some()) {
            self.change_instance(instance, |instance| {
                let running: Vec<(ContainerName, u32)> = heartbeat
                    .running
                    .iter()
                    .filter(|found| found.instance == instance.id && found.generation == instance.generation)
                    .map(|found| (found.container.clone(), found.run))
                    .collect();
                Ok(lifecycle::recover(instance, &running, self.now()))
            })
            .await?;
        }
        Ok(())
    }
}

impl From<Error> for ControlError {
    fn from(error: Error) -> Self {
        tracing::warn!(code = error.code(), error = &error as &dyn std::error::Error, "an agent was turned away");
        Self::Unavailable(error.to_string())
    }
}
