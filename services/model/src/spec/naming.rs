//! The DNS name of an instance, and who may have it after it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::instance::Instance;

/// Among whom the label of an instance is unique, and who can have its name when it is gone. There is no scope beyond a
/// tenant: a name that was one tenant's is never another's, or whoever still asks for it would reach a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsReuseScope {
    /// Instances of the same project.
    #[default]
    Project,
    /// Instances of any project of the same tenant.
    Tenant,
    /// Nobody, not even an instance of the same name: each gets a domain of its own.
    None,
}

impl DnsReuseScope {
    /// Whether it is the usual one, which stored records leave out.
    pub fn is_project(&self) -> bool {
        *self == Self::Project
    }
}

impl Instance {
    /// The first label of its DNS name.
    pub fn dns_label(&self) -> &str {
        self.spec.dns_label.as_ref().map_or(self.name.as_str(), |label| label.as_str())
    }

    /// Among whom that label is unique: the id of its project, of its tenant, or its own. Ids are never given twice, so what is
    /// made of this is never another's.
    pub fn dns_scope(&self) -> Uuid {
        match self.spec.dns_reuse_scope {
            DnsReuseScope::Project => self.project.as_uuid(),
            DnsReuseScope::Tenant => self.tenant.as_uuid(),
            DnsReuseScope::None => self.id.as_uuid(),
        }
    }
}
