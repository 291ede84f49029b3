//! The cgroup of each instance: parent of its sandbox and containers, made here because CRI of containerd 1.6 has no field
//! for the process limit of a pod.
//!
//! Works on cgroup v2, v1, and v1 with a v2 tree beside it (hybrid). OCI runtimes remove only the leaf that they made, so
//! the parent is removed here, in every hierarchy.

mod forced_end;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wherry_runtime::{Result, RuntimeError, SandboxConfig};

use crate::process;

/// A just killed process keeps its cgroup busy for a moment.
const REMOVE_TRIES: u32 = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(25);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchies {
    /// Mount points of all hierarchies.
    mounts: Vec<PathBuf>,
    /// The one with the `pids` controller.
    pids: Option<PathBuf>,
    /// The one with the `memory` controller.
    memory: Option<PathBuf>,
    /// Whether that one is v2, where controllers are handed down level by level.
    unified: bool,
}

/// What all processes of an instance may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CgroupLimits {
    pub(crate) pids_max: u32,
    /// 0: no limit.
    pub(crate) memory_bytes: u64,
}

impl From<&SandboxConfig> for CgroupLimits {
    fn from(config: &SandboxConfig) -> Self {
        Self { pids_max: config.pids_max, memory_bytes: config.memory_bytes }
    }
}

/// The cgroups below one root of ours.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    /// Absolute in the hierarchy, for example `/wherry-1f2e`.
    root: String,
    hierarchies: Hierarchies,
}

impl Cgroups {
    pub(crate) fn detect(root: &str) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")
            .map_err(|error| RuntimeError::Internal { message: format!("the mount table cannot be read: {error}") })?;
        if !root.starts_with('/') || root.len() < 2 || root[1..].contains('/') {
            return Err(RuntimeError::InvalidArgument { message: format!("cgroup root {root:?} is not /NAME") });
        }
        Ok(Self { root: root.to_owned(), hierarchies: parse_mounts(&mounts) })
    }

    /// What the engine is told as the parent.
    pub(crate) fn parent(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    fn folder(&self, mount: &Path) -> PathBuf {
        mount.join(&self.root[1..])
    }

    /// Makes the instance's cgroup with its limits. Idempotent.
    pub(crate) fn prepare(&self, name: &str, limits: CgroupLimits) -> Result<()> {
        check_name(name)?;
        let Some(mount) = &self.hierarchies.pids else {
            return Err(RuntimeError::Internal {
                message: "this machine has no \"pids\" cgroup controller; mount it or boot with cgroup v2".into(),
            });
        };
        let root = self.folder(mount);
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        if self.hierarchies.unified {
            for level in [mount, &root] {
                write(&level.join("cgroup.subtree_control"), "+cpu +memory +pids")?;
            }
        }
        if let Some(mount) = &self.hierarchies.memory {
            let root = self.folder(mount);
            let folder = root.join(name);
            std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
            if !self.hierarchies.unified {
                // Always so since Linux 5.11, where it cannot be said any more.
                for level in [&root, &folder] {
                    drop(std::fs::write(level.join("memory.use_hierarchy"), "1"));
                }
            }
        }
        write(&folder.join("pids.max"), &limits.pids_max.to_string())?;
        self.limit_memory(name, limits.memory_bytes)
    }

    /// How long the threads of a container were held back by its processor limit, as the kernel counts it (`cpu.stat`); none
    /// where it does not.
    pub(crate) fn throttled_nanos(&self, name: &str, container: &str) -> Option<u64> {
        check_name(name).and_then(|()| check_name(container)).ok()?;
        self.hierarchies.mounts.iter().find_map(|mount| {
            let path = self.folder(mount).join(name).join(container).join("cpu.stat");
            throttled_nanos(&std::fs::read_to_string(path).ok()?)
        })
    }

    /// Pages of volumes in memory outlive the container that wrote them: they count here, where its own limit is gone with it.
    ///
    /// A limit below what is in use is taken as soon as it fits; the kernel of cgroup v1 refuses it until then. On v2 nothing of
    /// it goes to swap either, where a volume in memory would grow beyond it; v1 counts both together, and only containers are
    /// bounded there.
    fn limit_memory(&self, name: &str, bytes: u64) -> Result<()> {
        let Some(mount) = &self.hierarchies.memory else { return Ok(()) };
        let folder = self.folder(mount).join(name);
        let swap = folder.join("memory.swap.max");
        // A kernel without swap has no such file.
        if self.hierarchies.unified && swap.exists() {
            write(&swap, if bytes == 0 { "max" } else { "0" })?;
        }
        let (file, none) =
            if self.hierarchies.unified { ("memory.max", "max") } else { ("memory.limit_in_bytes", "-1") };
        let path = folder.join(file);
        let text = if bytes == 0 { none.to_owned() } else { bytes.to_string() };
        let written = match std::fs::OpenOptions::new().write(true).open(&path) {
            Ok(mut file) => io::Write::write_all(&mut file, text.as_bytes()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => Err(error),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                tracing::warn!(cgroup = name, bytes, "an instance uses more memory than it may from now on");
                Ok(())
            }
            outcome => outcome.map_err(|error| failed(&path, &error)),
        }
    }

    /// Folders of a cgroup below the instance's own, one in each hierarchy that limits something, made if need be. It goes with
    /// the instance's.
    pub(crate) fn below(&self, name: &str, child: &str) -> Result<Vec<PathBuf>> {
        check_name(name)?;
        let mut mounts: Vec<&PathBuf> = self.hierarchies.pids.iter().chain(&self.hierarchies.memory).collect();
        mounts.dedup();
        let folders = mounts.into_iter().map(|mount| self.folder(mount).join(name).join(child));
        let made = folders.map(|folder| match std::fs::create_dir_all(&folder) {
            Ok(()) => Ok(folder),
            Err(error) => Err(failed(&folder, &error)),
        });
        made.collect()
    }

    /// Kills what runs in folders of [`Self::below`].
    pub(crate) async fn kill_in(&self, folders: &[PathBuf]) {
        process::kill(&processes_in(folders)).await;
    }

    /// Kills what runs in the instance's cgroup; returns how many there were.
    pub(crate) async fn kill(&self, name: &str) -> Result<usize> {
        check_name(name)?;
        let folders = self.hierarchies.mounts.iter().map(|mount| self.folder(mount).join(name)).collect();
        let pids = processes_in(&with_descendants(folders));
        process::kill(&pids).await;
        Ok(pids.len())
    }

    /// Kills what is left in the instance's cgroup, and removes it everywhere. Idempotent.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let survivors = self.kill(name).await?;
        if survivors > 0 {
            tracing::info!(cgroup = name, survivors, "processes outlived the containers that they were in");
        }
        for mount in &self.hierarchies.mounts {
            remove_tree(&self.folder(mount).join(name)).await?;
        }
        Ok(())
    }

    /// The names of all instances' cgroups, in whichever hierarchy.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.hierarchies.mounts.iter().flat_map(|mount| child_names(&self.folder(mount))).collect()
    }

    /// Removes all that has no process in it and whose name is not in `keep`; returns what was removed.
    pub(crate) async fn sweep(&self, keep: &BTreeSet<String>) -> Vec<String> {
        let mut swept = BTreeSet::new();
        for mount in &self.hierarchies.mounts {
            for name in child_names(&self.folder(mount)) {
                if !keep.contains(&name) && remove_tree(&self.folder(mount).join(&name)).await.is_ok() {
                    swept.insert(name);
                }
            }
        }
        swept.into_iter().collect()
    }

    /// All folders below and including the root, in all hierarchies.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        with_descendants(self.hierarchies.mounts.iter().map(|mount| self.folder(mount)).collect())
    }

    /// All processes below the root.
    pub(crate) fn processes(&self) -> Vec<u32> {
        processes_in(&self.folders())
    }

    /// Removes the root itself, once nothing is below it.
    pub(crate) async fn remove_root(&self) -> Result<()> {
        for mount in &self.hierarchies.mounts {
            remove_tree(&self.folder(mount)).await?;
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(RuntimeError::InvalidArgument {
            message: format!("cgroup name {name:?} is not one path component"),
        });
    }
    Ok(())
}

fn parse_mounts(mounts: &str) -> Hierarchies {
    let mut found = Hierarchies { mounts: Vec::new(), pids: None, memory: None, unified: false };
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(_), Some(target), Some(kind), Some(options)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let target = PathBuf::from(target);
        if !target.starts_with("/sys/fs/cgroup") || found.mounts.contains(&target) {
            continue;
        }
        if kind == "cgroup" && options.split(',').any(|option| option == "pids") {
            found.pids = Some(target.clone());
        }
        if kind == "cgroup" && options.split(',').any(|option| option == "memory") {
            found.memory = Some(target.clone());
        }
        if kind == "cgroup2" && target == Path::new("/sys/fs/cgroup") {
            found.pids = Some(target.clone());
            found.memory = Some(target.clone());
            found.unified = true;
        }
        if kind == "cgroup" || kind == "cgroup2" {
            found.mounts.push(target);
        }
    }
    found
}

/// Version 1 counts nanoseconds, version 2 microseconds.
fn throttled_nanos(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| match line.split_once(' ')? {
        ("throttled_time", nanos) => nanos.trim().parse().ok(),
        ("throttled_usec", micros) => micros.trim().parse::<u64>().ok().map(|micros| micros.saturating_mul(1_000)),
        _ => None,
    })
}

fn child_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn with_descendants(mut open: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        if folder.is_dir() {
            open.extend(child_names(&folder).into_iter().map(|name| folder.join(name)));
            found.push(folder);
        }
    }
    found.sort();
    found
}

fn processes_in(folders: &[PathBuf]) -> Vec<u32> {
    let mut pids: Vec<u32> = Vec::new();
    for folder in folders {
        let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Deepest first; cgroup folders hold files that rmdir takes along.
fn remove_now(folder: &Path) -> io::Result<()> {
    for name in child_names(folder) {
        remove_now(&folder.join(name))?;
    }
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

async fn remove_tree(folder: &Path) -> Result<()> {
    let mut tries = 0;
    loop {
        match remove_now(folder) {
            Ok(()) => return Ok(()),
            Err(error) if tries >= REMOVE_TRIES => return Err(failed(folder, &error)),
            Err(_) => {
                tries += 1;
                tokio::time::sleep(REMOVE_PAUSE).await;
            }
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &io::Error) -> RuntimeError {
    RuntimeError::Internal { message: format!("cgroup {}: {error}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_keeps_pids_in_v1() {
        let found = parse_mounts(
            "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
             cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
        );
        assert_eq!(found.pids.as_deref(), Some(Path::new("/sys/fs/cgroup/pids")));
        assert_eq!(found.memory.as_deref(), Some(Path::new("/sys/fs/cgroup/memory")));
        assert!(!found.unified);
        assert_eq!(found.mounts.len(), 3);
    }

    #[test]
    fn what_a_limit_held_back_is_counted_in_both_versions() {
        assert_eq!(throttled_nanos("nr_periods 5\nnr_throttled 2\nthrottled_time 1500\n"), Some(1_500));
        assert_eq!(throttled_nanos("usage_usec 9\nnr_throttled 2\nthrottled_usec 15\n"), Some(15_000));
        assert_eq!(throttled_nanos("usage_usec 9\n"), None);
    }

    #[test]
    fn v2_is_one_tree() {
        let found = parse_mounts("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n");
        assert!(found.unified);
        assert_eq!(found.memory, found.pids);
        assert_eq!(found.pids.as_deref(), Some(Path::new("/sys/fs/cgroup")));
    }

    #[test]
    fn a_limit_of_memory_leaves_no_swap_where_the_kernel_counts_it() {
        let mount = tempfile::tempdir().unwrap();
        let tree = Some(mount.path().to_owned());
        let mounts = vec![mount.path().to_owned()];
        let hierarchies = Hierarchies { mounts, pids: tree.clone(), memory: tree, unified: true };
        let cgroups = Cgroups { root: "/wherry".to_owned(), hierarchies };
        let folder = mount.path().join("wherry/one");
        std::fs::create_dir_all(&folder).unwrap();
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        std::fs::write(folder.join("memory.max"), "").unwrap();
        cgroups.limit_memory("one", 4096).unwrap();
        assert!(!folder.join("memory.swap.max").exists(), "a kernel without swap has no such file");
        for (bytes, swap) in [(4096, "0"), (0, "max")] {
            std::fs::write(folder.join("memory.swap.max"), "").unwrap();
            cgroups.limit_memory("one", bytes).unwrap();
            assert_eq!(read("memory.swap.max"), swap);
        }
    }

    #[test]
    fn names_cannot_leave_the_root() {
        for name in ["", "..", "a/b", "."] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
