//! The last proof of life of every run: when it was last seen running. Kept in a small file, so that after a power cut an
//! end that nobody saw is dated at the last proof and not at the moment of the return.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use wherry_model::{BootId, ContainerName, InstanceId, Timestamp};

use crate::durable_file;
use crate::exit::{LastProof, RunKey};

/// `proof.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    boot: BootId,
    runs: Vec<StoredProof>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredProof {
    instance: InstanceId,
    container: ContainerName,
    run: u32,
    #[serde(flatten)]
    proof: LastProof,
}

/// Proofs of life, in memory and on disk.
#[derive(Debug)]
pub(crate) struct Proofs {
    path: PathBuf,
    boot: BootId,
    proved: Mutex<BTreeMap<(InstanceId, RunKey), LastProof>>,
}

impl Proofs {
    /// Reads what the last agent proved. A file that cannot be read proves nothing.
    pub(crate) fn open(folder: &Path, boot: BootId) -> io::Result<Self> {
        let path = folder.join("proof.json");
        let stored = durable_file::read(&path)?.and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok());
        let proved = stored.map_or_else(BTreeMap::new, |stored| {
            let rebooted = stored.boot != boot;
            let entry = |run: StoredProof| {
                let in_earlier_boot = run.proof.in_earlier_boot || rebooted;
                ((run.instance, (run.container, run.run)), LastProof { in_earlier_boot, ..run.proof })
            };
            stored.runs.into_iter().map(entry).collect()
        });
        Ok(Self { path, boot, proved: Mutex::new(proved) })
    }

    /// All these ran at `at`.
    pub(crate) fn renew(&self, at: Timestamp, running: impl Iterator<Item = (InstanceId, RunKey)>) {
        let mut proved = self.proved();
        for key in running {
            proved.insert(key, LastProof { at, in_earlier_boot: false });
        }
    }

    pub(crate) fn of(&self, instance: InstanceId, run: &RunKey) -> Option<LastProof> {
        self.proved().get(&(instance, run.clone())).copied()
    }

    /// The end of these runs was said, or there is no trace of them.
    pub(crate) fn forget(&self, instance: InstanceId, is_over: impl Fn(&RunKey) -> bool) {
        self.proved().retain(|(owner, run), _| *owner != instance || !is_over(run));
    }

    /// Keeps all proofs on disk.
    pub(crate) fn store(&self) -> io::Result<()> {
        let entry = |((instance, (container, run)), proof): (&(InstanceId, RunKey), &LastProof)| StoredProof {
            instance: *instance,
            container: container.clone(),
            run: *run,
            proof: *proof,
        };
        let stored = Stored { boot: self.boot, runs: self.proved().iter().map(entry).collect() };
        durable_file::replace(&self.path, &serde_json::to_vec(&stored)?)
    }

    fn proved(&self) -> MutexGuard<'_, BTreeMap<(InstanceId, RunKey), LastProof>> {
        self.proved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(text: &str) -> BootId {
        text.repeat(8).parse().unwrap()
    }

    #[test]
    fn proofs_survive_and_know_their_boot() {
        let folder = tempfile::tempdir().unwrap();
        let instance: InstanceId = "01".repeat(16).parse().unwrap();
        let run = (ContainerName::new("main").unwrap(), 3);
        let at = Timestamp::from_seconds(5);
        let proofs = Proofs::open(folder.path(), boot("abcd")).unwrap();
        proofs.renew(at, [(instance, run.clone())].into_iter());
        proofs.store().unwrap();
        let same_boot = Proofs::open(folder.path(), boot("abcd")).unwrap();
        assert_eq!(same_boot.of(instance, &run), Some(LastProof { at, in_earlier_boot: false }));
        let next_boot = Proofs::open(folder.path(), boot("1234")).unwrap();
        assert_eq!(next_boot.of(instance, &run), Some(LastProof { at, in_earlier_boot: true }));
        next_boot.forget(instance, |(_, run)| *run <= 3);
        assert_eq!(next_boot.of(instance, &run), None);
    }
}
