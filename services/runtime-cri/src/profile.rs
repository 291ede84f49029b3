//! The one security profile, given to every sandbox and every container.
//!
//! No caller can loosen it: nothing of it is in the contract's types. Sources: the default profile of the OCI runtime
//! tools for masked and read-only paths, the Pod Security Standards (restricted) for the rest, with the capabilities that
//! ordinary server images need to bind a low port, own their files and drop to their user.

use std::collections::BTreeMap;

use crate::generated::runtime::v1::security_profile::ProfileType;
use crate::generated::runtime::v1::{
    Capability, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    SecurityProfile,
};

/// All that a container's root may do beyond an ordinary user.
const CAPABILITIES: &[&str] = &["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "NET_BIND_SERVICE", "KILL"];

const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Kernel settings of the sandbox's network namespace: IPv4 only, and ping without a capability.
const SYSCTLS: &[(&str, &str)] =
    &[("net.ipv6.conf.all.disable_ipv6", "1"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// Tenants' processes go before the machine's own when memory runs out.
pub(crate) const OOM_SCORE_ADJ: i64 = 500;

fn namespaces() -> NamespaceOption {
    NamespaceOption {
        network: NamespaceMode::Pod.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..NamespaceOption::default()
    }
}

fn seccomp() -> SecurityProfile {
    SecurityProfile { profile_type: ProfileType::RuntimeDefault.into(), localhost_ref: String::new() }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

pub(crate) fn sandbox_security() -> LinuxSandboxSecurityContext {
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces()),
        readonly_rootfs: true,
        seccomp: Some(seccomp()),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// The profile's settings win over the caller's.
pub(crate) fn sysctls(extra: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = extra.clone();
    all.extend(SYSCTLS.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())));
    all
}

pub(crate) fn container_security() -> LinuxContainerSecurityContext {
    LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: owned(CAPABILITIES),
            drop_capabilities: vec!["ALL".to_owned()],
            ..Capability::default()
        }),
        namespace_options: Some(namespaces()),
        no_new_privs: true,
        masked_paths: owned(MASKED_PATHS),
        readonly_paths: owned(READONLY_PATHS),
        seccomp: Some(seccomp()),
        ..LinuxContainerSecurityContext::default()
    }
}
