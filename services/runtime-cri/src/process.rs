//! Finding and ending processes by what their arguments say.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const POLL: Duration = Duration::from_millis(10);

/// A containerd shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shim {
    pub(crate) pid: u32,
    /// Id of the sandbox that it serves.
    pub(crate) sandbox: String,
}

/// The arguments of a process in one line; `None` when it does not run.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ");
    (!text.is_empty()).then_some(text)
}

fn all() -> Vec<(u32, Vec<String>)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // A process that ended and was not waited for has no arguments.
        let text = String::from_utf8_lossy(&bytes);
        let words: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        (!words.is_empty()).then_some((pid, words))
    })
    .collect()
}

fn program(words: &[String]) -> &str {
    words.first().and_then(|first| first.rsplit('/').next()).unwrap_or_default()
}

/// Processes that have this path among their arguments: containerd, and what becomes it.
pub(crate) fn with_argument(path: &Path) -> Vec<u32> {
    let names = |words: &[String]| words.iter().skip(1).any(|word| Path::new(word) == path);
    all().into_iter().filter(|(_, words)| names(words)).map(|(pid, _)| pid).collect()
}

/// The containerds that run with this configuration.
pub(crate) fn containerds(config_file: &Path) -> Vec<u32> {
    let is_one = |words: &[String]| {
        program(words) == "containerd" && words.iter().skip(1).any(|word| Path::new(word) == config_file)
    };
    all().into_iter().filter(|(_, words)| is_one(words)).map(|(pid, _)| pid).collect()
}

/// The shims that report to this socket.
pub(crate) fn shims(socket: &Path) -> Vec<Shim> {
    let after = |words: &[String], option: &str| {
        words.iter().position(|word| word == option).and_then(|at| words.get(at + 1).cloned())
    };
    let shim = |(pid, words): (u32, Vec<String>)| {
        let ours = program(&words).starts_with("containerd-shim")
            && after(&words, "-address").is_some_and(|address| Path::new(&address) == socket);
        ours.then(|| Shim { pid, sandbox: after(&words, "-id").unwrap_or_default() })
    };
    all().into_iter().filter_map(shim).collect()
}

/// Direct children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // pid (name) state ppid …, and the name may hold anything.
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        after_name.split(' ').nth(1).and_then(|text| text.parse::<u32>().ok()) == Some(parent)
    };
    all().into_iter().map(|(pid, _)| pid).filter(is_child).collect()
}

/// Whether a process runs; one that ended and was not waited for does not.
pub(crate) fn runs(pid: u32) -> bool {
    command_line(pid).is_some()
}

fn signal(pid: u32, signal: Signal) {
    if let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be gone already, which is what was wanted.
        let _ = kill_process(target, signal);
    }
}

/// SIGTERM, then SIGKILL to those that are left after `grace`. Waits until they are gone, at most 5 s beyond.
pub(crate) async fn end(pids: &[u32], grace: Duration, child: Option<&mut Child>) {
    for &pid in pids {
        signal(pid, Signal::TERM);
    }
    if !gone_within(pids, grace).await {
        kill(pids).await;
    }
    if let Some(child) = child {
        // Takes the zombie away; it is dead by now.
        drop(child.try_wait());
    }
}

/// SIGKILL, and waits until they are gone, at most 5 s.
pub(crate) async fn kill(pids: &[u32]) {
    for &pid in pids {
        signal(pid, Signal::KILL);
    }
    gone_within(pids, Duration::from_secs(5)).await;
}

async fn gone_within(pids: &[u32], limit: Duration) -> bool {
    let started = std::time::Instant::now();
    while pids.iter().any(|&pid| runs(pid)) {
        if started.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finds_by_argument_and_ends() {
        let marker = tempfile::tempdir().unwrap();
        let path = marker.path().join("config.toml");
        // Waits for input that never comes, so it has no children that look like it.
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line", "sh"])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        while with_argument(&path).is_empty() {
            tokio::time::sleep(POLL).await;
        }
        assert_eq!(with_argument(&path), [child.id()]);
        assert!(containerds(&path).is_empty());
        assert!(children(std::process::id()).contains(&child.id()));
        end(&[child.id()], Duration::from_secs(5), Some(&mut child)).await;
        assert!(with_argument(&path).is_empty());
    }
}
