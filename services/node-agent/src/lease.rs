//! The node's lease: how long ago the control plane last answered a proof of life.
//!
//! An instance that may be run elsewhere once its node is lost (`fence_after_seconds`) is ended here by then, with no help
//! from anybody. The age is counted on the boot clock, which goes on through SIGSTOP and hibernation and cannot be set, from
//! the moment at which the answered proof was *sent*: the control plane counts from when it arrived, which is later.
//!
//! The file survives a restart of the agent, which therefore extends nothing. A lease of an earlier boot is over. When the
//! file cannot be written a successor finds an older lease and ends instances sooner, never later.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wherry_agent_api::DesiredInstance;
use wherry_model::{Action, BootId};

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
}

/// The lease, in memory and on disk.
pub(crate) struct Lease {
    path: PathBuf,
    boot: BootId,
    clock: Arc<dyn BootClock>,
    held: Mutex<Option<Stored>>,
}

impl Lease {
    /// Reads what the last agent held. A file that cannot be read, or of another boot, is no lease.
    pub(crate) fn open(folder: &Path, boot: BootId, clock: Arc<dyn BootClock>) -> io::Result<Self> {
        let path = folder.join("lease.json");
        let stored = durable_file::read(&path)?.and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok());
        Ok(Self { path, boot, clock, held: Mutex::new(stored.filter(|stored| stored.boot == boot)) })
    }

    /// To be read before a proof of life is sent.
    pub(crate) fn now(&self) -> Duration {
        self.clock.since_boot()
    }

    /// A proof of life of this epoch, sent then, was answered. Whether anything changed.
    pub(crate) fn renew(&self, epoch: u64, sent_at: Duration) -> bool {
        let renewed_at_ms = u64::try_from(sent_at.as_millis()).unwrap_or(0);
        let mut held = self.held();
        if held.is_some_and(|held| (held.epoch, held.renewed_at_ms) >= (epoch, renewed_at_ms)) {
            return false;
        }
        *held = Some(Stored { boot: self.boot, epoch, renewed_at_ms });
        true
    }

    /// Keeps it on disk. Blocks.
    pub(crate) fn store(&self) -> io::Result<()> {
        let held = *self.held();
        match held {
            Some(held) => durable_file::replace(&self.path, &serde_json::to_vec(&held)?),
            None => Ok(()),
        }
    }

    /// Whether the instance must not run now: the control plane may run it elsewhere.
    pub(crate) fn forbids(&self, desired: &DesiredInstance) -> bool {
        let Some(seconds) = desired.fence_after_seconds.filter(|_| desired.action == Action::Run) else { return false };
        let held = *self.held();
        let age = held.map(|held| self.now().saturating_sub(Duration::from_millis(held.renewed_at_ms)));
        age.is_none_or(|age| age >= Duration::from_secs(u64::from(seconds)))
    }

    fn held(&self) -> MutexGuard<'_, Option<Stored>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
