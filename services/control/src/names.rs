//! DNS names of instances: `<name>.<project label>.<region>.<zone>`.
//!
//! The project label is a keyed hash of tenant and project, 80 bits, so a name that was freed can only be used again in
//! the same project, never by another tenant. It is the same for all instances of a project,
//! so it doubles as the search domain in which they find each other by bare names.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wherry_model::{Instance, ProjectId, TenantId};

use crate::ControlConfig;

/// Bytes of the hash that are used: 80 bits make 16 characters of base32.
const LABEL_BYTES: usize = 10;

impl ControlConfig {
    /// The domain of all instances of a project.
    pub fn project_domain(&self, tenant: TenantId, project: ProjectId) -> String {
        // RFC 2104: a key shorter than the hash's block of 64 bytes is filled up with zeros.
        let mut block = [0_u8; 64];
        block[..self.naming_key.len()].copy_from_slice(&self.naming_key);
        let mut hash = <Hmac<Sha256> as KeyInit>::new(&block.into());
        hash.update(tenant.as_uuid().as_bytes());
        hash.update(project.as_uuid().as_bytes());
        let digest = hash.finalize().into_bytes();
        let label = data_encoding::BASE32_NOPAD.encode(digest.get(..LABEL_BYTES).unwrap_or(&digest));
        format!("{}.{}", label.to_ascii_lowercase(), self.apex())
    }

    /// The full DNS name of an instance, without a dot at its end.
    pub fn fqdn(&self, instance: &Instance) -> String {
        format!("{}.{}", instance.name, self.project_domain(instance.tenant, instance.project))
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
}
