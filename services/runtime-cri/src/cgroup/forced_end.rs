//! Ending what is in an instance's cgroup without engine and shim: the kernel alone is asked, and what it shows is believed.
//!
//! The shim stays. It sees the ends as any other, and containerd learns of them from it once it answers, with the true time.
//!
//! Three things could make "nothing is left" untrue. A program that forks faster than it is killed, and a start that the engine
//! is at: the limit of processes is set to 0 first, so neither can fork in there any more (runc's first process has to; an
//! OCI runtime that need not, on cgroup v1, is the reason why callers look again). An unreadable list of processes is an
//! error and never an empty one. And a process id may be another process's by the time of the signal: the id is turned into
//! a handle, what it stands for is looked up, and then the handle is signalled.
//!
//! Rejected: the v1 freezer (whoever dies between freezing and thawing leaves a container that nobody can stop), and
//! `cgroup.kill` alone (only v2 from Linux 5.14 on).

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use wherry_runtime::{ContainerId, Result, RuntimeError};

use super::{CgroupLimits, Cgroups, check_name, child_names, failed, with_descendants};

/// Looks for what is left, and the pause between two: 3 s in all. A killed process ends when the kernel comes to it.
const LOOKS: u32 = 120;
const PAUSE: Duration = Duration::from_millis(25);

impl Cgroups {
    /// The children of the instance's cgroup, which engines name by their container or sandbox, that have a process.
    pub(crate) fn alive(&self, name: &str) -> Result<BTreeSet<ContainerId>> {
        check_name(name)?;
        let mut alive = BTreeSet::new();
        for folder in self.instance_folders(name) {
            for child in child_names(&folder) {
                if !processes_below(vec![folder.join(&child)])?.is_empty() {
                    alive.insert(ContainerId::new(child));
                }
            }
        }
        Ok(alive)
    }

    /// Lets the instance's cgroup have processes again, if there is one, and holds it to these limits.
    pub(crate) fn open(&self, name: &str, limits: CgroupLimits) -> Result<()> {
        check_name(name)?;
        self.limit_memory(name, limits.memory_bytes)?;
        self.limit(name, limits.pids_max)
    }

    /// Kills what is in the instance's cgroup until nothing is, and lets nothing begin there until [`Self::prepare`] or
    /// [`Self::open`].
    pub(crate) async fn end_by_force(&self, name: &str) -> Result<()> {
        check_name(name)?;
        if let Err(error) = self.limit(name, 0) {
            // It ends without, only not for sure those that fork without end.
            tracing::warn!(cgroup = name, %error, "an instance's cgroup cannot be closed");
        }
        let mut left = BTreeSet::new();
        for _ in 0..LOOKS {
            left = processes_below(self.instance_folders(name))?;
            if left.is_empty() {
                return Ok(());
            }
            for folder in self.instance_folders(name) {
                // Only there on v2; all at once.
                drop(std::fs::write(folder.join("cgroup.kill"), "1"));
            }
            for pid in &left {
                self.kill_member(name, *pid);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(RuntimeError::Internal {
            message: format!("{} processes in the cgroup {name} do not end: {left:?}", left.len()),
        })
    }

    fn instance_folders(&self, name: &str) -> Vec<PathBuf> {
        self.hierarchies.mounts.iter().map(|mount| self.folder(mount).join(name)).collect()
    }

    fn limit(&self, name: &str, pids_max: u32) -> Result<()> {
        let Some(mount) = &self.hierarchies.pids else { return Ok(()) };
        let path = self.folder(mount).join(name).join("pids.max");
        match std::fs::OpenOptions::new().write(true).open(&path) {
            Ok(mut file) => {
                io::Write::write_all(&mut file, pids_max.to_string().as_bytes()).map_err(|error| failed(&path, &error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// SIGKILL, if it still is in there. One that has ended meanwhile is what is wanted.
    fn kill_member(&self, name: &str, pid: u32) {
        let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
        let killed = match pidfd_open(target, PidfdFlags::empty()) {
            Ok(handle) if self.is_member(name, pid) => pidfd_send_signal(&handle, Signal::KILL),
            // Linux before 5.3.
            Err(Errno::NOSYS) if self.is_member(name, pid) => kill_process(target, Signal::KILL),
            Ok(_) | Err(_) => return,
        };
        if let Err(error) = killed
            && error != Errno::SRCH
        {
            tracing::warn!(pid, %error, "a process of an instance cannot be killed");
        }
    }

    fn is_member(&self, name: &str, pid: u32) -> bool {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let parent = self.parent(name);
        text.lines().any(|line| {
            let path = line.splitn(3, ':').nth(2).unwrap_or_default();
            // Whoever reads may itself be in a cgroup below the root, whose path then goes before.
            path.find(&parent)
                .and_then(|at| path.get(at + parent.len()..))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// The processes in these folders and all below. What is gone is empty; what cannot be read is an error.
fn processes_below(folders: Vec<PathBuf>) -> Result<BTreeSet<u32>> {
    let mut pids = BTreeSet::new();
    for folder in with_descendants(folders) {
        let path = folder.join("cgroup.procs");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.raw_os_error(), Some(code) if is_gone(code)) => continue,
            Err(error) => return Err(failed(&path, &error)),
        };
        for line in text.lines() {
            let unknown = |_| failed(&path, &io::Error::other(format!("{line:?} is no process id")));
            pids.insert(line.parse::<u32>().map_err(unknown)?);
        }
    }
    pids.retain(|pid| !is_over(*pid));
    Ok(pids)
}

/// The folder was removed before it was opened, or while it was read.
fn is_gone(code: i32) -> bool {
    [Errno::NOENT, Errno::NODEV].iter().any(|errno| errno.raw_os_error() == code)
}

/// It has ended, and only its parent has not looked. Its arguments would not tell: a program may blank them.
fn is_over(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // pid (name) state …, and the name may hold anything. Another thread than the first may live on, which shows as one of several.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let threads = after_name.split(' ').nth(17).and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
    matches!(after_name.chars().next(), Some('Z' | 'X')) && threads <= 1
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::super::Hierarchies;
    use super::*;

    fn cgroups(mount: &Path) -> Cgroups {
        let hierarchies = Hierarchies {
            mounts: vec![mount.to_owned()],
            pids: Some(mount.to_owned()),
            memory: Some(mount.to_owned()),
            unified: false,
        };
        Cgroups { root: "/wherry-test".into(), hierarchies }
    }

    #[tokio::test]
    async fn a_process_that_is_not_in_the_cgroup_is_not_killed_and_what_is_left_is_no_success() {
        let mount = tempfile::tempdir().unwrap();
        let folder = mount.path().join("wherry-test/i-1/c-1/nested");
        std::fs::create_dir_all(&folder).unwrap();
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        // As if the id had become another process's.
        std::fs::write(folder.join("cgroup.procs"), format!("{}\n", child.id())).unwrap();
        let cgroups = cgroups(mount.path());
        assert_eq!(cgroups.alive("i-1").unwrap(), BTreeSet::from([ContainerId::new("c-1")]));
        cgroups.end_by_force("i-1").await.unwrap_err();
        assert!(child.try_wait().unwrap().is_none(), "a stranger was killed");
        child.kill().unwrap();
        // Not waited for yet: it is over all the same.
        while !is_over(child.id()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        cgroups.end_by_force("i-1").await.unwrap();
        assert!(cgroups.alive("i-1").unwrap().is_empty());
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_not_empty_and_what_is_not_there_is() {
        let mount = tempfile::tempdir().unwrap();
        let folder = mount.path().join("wherry-test/i-1/c-1");
        std::fs::create_dir_all(folder.join("cgroup.procs")).unwrap();
        let cgroups = cgroups(mount.path());
        cgroups.end_by_force("i-1").await.unwrap_err();
        cgroups.alive("i-1").unwrap_err();
        cgroups.end_by_force("i-2").await.unwrap();
        assert!(cgroups.end_by_force("../up").await.is_err());
    }

    #[tokio::test]
    async fn it_is_closed_first_and_open_again_afterwards() {
        let mount = tempfile::tempdir().unwrap();
        let limit = mount.path().join("wherry-test/i-1/pids.max");
        std::fs::create_dir_all(limit.parent().unwrap()).unwrap();
        std::fs::write(&limit, "50").unwrap();
        let cgroups = cgroups(mount.path());
        cgroups.end_by_force("i-1").await.unwrap();
        assert_eq!(std::fs::read_to_string(&limit).unwrap().chars().next(), Some('0'));
        let memory = mount.path().join("wherry-test/i-1/memory.limit_in_bytes");
        std::fs::write(&memory, "").unwrap();
        let limits = CgroupLimits { pids_max: 64, memory_bytes: 4096 };
        cgroups.open("i-1", limits).unwrap();
        assert_eq!(std::fs::read_to_string(&memory).unwrap(), "4096");
        assert_eq!(std::fs::read_to_string(&limit).unwrap(), "64");
        cgroups.open("i-2", limits).unwrap();
        assert!(!mount.path().join("wherry-test/i-2").exists());
    }
}
