//! Names in paths. A name that cannot exist is the same as one that does not: 404.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use wherry_control::Error as ControlError;
use wherry_model::{ApiKeyId, ContainerName, DeliveryId, InstanceName, ProjectName, TenantId, WebhookName};

use crate::error::ApiError;
use crate::state::ApiState;

/// `{project}`
pub(crate) struct ProjectPath(pub(crate) ProjectName);

/// `{project}` and `{instance}`
pub(crate) struct InstancePath {
    pub(crate) project: ProjectName,
    /// Name or id.
    pub(crate) instance: String,
}

/// `{project}`, `{instance}` and `{container}`
pub(crate) struct ContainerPath {
    pub(crate) project: ProjectName,
    pub(crate) instance: String,
    pub(crate) container: ContainerName,
}

/// `{project}` and `{instance}` of a put: a new name, which the body's rules apply to.
pub(crate) struct NamePath {
    pub(crate) project: ProjectName,
    pub(crate) name: String,
}

/// `{project}` and `{webhook}`
pub(crate) struct WebhookPath {
    pub(crate) project: ProjectName,
    pub(crate) webhook: WebhookName,
}

/// `{project}`, `{webhook}` and `{delivery}`
pub(crate) struct DeliveryPath {
    pub(crate) project: ProjectName,
    pub(crate) webhook: WebhookName,
    pub(crate) delivery: DeliveryId,
}

/// `{key}`
pub(crate) struct KeyPath(pub(crate) ApiKeyId);

/// `{node}`: name or id
pub(crate) struct NodePath(pub(crate) String);

/// `{tenant}`
pub(crate) struct TenantPath(pub(crate) TenantId);

/// The value of `{name}` as it is after decoding.
async fn parameter(parts: &mut Parts, state: &ApiState, name: &str) -> Result<String, ApiError> {
    let found = RawPathParams::from_request_parts(parts, state).await.ok();
    let found = found.iter().flatten().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    found.ok_or(ApiError::NoSuchRoute)
}

/// The value of `{name}` as a `T`.
async fn named<T: std::str::FromStr>(parts: &mut Parts, state: &ApiState, name: &str) -> Result<T, ApiError> {
    let text = parameter(parts, state, name).await?;
    text.parse().map_err(|_| ControlError::NotFound(format!("the {name} {}", shortened(&text))).into())
}

/// Enough of a name to recognise it; nobody's path is repeated at length.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(255).collect()
}

impl FromRequestParts<ApiState> for ProjectPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        Ok(Self(named(parts, state, "project").await?))
    }
}

impl FromRequestParts<ApiState> for InstancePath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let project = named(parts, state, "project").await?;
        let instance: InstanceName = named(parts, state, "instance").await?;
        Ok(Self { project, instance: instance.to_string() })
    }
}

impl FromRequestParts<ApiState> for ContainerPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let InstancePath { project, instance } = InstancePath::from_request_parts(parts, state).await?;
        Ok(Self { project, instance, container: named(parts, state, "container").await? })
    }
}

impl FromRequestParts<ApiState> for NamePath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let project = named(parts, state, "project").await?;
        Ok(Self { project, name: parameter(parts, state, "instance").await? })
    }
}

impl FromRequestParts<ApiState> for WebhookPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        Ok(Self { project: named(parts, state, "project").await?, webhook: named(parts, state, "webhook").await? })
    }
}

impl FromRequestParts<ApiState> for DeliveryPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let WebhookPath { project, webhook } = WebhookPath::from_request_parts(parts, state).await?;
        Ok(Self { project, webhook, delivery: named(parts, state, "delivery").await? })
    }
}

impl FromRequestParts<ApiState> for KeyPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        Ok(Self(named(parts, state, "key").await?))
    }
}

impl FromRequestParts<ApiState> for NodePath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let name = parameter(parts, state, "node").await?;
        let shown = shortened(&name);
        if shown == name { Ok(Self(name)) } else { Err(ControlError::NotFound(format!("the node {shown}")).into()) }
    }
}

impl FromRequestParts<ApiState> for TenantPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        Ok(Self(named(parts, state, "tenant").await?))
    }
}
