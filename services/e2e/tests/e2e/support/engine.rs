//! What containerd itself says, asked with its own `ctr`: Wherry's word is not taken for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A container as containerd knows it.
#[derive(Debug, Clone)]
pub(crate) struct EngineContainer {
    pub(crate) id: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Main process, while there is one.
    pub(crate) pid: Option<u32>,
    /// The sandbox that it is in, for a container.
    pub(crate) sandbox: Option<String>,
}

impl EngineContainer {
    /// Whether it is a container and no sandbox.
    pub(crate) fn is_container(&self) -> bool {
        self.labels.get("io.cri-containerd.kind").is_some_and(|kind| kind == "container")
    }

    /// Whether it was made in advance, for whatever instance comes.
    pub(crate) fn was_kept_ready(&self) -> bool {
        self.labels.contains_key("wherry.runtime/warm")
    }

    /// The id of the instance that it belongs to; none for sandboxes that are kept ready.
    pub(crate) fn instance(&self) -> Option<&str> {
        self.labels.get("wherry/instance").map(String::as_str)
    }
}

/// Everything that containerd has, sandboxes included.
pub(crate) fn containers(run_folder: &Path) -> Vec<EngineContainer> {
    let tasks = ctr(run_folder, &["tasks", "list"]);
    let mut pids = BTreeMap::new();
    for line in tasks.lines().skip(1) {
        if let [id, pid, status] = line.split_whitespace().collect::<Vec<_>>()[..]
            && status == "RUNNING"
        {
            pids.insert(id.to_owned(), pid.parse().unwrap());
        }
    }
    let mut found = Vec::new();
    for id in ctr(run_folder, &["containers", "list", "-q"]).lines() {
        // One that goes away between the two questions is not there.
        let Some(text) = try_ctr(run_folder, &["containers", "info", id]) else { continue };
        let document: Value = serde_json::from_str(&text).unwrap();
        let labels = serde_json::from_value(document["Labels"].clone()).unwrap_or_default();
        let sandbox = document["Spec"]["annotations"]["io.kubernetes.cri.sandbox-id"].as_str().map(str::to_owned);
        found.push(EngineContainer { id: id.to_owned(), labels, pid: pids.get(id).copied(), sandbox });
    }
    found
}

fn ctr(run_folder: &Path, arguments: &[&str]) -> String {
    try_ctr(run_folder, arguments).unwrap_or_else(|| panic!("ctr {arguments:?} failed"))
}

fn try_ctr(run_folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("ctr")
        .arg("--address")
        .arg(run_folder.join("containerd.sock"))
        .args(["--namespace", "k8s.io", "--timeout", "10s"])
        .args(arguments)
        .output()
        .unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
