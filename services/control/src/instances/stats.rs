//! What instances use now. Read from the nodes that run them, never stored.
//!
//! What a node said is given again for a second. A node that does not answer makes its instances stale, one of which it says
//! nothing is stale alone, and no answer fails: whoever watches a hundred instances sees the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use wherry_agent_api::{InstanceStats, StatsQuery};
use wherry_model::{Generation, Instance, InstanceId, InstanceState, NodeId, Principal, ProjectName, Scope};
use wherry_store::ListQuery;

use crate::{Control, Error, lock};

/// Instances of one answer.
const MAX_INSTANCES: usize = 500;
/// Instances on one page of the store.
const PAGE: u32 = 200;
/// How long an answer of a node is given again.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// What is remembered of them.
const MAX_REMEMBERED: usize = 4_096;
/// How long a node may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers of nodes, and when they came.
pub(crate) type Remembered = BTreeMap<InstanceId, (Generation, Instant, InstanceStats)>;

/// An instance and what it uses.
#[derive(Debug, Clone)]
pub struct InstanceUse {
    /// The record.
    pub instance: Instance,
    /// What its node said; none when nothing runs or it said nothing.
    pub stats: Option<InstanceStats>,
    /// Whether it runs and its node said nothing of it.
    pub stale: bool,
}

/// What the instances of a project use.
#[derive(Debug, Clone)]
pub struct ProjectUse {
    /// Those that run, in order of their names.
    pub items: Vec<InstanceUse>,
    /// Whether there are more of them.
    pub more: bool,
}

impl Control {
    /// What one instance uses now.
    pub async fn instance_stats(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
    ) -> Result<InstanceUse, Error> {
        Self::require(principal, Scope::InstancesRead)?;
        let instance = self.instance_of(principal, project, name_or_id).await?;
        let mut found = self.used_by(vec![instance]).await;
        found.pop().ok_or_else(|| Error::internal("an instance has no statistics"))
    }

    /// What the instances of a project use now, of at most 500.
    pub async fn project_stats(&self, principal: &Principal, project: &ProjectName) -> Result<ProjectUse, Error> {
        use InstanceState as S;
        Self::require(principal, Scope::InstancesRead)?;
        let project = self.project_of(principal, project).await?;
        let mut query = ListQuery {
            tenant: principal.tenant,
            project: project.id,
            states: vec![S::Pulling, S::Starting, S::Running, S::Stopping, S::Unknown],
            labels: BTreeMap::new(),
            after: None,
            limit: PAGE,
        };
        let mut running = Vec::new();
        let more = loop {
            let page = self.store().instances(&query).await?;
            running.extend(page.instances.into_iter().filter(Instance::any_container_runs));
            if running.len() > MAX_INSTANCES {
                running.truncate(MAX_INSTANCES);
                break true;
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => break false,
            }
        };
        running.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(ProjectUse { items: self.used_by(running).await, more })
    }

    async fn used_by(&self, instances: Vec<Instance>) -> Vec<InstanceUse> {
        let mut known = self.remembered(&instances);
        let mut by_node: BTreeMap<NodeId, Vec<(InstanceId, Generation)>> = BTreeMap::new();
        let mut asked = BTreeSet::new();
        for instance in &instances {
            let is_asked = instance.any_container_runs() && instance.state != InstanceState::Unknown;
            if let (true, Some(node), false) = (is_asked, instance.node, known.contains_key(&instance.id)) {
                by_node.entry(node).or_default().push((instance.id, instance.generation));
                asked.insert(instance.id);
            }
        }
        let questions =
            by_node.iter().flat_map(|(node, all)| all.chunks(StatsQuery::MAX_INSTANCES).map(|c| (*node, c)));
        let answers = join_all(questions.map(|(node, some)| self.ask_node(node, some))).await;
        known.extend(answers.into_iter().flatten().map(|stats| (stats.instance, stats)));
        let used = |instance: Instance| {
            let stats = known.remove(&instance.id).filter(|_| instance.any_container_runs());
            let is_untold = stats.is_none() && asked.contains(&instance.id);
            let stale = is_untold || instance.state == InstanceState::Unknown;
            InstanceUse { instance, stats, stale }
        };
        instances.into_iter().map(used).collect()
    }

    /// What a node says of some of its instances: of those that are not in the answer it said nothing.
    async fn ask_node(&self, node: NodeId, instances: &[(InstanceId, Generation)]) -> Vec<InstanceStats> {
        let Some(((instance, generation), others)) = instances.split_first() else { return Vec::new() };
        let Some(services) = self.node_services(node) else { return Vec::new() };
        let query = StatsQuery { instance: *instance, generation: *generation, others: others.to_vec() };
        let mut stats = match tokio::time::timeout(PATIENCE, services.stats(query)).await {
            Ok(Ok(stats)) => stats,
            Ok(Err(error)) => {
                tracing::debug!(%node, %error, "a node does not say what its instances use");
                return Vec::new();
            }
            Err(_) => {
                tracing::debug!(%node, "a node does not say in time what its instances use");
                return Vec::new();
            }
        };
        // It speaks for what it was asked about, and for nothing else.
        let asked: BTreeMap<_, _> = instances.iter().copied().collect();
        stats.retain(|stats| asked.contains_key(&stats.instance));
        let now = Instant::now();
        let mut remembered = lock(&self.inner.stats);
        remembered.retain(|_, (_, at, _)| now.duration_since(*at) < GOOD_FOR);
        for stats in &stats {
            let Some(generation) = asked.get(&stats.instance) else { continue };
            if remembered.len() < MAX_REMEMBERED {
                remembered.insert(stats.instance, (*generation, now, stats.clone()));
            }
        }
        stats
    }

    fn remembered(&self, instances: &[Instance]) -> BTreeMap<InstanceId, InstanceStats> {
        let remembered = lock(&self.inner.stats);
        let known = instances.iter().filter_map(|instance| {
            let (generation, at, stats) = remembered.get(&instance.id)?;
            let is_good = *generation == instance.generation && at.elapsed() < GOOD_FOR;
            is_good.then(|| (instance.id, stats.clone()))
        });
        known.collect()
    }
}
