//! What operators do. All of it needs the scope `admin`, which no other scope implies.

pub(crate) mod audit_list;
pub(crate) mod explain_get;
pub(crate) mod explain_spec;
pub(crate) mod fleet_events;
pub(crate) mod fleet_get;
pub(crate) mod join_tokens_create;
pub(crate) mod node_cancel_drain;
pub(crate) mod node_confirm_off;
pub(crate) mod node_cordon;
pub(crate) mod node_drain;
pub(crate) mod node_get;
pub(crate) mod node_remove;
pub(crate) mod node_uncordon;
pub(crate) mod nodes_list;
pub(crate) mod replicas_list;
pub(crate) mod secrets_reseal;
pub(crate) mod tenant_keys_create;
pub(crate) mod tenants_create;
pub(crate) mod tenants_list;
pub(crate) mod what_if;

use wherry_control::Error as ControlError;
use wherry_model::{Principal, Scope};

use crate::error::ApiError;

/// For what the application tells without asking who wants to know.
fn require_operator(principal: &Principal) -> Result<(), ApiError> {
    if principal.scopes.contains(Scope::Admin) {
        Ok(())
    } else {
        Err(ControlError::InsufficientScope(Scope::Admin).into())
    }
}
