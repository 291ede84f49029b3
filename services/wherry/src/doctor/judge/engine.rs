//! The programs that Wherry stands on.

use super::super::host::Programs;
use super::super::vulnerability::Version;
use super::Finding;

/// Programs that must be there, and the Debian package of each.
const NEEDED: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
    ("umount", "mount"),
];

pub(super) fn programs(seen: &Programs) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, package) in NEEDED {
        if !seen.has(name) {
            findings.push(missing(name, package));
        }
    }
    findings.push(runtime(seen));
    findings.push(match &seen.plugin_folder {
        Some(folder) => Finding::ok("CNI plugins", format!("ptp, host-local and loopback in {}", folder.display())),
        None => {
            Finding::failure("CNI plugins", "ptp, host-local and loopback are not installed: instances get no address")
                .packages(&["containernetworking-plugins"])
        }
    });
    if !seen.has("git") {
        let says = "git is not installed: volumes cannot be filled from repositories";
        findings.push(Finding::warning("git volumes", says).packages(&["git"]));
    }
    for program in seen.found.iter().filter(|program| !matches!(program.name, "runc" | "crun")) {
        if let Some(version) = &program.version {
            findings.push(Finding::ok(program.name, first_line(version)));
        }
    }
    findings
}

fn missing(name: &str, package: &'static str) -> Finding {
    Finding::failure("programs", format!("{name} is not installed")).packages(&[package])
}

fn runtime(seen: &Programs) -> Finding {
    match (seen.runtime(), &seen.runtime_setting) {
        (name @ ("crun" | "runc"), _) if seen.has(name) => {
            Finding::ok("OCI runtime", format!("{name} starts the containers"))
        }
        ("crun", Some(_)) => {
            Finding::failure("OCI runtime", "containerd.runtime is crun, which is not installed").packages(&["crun"])
        }
        ("runc", Some(_)) => {
            Finding::failure("OCI runtime", "containerd.runtime is runc, which is not installed").packages(&["runc"])
        }
        (other, Some(_)) => {
            Finding::failure("OCI runtime", format!("containerd.runtime is {other:?}, which is unknown"))
                .mend("set it to crun or runc, or leave it out")
        }
        (_, None) => Finding::failure("OCI runtime", "neither crun nor runc is installed").packages(&["crun"]),
    }
}

/// Holes of what would be used are warned of; the other runtime's are only noted.
pub(super) fn vulnerabilities(seen: &Programs) -> Vec<Finding> {
    let mut findings = Vec::new();
    for program in &seen.found {
        let Some(text) = program.version.as_deref() else { continue };
        let topic = match program.name {
            "containerd" => "containerd holes",
            "runc" => "runc holes",
            "crun" => "crun holes",
            _ => continue,
        };
        let Some(version) = Version::parse(text) else {
            findings.push(Finding::note(topic, format!("{:?} is no version that could be compared", first_line(text))));
            continue;
        };
        let is_used = program.name == "containerd" || program.name == seen.runtime();
        let mut clean = true;
        for hole in version.holes(program.name) {
            let says = format!("{} {version} has {}: {}", program.name, hole.ids, hole.essence);
            match hole.closed_by {
                Some(reason) => findings.push(Finding::note(topic, format!("{says}; {reason}"))),
                None if !is_used => {
                    findings.push(Finding::note(topic, format!("{says}; Wherry uses {} here", seen.runtime())));
                }
                None => {
                    clean = false;
                    findings.push(Finding::warning(topic, says).mend(upgrade(program.name)));
                }
            }
        }
        if clean && is_used {
            findings.push(Finding::ok(topic, format!("{} {version}: no known hole is open", program.name)));
        }
    }
    findings
}

fn upgrade(program: &str) -> String {
    let command = format!("apt-get install --only-upgrade {program}");
    let otherwise =
        "if your distribution has mended it in this version, or has no mended one yet, that is yours to judge";
    match program {
        "runc" => format!("{command}, or apt-get install crun, which Wherry prefers; {otherwise}"),
        _ => format!("{command}; {otherwise}"),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
