//! Why something is placed where it is, or nowhere: the decision made again, by the same engine, and written down.

use wherry_model::{
    Demand, Instance, InstanceId, InstanceSpec, InstanceState, NodeId, Principal, ProjectName, Scope, TenantId,
    TenantName,
};
use wherry_placement::{Fleet, FleetChange, HardLimit, NodeSnapshot, Score};
use wherry_store::TenantRecord;

use crate::fleet::for_tenants;
use crate::{Control, Error, lock};

/// Nodes of an explanation.
const BEST: usize = 3;

/// An instance as an operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainInstance {
    /// Id or name of its tenant; the operator's own when absent.
    pub tenant: Option<String>,
    /// Its project.
    pub project: ProjectName,
    /// Its name or id.
    pub instance: String,
}

/// A decision with all of its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What is asked of a node.
    pub demand: Demand,
    /// How many nodes there are.
    pub nodes: u32,
    /// How many of them no rule refuses.
    pub fits: u32,
    /// How many each rule refuses; those that refuse none are absent.
    pub refused: Vec<RefusedBy>,
    /// The best of those that are left, the best first.
    pub best: Vec<Candidate>,
    /// What a tenant is told; none when there is room.
    pub told: Option<String>,
    /// Of an instance: its state, and the id and name of its node.
    pub instance: Option<(InstanceState, Option<(NodeId, String)>)>,
}

/// How many nodes a rule refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedBy {
    /// The rule.
    pub rule: &'static str,
    /// How many nodes.
    pub nodes: u32,
    /// What they have in common.
    pub message: String,
}

/// A node that could take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// What was compared, the most important first; less is better.
    pub score: Vec<(&'static str, u64)>,
}

impl Control {
    /// Where an instance of this spec would be placed now, if it were `tenant`'s (id or name; the operator's own when absent).
    pub async fn explain_spec(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        spec: &InstanceSpec,
    ) -> Result<Explanation, Error> {
        Self::require(principal, Scope::Admin)?;
        self.check_spec(spec)?;
        self.tenant_called(principal, tenant).await?;
        self.explanation(&spec.demand(), None).await
    }

    /// Where the instance would be placed now. What it holds of a node is taken as free for it.
    pub async fn explain_instance(
        &self,
        principal: &Principal,
        request: &ExplainInstance,
    ) -> Result<Explanation, Error> {
        Self::require(principal, Scope::Admin)?;
        let tenant = self.tenant_called(principal, request.tenant.as_deref()).await?;
        let unknown = || Error::NotFound(format!("the instance {}", request.instance));
        let project = self.store().project(tenant, &request.project).await?;
        let project = project.ok_or_else(|| Error::NotFound(format!("the project {}", request.project)))?;
        let named = match request.instance.parse() {
            Ok(name) => self.store().instance_by_name(tenant, project.id, &name).await?,
            Err(_) => None,
        };
        let found = match (named, request.instance.parse::<InstanceId>()) {
            (Some(found), _) => found,
            (None, Ok(id)) => self.store().instance(tenant, id).await?.ok_or_else(unknown)?,
            (None, Err(_)) => return Err(unknown()),
        };
        self.explanation(&found.demand(), Some(&found)).await
    }

    async fn tenant_called(&self, principal: &Principal, tenant: Option<&str>) -> Result<TenantId, Error> {
        let Some(text) = tenant else { return Ok(principal.tenant) };
        let named = match TenantName::new(text) {
            Ok(name) => self.store().tenant_by_name(&name).await?,
            Err(_) => None,
        };
        let found: Option<TenantRecord> = match (named, text.parse::<TenantId>()) {
            (Some(found), _) => Some(found),
            (None, Ok(id)) => self.store().tenant(id).await?,
            (None, Err(_)) => None,
        };
        found.map(|tenant| tenant.id).ok_or_else(|| Error::NotFound("that tenant".to_owned()))
    }

    async fn explanation(&self, demand: &Demand, instance: Option<&Instance>) -> Result<Explanation, Error> {
        let rows = self.store().nodes().await?;
        let name = |id: NodeId| {
            let row = rows.iter().find(|row| row.id == id);
            row.map_or_else(|| id.to_string(), |row| row.name.clone())
        };
        let mut fleet = lock(&self.inner.fleet).picture();
        let held = instance.filter(|instance| instance.holds_resources).and_then(|instance| instance.node);
        if let Some(node) = held {
            // The picture may be behind the record: then less is given back, and the answer is as old as the picture.
            let _ = fleet.apply(FleetChange::Release { node, demand: *demand });
        }
        let mut explained = explain(&fleet, demand, name);
        explained.instance = instance.map(|instance| (instance.state, instance.node.map(|node| (node, name(node)))));
        Ok(explained)
    }
}

fn explain(fleet: &Fleet, demand: &Demand, name: impl Fn(NodeId) -> String) -> Explanation {
    let rate = fleet.exchange_rate();
    let refuses = |limit: &HardLimit, node: &NodeSnapshot| limit.refuses(node, demand, false);
    let count = |found: usize| u32::try_from(found).unwrap_or(u32::MAX);
    let refused = HardLimit::ALL.iter().map(|limit| RefusedBy {
        rule: limit.name(),
        nodes: count(fleet.nodes().filter(|node| refuses(limit, node)).count()),
        message: limit.to_string(),
    });
    let fitting = fleet.nodes().filter(|node| !HardLimit::ALL.iter().any(|limit| refuses(limit, node)));
    let mut scores: Vec<Score> = fitting.map(|node| Score::of(node, demand, rate)).collect();
    scores.sort_unstable();
    let best = scores.iter().take(BEST).map(|score| Candidate {
        node: score.node,
        name: name(score.node),
        score: vec![
            ("wakes_empty_node", u64::from(score.wakes_empty_node)),
            ("residue_mib", score.residue_mib),
            ("imbalance_mib", score.imbalance_mib),
        ],
    });
    Explanation {
        demand: *demand,
        nodes: count(fleet.nodes().count()),
        fits: count(scores.len()),
        refused: refused.filter(|refused| refused.nodes > 0).collect(),
        best: best.collect(),
        told: fleet.decide(demand).err().map(|refusal| for_tenants(&refusal)),
        instance: None,
    }
}
