//! What operators do: tenants and their keys, machines that join, are emptied and leave, and a look at the fleet.
//!
//! Each use case asks for [`Scope::Admin`] and leaves a record of who asked: a line in the log, and an event of the fleet at the
//! replica that was asked.

mod drain;
mod explain;
mod fleet;
mod join;
mod nodes;
mod reseal;
mod room;

use wherry_model::{NodeId, NodeRecord, Principal, Scope, TenantId, TenantName};
use wherry_store::TenantRecord;

use crate::{Control, Error, FleetEventKind, NewKey, TenantKeyRequest};

pub use drain::{DrainProgress, DrainRequest};
pub use explain::{Candidate, ExplainInstance, Explanation, RefusedBy};
pub use fleet::{FleetEventStream, FleetSummary};
pub use join::{JoinTokenRequest, NewJoinToken};
pub use nodes::NodeStatus;
pub use reseal::Resealed;
pub use room::{Forecast, Move, NewNodes, Room, ShapeRoom, WhatIf};

/// A node as operators see it.
pub type NodeView = NodeRecord;

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

    /// Leaves a record of what an operator asked for.
    fn record_ask(&self, principal: &Principal, node: Option<NodeId>, what: String) {
        tracing::info!(actor = %principal.subject, node = node.map(tracing::field::display), "operator: {what}");
        let message = format!("{} asked: {what}", principal.subject);
        self.inner.fleet_events.say(FleetEventKind::Asked, node, message, self.now());
    }
}
