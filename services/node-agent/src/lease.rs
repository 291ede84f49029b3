//! The node's lease: how long ago the control plane last answered a proof of life.
//!
//! An instance that may be run elsewhere once its node is lost (`fence_after_seconds`) is ended here by then, with no help
//! from anybody. The age is counted on the boot clock, which goes on through SIGSTOP and hibernation and cannot be set, from
//! the moment at which the answered proof was *sent*: the control plane counts from when it arrived, which is later.
//!
//! The file survives a restart of the agent, which therefore extends nothing. A lease of an earlier boot is over. It is
//! written before anybody relies on it, so whoever reads it beside the agent (`guard.rs`) never knows less. When it cannot
//! be written a successor finds an older lease and ends instances sooner, never later.
//!
//! A node that was fenced has no lease until a proof of life of the new epoch is answered, however young the old one is: an
//! operator may have said that the machine is lost.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wherry_agent_api::DesiredInstance;
use wherry_model::BootId;

use crate::durable_file;

/// The clock that nobody can set: the time since the machine's boot, sleep included.
pub trait BootClock: Send + Sync {
    /// How long ago the machine was booted.
    fn since_boot(&self) -> Duration;
}

/// The kernel's `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelBootClock;

impl BootClock for KernelBootClock {
    fn since_boot(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
        Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
    }
}

/// `lease.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    boot: BootId,
    epoch: u64,
    /// On the boot clock.
    renewed_at_ms: u64,
    /// The control plane has fenced the node since.
    #[serde(default)]
    revoked: bool,
}

/// Names the lease that is held: another renewal is another lease.
pub(crate) type Mark = Option<(u64, u64, bool)>;

/// The lease, in memory and on disk.
pub(crate) struct Lease {
    path: PathBuf,
    boot: BootId,
    clock: Arc<dyn BootClock>,
    held: Mutex<Option<Stored>>,
}

impl Lease {
    /// Reads what the last agent held. A file that cannot be read, or of another boot, is no lease.
    pub(crate) fn open(folder: &Path, boot: BootId, clock: Arc<dyn BootClock>) -> Self {
        let (lease, trouble) = Self::read(folder, boot, clock);
        if let Some(error) = trouble {
            tracing::error!(%error, "the stored lease cannot be read; there is none until the control plane answers");
        }
        lease
    }

    /// The same for who reads it again and again, with what was wrong.
    pub(crate) fn read(folder: &Path, boot: BootId, clock: Arc<dyn BootClock>) -> (Self, Option<io::Error>) {
        let path = folder.join("lease.json");
        let read = durable_file::read(&path).and_then(|bytes| {
            bytes.map(|bytes| serde_json::from_slice::<Stored>(&bytes)).transpose().map_err(io::Error::from)
        });
        let (stored, trouble) = read.map_or_else(|error| (None, Some(error)), |stored| (stored, None));
        (Self { path, boot, clock, held: Mutex::new(stored.filter(|stored| stored.boot == boot)) }, trouble)
    }

    /// To be read before a proof of life is sent.
    pub(crate) fn now(&self) -> Duration {
        self.clock.since_boot()
    }

    /// A proof of life of this epoch, which is the present one, was sent then and answered. Blocks on the disk; what that
    /// refuses is held all the same.
    pub(crate) fn renew(&self, epoch: u64, sent_at: Duration) -> io::Result<()> {
        let renewed_at_ms = u64::try_from(sent_at.as_millis()).unwrap_or(0);
        let is_known =
            |held: Stored| (held.epoch, held.revoked) == (epoch, false) && held.renewed_at_ms >= renewed_at_ms;
        if self.held().is_some_and(is_known) {
            return Ok(());
        }
        self.hold(Stored { boot: self.boot, epoch, renewed_at_ms, revoked: false })
    }

    /// The control plane has fenced the node: nothing is covered any more. Blocks on the disk.
    pub(crate) fn revoke(&self) -> io::Result<()> {
        let held = *self.held();
        match held.filter(|held| !held.revoked) {
            // At once, whatever the disk does.
            Some(held) => {
                let revoked = Stored { revoked: true, ..held };
                *self.held() = Some(revoked);
                self.hold(revoked)
            }
            None => Ok(()),
        }
    }

    fn hold(&self, lease: Stored) -> io::Result<()> {
        let stored = serde_json::to_vec(&lease).map_err(io::Error::from);
        let written = stored.and_then(|bytes| durable_file::replace(&self.path, &bytes));
        *self.held() = Some(lease);
        written
    }

    /// Which lease is held.
    pub(crate) fn mark(&self) -> Mark {
        self.held().map(|held| (held.epoch, held.renewed_at_ms, held.revoked))
    }

    /// How old it is; none when there is none.
    pub(crate) fn age(&self) -> Option<Duration> {
        let held = *self.held();
        let held = held.filter(|held| !held.revoked);
        held.map(|held| self.now().saturating_sub(Duration::from_millis(held.renewed_at_ms)))
    }

    /// Whether the instance must not run now: the control plane may run it elsewhere. What is being stopped or removed is no
    /// exception: the rest of its grace may be longer than the control plane waits.
    pub(crate) fn forbids(&self, desired: &DesiredInstance) -> bool {
        self.forbids_for(desired, Duration::ZERO)
    }

    /// Whether that has been so for this long.
    pub(crate) fn forbids_for(&self, desired: &DesiredInstance, longer: Duration) -> bool {
        desired.fence_after_seconds.is_some_and(|seconds| self.is_over_for(seconds, longer))
    }

    /// Whether something that is fenced after so many seconds has had to end for this long.
    pub(crate) fn is_over_for(&self, fence_after_seconds: u32, longer: Duration) -> bool {
        let fence_after = Duration::from_secs(u64::from(fence_after_seconds));
        self.age().is_none_or(|age| age >= fence_after.saturating_add(longer))
    }

    fn held(&self) -> MutexGuard<'_, Option<Stored>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(u64);

    impl BootClock for At {
        fn since_boot(&self) -> Duration {
            Duration::from_secs(self.0)
        }
    }

    fn lease(folder: &Path, now: u64) -> Lease {
        Lease::open(folder, "ab".repeat(16).parse().unwrap(), Arc::new(At(now)))
    }

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn it_counts_from_the_sending_and_survives_and_an_older_answer_does_not_shorten_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(lease(folder.path(), 5).age(), None);
        lease(folder.path(), 100).renew(3, seconds(90)).unwrap();
        lease(folder.path(), 100).renew(3, seconds(80)).unwrap();
        assert_eq!(lease(folder.path(), 100).age(), Some(seconds(10)));
        let other_boot = Lease::open(folder.path(), "cd".repeat(16).parse().unwrap(), Arc::new(At(100)));
        assert_eq!(other_boot.age(), None);
    }

    #[test]
    fn a_fenced_node_holds_nothing_until_the_next_answer() {
        let folder = tempfile::tempdir().unwrap();
        let held = lease(folder.path(), 100);
        held.revoke().unwrap();
        held.renew(3, seconds(99)).unwrap();
        held.revoke().unwrap();
        assert_eq!((held.age(), lease(folder.path(), 100).age()), (None, None));
        held.renew(4, seconds(98)).unwrap();
        assert_eq!(lease(folder.path(), 100).age(), Some(seconds(2)));
        // A control plane that was put back to an older state counts from there.
        held.renew(2, seconds(97)).unwrap();
        assert_eq!(lease(folder.path(), 100).age(), Some(seconds(3)));
    }

    #[test]
    fn what_the_disk_refuses_is_held_and_the_former_format_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lease.new")).unwrap();
        let held = lease(folder.path(), 100);
        held.renew(3, seconds(99)).unwrap_err();
        assert_eq!(held.age(), Some(seconds(1)));
        let former = format!(r#"{{"boot":"{}","epoch":1,"renewed_at_ms":95000}}"#, held.boot);
        std::fs::write(folder.path().join("lease.json"), former).unwrap();
        assert_eq!(lease(folder.path(), 100).age(), Some(seconds(5)));
    }
    #[test]
    fn what_cannot_be_read_is_no_lease() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lease.json"), "{torn").unwrap();
        assert_eq!(lease(folder.path(), 100).age(), None);
        std::fs::remove_file(folder.path().join("lease.json")).unwrap();
        std::fs::create_dir(folder.path().join("lease.json")).unwrap();
        assert_eq!(lease(folder.path(), 100).age(), None);
    }
}
