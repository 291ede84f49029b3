//! A witness that shares nothing with what it watches: which tagged programs ran on which machine, from when to when, as the
//! kernel tells.
//!
//! A program is tagged by a variable in its environment, and counts when it is the first process of its namespace: the main
//! process of a container and nothing that it forks. Each moment is known within bounds, so nobody has to guess how late a
//! loaded machine looks: it began after the kernel made its process and before it was first seen, and it ended after it was last
//! seen and before it was first missed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// The variable.
pub const TAG: &str = "WHERRY_LAB_TAG";

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Root of an installation, instance, sandbox, container, and one to spare.
const CGROUP_DEPTH: usize = 5;
/// Linux tells times of processes in hundredths of seconds, whatever it is built for.
const TICK: Duration = Duration::from_millis(10);

/// One run of a tagged program. Moments are since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The machine it ran on, as it was named to the witness.
    pub machine: String,
    /// Its process.
    pub pid: u32,
    /// When the kernel made the process.
    pub made: Duration,
    /// When it was first seen.
    pub first_seen: Duration,
    /// When it was last seen.
    pub last_seen: Duration,
    /// When it was first missed; absent while it runs.
    pub missed: Option<Duration>,
}

/// Looks until it is dropped.
#[derive(Debug)]
pub(crate) struct Witness {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Name, by the root of its cgroups.
    machines: BTreeMap<String, String>,
    /// By process and the time of its making: ids are used again.
    runs: BTreeMap<(u32, u64), (String, Run)>,
}

impl Witness {
    pub(crate) fn start() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("witness".to_owned()).spawn(move || {
            while !for_thread.stop.load(Ordering::Relaxed) {
                look(&mut lock(&for_thread.seen));
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Ok(Self { shared, thread: Some(thread.context("cannot start the thread of a witness")?) })
    }

    /// Looks at the machine with this cgroup root, `wherry-0123abcd`, too.
    pub(crate) fn watch(&self, name: &str, cgroup_root: String) {
        lock(&self.shared.seen).machines.insert(cgroup_root, name.to_owned());
    }

    /// All runs so far by tag, each in the order of their begin.
    pub(crate) fn runs(&self) -> BTreeMap<String, Vec<Run>> {
        let mut runs: BTreeMap<String, Vec<Run>> = BTreeMap::new();
        for (tag, run) in lock(&self.shared.seen).runs.values() {
            runs.entry(tag.clone()).or_default().push(run.clone());
        }
        for of_tag in runs.values_mut() {
            of_tag.sort_by_key(|run| run.made);
        }
        runs
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn look(seen: &mut Seen) {
    let begun = now();
    let since_boot = since_boot();
    let mut alive = Vec::new();
    for (root, machine) in &seen.machines {
        for pid in processes_of(root) {
            let Some(ticks) = made_at(pid) else { continue };
            let key = (pid, ticks);
            alive.push(key);
            if !seen.runs.contains_key(&key)
                && let Some(tag) = tag_of(pid)
            {
                let age = since_boot.saturating_sub(TICK * u32::try_from(ticks).unwrap_or(u32::MAX));
                let made = begun.saturating_sub(age);
                let (machine, seen_at) = (machine.clone(), now());
                let run = Run { machine, pid, made, first_seen: seen_at, last_seen: begun, missed: None };
                seen.runs.insert(key, (tag, run));
            }
        }
    }
    for (key, (_, run)) in &mut seen.runs {
        if run.missed.is_none() {
            if alive.contains(key) {
                run.last_seen = begun.max(run.last_seen);
            } else {
                run.missed = Some(now());
            }
        }
    }
}

/// Processes below a cgroup root of ours. With cgroup v1 every hierarchy has them all, so one is enough.
fn processes_of(root: &str) -> Vec<u32> {
    let mounts = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
    let Some(folder) = mounts.iter().map(|mount| Path::new(mount).join(root)).find(|folder| folder.is_dir()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    add_processes(&folder, CGROUP_DEPTH, &mut found);
    found
}

fn add_processes(folder: &Path, depth: usize, found: &mut Vec<u32>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    if depth > 0 {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                add_processes(&entry.path(), depth - 1, found);
            }
        }
    }
}

/// When the process was made, in ticks since the boot; none when it has ended.
fn made_at(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(proc(pid, "stat")).ok()?;
    // pid (name) state ppid …, and the name may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let words: Vec<&str> = rest.split(' ').collect();
    let is_dead = matches!(*words.first()?, "Z" | "X" | "x");
    if is_dead { None } else { words.get(19)?.parse().ok() }
}

/// The tag of a container's main process. What the engine has not made the program yet has another environment.
fn tag_of(pid: u32) -> Option<String> {
    let environment = fs::read(proc(pid, "environ")).ok()?;
    let prefix = format!("{TAG}=");
    let entry = environment.split(|byte| *byte == 0).find(|entry| entry.starts_with(prefix.as_bytes()))?;
    let status = fs::read_to_string(proc(pid, "status")).ok()?;
    let is_first = status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
    is_first.then(|| String::from_utf8_lossy(&entry[prefix.len()..]).into_owned())
}

fn proc(pid: u32, file: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(file)
}

/// Since the boot of this machine, suspended time included.
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Since the epoch.
#[expect(clippy::disallowed_methods, reason = "a witness has a clock of its own")]
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
