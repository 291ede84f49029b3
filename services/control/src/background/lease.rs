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

/// What this replica knows of the lease.
#[derive(Default)]
pub(crate) struct Lease(tokio::sync::Mutex<Known>);

#[derive(Clone, Copy, Default)]
enum Known {
    #[default]
    Nothing,
    /// Taken or renewed then.
    Held(Instant),
    /// Another held it then.
    Refused(Instant),
}

impl Control {
    /// Whether this replica does the work that one is enough for. The store is asked when a third of the lease is over, or a
    /// tenth since another had it.
    pub(crate) async fn leads(&self) -> Result<bool, Error> {
        let mut known = self.inner.lease.0.lock().await;
        let time = self.inner.config.lease_time;
        match *known {
            Known::Held(since) if since.elapsed() < time / 3 => return Ok(true),
            Known::Refused(at) if at.elapsed() < time / 10 => return Ok(false),
            Known::Nothing | Known::Held(_) | Known::Refused(_) => {}
        }
        let asked = Instant::now();
        let got = self.store().hold_lease(LEASE, self.inner.replica, self.now(), time).await?;
        if got != matches!(*known, Known::Held(_)) {
            let replica = self.inner.replica;
            tracing::info!(%replica, "this replica {} the background work", if got { "does" } else { "does not do" });
        }
        *known = if got { Known::Held(asked) } else { Known::Refused(asked) };
        Ok(got)
    }

    /// Leaves the work to others at once.
    pub(crate) async fn give_up_lease(&self) -> Result<(), Error> {
        let mut known = self.inner.lease.0.lock().await;
        *known = Known::Nothing;
        Ok(self.store().release_leases(self.inner.replica).await?)
    }
}
