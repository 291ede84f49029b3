//! Tenants with their projects and keys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::state::Scope;
use crate::text;

/// Body of a project's create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectCreate {
    /// Unique in the tenant.
    #[schema(value_type = text::LabelName)]
    pub name: String,
}

/// A folder of instances. Every tenant has the project `default` from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// For ever its own.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// Unique in the tenant.
    #[schema(value_type = text::LabelName)]
    pub name: String,
    /// When it was made.
    #[schema(value_type = text::Time)]
    pub created_at: String,
}

/// All projects of the tenant, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectList {
    /// The projects.
    pub items: Vec<Project>,
}

/// Body of a key's create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyCreate {
    /// What its owner calls it.
    #[schema(value_type = text::DisplayName)]
    pub name: String,
    /// What it may do. A tenant's key can do no more than the key or token that makes it.
    #[schema(min_items = 1)]
    pub scopes: Vec<Scope>,
    /// When it stops working; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Time>)]
    pub expires_at: Option<String>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// Its public part: the `client_id` at the token endpoint.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// What its owner calls it.
    #[schema(value_type = text::DisplayName)]
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made.
    #[schema(value_type = text::Time)]
    pub created_at: String,
    /// When it stops working, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub expires_at: Option<String>,
    /// Since when it does not work any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub revoked_at: Option<String>,
}

/// A key that was just made. The secret is shown this once and never again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyCreated {
    /// The key.
    pub key: Key,
    /// Its secret: the `client_secret` at the token endpoint.
    #[schema(example = "wsk_6J2uXf1mYb0Qk8h3oZq7Xw5cT9dL4vEsRn1aGpKiUyM")]
    pub secret: String,
}

impl std::fmt::Debug for KeyCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCreated").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The tenant's keys, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// The keys.
    pub items: Vec<Key>,
}

/// Body of a tenant's create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantCreate {
    /// Unique in the service.
    #[schema(value_type = text::LabelName)]
    pub name: String,
}

/// Who is billed and isolated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// For ever its own.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// Unique in the service.
    #[schema(value_type = text::LabelName)]
    pub name: String,
    /// When it was made.
    #[schema(value_type = text::Time)]
    pub created_at: String,
}

/// A page of tenants, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantList {
    /// The tenants.
    pub items: Vec<Tenant>,
    /// The `after` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::LabelName)]
    pub next: Option<String>,
}
