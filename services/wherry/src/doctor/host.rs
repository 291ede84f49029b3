//! What the probes saw. Data only; `None` and `Err` say that it could not be seen, or why.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use wherry_model::Timestamp;

use crate::cli::Role;

/// Something that was tried; the error is what the system said.
pub(super) type Trial = Result<(), String>;

/// Everything that the doctor looks at on a machine that runs containers.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// `wherry up` or `wherry node`.
    pub(super) role: Role,
    pub(super) privileges: Privileges,
    pub(super) kernel: Kernel,
    pub(super) cgroups: Cgroups,
    pub(super) overlay: Trial,
    pub(super) programs: Programs,
    /// A network namespace with a pair of virtual devices.
    pub(super) network_namespace: Trial,
    /// Rules of the kinds that the agent loads, checked and not loaded.
    pub(super) nft: Trial,
    pub(super) network: Network,
    pub(super) disk: Result<Disk, String>,
    pub(super) memory: Memory,
    pub(super) open_files: OpenFiles,
    pub(super) clock: ClockReading,
    pub(super) occupancy: Occupancy,
    pub(super) health: Vec<Health>,
    /// Where facts are kept; none on a machine that keeps them elsewhere.
    pub(super) store: Option<StoreSeen>,
    /// Only for `wherry node`.
    pub(super) membership: Option<Result<Membership, NotJoined>>,
}

/// What a replica of the control plane stands on.
#[derive(Debug, Clone)]
pub(super) struct Plane {
    pub(super) ports: Vec<PortTrial>,
    pub(super) disk: Result<Disk, String>,
    pub(super) memory: Memory,
    pub(super) open_files: OpenFiles,
    pub(super) clock: ClockReading,
    pub(super) occupancy: Occupancy,
    pub(super) health: Vec<Health>,
    pub(super) store: StoreSeen,
    pub(super) keys: KeysSeen,
}

/// Where facts are kept.
#[derive(Debug, Clone)]
pub(super) enum StoreSeen {
    /// A file of so many bytes, or one that is not made yet.
    File(Option<u64>),
    /// A database by its URL without the password; the error says what to do.
    Server { url: String, outcome: Trial },
}

/// The keys of the installation in this data folder.
#[derive(Debug, Clone)]
pub(super) enum KeysSeen {
    /// There are none, and the installation has not begun either.
    NotMadeYet,
    /// The installation has begun, and these files are not here.
    Missing(Vec<&'static str>),
    /// All here; nothing says whether they are the right ones.
    Alone,
    /// All here, and compared with what the store says of the installation's.
    Compared(Trial),
    /// They cannot be read.
    Damaged(String),
}

/// A machine that has joined.
#[derive(Debug, Clone)]
pub(super) struct Membership {
    pub(super) node: String,
    pub(super) range: (Ipv4Addr, u8),
    /// When its certificate ends.
    pub(super) expires_at: Timestamp,
    /// Where it got through to the control plane with its certificate, or why it did not.
    pub(super) reached: Result<String, String>,
}

/// Why it is no member.
#[derive(Debug, Clone)]
pub(super) enum NotJoined {
    /// It never joined.
    Never,
    /// What it kept of it cannot be used.
    Damaged(String),
}

/// The part of it that a role asks for before it begins.
#[derive(Debug, Clone)]
pub(super) struct Essentials {
    pub(super) role: Role,
    pub(super) privileges: Privileges,
    pub(super) cgroups: Cgroups,
    pub(super) overlay: Trial,
    pub(super) programs: Programs,
    pub(super) nft: Trial,
    pub(super) network: Network,
    pub(super) occupancy: Occupancy,
}

#[derive(Debug, Clone)]
pub(super) struct Privileges {
    pub(super) is_root: bool,
    /// The mask `CapEff` of `/proc/self/status`.
    pub(super) capabilities: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// As `uname -r` prints it.
    pub(super) release: String,
    pub(super) has_apparmor: bool,
    /// `Some(true)` when it enforces, `None` when the kernel has none.
    pub(super) selinux_enforces: Option<bool>,
}

/// Controllers by the version of the tree they are in.
#[derive(Debug, Clone, Default)]
pub(super) struct Cgroups {
    pub(super) v1: BTreeSet<String>,
    /// Controllers of the v2 tree; `None` when none is mounted.
    pub(super) v2: Option<BTreeSet<String>>,
}

#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) found: Vec<Program>,
    /// The folder that has all CNI plugins Wherry uses.
    pub(super) plugin_folder: Option<PathBuf>,
    /// `containerd.runtime` of the settings.
    pub(super) runtime_setting: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) path: Option<PathBuf>,
    /// What it says about its version; `None` when it was not asked or did not answer.
    pub(super) version: Option<String>,
}

impl Programs {
    pub(super) fn has(&self, name: &str) -> bool {
        self.found.iter().any(|program| program.name == name && program.path.is_some())
    }

    /// The OCI runtime that `wherry up` would choose.
    pub(super) fn runtime(&self) -> &str {
        match &self.runtime_setting {
            Some(name) => name,
            None if self.has("crun") => "crun",
            None => "runc",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Network {
    /// Whether the kernel forwards IPv4.
    pub(super) forwards: Result<bool, String>,
    /// The range of the instances here: `network.range` of the settings, or what a node was given; none before that.
    pub(super) range: Option<(Ipv4Addr, u8)>,
    pub(super) routes: Vec<Route>,
    pub(super) ports: Vec<PortTrial>,
}

#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) destination: Ipv4Addr,
    pub(super) bits: u8,
    pub(super) device: String,
}

/// An attempt to listen where the role will.
#[derive(Debug, Clone)]
pub(super) struct PortTrial {
    /// `the API`, `DNS over UDP` …
    pub(super) role: &'static str,
    /// The flag that moves it.
    pub(super) flag: &'static str,
    pub(super) address: SocketAddr,
    pub(super) outcome: PortOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PortOutcome {
    Free,
    InUse,
    /// Another reason, as the system put it.
    Refused(String),
}

#[derive(Debug, Clone)]
pub(super) struct Disk {
    /// The folder that was looked at: the data folder or its nearest ancestor that exists.
    pub(super) folder: PathBuf,
    pub(super) free_bytes: u64,
    /// `None` on file systems that do not count them.
    pub(super) free_inodes: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) available_bytes: Option<u64>,
}

/// How many files a process of this shell or unit may have open at most; none is no limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenFiles {
    pub(super) most: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct ClockReading {
    pub(super) now: Timestamp,
    /// The last write to the database, by the same clock at that time.
    pub(super) last_write: Option<Timestamp>,
    /// What the system's time service says; `None` when there is none that could be asked.
    pub(super) synchronised: Option<bool>,
}

/// Who uses this data folder, and which other Wherrys run here.
#[derive(Debug, Clone, Default)]
pub(super) struct Occupancy {
    /// The process that holds the lock of the data folder.
    pub(super) holder: Option<u32>,
    /// Other processes that run containers: `wherry up` and `wherry node`.
    pub(super) others: Vec<u32>,
}

/// What a running Wherry answers.
#[derive(Debug, Clone)]
pub(super) struct Health {
    /// `/healthz` or `/readyz` with its address.
    pub(super) url: String,
    /// Status and beginning of the body, or why there is none.
    pub(super) answer: Result<(u16, String), String>,
}
