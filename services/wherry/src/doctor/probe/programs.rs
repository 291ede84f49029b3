//! Which programs are there, and which versions they say they are.

use std::path::{Path, PathBuf};

use super::super::exec;
use super::super::host::{Program, Programs};
use crate::settings::Settings;

/// Name and the argument that makes it tell its version, if that matters.
const PROGRAMS: &[(&str, Option<&str>)] = &[
    ("containerd", Some("--version")),
    ("containerd-shim-runc-v2", None),
    ("ctr", None),
    ("crun", Some("--version")),
    ("runc", Some("--version")),
    ("nft", Some("--version")),
    ("ip", Some("-Version")),
    ("unshare", None),
    ("nsenter", None),
    ("setsid", None),
    ("mount", None),
    ("umount", None),
    ("git", None),
];

/// Where distributions put CNI plugins; the container runtime looks at the same places.
const PLUGIN_FOLDERS: &[&str] = &["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
const PLUGINS: &[&str] = &["ptp", "host-local", "loopback"];

pub(super) fn programs(settings: &Settings, ask_versions: bool) -> Programs {
    let look = |&(name, flag): &(&'static str, Option<&str>)| {
        let path = exec::find(name);
        let version = match (&path, flag) {
            (Some(path), Some(flag)) if ask_versions => exec::run(path, &[flag], "").ok(),
            _ => None,
        };
        Program { name, path, version: version.map(|text| text.trim().to_owned()) }
    };
    Programs {
        found: PROGRAMS.iter().map(look).collect(),
        plugin_folder: PLUGIN_FOLDERS.iter().map(PathBuf::from).find(|folder| has_all_plugins(folder)),
        runtime_setting: settings.containerd.runtime.clone(),
    }
}

fn has_all_plugins(folder: &Path) -> bool {
    PLUGINS.iter().all(|plugin| folder.join(plugin).is_file())
}
