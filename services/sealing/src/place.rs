//! Where a secret belongs.

use wherry_model::{InstanceId, ProjectName, TenantId};

/// What a secret is bound to: it opens nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Vec<u8>);

impl Place {
    /// A project of a tenant.
    pub fn of_project(tenant: TenantId, project: &ProjectName) -> Self {
        // The id has a fixed length, so no two projects are written the same.
        Self([b"wherry project\0", tenant.as_uuid().as_bytes().as_slice(), project.as_str().as_bytes()].concat())
    }

    /// An instance on the machine that holds it.
    pub fn of_instance(instance: InstanceId) -> Self {
        Self([b"wherry instance\0", instance.as_uuid().as_bytes().as_slice()].concat())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
