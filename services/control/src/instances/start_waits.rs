//! A start waits for the stop that is under way, and holds its request's place meanwhile. So the waits of a tenant are counted,
//! and one too many is told at once that the instance is busy: the same request a moment later is right. Counted by each
//! replica for itself, as the places are.
//!
//! Rejected: answering at once and starting later by ourselves. A start that finds no room would then fail where nobody
//! waits for the answer.

use std::collections::BTreeMap;
use std::sync::Mutex;

use wherry_model::TenantId;

use crate::{Control, lock};

/// Waits of one tenant at the same time.
const MAX_OF_TENANT: u32 = 4;

/// Waits of all tenants at the same time.
const MAX_OF_ALL: u32 = 64;

#[derive(Default)]
pub(crate) struct StartWaits(Mutex<BTreeMap<TenantId, u32>>);

/// The right to wait; given back when dropped.
pub(super) struct StartWait {
    control: Control,
    tenant: TenantId,
}

impl Control {
    /// None when the tenant, or all tenants together, wait for as many as they may.
    pub(super) fn start_wait(&self, tenant: TenantId) -> Option<StartWait> {
        let mut waits = lock(&self.inner.start_waits.0);
        let own = waits.get(&tenant).copied().unwrap_or(0);
        if own >= MAX_OF_TENANT || waits.values().sum::<u32>() >= MAX_OF_ALL {
            return None;
        }
        waits.insert(tenant, own + 1);
        Some(StartWait { control: self.clone(), tenant })
    }
}

impl Drop for StartWait {
    fn drop(&mut self) {
        let mut waits = lock(&self.control.inner.start_waits.0);
        if let Some(count) = waits.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                waits.remove(&self.tenant);
            }
        }
    }
}
