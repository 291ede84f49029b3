//! Between the wire and the application. Every foreign enum is mapped by an exhaustive `match`, so a new state is a
//! decision and not an accident.

mod account;
mod audit;
mod exec;
mod fleet;
mod instance;
mod room;
mod seal;
mod spec;
mod stats;
mod usage;
mod webhook;

pub(crate) use account::{key, key_request, new_key, project, tenant, wire_scopes};
pub(crate) use audit::audit;
pub(crate) use exec::{exec_request, exec_result};
pub(crate) use fleet::{drain_request, fleet, fleet_event, join_token_request, new_join_token, node, replica};
pub(crate) use instance::{dry_run, event, instance, preview, state_to_model, wait_to_model};
pub(crate) use room::{explanation, forecast, what_if};
pub(crate) use seal::Seal;
pub(crate) use spec::{instance_name, merged_spec, project_name, spec_to_model, tenant_name};
pub(crate) use stats::{instance_stats, metrics, project_stats};
pub(crate) use usage::usage;
pub use webhook::cloud_event;
pub(crate) use webhook::{delivery, merged_webhook, new_webhook, webhook, webhook_create};

use wherry_control::Error as ControlError;
use wherry_model::{SpecError, Timestamp};

use crate::error::ApiError;

/// A moment from RFC 3339 text.
pub(crate) fn time(field: &str, text: &str) -> Result<Timestamp, ApiError> {
    let wrong = || SpecError::new(field, "write a moment as RFC 3339 has it, for example 2026-11-23T06:30:00Z");
    text.parse().map_err(|_| ControlError::from(wrong()).into())
}
