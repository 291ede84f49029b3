//! Rights, kernel and cgroups.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::super::host::{Cgroups, Kernel, Privileges};

pub(super) fn privileges() -> Privileges {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    Privileges { is_root: rustix::process::geteuid().is_root(), capabilities }
}

pub(super) fn kernel() -> Kernel {
    let enforce = fs::read_to_string("/sys/fs/selinux/enforce").ok();
    Kernel {
        release: rustix::system::uname().release().to_string_lossy().into_owned(),
        has_apparmor: Path::new("/sys/kernel/security/apparmor").exists(),
        selinux_enforces: enforce.map(|text| text.trim() == "1"),
    }
}

pub(super) fn cgroups() -> Cgroups {
    let read_controllers = |mount_point: &str| {
        let text = fs::read_to_string(Path::new(mount_point).join("cgroup.controllers")).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    };
    parse_cgroups(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), read_controllers)
}

/// `proc_pid_mountinfo(5)`: mount point in the fifth field, file system type and its options behind a lone hyphen.
fn parse_cgroups(mountinfo: &str, read_controllers: impl Fn(&str) -> BTreeSet<String>) -> Cgroups {
    const KNOWN: &[&str] = &["cpu", "cpuset", "memory", "pids", "devices", "freezer", "blkio"];
    let mut cgroups = Cgroups::default();
    for line in mountinfo.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else { continue };
        let mount_point = mount.split(' ').nth(4).unwrap_or_default();
        let mut fields = file_system.split(' ');
        match fields.next() {
            Some("cgroup") => {
                let options = fields.nth(1).unwrap_or_default().split(',');
                cgroups.v1.extend(options.filter(|option| KNOWN.contains(option)).map(str::to_owned));
            }
            Some("cgroup2") => cgroups.v2.get_or_insert_default().extend(read_controllers(mount_point)),
            _ => {}
        }
    }
    cgroups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn hybrid_layout() {
        let mountinfo = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        let seen = parse_cgroups(mountinfo, |mount_point| {
            assert_eq!(mount_point, "/sys/fs/cgroup/unified");
            BTreeSet::new()
        });
        assert_eq!(seen.v1, set(&["cpu", "memory"]));
        assert_eq!(seen.v2, Some(BTreeSet::new()));
    }

    #[test]
    fn unified_layout() {
        let mountinfo = "41 31 0:38 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let seen = parse_cgroups(mountinfo, |_| set(&["cpu", "memory", "pids"]));
        assert!(seen.v1.is_empty());
        assert_eq!(seen.v2, Some(set(&["cpu", "memory", "pids"])));
    }
}
