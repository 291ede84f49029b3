//! A witness of its own: which tagged programs ran on this machine, from when to when, read from `/proc` alone.
//!
//! A program is tagged by a word in its command line, and counts when it is process 1 of its namespace: the main process of a
//! container and nothing that it forks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(25);

/// One process, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sighting {
    pub(crate) first: f64,
    pub(crate) last: f64,
}

/// Looks until it is dropped.
pub(crate) struct Observer {
    seen: Arc<Mutex<BTreeMap<(String, u32), Sighting>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Looks for programs with a word in their command line that begins with `prefix`.
    pub(crate) fn start(prefix: &str) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (seen, stop, prefix) = (Arc::clone(&seen), Arc::clone(&stop), prefix.to_owned());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    look(&prefix, &mut seen.lock().unwrap());
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// All runs so far by tag, each in the order of their begin.
    pub(crate) fn runs(&self) -> BTreeMap<String, Vec<Sighting>> {
        let mut runs: BTreeMap<String, Vec<Sighting>> = BTreeMap::new();
        for ((tag, _), sighting) in self.seen.lock().unwrap().iter() {
            runs.entry(tag.clone()).or_default().push(*sighting);
        }
        for sightings in runs.values_mut() {
            sightings.sort_by(|left, right| left.first.total_cmp(&right.first));
        }
        runs
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(prefix: &str, seen: &mut BTreeMap<(String, u32), Sighting>) {
    let now = now();
    let mut tags = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        let mut words = command.split(|character: char| !character.is_ascii_alphanumeric() && character != '-');
        let Some(tag) = words.find(|word| word.starts_with(prefix)) else { continue };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let is_first = status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
        let is_dead = status.lines().any(|line| line.starts_with("State:\tZ"));
        if is_first && !is_dead {
            assert!(tags.insert(tag.to_owned()), "two containers run {tag} at once");
            seen.entry((tag.to_owned(), pid)).or_insert(Sighting { first: now, last: now }).last = now;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a witness has a clock of its own")]
fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}
