//! After containerd was killed and started again: what the dead one had half made or half removed, and the new one does not
//! know.
//!
//! Every step of a sandbox's life leaves something else behind: an address lease and a network namespace before the
//! sandbox is recorded, a shim before its task is, a cgroup after everything is gone. Whatever no sandbox of the new
//! containerd owns is removed, and so is a shim whose task was never recorded: containerd lists its sandbox, and would forget
//! the shim when the sandbox is removed; the network namespace takes its virtual cable along.

use std::collections::BTreeSet;
use std::path::Path;

use super::ContainerdError;
use super::config::Layout;
use crate::adapter::CriRuntime;
use crate::cgroup::Cgroups;
use crate::process;

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sandbox ids of shims that served nothing.
    pub shims: Vec<String>,
    /// Network namespaces without a sandbox.
    pub network_namespaces: Vec<String>,
    /// Addresses that were leased to sandboxes that are gone.
    pub addresses: Vec<String>,
    /// Cgroups without a sandbox.
    pub cgroups: Vec<String>,
}

pub(super) async fn sweep(layout: &Layout, runtime: &CriRuntime, cgroups: &Cgroups) -> Result<Swept, ContainerdError> {
    let _no_sandbox_is_being_made = runtime.close_gate().await;
    let known = runtime.known().await?;
    let mut swept = Swept::default();
    for shim in process::shims(&layout.socket) {
        if !known.alive.contains(&shim.sandbox) {
            // Children first: they would be inherited by the machine's first process.
            let mut pids = process::children(shim.pid);
            pids.push(shim.pid);
            process::kill(&pids).await;
            swept.shims.push(shim.sandbox);
        }
    }
    swept.network_namespaces = sweep_network_namespaces(layout, &known.network_namespaces).await;
    swept.addresses = sweep_leases(&layout.cni_leases.join("wherry"), &known.sandboxes);
    swept.cgroups = cgroups.sweep(&known.cgroups).await;
    Ok(swept)
}

/// Namespaces are files in the state folder with a mount on each that only containerd's mount namespace sees.
async fn sweep_network_namespaces(layout: &Layout, known: &BTreeSet<String>) -> Vec<String> {
    let folder = layout.state.join("io.containerd.grpc.v1.cri/netns");
    let mut swept = Vec::new();
    let Some(containerd) = process::containerds(&layout.config_file).first().copied() else { return swept };
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if known.contains(&path.to_string_lossy().into_owned()) {
            continue;
        }
        // Not mounted any more is fine: then only the file is left.
        let unmounted = tokio::process::Command::new("nsenter")
            .args(["--target", &containerd.to_string(), "--mount", "--", "umount", "--lazy", "--quiet"])
            .arg(&path)
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .await;
        drop(unmounted);
        match std::fs::remove_file(&path) {
            Ok(()) => swept.push(entry.file_name().to_string_lossy().into_owned()),
            Err(error) => tracing::warn!(%error, path = %path.display(), "network namespace cannot be removed"),
        }
    }
    swept
}

/// host-local keeps one file for each address, named after it, with the sandbox's id in the first line.
fn sweep_leases(folder: &Path, known: &BTreeSet<String>) -> Vec<String> {
    let mut swept = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<std::net::Ipv4Addr>().is_err() {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let owner = text.lines().next().unwrap_or_default().trim();
        if !known.contains(owner) && std::fs::remove_file(entry.path()).is_ok() {
            swept.push(name);
        }
    }
    swept
}

/// Removes CNI's notes that a killed containerd left half written. A sandbox with one can never be removed; without one its
/// network is undone by the configuration. To be called while no containerd runs.
pub(super) fn remove_broken_network_results(cni_cache: &Path) {
    for entry in std::fs::read_dir(cni_cache.join("results")).into_iter().flatten().flatten() {
        let whole = std::fs::read(entry.path())
            .is_ok_and(|bytes| serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok());
        if !whole && let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::warn!(%error, path = %entry.path().display(), "a broken network result cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_half_written_network_results_go() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results");
        std::fs::create_dir(&results).unwrap();
        for (name, text) in [("whole", "{\"kind\": \"cniCacheV1\"}"), ("empty", ""), ("half", "{\"kind\": \"cni")] {
            std::fs::write(results.join(name), text).unwrap();
        }
        remove_broken_network_results(folder.path());
        let left: Vec<_> = std::fs::read_dir(&results).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["whole"]);
    }

    #[test]
    fn only_leases_of_unknown_sandboxes_go() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("10.77.0.2"), "alive\r\neth0").unwrap();
        std::fs::write(folder.path().join("10.77.0.3"), "dead\r\neth0").unwrap();
        std::fs::write(folder.path().join("last_reserved_ip.0"), "10.77.0.3").unwrap();
        let swept = sweep_leases(folder.path(), &BTreeSet::from(["alive".to_owned()]));
        assert_eq!(swept, ["10.77.0.3"]);
        assert!(folder.path().join("10.77.0.2").exists() && folder.path().join("last_reserved_ip.0").exists());
    }
}
