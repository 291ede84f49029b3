//! Rights, kernel, cgroups, file system layers.

use super::super::host::{Cgroups, Kernel, Privileges, Trial};
use super::Finding;

/// Bits of the kernel's capability masks.
const CAP_NET_ADMIN: u64 = 12;
const CAP_SYS_ADMIN: u64 = 21;
const CAP_SYS_RESOURCE: u64 = 24;

/// The oldest kernel that has all that is used, and the oldest that Wherry is tested near.
const OLDEST_KERNEL: (u32, u32) = (4, 18);
const OLDEST_USUAL_KERNEL: (u32, u32) = (5, 10);

const NEEDED_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

pub(super) fn privileges(seen: &Privileges) -> Vec<Finding> {
    if !seen.is_root {
        return vec![
            Finding::failure("root", "this does not run as root, and containers need mounts, namespaces and cgroups")
                .mend("run it as root, for example with sudo"),
        ];
    }
    let has = |capability: u64| seen.capabilities >> capability & 1 == 1;
    let mut findings = vec![];
    if has(CAP_SYS_ADMIN) && has(CAP_NET_ADMIN) {
        findings.push(Finding::ok("root", "running as root"));
    } else {
        let says = "root here may not mount or change the network (CAP_SYS_ADMIN, CAP_NET_ADMIN are missing)";
        findings.push(
            Finding::failure("root", says)
                .mend("run Wherry on the machine itself, or in a container with all privileges"),
        );
    }
    if !has(CAP_SYS_RESOURCE) {
        let says = "CAP_SYS_RESOURCE is missing: instances are not preferred over the service when memory runs out, and \
                    limits cannot be raised above this process's own";
        findings.push(Finding::note("capabilities", says));
    }
    findings
}

pub(super) fn kernel(seen: &Kernel) -> Finding {
    let release = &seen.release;
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    match (number(), number()) {
        (Some(major), Some(minor)) if (major, minor) < OLDEST_KERNEL => {
            let (major, minor) = OLDEST_KERNEL;
            Finding::failure("kernel", format!("Linux {release} is too old"))
                .mend(format!("use {major}.{minor} or later"))
        }
        (Some(major), Some(minor)) if (major, minor) < OLDEST_USUAL_KERNEL => {
            Finding::warning("kernel", format!("Linux {release} is older than what Wherry is tested with"))
        }
        (Some(_), Some(_)) => Finding::ok("kernel", format!("Linux {release}")),
        _ => Finding::warning("kernel", format!("{release:?} is no version that could be compared")),
    }
}

pub(super) fn cgroups(seen: &Cgroups) -> Vec<Finding> {
    let in_v2 = |name: &&str| seen.v2.as_ref().is_some_and(|controllers| controllers.contains(*name));
    let in_v1 = |name: &&str| seen.v1.contains(*name);
    let layout = match (seen.v1.is_empty(), &seen.v2) {
        (true, None) => {
            return vec![
                Finding::failure("cgroups", "no cgroups are mounted: nothing could be limited")
                    .mend("mount them: mount -t cgroup2 none /sys/fs/cgroup (systemd does it by itself)"),
            ];
        }
        (true, Some(_)) => "v2",
        (false, None) => "v1",
        (false, Some(_)) => "hybrid: v1 with a v2 tree beside it",
    };
    // A runtime uses one of the two trees, so the controllers must be together.
    let missing = |has: &dyn Fn(&&str) -> bool| -> Vec<&str> {
        NEEDED_CONTROLLERS.iter().copied().filter(|name| !has(name)).collect()
    };
    let missing = if seen.v1.is_empty() { missing(&in_v2) } else { missing(&in_v1) };
    if missing.is_empty() {
        return vec![Finding::ok("cgroups", format!("{layout}, with {}", NEEDED_CONTROLLERS.join(", ")))];
    }
    let mend = if seen.v1.is_empty() {
        format!("enable them: echo '{}' > /sys/fs/cgroup/cgroup.subtree_control, or boot without cgroup_disable=", {
            missing.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ")
        })
    } else {
        "boot with systemd.unified_cgroup_hierarchy=1, and with cgroup_enable=memory if memory is missing".to_owned()
    };
    vec![Finding::failure("cgroups", format!("{layout}, without {}", missing.join(", "))).mend(mend)]
}

pub(super) fn overlay(seen: &Trial) -> Finding {
    match seen {
        Ok(()) => Finding::ok("overlayfs", "works where the data is"),
        Err(said) => Finding::failure("overlayfs", format!("cannot be mounted where the data is: {said}"))
            .mend("modprobe overlay; if that is not it, choose a data folder on ext4 or xfs with --data"),
    }
}

pub(super) fn mandatory_access_control(seen: &Kernel) -> Vec<Finding> {
    let apparmor = if seen.has_apparmor {
        Finding::ok("AppArmor", "in the kernel, instances get containerd's profile")
    } else {
        Finding::note("AppArmor", "not in this kernel: instances rely on namespaces, capabilities and seccomp")
    };
    let selinux = seen.selinux_enforces.map(|enforces| {
        if enforces {
            let says = "SELinux enforces, and Wherry labels nothing: its policy may keep containers from starting";
            Finding::warning("SELinux", says)
                .mend("watch `ausearch -m avc` while an instance starts; setenforce 0 to be sure")
        } else {
            Finding::note("SELinux", "in the kernel, does not enforce")
        }
    });
    [Some(apparmor), selinux].into_iter().flatten().collect()
}
