//! Who a warm sandbox has become: one file for each, because CRI cannot rename a sandbox.
//!
//! The file is on disk before anybody learns the sandbox's id, and goes after the sandbox has gone. It appears whole or not
//! at all, and only one can make it.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use wherry_runtime::{Labels, SandboxConfig};

use crate::generated::runtime::v1;
use crate::sandbox::CGROUP_ANNOTATION;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    name: String,
    uid: String,
    namespace: String,
    attempt: u32,
    labels: Labels,
    annotations: BTreeMap<String, String>,
    pub(crate) cgroup_name: String,
}

impl Claim {
    pub(super) fn of(config: &SandboxConfig) -> Self {
        Self {
            name: config.name.clone(),
            uid: config.uid.clone(),
            namespace: config.namespace.clone(),
            attempt: config.attempt,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            cgroup_name: config.cgroup_name.clone(),
        }
    }

    pub(super) fn metadata(&self) -> v1::PodSandboxMetadata {
        v1::PodSandboxMetadata {
            name: self.name.clone(),
            uid: self.uid.clone(),
            namespace: self.namespace.clone(),
            attempt: self.attempt,
        }
    }

    pub(super) fn dress(&self, item: &mut v1::PodSandbox) {
        item.metadata = Some(self.metadata());
        item.labels.clone_from(&self.labels);
        item.annotations.clone_from(&self.annotations);
        item.annotations.insert(CGROUP_ANNOTATION.to_owned(), self.cgroup_name.clone());
    }
}

#[derive(Debug)]
pub(super) struct Claims {
    folder: PathBuf,
    known: Mutex<BTreeMap<String, Claim>>,
}

impl Claims {
    /// Reads what is there; the folder may be missing.
    pub(super) fn load(folder: PathBuf) -> io::Result<Self> {
        let mut known = BTreeMap::new();
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        for entry in entries.into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(id) = name.strip_suffix(".json") {
                known.insert(id.to_owned(), serde_json::from_slice(&std::fs::read(entry.path())?)?);
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder, known: Mutex::new(known) })
    }

    pub(super) fn get(&self, id: &str) -> Option<Claim> {
        self.locked(|known| known.get(id).cloned())
    }

    pub(super) fn all(&self) -> BTreeMap<String, Claim> {
        self.locked(|known| known.clone())
    }

    pub(super) fn holds(&self, metadata: &v1::PodSandboxMetadata) -> bool {
        self.locked(|known| known.values().any(|claim| claim.metadata() == *metadata))
    }

    /// Blocks for the disk. Fails with `AlreadyExists` when somebody else was faster.
    pub(super) fn add(&self, id: &str, claim: Claim) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let draft = self.folder.join(format!("{id}.{}.draft", std::process::id()));
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(&serde_json::to_vec(&claim)?)?;
        file.sync_data()?;
        let linked = std::fs::hard_link(&draft, self.path(id));
        std::fs::remove_file(&draft)?;
        linked?;
        std::fs::File::open(&self.folder)?.sync_all()?;
        self.locked(|known| known.insert(id.to_owned(), claim));
        Ok(())
    }

    pub(super) fn remove(&self, id: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.locked(|known| known.remove(id));
        Ok(())
    }

    /// A crash between the removal of a sandbox and that of its claim leaves a claim on nothing. That the engine does not
    /// list the sandbox says too little: one that it could not load is back after its next start. Its folder goes before
    /// the sandbox does, and as long as it has one the claim stays.
    pub(super) fn forget_gone(&self, listed: &[v1::PodSandbox], sandbox_files: &Path) {
        for id in self.all().into_keys() {
            let is_gone =
                listed.iter().all(|item| item.id != id) && matches!(sandbox_files.join(&id).try_exists(), Ok(false));
            if is_gone && let Err(error) = self.remove(&id) {
                tracing::warn!(%error, sandbox = id, "the claim on a sandbox that is gone cannot be removed");
            }
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn locked<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Claim>) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str) -> Claim {
        Claim::of(&SandboxConfig { name: name.into(), uid: "u".into(), ..SandboxConfig::default() })
    }

    #[test]
    fn claims_are_made_once_and_survive() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::load(folder.path().join("claims")).unwrap();
        claims.add("s1", claim("a")).unwrap();
        let other = Claims::load(folder.path().join("claims")).unwrap();
        assert_eq!(other.get("s1"), Some(claim("a")));
        assert!(other.holds(&claim("a").metadata()) && !other.holds(&claim("b").metadata()));
        assert_eq!(other.add("s1", claim("b")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        other.remove("s1").unwrap();
        other.remove("s1").unwrap();
        assert!(Claims::load(folder.path().join("claims")).unwrap().all().is_empty());
    }

    #[test]
    fn a_claim_goes_when_nothing_is_left_of_its_sandbox() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::load(folder.path().join("claims")).unwrap();
        for id in ["listed", "not-loaded", "gone"] {
            claims.add(id, claim(id)).unwrap();
        }
        let files = folder.path().join("sandboxes");
        std::fs::create_dir_all(files.join("not-loaded")).unwrap();
        let listed = v1::PodSandbox { id: "listed".into(), ..v1::PodSandbox::default() };
        claims.forget_gone(&[listed], &files);
        assert_eq!(claims.all().into_keys().collect::<Vec<_>>(), ["listed", "not-loaded"]);
    }

    #[test]
    fn a_draft_of_a_killed_process_is_not_a_claim() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s1.77.draft"), "{\"na").unwrap();
        assert!(Claims::load(folder.path().to_owned()).unwrap().all().is_empty());
    }
}
