//! Webhooks of a project.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod deliveries;
pub(crate) mod delivery_get;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod patch;
pub(crate) mod redeliver;
pub(crate) mod rotate_secret;
pub(crate) mod test;
