//! What lies where in the package.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::repository;

/// Source in the repository, place in the package, mode.
const FILES: &[(&str, &str, u32)] = &[
    ("packaging/systemd/wherry.service", "lib/systemd/system/wherry.service", 0o644),
    ("packaging/systemd/wherry-control.service", "lib/systemd/system/wherry-control.service", 0o644),
    ("packaging/systemd/wherry-node.service", "lib/systemd/system/wherry-node.service", 0o644),
    ("packaging/debian/control.toml", "etc/wherry/control.toml", 0o644),
    ("packaging/debian/node.toml", "etc/wherry/node.toml", 0o644),
    ("packaging/debian/postinst", "DEBIAN/postinst", 0o755),
    ("packaging/debian/prerm", "DEBIAN/prerm", 0o755),
    ("packaging/debian/postrm", "DEBIAN/postrm", 0o755),
    ("packaging/prometheus/wherry-alerts.yaml", "usr/share/wherry/prometheus/wherry-alerts.yaml", 0o644),
    ("packaging/grafana/wherry.json", "usr/share/wherry/grafana/wherry.json", 0o644),
    ("openapi/wherry-v1.json", "usr/share/wherry/openapi/wherry-v1.json", 0o644),
    ("README.md", "usr/share/doc/wherry/README.md", 0o644),
    ("docs/operations.md", "usr/share/doc/wherry/operations.md", 0o644),
    ("docs/configuration.md", "usr/share/doc/wherry/configuration.md", 0o644),
    ("docs/reliability.md", "usr/share/doc/wherry/reliability.md", 0o644),
    ("LICENSE", "usr/share/doc/wherry/copyright", 0o644),
];

/// Files that an upgrade leaves alone when the operator has changed them.
const SETTINGS: [&str; 2] = ["/etc/wherry/control.toml", "/etc/wherry/node.toml"];

/// Puts everything in its place under `root`.
pub(super) fn stage(root: &Path, program: &Path, architecture: &str) -> Result<()> {
    place(program, &root.join("usr/bin/wherry"), 0o755)?;
    for (source, place_in_package, mode) in FILES {
        place(&repository::root().join(source), &root.join(place_in_package), *mode)?;
    }
    let bytes: u64 = std::fs::metadata(program)?.len();
    std::fs::write(root.join("DEBIAN/control"), control(architecture, bytes.div_ceil(1024)))?;
    let settings = SETTINGS.iter().fold(String::new(), |mut text, file| {
        // Writing to a String does not fail.
        let _written = writeln!(text, "{file}");
        text
    });
    std::fs::write(root.join("DEBIAN/conffiles"), settings)?;
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn place(source: &Path, target: &Path, mode: u32) -> Result<()> {
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(source, target)
        .with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))?;
    std::fs::set_permissions(target, std::fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn control(architecture: &str, size_kib: u64) -> String {
    format!(
        "Package: wherry\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: The Wherry authors <wherry@example.org>\n\
         Installed-Size: {size_kib}\n\
         Depends: libc6 (>= 2.36), adduser | passwd\n\
         Recommends: containerd, crun | runc, containernetworking-plugins, nftables, iproute2, git, ca-certificates\n\
         Suggests: postgresql\n\
         Section: admin\n\
         Priority: optional\n\
         Description: serverless container instances on machines of your own\n \
         One REST call starts a container, which gets its own DNS name and its own\n \
         per-second meter. This package has every role: everything on one machine\n \
         (wherry.service), a replica of the control plane (wherry-control.service)\n \
         and a machine of the fleet (wherry-node.service). None is started by itself.\n \
         The recommended packages are needed where containers run.\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}
