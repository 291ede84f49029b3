//! The data folder: everything that an installation keeps, and the lock that makes it one installation's.
//!
//! ```text
//! <data>/wherry.lock       held while a Wherry runs, whatever its role
//! <data>/wherry.toml       settings, optional
//! <data>/wherry.db         the store
//! <data>/client.json       where the API is and a key for it; what the CLI on this machine finds
//! <data>/keys/             token signing key, naming key, keys that secrets are sealed with
//! <data>/identity/         of a machine that has joined: its certificate, its key, where it belongs
//! <data>/node/             id, journal, desired state and logs of this machine's agent
//! <data>/containerd/       images and snapshots
//! /run/wherry/<short>/     sockets and state that do not outlive the boot
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::FlockOperation;
use sha2::Digest as _;
use wherry_model::{Clock, Entropy, NodeId};

/// A data folder.
#[derive(Debug, Clone)]
pub(crate) struct DataFolder {
    root: PathBuf,
}

/// Held as long as this process is the one that uses the data folder.
pub(crate) struct Lock {
    _file: File,
}

impl DataFolder {
    /// Names the folder; nothing is made yet.
    pub(crate) fn new(root: &Path) -> anyhow::Result<Self> {
        let root = std::path::absolute(root).with_context(|| format!("{} is no path", root.display()))?;
        Ok(Self { root })
    }

    /// Makes what is missing, private to root.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        make([self.root.clone(), self.keys(), self.node(), self.containerd(), self.run()])
    }

    /// The same for a control plane without containers, which need not be root's.
    pub(crate) fn create_for_control(&self) -> anyhow::Result<()> {
        make([self.root.clone(), self.keys()])
    }

    /// The same for a machine that runs containers for a control plane elsewhere.
    pub(crate) fn create_for_node(&self) -> anyhow::Result<()> {
        make([self.root.clone(), self.node(), self.containerd(), self.run()])
    }

    /// Takes the lock, or says who has it.
    pub(crate) fn lock(&self, command: &str) -> anyhow::Result<Lock> {
        let path = self.root.join("wherry.lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            anyhow::bail!(
                "another Wherry ({}) uses {}: stop it first, or give another folder with --data",
                holder.trim(),
                self.root.display()
            );
        }
        file.set_len(0)?;
        writeln!(file, "process {}, `{command}`", std::process::id())?;
        Ok(Lock { _file: file })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("wherry.db")
    }

    pub(crate) fn client_file(&self) -> PathBuf {
        self.root.join("client.json")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// What a machine that has joined proves itself with.
    pub(crate) fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.root.join("node")
    }

    pub(crate) fn containerd(&self) -> PathBuf {
        self.root.join("containerd")
    }

    /// Eight characters that tell this installation from others on the machine.
    pub(crate) fn short_id(&self) -> String {
        let digest = sha2::Sha256::digest(self.root.as_os_str().as_encoded_bytes());
        let start = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        format!("{start:08x}")
    }

    /// The folder of sockets: short, because a socket's path has at most 107 bytes.
    pub(crate) fn run(&self) -> PathBuf {
        Path::new("/run/wherry").join(self.short_id())
    }

    /// Where `wherry up` keeps the id of its machine. One that has joined has it in its certificate.
    pub(crate) fn node_id_file(&self) -> PathBuf {
        self.node().join("id")
    }

    /// The id of this machine, made at the first start.
    pub(crate) fn node_id(&self, clock: &dyn Clock, entropy: &dyn Entropy) -> anyhow::Result<NodeId> {
        let path = self.node_id_file();
        match fs::read_to_string(&path) {
            Ok(text) => {
                text.trim().parse().with_context(|| format!("{} is damaged: it holds no node id", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let id = NodeId::generate(clock, entropy);
                write_private(&path, format!("{id}\n").as_bytes())?;
                Ok(id)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The key of project labels in DNS names, made at the first start.
    pub(crate) fn naming_key(&self, entropy: &dyn Entropy) -> anyhow::Result<[u8; 32]> {
        let path = self.keys().join("naming.key");
        match fs::read(&path) {
            Ok(bytes) => {
                bytes.try_into().ok().with_context(|| format!("{} is damaged: it has not 32 bytes", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0_u8; 32];
                entropy.fill(&mut key);
                write_private(&path, &key)?;
                Ok(key)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

fn make(folders: impl IntoIterator<Item = PathBuf>) -> anyhow::Result<()> {
    for folder in folders {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    Ok(())
}

/// Writes a file that only root reads, whole or not at all, also when the power fails.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{SystemClock, SystemEntropy};

    #[test]
    fn ids_and_keys_stay() {
        let scratch = tempfile::tempdir().unwrap();
        let data = DataFolder::new(scratch.path()).unwrap();
        fs::create_dir_all(data.keys()).unwrap();
        fs::create_dir_all(data.node()).unwrap();
        let id = data.node_id(&SystemClock, &SystemEntropy).unwrap();
        assert_eq!(data.node_id(&SystemClock, &SystemEntropy).unwrap(), id);
        let key = data.naming_key(&SystemEntropy).unwrap();
        assert_eq!(data.naming_key(&SystemEntropy).unwrap(), key);
        fs::write(data.keys().join("naming.key"), b"short").unwrap();
        assert!(data.naming_key(&SystemEntropy).is_err());
    }

    #[test]
    fn the_second_lock_names_the_first_process() {
        let scratch = tempfile::tempdir().unwrap();
        let data = DataFolder::new(scratch.path()).unwrap();
        let held = data.lock("wherry up").unwrap();
        let refused = data.lock("wherry up").err().unwrap().to_string();
        assert!(refused.contains(&std::process::id().to_string()) && refused.contains("--data"), "{refused}");
        drop(held);
        data.lock("wherry up").unwrap();
    }
}
