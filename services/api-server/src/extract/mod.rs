//! The parts of a request, read strictly: what is not in the document is refused, with the field that is at fault.

mod body;
mod headers;
mod path;
mod query;
mod strict;

pub(crate) use body::{JsonBody, MergePatch, parse as parse_json};
pub(crate) use headers::{IdempotencyKey, IfMatch, LastEventId};
pub(crate) use path::{
    ContainerPath, DeliveryPath, InstancePath, KeyPath, NamePath, NodePath, ProjectPath, TenantPath, WebhookPath,
};
pub(crate) use query::{FromQuery, NoQuery, Query, QueryReader};

pub(crate) use body::read_body;
