//! What one installation has on this machine, whoever else uses the machine at the same time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Controller, root of ours, instance, container, and one to spare.
const CGROUP_DEPTH: usize = 5;

/// How the things of one installation are recognised.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// The scratch folder that everything is below.
    pub(crate) scratch: PathBuf,
    /// The eight characters in names of cgroup, nft table and run folder.
    pub(crate) short_id: String,
    /// How addresses of its range begin: `10.201.7.`.
    pub(crate) address_prefix: String,
}

impl Marks {
    pub(crate) fn run_folder(&self) -> PathBuf {
        Path::new("/run/wherry").join(&self.short_id)
    }

    /// Everything that is there because of this installation, in lines that a person can read.
    pub(crate) fn look(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.add_processes(&mut lines);
        let scratch = self.scratch.to_str().unwrap();
        let run = self.run_folder();
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
            if line.contains(scratch) || line.contains(&self.short_id) {
                lines.push(format!("mount {line}"));
            }
        }
        if run.exists() {
            lines.push(format!("folder {}", run.display()));
        }
        let of = |what: &str, text: String, mark: &str, lines: &mut Vec<String>| {
            lines.extend(text.lines().filter(|line| line.contains(mark)).map(|line| format!("{what} {line}")));
        };
        of("address", output_of("ip", &["-oneline", "address"]), &self.address_prefix, &mut lines);
        of("route", output_of("ip", &["route", "show", "table", "all"]), &self.address_prefix, &mut lines);
        of("nft", output_of("nft", &["list", "tables"]), &self.short_id, &mut lines);
        add_cgroups(Path::new("/sys/fs/cgroup"), &self.short_id, CGROUP_DEPTH, &mut lines);
        lines
    }

    /// Pids of processes whose command line or cgroup names the installation.
    fn add_processes(&self, lines: &mut Vec<String>) {
        let scratch = self.scratch.to_str().unwrap();
        let own = std::process::id().to_string();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            // A process that ends while we look is no leftover.
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let cgroup = String::from_utf8_lossy(&read("cgroup")).into_owned();
            let is_registry = command.starts_with("docker-registry");
            if !is_registry
                && [&command, &cgroup].iter().any(|text| text.contains(scratch) || text.contains(&self.short_id))
            {
                lines.push(format!("process {pid} {}", command.trim_end()));
            }
        }
    }
}

fn add_cgroups(folder: &Path, mark: &str, depth: usize, lines: &mut Vec<String>) {
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.path().to_string_lossy().contains(mark) {
                lines.push(format!("cgroup {}", entry.path().display()));
            }
            add_cgroups(&entry.path(), mark, depth - 1, lines);
        }
    }
}

pub(crate) fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; `cargo xtask setup` installs it"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
