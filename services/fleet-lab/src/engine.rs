//! What a machine's containerd itself says, asked with its own `ctr`: Wherry's word is not taken for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A sandbox or container as containerd knows it.
#[derive(Debug, Clone)]
pub struct EngineThing {
    /// Its id.
    pub id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its main process, while there is one.
    pub pid: Option<u32>,
    /// The sandbox that it is in, for a container.
    pub sandbox: Option<String>,
}

impl EngineThing {
    /// Whether it is a container and no sandbox.
    pub fn is_container(&self) -> bool {
        self.labels.get("io.cri-containerd.kind").is_some_and(|kind| kind == "container")
    }

    /// Whether it was made in advance, for whatever instance comes.
    pub fn was_kept_ready(&self) -> bool {
        self.labels.contains_key("wherry.runtime/warm")
    }

    /// The id of the instance that it belongs to; none for sandboxes that were made in advance.
    pub fn instance(&self) -> Option<&str> {
        self.labels.get("wherry/instance").map(String::as_str)
    }
}

/// Everything that the containerd with this folder of sockets has, sandboxes included.
pub(crate) fn things(run_folder: &Path) -> Result<Vec<EngineThing>> {
    let tasks = ctr(run_folder, &["tasks", "list"])?;
    let mut pids = BTreeMap::new();
    for line in tasks.lines().skip(1) {
        if let [id, pid, "RUNNING"] = line.split_whitespace().collect::<Vec<_>>()[..] {
            pids.insert(id.to_owned(), pid.parse::<u32>().context("containerd names no process")?);
        }
    }
    let mut found = Vec::new();
    for id in ctr(run_folder, &["containers", "list", "-q"])?.lines() {
        // One that goes away between the two questions is not there.
        let Ok(text) = ctr(run_folder, &["containers", "info", id]) else { continue };
        let document: Value = serde_json::from_str(&text).context("containerd tells no JSON")?;
        let labels = labels(&document);
        let sandbox = document["Spec"]["annotations"]["io.kubernetes.cri.sandbox-id"].as_str().map(str::to_owned);
        found.push(EngineThing { id: id.to_owned(), labels, pid: pids.get(id).copied(), sandbox });
    }
    Ok(found)
}

/// Those that containerd shows, and those that CRI has in its own metadata: containerd forgets the former when the call that made
/// the thing was cut off.
fn labels(document: &Value) -> BTreeMap<String, String> {
    let of = |value: &Value| serde_json::from_value::<BTreeMap<String, String>>(value.clone()).unwrap_or_default();
    let mut labels = of(&document["Labels"]);
    for kind in ["sandbox", "container"] {
        let extension = &document["Extensions"][format!("io.cri-containerd.{kind}.metadata")]["value"];
        let decoded = extension.as_str().and_then(|text| data_encoding::BASE64.decode(text.as_bytes()).ok());
        let metadata: Value = decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        labels.extend(of(&metadata["Metadata"]["Config"]["labels"]));
    }
    labels
}

fn ctr(run_folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("ctr")
        .arg("--address")
        .arg(run_folder.join("containerd.sock"))
        .args(["--namespace", "k8s.io", "--timeout", "5s"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run ctr: run `cargo xtask setup`, which installs containerd")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ctr {}: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Process id of the containerd with this folder of sockets.
pub(crate) fn containerd(run_folder: &Path) -> Option<u32> {
    let config = run_folder.join("containerd.toml");
    let is_it = |words: &[String]| {
        words.first().is_some_and(|first| first.ends_with("containerd"))
            && words.iter().any(|word| Path::new(word) == config)
    };
    commands(is_it).first().copied()
}

/// Processes whose arguments are wanted.
pub(crate) fn commands(is_wanted: impl Fn(&[String]) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        is_wanted(&text.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>())
    })
    .collect()
}

/// Mount points of all hierarchies of cgroups; with version 2 the first one is all there is.
pub(crate) fn cgroup_mounts() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(root.to_owned()).chain(below.filter(|path| path.is_dir())).collect()
}
