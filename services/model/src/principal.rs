//! Who is asking, and what that one may do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::{ApiKeyId, TenantId};

/// One permission. `admin` is the operator's and is never implied by another scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Read instances, events and projects.
    #[serde(rename = "instances:read")]
    InstancesRead,
    /// Create, stop, start and delete instances and projects.
    #[serde(rename = "instances:write")]
    InstancesWrite,
    /// Run programs inside of containers.
    #[serde(rename = "instances:exec")]
    Exec,
    /// Read what containers print.
    #[serde(rename = "logs:read")]
    LogsRead,
    /// Read usage and cost.
    #[serde(rename = "usage:read")]
    UsageRead,
    /// Make and revoke API keys of the own tenant.
    #[serde(rename = "keys:write")]
    KeysWrite,
    /// Operate the service: tenants, keys of any tenant, nodes.
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::InstancesRead,
        Self::InstancesWrite,
        Self::Exec,
        Self::LogsRead,
        Self::UsageRead,
        Self::KeysWrite,
        Self::Admin,
    ];

    /// The name on the wire, as in OAuth 2.0 `scope` (RFC 6749 section 3.3).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InstancesRead => "instances:read",
            Self::InstancesWrite => "instances:write",
            Self::Exec => "instances:exec",
            Self::LogsRead => "logs:read",
            Self::UsageRead => "usage:read",
            Self::KeysWrite => "keys:write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A scope that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a scope: choose among instances:read, instances:write, instances:exec, logs:read, usage:read, keys:write, admin"
)]
pub struct ScopeError(String);

impl FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| ScopeError(text.to_owned()))
    }
}

/// A set of scopes; prints and parses as a space-separated list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// What a tenant's first key may do: everything but operate the service.
    pub fn tenant() -> Self {
        Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect()
    }

    /// Everything.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether `scope` is granted.
    pub fn contains(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every scope of `self` is granted by `other` too.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// The scopes in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = Scope> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl FromStr for ScopeSet {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        text.split_whitespace().map(str::parse).collect()
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, scope) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            scope.fmt(f)?;
        }
        Ok(())
    }
}

/// What acts: a key of ours, or a person or workload that a trusted outside issuer vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An API key of ours.
    Key(ApiKeyId),
    /// `issuer` says it is `subject`.
    External {
        /// The issuer's URL.
        issuer: String,
        /// The issuer's name for it.
        subject: String,
    },
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => write!(f, "key:{id}"),
            Self::External { issuer, subject } => write!(f, "{issuer}#{subject}"),
        }
    }
}

/// The verified caller of a request. Only authentication makes one; every query takes the tenant from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant it acts for.
    pub tenant: TenantId,
    /// Who it is.
    pub subject: Subject,
    /// What it may do.
    pub scopes: ScopeSet,
}
