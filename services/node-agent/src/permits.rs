//! Permits to do something that many tenants want: so many at once, and no tenant more than half of them, so that one whose
//! registries trickle cannot hold up the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wherry_model::TenantId;

/// So many at once, each tenant at most half of them.
#[derive(Debug)]
pub(crate) struct Permits {
    all: Arc<Semaphore>,
    of_each: usize,
    /// Tenants that hold or await a permit.
    tenants: Mutex<BTreeMap<TenantId, Weak<Semaphore>>>,
}

/// Given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    _of_all: Option<OwnedSemaphorePermit>,
    _of_tenant: Option<OwnedSemaphorePermit>,
}

impl Permits {
    pub(crate) fn new(at_once: usize) -> Self {
        let at_once = at_once.max(1);
        Self { all: Arc::new(Semaphore::new(at_once)), of_each: (at_once / 2).max(1), tenants: Mutex::default() }
    }

    /// Waits for the tenant's turn first: in the line for everybody it has no more than its share.
    pub(crate) async fn acquire(&self, tenant: TenantId) -> Permit {
        let share = self.share(tenant);
        // Neither semaphore is ever closed.
        let of_tenant = share.acquire_owned().await.ok();
        let of_all = self.all.clone().acquire_owned().await.ok();
        Permit { _of_all: of_all, _of_tenant: of_tenant }
    }

    fn share(&self, tenant: TenantId) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = tenants.get(&tenant).and_then(Weak::upgrade) {
            return share;
        }
        tenants.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.of_each));
        tenants.insert(tenant, Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_tenant_gets_half_and_leaves_no_trace() {
        let tenant = |digit: &str| digit.repeat(32).parse::<TenantId>().unwrap();
        let permits = Permits::new(4);
        let first = (permits.acquire(tenant("1")).await, permits.acquire(tenant("1")).await);
        let mut third = Box::pin(permits.acquire(tenant("1")));
        assert!((&mut third).now_or_never().is_none());
        let second = (permits.acquire(tenant("2")).await, permits.acquire(tenant("2")).await);
        assert!(permits.acquire(tenant("3")).now_or_never().is_none(), "there are four in all");
        drop(first);
        drop((third.await, second));
        drop(permits.acquire(tenant("4")).await);
        assert_eq!(permits.tenants.lock().unwrap().len(), 1);
    }
}
