//! The desired state of this node: kept on disk whole, so that the agent converges with the control plane away.
//!
//! It is on disk before anybody works towards it: after a crash the agent must never go back to an older one, or it would
//! start again what was removed. An older revision is refused. The file is small (about 1 KiB for an instance). Secrets in
//! it are sealed (`secrets.rs`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::watch;
use wherry_agent_api::{Desired, DesiredInstance};
use wherry_model::{Entropy, InstanceId};

use crate::durable_file;
use crate::secrets::{DiskSeal, carry_over};

/// What this node should keep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Known {
    /// None before the first.
    pub(crate) revision: Option<u64>,
    /// The lease epoch that came with it; 0 before the first.
    pub(crate) epoch: u64,
    /// Whether the control plane has said so in this life of the agent. A file alone may be behind: what it does not list
    /// is left alone until then.
    pub(crate) confirmed: bool,
    /// Whether the control plane has removed the node: then nothing is listed, which is confirmed also after a restart.
    pub(crate) removed: bool,
    /// What was stored cannot be read, and nothing was received since: nothing is listed, and anything may be. What may run elsewhere
    /// is told by the labels of the containers then.
    pub(crate) unreadable: bool,
    pub(crate) instances: BTreeMap<InstanceId, Arc<DesiredInstance>>,
}

/// What became of a desired state that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    Taken,
    /// It is older than what is known.
    Older,
}

/// What stands in the file beside the desired state, which is there in any case.
#[derive(Deserialize)]
struct Beside {
    #[serde(default)]
    removed: bool,
}

/// Desired state in memory and on disk.
#[derive(Debug)]
pub(crate) struct DesiredStore {
    path: PathBuf,
    seal: DiskSeal,
    known: watch::Sender<Known>,
}

impl DesiredStore {
    /// Reads what the last agent kept. A file that cannot be read, or is gone though there was one, does not keep an agent from
    /// its work; see [`Known::unreadable`].
    pub(crate) fn open(folder: &Path, entropy: Arc<dyn Entropy>) -> Self {
        let seal = DiskSeal::open(folder, entropy);
        let (known, trouble) = read_with(folder, |desired| seal.opened(desired));
        if let Some(error) = trouble {
            tracing::error!(
                %error,
                "the stored desired state cannot be read; until the control plane says it again what runs is left alone, and \
                 what may run elsewhere is told by the labels of the containers"
            );
        }
        Self { path: folder.join("desired.json"), seal, known: watch::channel(known).0 }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    pub(crate) fn revision(&self) -> Option<u64> {
        self.known.borrow().revision
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.known.borrow().epoch
    }

    /// Whether the control plane has removed the node.
    pub(crate) fn is_removed(&self) -> bool {
        self.known.borrow().removed
    }

    /// The control plane has removed the node: nothing is desired any more. Everybody knows at once, because an end needs no
    /// record first; what the disk refuses is to be tried again, or the next agent would start again what has ended. Blocks on
    /// the disk.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let (revision, epoch) = (self.revision().unwrap_or(0), self.epoch());
        let desired = Desired { revision, epoch, instances: Vec::new(), kept: Vec::new() };
        let next = removed(desired.clone());
        self.known.send_if_modified(|known| {
            let changed = *known != next;
            *known = next;
            changed
        });
        let mut stored = serde_json::to_value(desired)?;
        if let Some(fields) = stored.as_object_mut() {
            fields.insert("removed".to_owned(), true.into());
        }
        durable_file::replace(&self.path, &serde_json::to_vec(&stored)?)
    }

    /// Keeps it and lets everybody know. Blocks on the disk.
    pub(crate) fn receive(&self, mut desired: Desired) -> io::Result<Received> {
        if self.revision().is_some_and(|revision| desired.revision < revision) {
            return Ok(Received::Older);
        }
        for instance in &mut desired.instances {
            if let Some(before) = self.known.borrow().instances.get(&instance.id) {
                carry_over(instance, before);
            }
        }
        for id in std::mem::take(&mut desired.kept) {
            if desired.instances.iter().any(|instance| instance.id == id) {
                continue;
            }
            match self.known.borrow().instances.get(&id) {
                Some(before) => desired.instances.push(DesiredInstance::clone(before)),
                None => {
                    tracing::warn!(instance = %id, "the control plane cannot read an instance that is not known here either");
                }
            }
        }
        let next = known(desired.clone(), true);
        if *self.known.borrow() != (Known { confirmed: self.known.borrow().confirmed, ..next.clone() }) {
            durable_file::replace(&self.path, &serde_json::to_vec(&self.seal.sealed(&desired)?)?)?;
        }
        self.known.send_if_modified(|known| {
            let changed = *known != next;
            *known = next;
            changed
        });
        Ok(Received::Taken)
    }
}

/// What is stored, its secrets sealed, and what is wrong with it.
pub(crate) fn read(folder: &Path) -> (Known, Option<io::Error>) {
    read_with(folder, |desired| desired)
}

fn read_with(folder: &Path, opened: impl FnOnce(Desired) -> Desired) -> (Known, Option<io::Error>) {
    let parsed = |bytes: Vec<u8>| {
        let desired = opened(serde_json::from_slice(&bytes)?);
        Ok::<_, io::Error>((desired, serde_json::from_slice::<Beside>(&bytes)?))
    };
    let unreadable = |error| (Known { unreadable: true, ..Known::default() }, Some(error));
    match durable_file::read(&folder.join("desired.json")).and_then(|stored| stored.map(parsed).transpose()) {
        Ok(Some((desired, Beside { removed: true }))) => (removed(desired), None),
        Ok(Some((desired, _))) => (known(desired, false), None),
        // Who has a lease has had a desired state.
        Ok(None) if folder.join("lease.json").exists() => unreadable(io::ErrorKind::NotFound.into()),
        Ok(None) => (Known::default(), None),
        Err(error) => unreadable(error),
    }
}

fn known(desired: Desired, confirmed: bool) -> Known {
    let instances = desired.instances.into_iter().map(|instance| (instance.id, Arc::new(instance))).collect();
    Known { revision: Some(desired.revision), epoch: desired.epoch, confirmed, instances, ..Known::default() }
}

fn removed(desired: Desired) -> Known {
    Known { removed: true, ..known(Desired { instances: Vec::new(), ..desired }, true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nines;

    impl Entropy for Nines {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(9);
        }
    }

    fn open(folder: &Path) -> DesiredStore {
        DesiredStore::open(folder, Arc::new(Nines))
    }

    fn desired(revision: u64) -> Desired {
        Desired { revision, epoch: 1, instances: vec![], kept: vec![] }
    }

    #[test]
    fn survives_a_restart_unconfirmed_and_refuses_older() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        assert_eq!(store.revision(), None);
        assert_eq!(store.receive(desired(7)).unwrap(), Received::Taken);
        assert_eq!(store.receive(desired(6)).unwrap(), Received::Older);
        assert!(store.watch().borrow().confirmed);
        let again = open(folder.path());
        assert_eq!((again.revision(), again.watch().borrow().confirmed), (Some(7), false));
        assert_eq!(again.receive(desired(6)).unwrap(), Received::Older);
        assert!(!again.watch().borrow().confirmed, "an older state confirms nothing");
        assert_eq!(again.receive(desired(7)).unwrap(), Received::Taken);
        assert!(again.watch().borrow().confirmed);
    }

    #[test]
    fn a_removal_is_confirmed_after_a_restart_too_until_something_is_desired_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store.receive(desired(7)).unwrap();
        store.remove().unwrap();
        for store in [store, open(folder.path())] {
            let known = store.watch().borrow().clone();
            assert!(known.confirmed && known.removed && known.instances.is_empty());
            assert_eq!((known.revision, known.epoch), (Some(7), 1));
        }
        let again = open(folder.path());
        assert_eq!(again.receive(desired(7)).unwrap(), Received::Taken);
        assert!(!again.is_removed());
        let last = open(folder.path());
        assert!(!last.is_removed() && !last.watch().borrow().confirmed);
    }

    #[test]
    fn a_removal_holds_although_the_disk_refuses_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        std::fs::create_dir(folder.path().join("desired.new")).unwrap();
        store.remove().unwrap_err();
        assert!(store.is_removed());
        std::fs::remove_dir(folder.path().join("desired.new")).unwrap();
        store.remove().unwrap();
        assert!(open(folder.path()).is_removed());
    }

    #[test]
    fn what_cannot_be_kept_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        std::fs::create_dir(folder.path().join("desired.new")).unwrap();
        store.receive(desired(1)).unwrap_err();
        assert_eq!(store.revision(), None);
    }

    #[test]
    fn what_cannot_be_read_is_known_to_be_so_until_the_control_plane_speaks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desired.json");
        let is_unreadable = || open(folder.path()).watch().borrow().unreadable;
        assert!(!is_unreadable(), "there was none yet");
        std::fs::write(folder.path().join("lease.json"), "{}").unwrap();
        assert!(is_unreadable(), "there was one");
        std::fs::create_dir(&path).unwrap();
        assert!(is_unreadable());
        std::fs::remove_dir(&path).unwrap();
        for content in ["", "{torn", "{}"] {
            std::fs::write(&path, content).unwrap();
            assert!(is_unreadable(), "{content:?}");
        }
        let store = open(folder.path());
        assert_eq!(store.receive(desired(1)).unwrap(), Received::Taken);
        assert!(!store.watch().borrow().unreadable && !is_unreadable());
    }

    #[test]
    fn secrets_are_known_after_a_restart_and_stand_nowhere_in_plain_text() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let instance = crate::secrets::tests::instance();
        let sealed = wherry_model::Sealed::new("w1.1.abc".to_owned());
        let known = |store: &DesiredStore| {
            let known = store.watch().borrow().clone();
            known.instances[&instance.id].more.secrets.get(&sealed).map(|secret| secret.expose().to_owned())
        };
        let store = open(folder.path());
        store.receive(Desired { instances: vec![instance.clone()], ..desired(1) }).unwrap();
        assert_eq!(known(&store).as_deref(), Some("hush-hush"));
        assert_eq!(known(&open(folder.path())).as_deref(), Some("hush-hush"));
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let content = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert!(!content.contains("hush-hush"), "{}", path.display());
        }
        let key = folder.path().join("secrets.key");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        // The file alone is worth nothing, and what is lost keeps nothing else from being known.
        std::fs::remove_file(&key).unwrap();
        let without = open(folder.path());
        assert_eq!((known(&without), without.revision()), (None, Some(1)));
        without.receive(Desired { instances: vec![instance.clone()], ..desired(1) }).unwrap();
        assert_eq!(known(&open(folder.path())).as_deref(), Some("hush-hush"));
    }

    #[test]
    fn what_the_control_plane_cannot_read_stays_as_it_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let instance = crate::secrets::tests::instance();
        let store = open(folder.path());
        let there = |store: &DesiredStore| store.watch().borrow().instances.get(&instance.id).cloned();
        let unreadable = |revision| Desired { kept: vec![instance.id], ..desired(revision) };
        store.receive(unreadable(1)).unwrap();
        assert_eq!(there(&store), None, "of which nothing was known");
        store.receive(Desired { instances: vec![instance.clone()], ..desired(2) }).unwrap();
        store.receive(unreadable(3)).unwrap();
        for store in [&store, &open(folder.path())] {
            assert_eq!(there(store).as_deref(), Some(&instance), "also after a restart");
        }
        store.receive(desired(4)).unwrap();
        assert_eq!(there(&store), None, "which is not its any more");
    }

    #[test]
    fn a_replica_that_cannot_open_a_secret_takes_none_away_that_is_still_named() {
        let folder = tempfile::tempdir().unwrap();
        let instance = crate::secrets::tests::instance();
        let mut unopened = instance.clone();
        unopened.more.secrets = wherry_agent_api::Secrets::default();
        let mut unnamed = unopened.clone();
        unnamed.more.volumes.clear();
        unnamed.more.registry_credentials.clear();
        unnamed.containers[0].spec.env.clear();
        let known = |store: &DesiredStore| store.watch().borrow().instances[&instance.id].more.secrets.clone();
        let store = open(folder.path());
        for (revision, said, expected) in
            [(1, &instance, &instance), (2, &unopened, &instance), (3, &unnamed, &unnamed), (4, &unopened, &unopened)]
        {
            store.receive(Desired { instances: vec![said.clone()], ..desired(revision) }).unwrap();
            assert_eq!(known(&store), expected.more.secrets, "at revision {revision}");
            assert_eq!(known(&open(folder.path())), expected.more.secrets, "on disk at revision {revision}");
        }
    }
}
