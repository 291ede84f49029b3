//! apt-get, without questions, upgrades or started services.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;
use crate::setup::packages::Package;
use crate::setup::service_guard::ServiceGuard;

/// Installs the packages; an empty list does nothing and needs no rights.
pub(super) fn install(packages: &[&Package]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    let by_hand = format!("or install them by hand: apt-get install {}", names.join(" "));
    ensure!(command::on_path("apt-get"), "this machine has no apt-get: install these programs another way: {names:?}");
    ensure!(rustix::process::geteuid().is_root(), "only root may install packages: run this as root (sudo), {by_hand}");

    let guard = ServiceGuard::set()?;
    if !has_package_lists() {
        update()?;
    }
    if apt_install(&names).is_err() {
        // The usual reason is a list older than the mirror; a second failure is a real one.
        update()?;
        apt_install(&names)
            .with_context(|| format!("apt-get cannot install the packages: check its sources, {by_hand}"))?;
    }
    guard.switch_off_new_services();
    Ok(())
}

fn apt_install(names: &[&str]) -> Result<()> {
    let mut install = apt_get();
    install.args(["install", "--no-install-recommends", "--no-upgrade"]).args(names);
    command::capture(&mut install).map(drop)
}

fn update() -> Result<()> {
    println!("fetching apt's package lists");
    command::capture(apt_get().arg("update"))
        .map(drop)
        .context("apt-get update failed: check the network and /etc/apt/sources.list")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "--yes", "--option=DPkg::Lock::Timeout=120", "--option=Dpkg::Options::=--force-confold"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("NEEDRESTART_SUSPEND", "1")
        .env("LC_ALL", "C.UTF-8");
    command
}

fn has_package_lists() -> bool {
    std::fs::read_dir(Path::new("/var/lib/apt/lists"))
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
}
