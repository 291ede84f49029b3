//! DNS names of instances: `<label>.<scope>.<region>.<zone>`.
//!
//! The scope is a keyed hash, 80 bits, of those who can have the name again when it is free: tenant and project unless something
//! else is asked for, the tenant alone, or also the instance, which is nobody else. So a name that was freed is never another tenant's.
//! That of a project is the same for all of its instances, so it doubles as the search domain in which they find each other
//! by bare names. What is hashed differs in length, so a domain of one kind is none of another.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;
use wherry_model::{DnsReuseScope, Instance, ProjectId, TenantId};

use crate::ControlConfig;

/// Bytes of the hash that are used: 80 bits make 16 characters of base32.
const LABEL_BYTES: usize = 10;

impl ControlConfig {
    /// The domain of all instances of a project.
    pub fn project_domain(&self, tenant: TenantId, project: ProjectId) -> String {
        self.domain(&[tenant.as_uuid(), project.as_uuid()])
    }

    fn domain(&self, owner: &[Uuid]) -> String {
        // RFC 2104: a key shorter than the hash's block of 64 bytes is filled up with zeros.
        let mut block = [0_u8; 64];
        block[..self.naming_key.len()].copy_from_slice(&self.naming_key);
        let mut hash = <Hmac<Sha256> as KeyInit>::new(&block.into());
        for id in owner {
            hash.update(id.as_bytes());
        }
        let digest = hash.finalize().into_bytes();
        let label = data_encoding::BASE32_NOPAD.encode(digest.get(..LABEL_BYTES).unwrap_or(&digest));
        format!("{}.{}", label.to_ascii_lowercase(), self.apex())
    }

    /// The full DNS name of an instance, without a dot at its end.
    pub fn fqdn(&self, instance: &Instance) -> String {
        let (tenant, project) = (instance.tenant.as_uuid(), instance.project.as_uuid());
        let domain = match instance.spec.dns_reuse_scope {
            DnsReuseScope::Project => self.domain(&[tenant, project]),
            DnsReuseScope::Tenant => self.domain(&[tenant]),
            DnsReuseScope::None => self.domain(&[tenant, project, instance.id.as_uuid()]),
        };
        format!("{}.{domain}", instance.dns_label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(tenant: u128, project: u128) -> (TenantId, ProjectId) {
        let uuid = |n: u128| format!("{n:032x}");
        (uuid(tenant).parse().unwrap(), uuid(project).parse().unwrap())
    }

    #[test]
    fn the_domain_depends_on_tenant_project_and_key() {
        let config = ControlConfig::new([7; 32]);
        let (tenant, project) = ids(1, 2);
        let domain = config.project_domain(tenant, project);
        assert_eq!(domain, config.project_domain(tenant, project));
        let label = domain.strip_suffix(".local.wherry.internal").unwrap();
        assert_eq!(label.len(), 16);
        assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        for other in [ids(1, 3), ids(3, 2), ids(2, 1)] {
            assert_ne!(domain, config.project_domain(other.0, other.1));
        }
        assert_ne!(domain, ControlConfig::new([8; 32]).project_domain(tenant, project));
    }

    /// Whoever it is made of, a domain of one kind is none of another: what is hashed has another length.
    #[test]
    fn no_two_scopes_share_a_domain() {
        let config = ControlConfig::new([7; 32]);
        let (tenant, project) = ids(1, 2);
        let [a, b, c] = [1_u128, 2, 3].map(Uuid::from_u128);
        let domains = [
            config.domain(&[a]),
            config.domain(&[a, b]),
            config.domain(&[a, b, c]),
            config.domain(&[a, b, Uuid::from_u128(4)]),
            config.domain(&[b]),
        ];
        let different: std::collections::BTreeSet<_> = domains.iter().collect();
        assert_eq!(different.len(), domains.len());
        assert_eq!(config.project_domain(tenant, project), domains[1], "names of the release before stay");
    }
}
