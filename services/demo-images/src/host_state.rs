//! What the machine looks like, as far as a container service could leave something behind on it.
//!
//! A snapshot before and one after tell what is new. Other programs use the machine too, so a new thing counts only if
//! it can be ours: it names the scratch folder, or it is of a kind that nobody else makes by the dozen (network
//! namespaces, veth links, nft tables, cgroups with our name).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// Controller, parent, sandbox, container, and one to spare.
const CGROUP_DEPTH: usize = 5;
const OUR_NAME: &str = "wherry";
const POLL_EVERY: Duration = Duration::from_millis(100);

/// One look at the machine, in lines that a person can read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostState {
    lines: BTreeSet<String>,
}

impl HostState {
    /// Looks at processes, mounts, network namespaces, links, nft tables and cgroups. `scratch` is the folder that the
    /// run to be judged keeps everything in.
    pub fn look(scratch: &Path) -> Result<Self> {
        let scratch = scratch.to_str().context("the scratch folder's path is not UTF-8")?;
        let mut lines = BTreeSet::new();
        add_processes(scratch, &mut lines)?;
        add_mounts(scratch, &mut lines)?;
        for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            lines.insert(format!("network namespace {}", entry.file_name().display()));
        }
        for line in output_of("ip", &["-oneline", "link", "show", "type", "veth"])?.lines() {
            let name = line.split(':').nth(1).unwrap_or(line).trim();
            lines.insert(format!("network link {name}"));
        }
        for line in output_of("nft", &["list", "tables"])?.lines().filter(|line| line.contains(OUR_NAME)) {
            lines.insert(format!("nft {line}"));
        }
        add_cgroups(Path::new(CGROUP_ROOT), CGROUP_DEPTH, &mut lines);
        Ok(Self { lines })
    }

    /// What is there now and was not there at `self`, once it has stopped shrinking or `patience` is over.
    pub async fn left_behind(&self, scratch: &Path, patience: Duration) -> Result<Vec<String>> {
        let started = Instant::now();
        loop {
            let now = Self::look(scratch)?;
            let new: Vec<String> = now.lines.difference(&self.lines).cloned().collect();
            if new.is_empty() || started.elapsed() >= patience {
                return Ok(new);
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

/// A process is ours if its command line names the scratch folder, or if its root lies on a mount that does.
fn add_processes(scratch: &str, lines: &mut BTreeSet<String>) -> Result<()> {
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
        if command.contains(scratch) || has_root_in(&entry.path(), scratch) {
            lines.insert(format!("process {pid} {}", command.trim_end()));
        }
    }
    Ok(())
}

/// A container's root is an overlay whose options name the folders of its layers.
fn has_root_in(process: &Path, scratch: &str) -> bool {
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4) == Some("/") && line.contains(scratch))
}

fn add_mounts(scratch: &str, lines: &mut BTreeSet<String>) -> Result<()> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    for line in text.lines() {
        let point = line.split(' ').nth(4).unwrap_or(line);
        if line.contains(scratch) || point.starts_with("/run/netns/") {
            lines.insert(format!("mount {point}"));
        }
    }
    Ok(())
}

fn add_cgroups(folder: &Path, depth: usize, lines: &mut BTreeSet<String>) {
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().contains(OUR_NAME) {
                lines.insert(format!("cgroup {}", entry.path().display()));
            }
            add_cgroups(&entry.path(), depth - 1, lines);
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
