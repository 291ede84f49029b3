//! What is on a machine besides what containerd says: each sandbox has one of everything, and nothing has no sandbox.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::engine::{EngineThing, cgroup_mounts, commands};
use crate::machine::Machine;

use super::Findings;
use super::placed::Rows;

pub(super) fn machine(machine: &Machine, engine: &[EngineThing], rows: &Rows, found: &mut Findings) {
    let name = &machine.host.name;
    if let Err(error) = look(machine, engine, rows, found) {
        found.not_yet.push(format!("{name}: {error:#}"));
    }
}

fn look(machine: &Machine, engine: &[EngineThing], rows: &Rows, found: &mut Findings) -> Result<()> {
    let name = &machine.host.name;
    let used: BTreeSet<&str> = engine.iter().filter_map(|thing| thing.sandbox.as_deref()).collect();
    let sandboxes: Vec<&EngineThing> = engine.iter().filter(|thing| !thing.is_container()).collect();
    let containers = engine.len() - sandboxes.len();
    for sandbox in &sandboxes {
        if !used.contains(sandbox.id.as_str()) && !sandbox.was_kept_ready() {
            found.not_yet.push(format!("{name} keeps an empty sandbox: {sandbox:?}"));
        }
    }
    let namespace = &machine.host.namespace;
    let routes = namespace.ip(&["-oneline", "-4", "route", "show", "table", "all"])?;
    let links = namespace.ip(&["-oneline", "link", "show", "type", "veth"])?;
    let counts = [
        ("shims", shims(machine)),
        ("address leases", leases(machine)),
        (
            "routes to instances",
            routes.lines().filter(|line| line.contains(" dev veth") && !line.contains("local")).count(),
        ),
        // One is the machine's own.
        ("veth links", links.lines().count().saturating_sub(1)),
        ("network namespaces", mounts(machine, "/netns/").unwrap_or(0)),
    ];
    for (what, there) in counts {
        if there != sandboxes.len() {
            found.not_yet.push(format!("{name} has {there} {what} for {} sandboxes", sandboxes.len()));
        }
    }
    // Each instance has one of its own, and a sandbox that was made in advance one more.
    let owners: BTreeSet<&str> = engine.iter().filter_map(EngineThing::instance).collect();
    let (in_advance, of_instances): (Vec<_>, Vec<_>) =
        cgroups(machine).into_iter().partition(|cgroup| cgroup.starts_with("warm-"));
    let made_in_advance = sandboxes.iter().filter(|sandbox| sandbox.was_kept_ready()).count();
    if in_advance.len() != made_in_advance {
        found.not_yet.push(format!("{name} has {in_advance:?} for {made_in_advance} sandboxes made in advance"));
    }
    for cgroup in of_instances.iter().filter(|cgroup| !owners.contains(cgroup.as_str())) {
        found.not_yet.push(format!("{name} keeps the cgroup of {cgroup}, which has nothing there"));
    }
    let roots = mounts(machine, " - overlay ").unwrap_or(0);
    if roots > sandboxes.len() + containers {
        found.not_yet.push(format!("{name} has {roots} root file systems for {} things", engine.len()));
    }
    let here = |address: &Ipv4Addr| {
        rows.instances
            .iter()
            .any(|row| row.machine.as_ref() == Some(name) && row.state != "deleted" && row.address() == Some(*address))
    };
    for address in admitted(machine)?.into_iter().filter(|address| !here(address)) {
        found.not_yet.push(format!("the packet filter of {name} admits {address}, which nothing has"));
    }
    Ok(())
}

/// Shims that serve its containerd.
fn shims(machine: &Machine) -> usize {
    let socket = machine.run_folder().join("containerd.sock");
    commands(|words| {
        let at = words.iter().position(|word| word == "-address");
        let address = at.and_then(|at| words.get(at + 1));
        words.first().is_some_and(|first| first.contains("containerd-shim"))
            && address.is_some_and(|address| Path::new(address) == socket)
    })
    .len()
}

/// Addresses that are handed out.
fn leases(machine: &Machine) -> usize {
    let files = fs::read_dir(machine.data().join("containerd/leases/wherry")).into_iter().flatten().flatten();
    files.filter(|file| file.file_name().to_string_lossy().parse::<Ipv4Addr>().is_ok()).count()
}

/// Mounts below its run folder, as its containerd sees them.
fn mounts(machine: &Machine, word: &str) -> Option<usize> {
    let text = fs::read_to_string(format!("/proc/{}/mountinfo", machine.containerd_pid()?)).ok()?;
    let run = format!("{}/", machine.run_folder().display());
    Some(text.lines().filter(|line| line.contains(&run) && line.contains(word)).count())
}

/// Names right below the root of its cgroups, in whichever hierarchy.
fn cgroups(machine: &Machine) -> BTreeSet<String> {
    let root = format!("wherry-{}", machine.short_id());
    let mut found = BTreeSet::new();
    for hierarchy in cgroup_mounts() {
        for entry in fs::read_dir(hierarchy.join(&root)).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.insert(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    found
}

/// Addresses that the packet filter takes for instances of this machine.
fn admitted(machine: &Machine) -> Result<Vec<Ipv4Addr>> {
    let table = format!("wherry_{}", machine.short_id());
    let output = machine.host.namespace.command("nft").args(["list", "set", "ip", &table, "instances"]).output();
    let output = output.context("cannot run nft: run `cargo xtask setup`, which installs nftables")?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.split(|character: char| !character.is_ascii_digit() && character != '.');
    Ok(words.filter_map(|word| word.parse().ok()).collect())
}
