//! Which replica does the work that one is enough for.
//!
//! There is one lease for all of it: silence, fencing, placing, emptying of nodes, retention. It is taken for five seconds and
//! renewed at a third of that, so the work of a replica that died goes on elsewhere within the lease time. The lease spares
//! double work and guards nothing: a holder that was stopped and goes on as if it still had it writes under the same guards
//! as everybody (revisions, heartbeats seen, epochs). Done by every replica for itself, without a lease, is what keeps its own
//! memory right: following changes, the fleet picture, zone serials, its own presence.
//!
//! Rejected: a lease for each kind of work. Five rows to renew in an idle installation, for work that takes milliseconds.

use tokio::time::Instant;

use crate::{Control, Error};

/// The lease in the store.
const LEASE: &str = "background";

/// When this replica took or renewed the lease last; none while another holds it.
#[derive(Default)]
pub(crate) struct Lease(tokio::sync::Mutex<Option<Instant>>);

impl Control {
    /// Whether this replica does the work that one is enough for, asked of the store when a third of the lease is over.
    pub(crate) async fn leads(&self) -> Result<bool, Error> {
        let mut held = self.inner.lease.0.lock().await;
        let time = self.inner.config.lease_time;
        if held.is_some_and(|since| since.elapsed() < time / 3) {
            return Ok(true);
        }
        let asked = Instant::now();
        let got = self.store().hold_lease(LEASE, self.inner.replica, self.now(), time).await?;
        if got != held.is_some() {
            let replica = self.inner.replica;
            tracing::info!(%replica, "this replica {} the background work", if got { "took" } else { "lost" });
        }
        *held = got.then_some(asked);
        Ok(got)
    }

    /// Leaves the work to others at once.
    pub(crate) async fn give_up_lease(&self) -> Result<(), Error> {
        let mut held = self.inner.lease.0.lock().await;
        *held = None;
        Ok(self.store().release_leases(self.inner.replica).await?)
    }
}
