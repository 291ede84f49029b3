//! After containerd was killed and started again: what the dead one had half made or half removed, and the new one does not
//! know.
//!
//! Every step of a sandbox's life leaves something else behind: an address lease and a network namespace before the
//! sandbox is recorded, a shim before its task is, a cgroup after everything is gone. Whatever no sandbox of the new
//! containerd owns is removed, and so is a shim whose task was never recorded: containerd lists its sandbox, and would forget
//! the shim when the sandbox is removed; the network namespace takes its virtual cable along.

use std::collections::BTreeSet;
use std::path::Path;

use wherry_runtime::{ContainerRuntime as _, Labels};

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
            kill_with_children(shim.pid).await;
            swept.shims.push(shim.sandbox);
        }
    }
    swept.network_namespaces = sweep_network_namespaces(layout, &known.network_namespaces).await;
    swept.addresses = sweep_leases(&layout.cni_leases.join("wherry"), |owner| known.sandboxes.contains(owner));
    swept.cgroups = cgroups.sweep(&known.cgroups).await;
    Ok(swept)
}

/// What no sandbox owned at the last look.
#[derive(Debug, Default)]
pub(super) struct Unowned {
    /// Ids that shims or address leases name.
    sandboxes: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    /// Looks for records since this supervisor was made, and what the last of them found.
    record_looks: u32,
    records: BTreeSet<String>,
}

/// Only a Wherry before this one leaves records without an owner: a few looks at the beginning find them all.
const RECORD_LOOKS: u32 = 3;

/// Removes containerd's own records of containers that CRI does not list, seen at two looks in a row: a create that was cut
/// off leaves one, and with it a snapshot on the disk.
pub(super) async fn sweep_records(
    layout: &Layout,
    runtime: &CriRuntime,
    unowned: &mut Unowned,
) -> Result<(), ContainerdError> {
    if unowned.record_looks >= RECORD_LOOKS {
        return Ok(());
    }
    unowned.record_looks += 1;
    let now = unowned_records(layout, runtime).await?;
    if !now.is_disjoint(&unowned.records) {
        let _no_sandbox_is_being_made = runtime.close_gate().await;
        let still = unowned_records(layout, runtime).await?;
        for id in still.intersection(&unowned.records) {
            ctr(layout, &["containers", "delete", id]).await;
            tracing::info!(container = id, "the record of a container that was never finished has been removed");
        }
    }
    unowned.records = now;
    Ok(())
}

async fn unowned_records(layout: &Layout, runtime: &CriRuntime) -> Result<BTreeSet<String>, ContainerdError> {
    // Asked before CRI is: what is made in between is in CRI's list only.
    let recorded = ctr(layout, &["containers", "list", "--quiet"]).await;
    let (mut known, _) = runtime.owners().await?;
    known.extend(runtime.list_containers(&Labels::new()).await?.into_iter().map(|container| container.id.to_string()));
    Ok(recorded.lines().filter(|id| !id.is_empty() && !known.contains(*id)).map(str::to_owned).collect())
}

/// What containerd's tool prints; nothing when it fails, the next look is soon.
async fn ctr(layout: &Layout, arguments: &[&str]) -> String {
    let output = tokio::process::Command::new(&layout.ctr)
        .arg("--address")
        .arg(&layout.socket)
        .args(["--namespace", "k8s.io", "--timeout", "10s"])
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = output.ok().filter(|output| output.status.success());
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Removes what no sandbox owned at the last look either, and remembers what none owns now.
///
/// A Wherry that was killed while it started or removed a sandbox leaves its cgroup behind, and containerd, which lived on
/// and had its call cut off, now and then a shim. Two looks, because what the dead Wherry had asked for may still be on its
/// way at the first.
pub(super) async fn sweep_unowned(
    layout: &Layout,
    runtime: &CriRuntime,
    cgroups: &Cgroups,
    unowned: &mut Unowned,
) -> Result<(), ContainerdError> {
    let leases = layout.cni_leases.join("wherry");
    let mut sandboxes: BTreeSet<String> = leases_in(&leases).into_iter().map(|(_, owner)| owner).collect();
    sandboxes.extend(process::shims(&layout.socket).into_iter().map(|shim| shim.sandbox));
    let names = cgroups.names();
    if sandboxes.is_empty() && names.is_empty() {
        unowned.sandboxes.clear();
        unowned.cgroups.clear();
        return Ok(());
    }
    let (known_sandboxes, known_cgroups) = runtime.owners().await?;
    let now = sandboxes.difference(&known_sandboxes).cloned().collect();
    let earlier_sandboxes = std::mem::replace(&mut unowned.sandboxes, now);
    let now = names.difference(&known_cgroups).cloned().collect();
    let earlier_cgroups = std::mem::replace(&mut unowned.cgroups, now);
    if earlier_sandboxes.is_disjoint(&unowned.sandboxes) && earlier_cgroups.is_disjoint(&unowned.cgroups) {
        return Ok(());
    }
    let _no_sandbox_is_being_made = runtime.close_gate().await;
    let known = runtime.known().await?;
    let is_unowned = |sandbox: &String| earlier_sandboxes.contains(sandbox) && !known.sandboxes.contains(sandbox);
    let mut swept = Swept::default();
    for shim in process::shims(&layout.socket) {
        if is_unowned(&shim.sandbox) {
            kill_with_children(shim.pid).await;
            swept.shims.push(shim.sandbox);
        }
    }
    swept.network_namespaces = sweep_network_namespaces(layout, &known.network_namespaces).await;
    swept.addresses = sweep_leases(&leases, |owner| !is_unowned(owner));
    let mut keep = known.cgroups;
    keep.extend(names.difference(&earlier_cgroups).cloned());
    swept.cgroups = cgroups.sweep(&keep).await;
    tracing::info!(?swept, "what a killed Wherry had left half made has been removed");
    Ok(())
}

/// Children first: they would be inherited by the machine's first process.
async fn kill_with_children(pid: u32) {
    let mut pids = process::children(pid);
    pids.push(pid);
    process::kill(&pids).await;
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

/// Addresses that are leased, each with the id of its sandbox: host-local keeps one file for each address, named after it,
/// with the sandbox's id in the first line.
fn leases_in(folder: &Path) -> Vec<(String, String)> {
    let mut leases = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let address = entry.file_name().to_string_lossy().into_owned();
        if address.parse::<std::net::Ipv4Addr>().is_ok() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            leases.push((address, text.lines().next().unwrap_or_default().trim().to_owned()));
        }
    }
    leases
}

fn sweep_leases(folder: &Path, is_kept: impl Fn(&String) -> bool) -> Vec<String> {
    let goes = |(address, owner): (String, String)| {
        (!is_kept(&owner) && std::fs::remove_file(folder.join(&address)).is_ok()).then_some(address)
    };
    leases_in(folder).into_iter().filter_map(goes).collect()
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
        let swept = sweep_leases(folder.path(), |owner| owner == "alive");
        assert_eq!(swept, ["10.77.0.3"]);
        assert!(folder.path().join("10.77.0.2").exists() && folder.path().join("last_reserved_ip.0").exists());
    }
}
