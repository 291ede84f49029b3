//! Why something is placed where it is, or nowhere: the decision made again, by the same engine, and written down.

use wherry_model::{
    Demand, Instance, InstanceId, InstanceSpec, InstanceState, NodeId, Principal, ProjectName, Scope, TenantId,
    TenantName, Terms,
};
use wherry_placement::lifetime::Expectation;
use wherry_placement::{Ask, FleetChange, HardLimit, Score};
use wherry_store::TenantRecord;

use crate::fleet::told;
use crate::{Control, Error, lock};

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
    /// How long it is expected to run, and why; none when nothing is learnt.
    pub lifetime: Option<Expectation>,
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
        let tenant = self.tenant_called(principal, tenant).await?;
        let demand = Demand { tenant: Some(tenant), ..spec.demand() };
        self.explanation(&demand, &spec.terms(tenant), None).await
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
        self.explanation(&found.demand(), &found.terms(), Some(&found)).await
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

    async fn explanation(
        &self,
        demand: &Demand,
        terms: &Terms,
        instance: Option<&Instance>,
    ) -> Result<Explanation, Error> {
        let rows = self.store().nodes().await?;
        let name = |id: NodeId| {
            let row = rows.iter().find(|row| row.id == id);
            row.map_or_else(|| id.to_string(), |row| row.name.clone())
        };
        let mut fleet = lock(&self.inner.fleet).picture();
        let held = instance.filter(|instance| instance.holds_resources);
        if let Some((id, node)) = held.and_then(|instance| Some((instance.id, instance.node?))) {
            fleet.depart(id);
            // The picture may be behind the record: then less is given back, and the answer is as old as the picture.
            let _ = fleet.apply(FleetChange::Release { node, demand: *demand });
        }
        let lifetime = self.expectation(instance.map(|instance| instance.id), demand, terms);
        let departs = lifetime.map(|expected| expected.departs).unwrap_or_default();
        let terms = &Terms { departs, ..terms.clone() };
        let ask = Ask { demand, terms, excluded: &[] };
        let found = fleet.explain(&ask);
        let refused = found.refused.iter().map(|(limit, nodes)| RefusedBy {
            rule: rule(*limit),
            nodes: *nodes,
            message: limit.to_string(),
        });
        let best =
            found.best.iter().map(|score| Candidate { node: score.node, name: name(score.node), score: parts(score) });
        Ok(Explanation {
            demand: *demand,
            nodes: found.nodes,
            fits: found.fits,
            refused: refused.collect(),
            best: best.collect(),
            told: fleet.decide_for(&ask).err().map(|refusal| told(&refusal, Some(&found.refused))),
            lifetime,
            instance: instance.map(|instance| (instance.state, instance.node.map(|node| (node, name(node))))),
        })
    }
}

/// What is compared, the most important first; less is better. The id, which comes last, says nothing.
fn parts(score: &Score) -> Vec<(&'static str, u64)> {
    vec![
        ("shared", u64::from(score.shared)),
        ("unasked_gpus", u64::from(score.unasked_gpus)),
        ("wakes_empty_node", u64::from(score.wakes_empty_node)),
        ("cold", u64::from(score.cold)),
        ("unused_gpus", u64::from(score.unused_gpus)),
        ("departure_gap", u64::from(score.departure_gap)),
        ("zone_excess", u64::from(score.zone_excess)),
        ("others_share", u64::from(score.others_share)),
        ("residue_mib", score.residue_mib),
        ("imbalance_mib", score.imbalance_mib),
    ]
}

const fn rule(limit: HardLimit) -> &'static str {
    match limit {
        HardLimit::State => "state",
        HardLimit::Architecture => "architecture",
        HardLimit::Fencing => "fencing",
        HardLimit::Protocol => "protocol",
        HardLimit::Isolation => "isolation",
        HardLimit::Zone => "zone",
        HardLimit::SoleTenant => "dedicated",
        HardLimit::Instances => "instances",
        HardLimit::Addresses => "addresses",
        HardLimit::Cpu => "cpu",
        HardLimit::Memory => "memory",
        HardLimit::Disk => "disk",
        HardLimit::Gpu => "gpu",
        HardLimit::Ports => "ports",
        HardLimit::Near => "near",
        HardLimit::Apart => "apart",
        HardLimit::Spread => "spread",
        HardLimit::Excluded => "excluded",
    }
}
