//! Keeps the services that Debian packages bring from starting, now and at the next boot.
//!
//! Now: Debian asks `/usr/sbin/policy-rc.d` before it starts a service; ours says no while packages are installed. One
//! that an administrator wrote is left as it is. At boot: services that were not enabled before and are now are
//! switched off again. A run that is killed in the middle leaves our policy file behind; the next run knows it by its
//! text and removes it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

const POLICY_PATH: &str = "/usr/sbin/policy-rc.d";
const POLICY: &str =
    "#!/bin/sh\n# Written by `cargo xtask setup` while it installs packages; safe to remove.\nexit 101\n";
const BOOT_SERVICES: &str = "/etc/systemd/system/multi-user.target.wants";

/// In force until it is dropped.
pub(super) struct ServiceGuard {
    ours: bool,
    enabled_before: BTreeSet<String>,
}

impl ServiceGuard {
    pub(super) fn set() -> Result<Self> {
        let path = Path::new(POLICY_PATH);
        let found = fs::read_to_string(path);
        let ours = match &found {
            Ok(text) => text == POLICY,
            Err(_) => true,
        };
        if ours {
            fs::write(path, POLICY)
                .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
                .with_context(|| format!("cannot write {POLICY_PATH}, which keeps new services off: run as root"))?;
        }
        Ok(Self { ours, enabled_before: enabled_services() })
    }

    /// Switches off what the new packages have enabled for the next boot.
    pub(super) fn switch_off_new_services(&self) {
        for service in enabled_services().difference(&self.enabled_before) {
            if command::succeeds(Command::new("systemctl").args(["disable", "--quiet", service])) {
                println!("{service} came with a package and is switched off: Wherry needs its program only");
            } else {
                println!("warning: {service} will start at the next boot: `systemctl disable {service}` prevents it");
            }
        }
    }
}

impl Drop for ServiceGuard {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY_PATH)
        {
            eprintln!("warning: remove {POLICY_PATH} by hand, or no service will ever be started: {error}");
        }
    }
}

fn enabled_services() -> BTreeSet<String> {
    let entries = fs::read_dir(BOOT_SERVICES).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
