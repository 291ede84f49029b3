//! What a program inside a container has started: everything that carries its mark, everything in its session, and everything
//! below it.
//!
//! The engine kills one process. A shell that is killed leaves what it has started, which nobody would ever end. What has lost
//! its parents is found by the mark: the limit of file locks, a number that the kernel keeps for each process, gives to all that it
//! starts, and has not looked at since Linux 2.4.25. Only who lowers it itself takes it off.
//!
//! Invariant: nothing outside of the program's PID namespace is touched, whatever process has got its number since.
//!
//! Rejected: a cgroup for each program (the container's own cgroup is the limit, and containers on cgroup v1 have a dozen of them),
//! and a mark in the environment, which every program would see. The session alone tells too little: crun begins none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const FILE: &str = "process";
const FRESH: &str = "process.new";
/// In a note, of a process that is not known yet. A Wherry that does not know this reads no note.
const UNKNOWN: &str = "-";
/// How long is looked, until nobody is found: who forks meanwhile is found by the next look. A look takes as long as the machine
/// has processes.
const LOOKED: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// A program, as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    /// None before the engine has said that it runs: then the mark alone tells.
    first: Option<First>,
    namespace: PathBuf,
    /// None of a program that a Wherry without marks began.
    mark: Option<u64>,
}

/// The first process of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct First {
    pid: u32,
    /// When it began, in ticks since the boot: whoever has its number later has another.
    begun: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    is_dead: bool,
    parent: u32,
    session: u32,
    begun: u64,
}

/// The PID namespace of a container that this process is of.
pub(super) fn namespace_of(pid: u32) -> Option<PathBuf> {
    let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    // One of our own is none of a container.
    let ours = fs::read_link("/proc/self/ns/pid").ok()?;
    (pid > 1 && namespace != ours).then_some(namespace)
}

impl Root {
    /// One that may begin at any time from now on.
    pub(super) fn expected(namespace: PathBuf, mark: u64) -> Self {
        Self { first: None, namespace, mark: Some(mark) }
    }

    /// The same when its first process is known; as it was when that has ended already.
    pub(super) fn begun(self, pid: u32) -> Self {
        let begun = process(pid).map(|process| process.begun);
        let first = begun.filter(|_| self.is_inside(pid)).map(|begun| First { pid, begun });
        Self { first, ..self }
    }

    /// Leaves a note for a later Wherry, which finds the one before or this one whole.
    pub(super) fn note(&self, folder: &Path) -> io::Result<()> {
        let (pid, begun) = match self.first {
            Some(First { pid, begun }) => (pid.to_string(), begun.to_string()),
            None => (UNKNOWN.to_owned(), UNKNOWN.to_owned()),
        };
        let mark = self.mark.map(|mark| format!(" {mark}")).unwrap_or_default();
        let fresh = folder.join(FRESH);
        fs::write(&fresh, format!("{pid} {begun} {}{mark}", self.namespace.display()))?;
        fs::rename(fresh, folder.join(FILE))
    }

    /// Reads the note of an earlier one.
    pub(super) fn noted(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join(FILE)).ok()?;
        let mut words = text.split(' ');
        let first = match (words.next()?, words.next()?) {
            (UNKNOWN, UNKNOWN) => None,
            (pid, begun) => Some(First { pid: pid.parse().ok()?, begun: begun.parse().ok()? }),
        };
        let namespace = words.next()?.into();
        Some(Self { first, namespace, mark: words.next().and_then(|mark| mark.parse().ok()) })
    }

    /// Kills it and all that belongs to it. Blocks, for [`LOOKED`] and one look more at most.
    pub(super) fn kill(&self) {
        let mut known: BTreeSet<u32> = self.first.iter().map(|first| first.pid).collect();
        let begun = Instant::now();
        while begun.elapsed() < LOOKED {
            let alive = self.members(&mut known);
            if alive.is_empty() {
                return;
            }
            for pid in alive {
                self.kill_one(pid);
            }
            std::thread::sleep(PAUSE);
        }
        tracing::warn!(first = ?self.first, "a program that was ended has left processes that cannot be ended");
    }

    /// Who belongs to it and lives. `known` keeps who was found before, whose children belong to it too.
    fn members(&self, known: &mut BTreeSet<u32>) -> Vec<u32> {
        let all = processes();
        known.extend(all.keys().copied().filter(|pid| self.is_inside(*pid) && self.has_marked(*pid)));
        // Its number is free for others only when nobody of its session is left.
        let is_anothers = |first: &First| all.get(&first.pid).is_some_and(|process| process.begun != first.begun);
        if let Some(first) = self.first.filter(is_anothers) {
            known.remove(&first.pid);
        }
        let session = self.first.filter(|first| !is_anothers(first)).map(|first| first.pid);
        loop {
            let found = all.iter().filter(|(pid, process)| {
                !known.contains(pid) && (Some(process.session) == session || known.contains(&process.parent))
            });
            let found: Vec<u32> = found.map(|(pid, _)| *pid).filter(|pid| self.is_inside(*pid)).collect();
            if found.is_empty() {
                break;
            }
            known.extend(found);
        }
        let alive = known.iter().copied().filter(|pid| all.get(pid).is_some_and(|process| !process.is_dead));
        alive.filter(|pid| self.is_inside(*pid)).collect()
    }

    fn is_inside(&self, pid: u32) -> bool {
        fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|namespace| namespace == self.namespace)
    }

    fn has_marked(&self, pid: u32) -> bool {
        let limits = || fs::read_to_string(format!("/proc/{pid}/limits")).ok();
        self.mark.is_some_and(|mark| limits().and_then(|limits| marked(&limits)) == Some(mark))
    }

    fn kill_one(&self, pid: u32) {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
        let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { return };
        // The number may be another's by now; what was opened stays who it is.
        if self.is_inside(pid)
            && let Err(error) = pidfd_send_signal(&process, Signal::KILL)
        {
            tracing::debug!(%error, pid, "a process inside cannot be killed");
        }
    }
}

fn processes() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter_map(|pid| Some((pid, process(pid)?))).collect()
}

fn process(pid: u32) -> Option<Process> {
    parsed(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A line of `/proc/PID/stat`; the name in it may contain anything.
fn parsed(stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_ascii_whitespace();
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    let session = words.nth(1)?.parse().ok()?;
    let begun = words.nth(15)?.parse().ok()?;
    Some(Process { is_dead: matches!(state, "Z" | "X"), parent, session, begun })
}

/// The mark in `/proc/PID/limits`.
fn marked(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let process = |is_dead| Some(Process { is_dead, parent: 7, session: 40, begun: 22 });
        let rest = "7 42 40 34816 42 4194304 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24";
        assert_eq!(parsed(&format!("42 (sh) S {rest}")), process(false));
        assert_eq!(parsed(&format!("42 (a) Z 1) Z {rest}")), process(true));
        assert_eq!(parsed("42 (sh"), None);
        assert!(processes().contains_key(&std::process::id()));
    }

    #[test]
    fn a_mark_is_a_limit() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max address space         unlimited            unlimited            bytes     \n\
                      Max file locks            1700000000000000     1700000000000000     locks     \n";
        assert_eq!(marked(limits), Some(1_700_000_000_000_000));
        assert_eq!(marked(&limits.replace("1700000000000000", "unlimited       ")), None);
        assert_eq!(marked(&fs::read_to_string("/proc/self/limits").unwrap()), None);
    }

    #[test]
    fn nothing_of_our_own_namespace_is_a_root() {
        assert_eq!(namespace_of(std::process::id()), None);
        assert_eq!(namespace_of(u32::MAX), None);
        let root = Root::expected("pid:[4026532000]".into(), 7);
        assert_eq!(root.clone().begun(std::process::id()), root);
        assert_eq!(root.clone().begun(u32::MAX), root);
    }

    #[test]
    fn a_note_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        for first in [None, Some(First { pid: 7, begun: 9 })] {
            for mark in [None, Some(1_700_000_000_000_000)] {
                let root = Root { first, namespace: "pid:[4026532000]".into(), mark };
                root.note(folder.path()).unwrap();
                assert_eq!(Root::noted(folder.path()), Some(root));
            }
        }
        // As Wherry wrote it before.
        fs::write(folder.path().join(FILE), "7 9 pid:[4026532000] 11").unwrap();
        let before =
            Root { first: Some(First { pid: 7, begun: 9 }), mark: Some(11), namespace: "pid:[4026532000]".into() };
        assert_eq!(Root::noted(folder.path()), Some(before));
        for text in ["", "x", "- 9 pid:[4026532000] 11", "7"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(Root::noted(folder.path()), None, "{text}");
        }
    }
}
