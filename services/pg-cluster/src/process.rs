//! The server's processes.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// The postmaster that serves this data folder, if one is running.
pub(crate) fn postmaster(data: &Path) -> Option<Pid> {
    let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = Pid::from_raw(file.lines().next()?.trim().parse().ok()?)?;
    // The file outlives a server that was killed; its number may belong to somebody else by now.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    name.trim().starts_with("postgres").then_some(pid)
}

/// The backends and helpers of a postmaster.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // "pid (name) state ppid …": the name may hold anything, also brackets.
            let after_name = stat.rsplit_once(')')?.1;
            let its_parent: i32 = after_name.split_whitespace().nth(1)?.parse().ok()?;
            (Pid::from_raw(its_parent) == Some(parent)).then_some(pid)
        })
        .collect()
}

/// Sends a signal; a process that has ended meanwhile needs none.
pub(crate) fn signal(pid: Pid, signal: Signal) {
    kill_process(pid, signal).unwrap_or_default();
}
