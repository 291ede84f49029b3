//! What operators do: tenants and their keys, and a look at the fleet.

use wherry_model::{Capacity, NodeRecord, Principal, Scope, TenantId, TenantName};
use wherry_store::TenantRecord;

use crate::{Control, Error, NewKey, TenantKeyRequest};

/// A node as operators see it.
pub type NodeView = NodeRecord;

/// The whole fleet in numbers, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FleetSummary {
    /// Nodes that take new instances.
    pub ready_nodes: u32,
    /// Nodes that do not.
    pub other_nodes: u32,
    /// What all nodes can hand out.
    pub capacity: Capacity,
    /// What all nodes have handed out.
    pub used: Capacity,
}

impl Control {
    /// Makes a tenant with its `default` project.
    pub async fn create_tenant(&self, principal: &Principal, name: TenantName) -> Result<TenantRecord, Error> {
        Self::require(principal, Scope::Admin)?;
        self.store_tenant(name).await
    }

    /// Tenants by name, after `after`, at most `limit`.
    pub async fn tenants(
        &self,
        principal: &Principal,
        after: Option<&TenantName>,
        limit: u32,
    ) -> Result<Vec<TenantRecord>, Error> {
        Self::require(principal, Scope::Admin)?;
        Ok(self.store().tenants(after, limit).await?)
    }

    /// Makes a key for any tenant.
    pub async fn create_tenant_key(
        &self,
        principal: &Principal,
        tenant: TenantId,
        request: TenantKeyRequest,
    ) -> Result<NewKey, Error> {
        Self::require(principal, Scope::Admin)?;
        if self.store().tenant(tenant).await?.is_none() {
            return Err(Error::NotFound(format!("the tenant {tenant}")));
        }
        self.issue_key(tenant, request).await
    }

    /// All nodes.
    pub async fn nodes(&self, principal: &Principal) -> Result<Vec<NodeView>, Error> {
        Self::require(principal, Scope::Admin)?;
        Ok(self.store().nodes().await?)
    }

    /// The fleet in numbers. No principal: the operator port serves it, which tenants cannot reach.
    pub async fn fleet_summary(&self) -> Result<FleetSummary, Error> {
        let add = |a: Capacity, b: Capacity| Capacity {
            cpu_millis: a.cpu_millis.saturating_add(b.cpu_millis),
            memory_mib: a.memory_mib.saturating_add(b.memory_mib),
            instances: a.instances.saturating_add(b.instances),
        };
        let mut summary = FleetSummary::default();
        for node in self.store().nodes().await? {
            if node.state == wherry_model::NodeState::Ready {
                summary.ready_nodes += 1;
            } else {
                summary.other_nodes += 1;
            }
            summary.capacity = add(summary.capacity, node.capacity);
            summary.used = add(summary.used, node.used);
        }
        Ok(summary)
    }
}
