//! What the machine looks like, as far as a container service could leave something behind on it.
//!
//! A snapshot before and one after tell what is new. Other services use the machine too, even other Wherrys, so a thing
//! counts only if one of the run's own marks is in its name, its command line or its options.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// Controller, parent, sandbox, container, and one to spare.
const CGROUP_DEPTH: usize = 5;
/// Where services keep sockets and network namespaces.
const RUN_FOLDERS: &[&str] = &["/run/wherry", "/run/netns", "/run/containerd"];
const POLL_EVERY: Duration = Duration::from_millis(100);

/// Texts of which one is in every trace of a run: its scratch folder, its id, the beginning of its addresses.
#[derive(Debug, Clone)]
pub struct Marks(Vec<String>);

impl Marks {
    /// Each text must be one that nobody else uses.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        Self(texts.into_iter().collect())
    }

    fn are_in(&self, text: &str) -> bool {
        self.0.iter().any(|mark| text.contains(mark))
    }
}

/// One look at the machine, in lines that a person can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostState {
    lines: BTreeSet<String>,
}

impl HostState {
    /// Looks for the marks at processes, mounts, links, routes, nft tables, cgroups and run-time folders.
    pub fn look(marks: &Marks) -> Result<Self> {
        let mut lines = BTreeSet::new();
        add_processes(marks, &mut lines)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
        for mount in mounts.lines().filter(|mount| marks.are_in(mount)) {
            lines.insert(format!("mount {}", mount_point(mount)));
        }
        for (what, program, arguments) in [
            ("network address", "ip", ["-oneline", "-4", "address"].as_slice()),
            ("route", "ip", &["-oneline", "-4", "route", "show", "table", "all"]),
            ("nft", "nft", &["list", "tables"]),
        ] {
            let output = output_of(program, arguments)?;
            lines
                .extend(output.lines().filter(|line| marks.are_in(line)).map(|line| format!("{what} {}", line.trim())));
        }
        add_folders(marks, Path::new(CGROUP_ROOT), CGROUP_DEPTH, &mut lines);
        for folder in RUN_FOLDERS {
            add_folders(marks, Path::new(folder), 1, &mut lines);
        }
        Ok(Self { lines })
    }

    /// What is there now and was not there at `self`, once nothing is or `patience` is over.
    pub async fn left_behind(&self, marks: &Marks, patience: Duration) -> Result<Vec<String>> {
        let started = Instant::now();
        loop {
            let now = Self::look(marks)?;
            let new: Vec<String> = now.lines.difference(&self.lines).cloned().collect();
            if new.is_empty() || started.elapsed() >= patience {
                return Ok(new);
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

fn add_processes(marks: &Marks, lines: &mut BTreeSet<String>) -> Result<()> {
    let own = std::process::id().to_string();
    for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
        let name = entry.file_name();
        let pid = name.to_string_lossy();
        if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // A process that ends while we look is no leftover.
        let Ok(command) = fs::read(entry.path().join("cmdline")) else { continue };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if marks.are_in(&command) || has_root_in(marks, &entry.path()) {
            lines.insert(format!("process {pid} {}", command.trim_end()));
        }
    }
    Ok(())
}

/// A container's root is an overlay whose options name the folders of its layers.
fn has_root_in(marks: &Marks, process: &Path) -> bool {
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    mounts.lines().any(|mount| mount_point(mount) == "/" && marks.are_in(mount))
}

/// The fifth field of a line of mountinfo (proc(5)).
fn mount_point(mount: &str) -> &str {
    mount.split(' ').nth(4).unwrap_or(mount)
}

/// Folders and files down to `depth`.
fn add_folders(marks: &Marks, folder: &Path, depth: usize, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if marks.are_in(&entry.file_name().to_string_lossy()) {
            lines.insert(format!("folder {}", entry.path().display()));
        } else if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            add_folders(marks, &entry.path(), depth - 1, lines);
        }
    }
}

fn output_of(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}: run `cargo xtask setup`, which installs it"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
