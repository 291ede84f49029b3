//! The content of one image layer, as a tree that always becomes the same tar.
//!
//! Invariants: entries are written in path order, so a folder stands before what it holds; missing parent folders are
//! added; owner is root and times are zero unless said otherwise.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Files, folders and links of one layer.
#[derive(Debug, Clone, Default)]
pub struct FileTree {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    mode: u32,
    owner: (u64, u64),
    kind: EntryKind,
}

#[derive(Debug, Clone)]
enum EntryKind {
    File(Vec<u8>),
    Directory,
    Symlink(String),
}

impl FileTree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a regular file with permission bits `mode`; a file that was there is replaced.
    pub fn file(self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.insert(path, mode, EntryKind::File(content.into()))
    }

    /// Adds a folder with permission bits `mode`.
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.insert(path, mode, EntryKind::Directory)
    }

    /// Adds a symbolic link at `path` that points to `target`.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.insert(path, 0o777, EntryKind::Symlink(target.to_owned()))
    }

    /// Adds a file of this machine at the same path, following links, readable and executable for all.
    pub fn host_program(self, path: &Path) -> Result<Self> {
        let content = std::fs::read(path)
            .with_context(|| format!("cannot read {}: run `cargo xtask setup` to install it", path.display()))?;
        let Some(inside) = path.to_str() else { bail!("{} is not UTF-8", path.display()) };
        Ok(self.file(inside, 0o755, content))
    }

    /// Gives the entry at `path` to a user and group; no entry, no effect.
    pub fn owned_by(mut self, path: &str, uid: u64, gid: u64) -> Self {
        if let Some(entry) = self.entries.get_mut(path.trim_matches('/')) {
            entry.owner = (uid, gid);
        }
        self
    }

    fn insert(mut self, path: &str, mode: u32, kind: EntryKind) -> Self {
        let path = path.trim_matches('/');
        for (position, _) in path.match_indices('/') {
            self.entries.entry(path[..position].to_owned()).or_insert_with(|| Entry {
                mode: 0o755,
                owner: (0, 0),
                kind: EntryKind::Directory,
            });
        }
        self.entries.insert(path.to_owned(), Entry { mode, owner: (0, 0), kind });
        self
    }

    /// Writes the tree below `folder`, as a root file system for engines that take no image.
    pub fn unpack(&self, folder: &Path) -> Result<()> {
        let tar = self.to_tar()?;
        tar::Archive::new(tar.as_slice())
            .unpack(folder)
            .with_context(|| format!("cannot unpack into {}", folder.display()))
    }

    /// The tree as an uncompressed tar, byte for byte the same for the same tree.
    pub(crate) fn to_tar(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.owner.0);
            header.set_gid(entry.owner.1);
            header.set_mtime(0);
            let appended = match &entry.kind {
                EntryKind::File(content) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, content.as_slice())
                }
                EntryKind::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_size(0);
                    archive.append_data(&mut header, format!("{path}/"), std::io::empty())
                }
                EntryKind::Symlink(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    archive.append_link(&mut header, path, target)
                }
            };
            appended.with_context(|| format!("cannot add {path} to a layer"))?;
        }
        archive.into_inner().context("cannot finish a layer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(tree: &FileTree) -> Vec<String> {
        let bytes = tree.to_tar().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn parents_come_first_whatever_the_order_of_insertion() {
        let tree = FileTree::new().file("/www/a/index.html", 0o644, "x").symlink("/bin/sh", "busybox");
        assert_eq!(paths(&tree), ["bin/", "bin/sh", "www/", "www/a/", "www/a/index.html"]);
    }

    #[test]
    fn insertion_order_does_not_change_the_bytes() {
        let one = FileTree::new().file("/a/x", 0o644, "1").file("/b", 0o600, "2");
        let two = FileTree::new().file("/b", 0o600, "2").file("/a/x", 0o644, "1");
        assert_eq!(one.to_tar().unwrap(), two.to_tar().unwrap());
        let other = FileTree::new().file("/a/x", 0o755, "1").file("/b", 0o600, "2");
        assert_ne!(one.to_tar().unwrap(), other.to_tar().unwrap());
    }

    #[test]
    fn long_paths_survive() {
        let long = format!("/{}/{}", "d".repeat(120), "f".repeat(120));
        assert_eq!(paths(&FileTree::new().file(&long, 0o644, ""))[1], long.trim_start_matches('/'));
    }
}
