use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use wherry_model::Timestamp;

use super::super::host::{
    Cgroups, ClockReading, Disk, Health, Kernel, KeysSeen, Membership, Memory, Network, NotJoined, Occupancy,
    OpenFiles, Plane, PortOutcome, PortTrial, Privileges, Program, Programs, Route, StoreSeen, Trial,
};
use super::*;

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn program(name: &'static str, version: Option<&str>) -> Program {
    Program { name, path: Some(format!("/usr/bin/{name}").into()), version: version.map(str::to_owned) }
}

/// A host with nothing to complain about.
fn good() -> Host {
    let port = |role, port| PortTrial {
        role,
        flag: "--listen-x",
        address: (Ipv4Addr::LOCALHOST, port).into(),
        outcome: PortOutcome::Free,
    };
    Host {
        role: Role::Up,
        privileges: Privileges { is_root: true, capabilities: u64::MAX },
        kernel: Kernel { release: "6.1.0-40-amd64".into(), has_apparmor: true, selinux_enforces: None },
        cgroups: Cgroups { v1: BTreeSet::new(), v2: Some(set(&["cpu", "io", "memory", "pids"])) },
        overlay: Ok(()),
        programs: Programs {
            found: vec![
                program("containerd", Some("containerd github.com/containerd/containerd v2.3.2 abc")),
                program("containerd-shim-runc-v2", None),
                program("ctr", None),
                program("crun", Some("crun version 1.8.1")),
                program("nft", Some("nftables v1.0.6 (Lester Gooch #5)")),
                program("ip", Some("ip utility, iproute2-6.1.0, libbpf 1.1.2")),
                program("unshare", None),
                program("nsenter", None),
                program("setsid", None),
                program("mount", None),
                program("umount", None),
                program("git", None),
            ],
            plugin_folder: Some("/usr/lib/cni".into()),
            runtime_setting: None,
        },
        network_namespace: Ok(()),
        nft: Ok(()),
        network: Network {
            forwards: Ok(true),
            range: Some((Ipv4Addr::new(10, 77, 0, 0), 16)),
            routes: vec![
                Route { destination: Ipv4Addr::UNSPECIFIED, bits: 0, device: "eth0".into() },
                Route { destination: Ipv4Addr::new(192, 0, 2, 0), bits: 24, device: "eth0".into() },
                Route { destination: Ipv4Addr::new(10, 77, 0, 2), bits: 32, device: "veth1234".into() },
            ],
            ports: vec![port("API", 7070), port("DNS over UDP", 7053)],
        },
        disk: Ok(Disk { folder: "/var/lib".into(), free_bytes: 50 << 30, free_inodes: Some(1_000_000) }),
        memory: Memory { available_bytes: Some(8 << 30) },
        open_files: OpenFiles { most: Some(1 << 20) },
        clock: ClockReading { now: Timestamp::from_seconds(1_780_000_000), last_write: None, synchronised: Some(true) },
        occupancy: Occupancy { holder: Some(77), others: vec![] },
        health: vec![Health { url: "http://127.0.0.1:7070/healthz".into(), answer: Ok((200, "ok".into())) }],
        store: None,
        membership: None,
    }
}

fn essentials(host: &Host) -> Essentials {
    Essentials {
        role: host.role,
        privileges: host.privileges.clone(),
        cgroups: host.cgroups.clone(),
        overlay: host.overlay.clone(),
        programs: host.programs.clone(),
        nft: host.nft.clone(),
        network: host.network.clone(),
        occupancy: host.occupancy.clone(),
    }
}

#[test]
fn a_good_host_has_nothing_to_mend() {
    for finding in everything(&good()).iter().chain(&for_start(&essentials(&good()))) {
        assert_eq!((finding.verdict, &finding.mend), (Verdict::Ok, &None), "{finding:?}");
    }
}

/// Each fault alone gives exactly its finding, with what to do about it, and `up` refuses where it could not work.
#[test]
fn every_fault_is_found_and_can_be_mended() {
    type Fault = (&'static str, fn(&mut Host), Verdict, &'static str, bool);
    let faults: &[Fault] = &[
        ("root", |host| host.privileges.is_root = false, Verdict::Failure, "sudo", true),
        ("root", |host| host.privileges.capabilities = 1 << 24, Verdict::Failure, "privileges", true),
        ("kernel", |host| host.kernel.release = "4.9.0-19-amd64".into(), Verdict::Failure, "4.18", false),
        ("cgroups", |host| host.cgroups.v2 = None, Verdict::Failure, "cgroup2", true),
        ("cgroups", |host| host.cgroups.v2 = Some(set(&["cpu", "pids"])), Verdict::Failure, "+memory", true),
        ("cgroups", |host| host.cgroups.v1 = set(&["cpu", "pids"]), Verdict::Failure, "cgroup_enable=memory", true),
        ("overlayfs", |host| host.overlay = Err("wrong fs type".into()), Verdict::Failure, "ext4", true),
        ("programs", |host| host.programs.found[0].path = None, Verdict::Failure, "containerd", true),
        ("OCI runtime", |host| host.programs.found[3].path = None, Verdict::Failure, "crun", true),
        ("OCI runtime", |host| host.programs.runtime_setting = Some("runc".into()), Verdict::Failure, "runc", true),
        (
            "OCI runtime",
            |host| host.programs.runtime_setting = Some("kata".into()),
            Verdict::Failure,
            "crun or runc",
            true,
        ),
        (
            "CNI plugins",
            |host| host.programs.plugin_folder = None,
            Verdict::Failure,
            "containernetworking-plugins",
            true,
        ),
        (
            "network namespaces",
            |host| host.network_namespace = Err("EPERM".into()),
            Verdict::Failure,
            "CONFIG_NET_NS",
            false,
        ),
        ("nftables", |host| host.nft = Err("not supported".into()), Verdict::Failure, "modprobe", true),
        ("disk", |host| host.disk.as_mut().unwrap().free_bytes = 1 << 20, Verdict::Failure, "--data", false),
        ("disk", |host| host.disk.as_mut().unwrap().free_bytes = 1 << 30, Verdict::Warning, "--data", false),
        ("disk", |host| host.disk.as_mut().unwrap().free_inodes = Some(10), Verdict::Warning, "--data", false),
        ("memory", |host| host.memory.available_bytes = Some(1 << 20), Verdict::Failure, "memory", false),
        ("open files", |host| host.open_files.most = Some(65_535), Verdict::Warning, "LimitNOFILE=65536", false),
        ("clock", |host| host.clock.now = Timestamp::from_seconds(0), Verdict::Failure, "set the clock", false),
        (
            "clock",
            |host| host.clock.last_write = Some(Timestamp::from_seconds(1_780_000_060)),
            Verdict::Warning,
            "set the clock",
            false,
        ),
        ("clock", |host| host.clock.synchronised = Some(false), Verdict::Warning, "timedatectl", false),
        ("other installations", |host| host.occupancy.others = vec![99], Verdict::Warning, "network.range", false),
        ("SELinux", |host| host.kernel.selinux_enforces = Some(true), Verdict::Warning, "ausearch", false),
        (
            "service",
            |host| host.health[0].answer = Ok((503, "the store is away".into())),
            Verdict::Failure,
            "wherry up",
            false,
        ),
        ("service", |host| host.health[0].answer = Err("timed out".into()), Verdict::Failure, "ss -lnpt", false),
    ];
    for (number, (topic, fault, verdict, mend, stops_up)) in faults.iter().enumerate() {
        let mut host = good();
        fault(&mut host);
        let findings = everything(&host);
        let wrong: Vec<&Finding> = findings.iter().filter(|finding| finding.verdict >= Verdict::Warning).collect();
        let [found] = wrong.as_slice() else { panic!("fault {number} ({topic}): {wrong:?}") };
        let advice = format!("{} {}", found.mend.as_deref().unwrap_or_default(), found.packages.join(" "));
        assert_eq!((found.topic, found.verdict), (*topic, *verdict), "fault {number}");
        assert!(advice.contains(mend), "fault {number} ({topic}) advises {advice:?}");
        assert_eq!(
            for_start(&essentials(&host)).iter().any(Finding::is_failure),
            *stops_up,
            "fault {number} ({topic})"
        );
    }
}

fn with_route(destination: [u8; 4], bits: u8, device: &str) -> Vec<Finding> {
    let mut network = good().network;
    network.routes.push(Route { destination: destination.into(), bits, device: device.into() });
    network::range(&network, Role::Up)
}

#[test]
fn routes_that_meet_the_range() {
    assert_eq!(with_route([10, 0, 0, 0], 8, "eth0")[0].verdict, Verdict::Warning);
    assert_eq!(with_route([10, 77, 0, 0], 16, "docker0")[0].verdict, Verdict::Failure);
    assert_eq!(with_route([10, 77, 9, 0], 24, "wg0")[0].verdict, Verdict::Failure);
    assert_eq!(with_route([10, 77, 9, 1], 32, "wg0")[0].verdict, Verdict::Failure);
    assert_eq!(with_route([10, 77, 9, 1], 32, "veth77")[0].verdict, Verdict::Ok);
    assert_eq!(with_route([10, 78, 0, 0], 16, "docker0")[0].verdict, Verdict::Ok);
}

#[test]
fn ports_of_the_running_wherry_are_no_conflict() {
    let mut host = good();
    host.network.ports[0].outcome = PortOutcome::InUse;
    assert!(!everything(&host).iter().any(Finding::is_failure));
    host.occupancy.holder = None;
    let failures: Vec<Finding> = everything(&host).into_iter().filter(Finding::is_failure).collect();
    assert_eq!(failures.len(), 1);
    assert!(failures[0].mend.as_ref().unwrap().contains(":7070"), "{failures:?}");
    assert!(for_start(&essentials(&host)).iter().any(Finding::is_failure));
    host.network.ports[0].outcome = PortOutcome::Refused("cannot assign requested address".into());
    assert!(everything(&host).iter().any(|finding| finding.is_failure() && finding.says.contains("cannot assign")));
}

#[test]
fn holes_are_warned_of_only_where_they_are_open() {
    let mut host = good();
    let debian = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1";
    host.programs.found[0].version = Some(debian.into());
    host.programs.found.push(program("runc", Some("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1")));
    let told = |verdict| -> Vec<String> {
        let findings = engine::vulnerabilities(&host.programs);
        findings.into_iter().filter(|finding| finding.verdict == verdict).map(|finding| finding.says).collect()
    };
    let (warnings, notes) = (told(Verdict::Warning).join("\n"), told(Verdict::Note).join("\n"));
    assert!(warnings.contains("CVE-2025-64329") && warnings.contains("CVE-2024-40635"), "{warnings}");
    assert!(notes.contains("CVE-2026-53488"), "closed by how Wherry uses it: {notes}");
    assert!(notes.contains("CVE-2025-31133") && notes.contains("uses crun"), "runc is not used: {notes}");
    host.programs.runtime_setting = Some("runc".into());
    let findings = engine::vulnerabilities(&host.programs);
    assert!(
        findings.iter().any(|finding| finding.verdict == Verdict::Warning && finding.says.contains("CVE-2025-31133"))
    );
}

#[test]
fn without_root_the_trials_are_left_out() {
    let mut host = good();
    host.privileges.is_root = false;
    host.overlay = Err("operation not permitted".into());
    host.nft = Err("operation not permitted".into());
    let failures = everything(&host).into_iter().filter(Finding::is_failure).count();
    assert_eq!(failures, 1, "only the missing root is reported");
    assert_eq!(for_start(&essentials(&host)).len(), 1);
}

fn fleet_finding(membership: Result<Membership, NotJoined>) -> Vec<Finding> {
    let host = Host { role: Role::Node, membership: Some(membership), ..good() };
    let findings = everything(&host);
    assert!(!findings.iter().any(|finding| finding.says.contains("wherry up")), "{findings:?}");
    findings.into_iter().filter(|finding| finding.verdict >= Verdict::Warning).collect()
}

#[test]
fn a_machine_that_has_joined_needs_its_certificate_and_can_do_without_the_control_plane_for_a_while() {
    let now = good().clock.now;
    let joined = || Membership {
        node: "01".repeat(16),
        range: (Ipv4Addr::new(10, 128, 0, 0), 24),
        expires_at: now.plus(std::time::Duration::from_hours(1)),
        reached: Ok("https://control.example:7443".to_owned()),
    };
    assert_eq!(fleet_finding(Ok(joined())), []);
    let ended = Membership { expires_at: now, ..joined() };
    let lonely = Membership { reached: Err("nobody there".to_owned()), ..joined() };
    for (membership, verdict, mend) in [
        (Ok(ended), Verdict::Failure, "--join"),
        (Ok(lonely), Verdict::Warning, "goes on"),
        (Err(NotJoined::Damaged("no PEM".to_owned())), Verdict::Failure, "--join"),
    ] {
        let found = fleet_finding(membership);
        assert_eq!((found.len(), found[0].verdict), (1, verdict), "{found:?}");
        assert!(found[0].mend.as_ref().unwrap().contains(mend), "{found:?}");
    }
    assert_eq!(fleet_finding(Err(NotJoined::Never)), [], "before the first start nothing is wrong");
}

#[test]
fn a_control_plane_needs_its_store_and_the_right_keys_and_no_root() {
    let good = || {
        let Host { network, disk, memory, open_files, clock, occupancy, health, .. } = good();
        let store = StoreSeen::Server { url: "postgres://w:…@db/w".to_owned(), outcome: Ok(()) };
        let keys = KeysSeen::Compared(Ok(()));
        Plane { ports: network.ports, disk, memory, open_files, clock, occupancy, health, store, keys }
    };
    assert!(plane(&good()).iter().all(|finding| finding.verdict == Verdict::Ok), "{:?}", plane(&good()));
    let away: Trial = Err("the database does not answer".to_owned());
    for (fault, topic) in [
        (Plane { store: StoreSeen::Server { url: "postgres://db".to_owned(), outcome: away }, ..good() }, "store"),
        (Plane { keys: KeysSeen::Missing(vec!["token.pem"]), ..good() }, "keys"),
        (Plane { keys: KeysSeen::Compared(Err("other keys".to_owned())), ..good() }, "keys"),
        (Plane { keys: KeysSeen::Damaged("no PEM".to_owned()), ..good() }, "keys"),
    ] {
        let failures: Vec<Finding> = plane(&fault).into_iter().filter(Finding::is_failure).collect();
        assert_eq!(failures.iter().map(|finding| finding.topic).collect::<Vec<_>>(), [topic]);
    }
    for (fine, topic) in [
        (Plane { keys: KeysSeen::NotMadeYet, ..good() }, "keys"),
        (Plane { store: StoreSeen::File(None), ..good() }, "store"),
    ] {
        let findings = plane(&fine);
        assert!(
            findings.iter().all(|finding| finding.verdict <= Verdict::Note)
                && findings.iter().any(|f| f.topic == topic)
        );
    }
}
