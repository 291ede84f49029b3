//! Whether this host can run Wherry, and how to mend what it cannot.
//!
//! `probe` looks and returns data, `judge` turns data into findings and looks at nothing, so every judgement is tested
//! without a broken host. Nothing that a probe does outlives it: trials happen in namespaces that end with their
//! process, and rule sets are checked, never loaded.

mod exec;
mod host;
mod judge;
mod probe;
mod report;
mod vulnerability;

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::{DoctorArgs, Role};
use crate::data::DataFolder;
use crate::settings::Settings;

/// `wherry doctor`: checks everything, prints it, ends with 1 when something would keep the role from working.
pub(crate) fn run(data: &Path, args: &DoctorArgs) -> ExitCode {
    match check(data, args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("wherry: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True when nothing is in the way.
fn check(data: &Path, args: &DoctorArgs) -> anyhow::Result<bool> {
    let data = DataFolder::new(data)?;
    let settings = match Settings::load(args.config.as_deref(), data.root()) {
        // The data folder is root's alone; that this is not root is then the first finding.
        Err(_) if args.config.is_none() && !rustix::process::geteuid().is_root() => Settings::default(),
        settings => settings?,
    };
    let findings = match args.role.unwrap_or_else(|| role_of(&data, &settings)) {
        Role::Control => judge::plane(&probe::plane(&data, &settings)),
        role => judge::everything(&probe::everything(role, &data, &settings)),
    };
    let text = report::render(&findings, std::io::stdout().is_terminal());
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(!findings.iter().any(judge::Finding::is_failure))
}

/// What a data folder is of.
fn role_of(data: &DataFolder, settings: &Settings) -> Role {
    if data.identity().exists() {
        Role::Node
    } else if !data.node_id_file().exists() && (settings.store.url.is_some() || data.keys().exists()) {
        Role::Control
    } else {
        Role::Up
    }
}

/// The checks that a role with containers makes before it touches anything: only what would make it fail, in less than
/// 100 ms. `range` is that of its instances, once it is known.
pub(crate) fn require(
    role: Role,
    data: &DataFolder,
    settings: &Settings,
    range: Option<(Ipv4Addr, u8)>,
) -> anyhow::Result<()> {
    let findings = judge::for_start(&probe::for_start(role, data, settings, range));
    match report::refusal(&findings) {
        Some(text) => anyhow::bail!(text),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// The host of the tests has what the tests need (`cargo xtask test` installs it), so only free ports and the like may
    /// be missing; what is tested is that probing works, ends and leaves nothing.
    #[test]
    fn probing_a_real_host_is_quick_and_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let data = DataFolder::new(&scratch.path().join("not-made")).unwrap();
        let settings = Settings::default();
        let started = Instant::now();
        let host = probe::everything(Role::Up, &data, &settings);
        assert!(started.elapsed().as_secs() < 20, "it took {:?}", started.elapsed());
        assert!(!host.kernel.release.is_empty());
        assert!(host.memory.available_bytes.is_some() && host.disk.is_ok());
        assert!(judge::everything(&host).len() > 15);
        assert!(judge::plane(&probe::plane(&data, &settings)).len() > 8);
        let node = judge::everything(&probe::everything(Role::Node, &data, &settings));
        assert!(node.iter().any(|finding| finding.topic == "fleet"));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_data_folder_shows_its_role() {
        let scratch = tempfile::tempdir().unwrap();
        let data = DataFolder::new(scratch.path()).unwrap();
        let role = || role_of(&data, &Settings::default());
        assert_eq!(role(), Role::Up);
        std::fs::create_dir(data.keys()).unwrap();
        assert_eq!(role(), Role::Control);
        std::fs::create_dir(data.node()).unwrap();
        std::fs::write(data.node_id_file(), "x").unwrap();
        assert_eq!(role(), Role::Up);
        std::fs::create_dir(data.identity()).unwrap();
        assert_eq!(role(), Role::Node);
    }
}
