//! Removing every trace, and looking whether any is left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ContainerdError;
use super::config::Layout;
use crate::cgroup::Cgroups;
use crate::process;

/// Rounds of killing shims.
const SHIM_GENERATIONS: u32 = 10;

/// What a containerd of ours has on the machine outside of its data folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Processes: containerd, shims, and what runs in our cgroups; each with its command line.
    pub processes: BTreeMap<u32, String>,
    /// Mounts below our folders that the machine sees.
    pub mounts: Vec<PathBuf>,
    /// Cgroup folders.
    pub cgroups: Vec<PathBuf>,
    /// The run folder, when it is there.
    pub run_dir: Option<PathBuf>,
}

impl Leftovers {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn find(layout: &Layout, cgroups: &Cgroups) -> Leftovers {
    let mut pids = process::with_argument(&layout.config_file);
    pids.extend(process::shims(&layout.socket).into_iter().map(|shim| shim.pid));
    pids.extend(cgroups.processes());
    let processes = pids.into_iter().filter_map(|pid| Some((pid, process::command_line(pid)?))).collect();
    let run_dir = layout.options.run_dir.exists().then(|| layout.options.run_dir.clone());
    Leftovers { processes, mounts: mounts_below(layout), cgroups: cgroups.folders(), run_dir }
}

/// Kills everything of ours, containerd last seen dead before; the order is from the outside in, so that nothing is started
/// again behind our back.
pub(super) async fn destroy(layout: &Layout, cgroups: &Cgroups) -> Result<(), ContainerdError> {
    // One that was just being started starts another before it ends.
    for _ in 0..SHIM_GENERATIONS {
        let shims: Vec<u32> = process::shims(&layout.socket).into_iter().map(|shim| shim.pid).collect();
        if shims.is_empty() {
            break;
        }
        process::kill(&shims).await;
    }
    // Without its shim a container runs on; its cgroup tells where.
    process::kill(&cgroups.processes()).await;
    cgroups.sweep(&std::collections::BTreeSet::new()).await;
    cgroups.remove_root().await?;
    // The private mount namespace went with its last process. What is mounted here was made by something else, or by an
    // older Wherry; it must not be deleted through.
    for mount in mounts_below(layout).into_iter().rev() {
        if let Err(error) = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH) {
            tracing::warn!(%error, mount = %mount.display(), "cannot be unmounted");
        }
    }
    for folder in [&layout.cni_leases, &layout.options.run_dir] {
        match std::fs::remove_dir_all(folder) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(ContainerdError::File { done: "removed", path: folder.clone(), source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn mounts_below(layout: &Layout) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let targets = text.lines().filter_map(|line| line.split(' ').nth(1)).map(unescape);
    let ours = |path: &PathBuf| {
        let strictly_below = |folder: &Path| path.starts_with(folder) && path != folder;
        strictly_below(&layout.options.run_dir) || strictly_below(&layout.root)
    };
    targets.filter(ours).collect()
}

/// The mount table writes a space as `\040`.
fn unescape(text: &str) -> PathBuf {
    PathBuf::from(text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
}
