//! What an agent is told at its start.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wherry_agent_api::NodeHello;
use wherry_model::{Architecture, BootId, Capacity, ImageKey, InstanceId, IsolationSet, JournalId, NodeId, ZoneName};

use crate::gpus::MachineGpus;

/// How much output of a container is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// A log file that is larger is put aside and a new one begun; a quarter of what is kept of its container, or of
    /// its share of the instance, where that is less.
    pub file_bytes: u64,
    /// Most that is kept of one container, all its runs together; the oldest goes first.
    pub container_bytes: u64,
    /// Most that is kept of one instance, all its containers together.
    pub instance_bytes: u64,
    /// Latest runs of a container whose files are kept.
    pub runs: u32,
    /// What a container may print in a second, in the long run; of what is beyond it beginning and end are kept, and how much it was.
    pub rate_bytes: u64,
    /// What it may print at once.
    pub burst_bytes: u64,
    /// How long the logs of deleted instances are kept.
    pub keep_deleted: Duration,
    /// Most of the disk that these take, in hundredths; the oldest go first.
    pub deleted_disk_percent: u8,
    /// How often sizes are looked at; a container can exceed the limits by what it writes in this time.
    pub check_every: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            file_bytes: 8 * MIB,
            container_bytes: 32 * MIB,
            instance_bytes: 128 * MIB,
            runs: 10,
            rate_bytes: 4 * MIB,
            burst_bytes: 64 * MIB,
            keep_deleted: Duration::from_hours(24),
            deleted_disk_percent: 5,
            check_every: Duration::from_millis(200),
        }
    }
}

pub use crate::disk::DiskLimits;

/// How hard a pull is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullLimits {
    /// Tries before the instance fails. With waits of 1 s doubling to 60 s, ten tries bridge a registry that is away
    /// for four minutes.
    pub tries: u32,
    /// After this long one try is given up.
    pub timeout: Duration,
    /// Pulls at the same time, of one tenant half of them; and as many questions what a tag means now.
    pub at_once: usize,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self { tries: 10, timeout: Duration::from_mins(10), at_once: 4 }
    }
}

/// When images that nobody uses are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// They are once so many hundredths of the file system that they are on are taken, by whatever.
    pub high_percent: u8,
    /// Until no more than so many are.
    pub low_percent: u8,
    /// What was here, or not used, for less than this stays.
    pub min_age: Duration,
    /// How often that is looked at.
    pub check_every: Duration,
}

impl Default for ImageLimits {
    /// The marks and the age are kubelet's; it looks every five minutes, in which a few pulls can fill a disk.
    fn default() -> Self {
        let (min_age, check_every) = (Duration::from_mins(2), Duration::from_mins(1));
        Self { high_percent: 85, low_percent: 80, min_age, check_every }
    }
}

/// What happens inside of the instances of a machine at the same time; of one tenant half of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtOnce {
    /// Programs that are run to their end. Each may cost the engine some tens of MiB.
    pub programs: usize,
    /// Conversations with programs and ports, and who is attached. Each is a few file descriptors and some hundred KiB.
    pub conversations: usize,
    /// Programs that probes run. Each costs the engine some MiB and some milliseconds of CPU.
    pub probe_programs: usize,
    /// Connections that probes make. Each is a file descriptor and some KiB.
    pub probe_connections: usize,
}

impl Default for AtOnce {
    fn default() -> Self {
        Self { programs: 8, conversations: 64, probe_programs: 32, probe_connections: 256 }
    }
}

/// What an agent needs to know of its machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The node's id, the same for ever.
    pub node: NodeId,
    /// What operators call it.
    pub name: String,
    /// Its kind.
    pub architecture: Architecture,
    /// What it can hand out.
    pub capacity: Capacity,
    /// First address and prefix length of the range of its instances.
    pub range: (Ipv4Addr, u8),
    /// This boot of the machine ([`read_boot_id`]).
    pub boot: BootId,
    /// The name server that instances ask.
    pub dns_server: Ipv4Addr,
    /// The address at which the other nodes reach this one; absent where there is no other.
    pub underlay: Option<Ipv4Addr>,
}

/// What an agent is told at its start.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Folder of the journal, the desired state and the logs; made if it is not there. Used by one agent at a time.
    pub data_folder: PathBuf,
    /// Where it works.
    pub machine: Machine,
    /// Bounds on logs.
    pub logs: LogLimits,
    /// Bounds on pulls.
    pub pulls: PullLimits,
    /// When images are removed.
    pub images: ImageLimits,
    /// Instances that are brought up at the same time.
    pub starts_at_once: usize,
    /// Bounds on what goes on inside of instances.
    pub at_once: AtOnce,
    /// Bounds on what instances write to the disk.
    pub disk: DiskLimits,
    /// Most processes and threads of one instance that does not say how many.
    pub pids_max: u32,
    /// Kernel settings inside instances, beside the engine's fixed profile.
    pub sysctls: BTreeMap<String, String>,
    /// How often life is proved.
    pub heartbeat_every: Duration,
    /// How often the engine is asked what runs while anything does; its events wake the agent sooner.
    pub poll_every: Duration,
    /// Bytes of facts that the control plane has not taken; at this bound the agent does nothing new.
    pub journal_max_bytes: u64,
    /// The isolation classes that its engine has a handler of that name for, beside the shared one.
    pub isolation: IsolationSet,
    /// The part of the fleet in which its machine stands.
    pub zone: Option<ZoneName>,
    /// Disk that it hands out for what instances write, in MiB; not counted when absent.
    pub disk_mib: Option<u64>,
    /// The GPUs that it hands out.
    pub gpus: MachineGpus,
    /// Failed starts in a row, for reasons that may pass, before the instance fails.
    pub start_tries: u32,
}

impl AgentConfig {
    /// The usual limits on the given machine.
    pub fn new(data_folder: PathBuf, machine: Machine) -> Self {
        Self {
            data_folder,
            machine,
            logs: LogLimits::default(),
            pulls: PullLimits::default(),
            images: ImageLimits::default(),
            starts_at_once: 8,
            at_once: AtOnce::default(),
            disk: DiskLimits::default(),
            pids_max: 1024,
            sysctls: sysctls_without_ipv6(Path::new("/proc/sys")),
            heartbeat_every: Duration::from_secs(2),
            poll_every: Duration::from_secs(1),
            journal_max_bytes: 16 * 1024 * 1024,
            isolation: IsolationSet::default(),
            zone: None,
            disk_mib: None,
            gpus: MachineGpus::default(),
            start_tries: 5,
        }
    }

    pub(crate) fn hello(&self, journal: JournalId, desired_revision: Option<u64>, images: Vec<ImageKey>) -> NodeHello {
        let machine = &self.machine;
        NodeHello {
            node: machine.node,
            name: machine.name.clone(),
            architecture: machine.architecture,
            capacity: machine.capacity,
            range: machine.range,
            boot: machine.boot,
            journal,
            desired_revision,
            underlay: machine.underlay,
            isolation: self.isolation,
            zone: self.zone,
            disk_mib: self.disk_mib,
            gpus: self.gpus.offer(),
            images,
            protocol: wherry_agent_api::PROTOCOL,
        }
    }

    pub(crate) fn logs_folder(&self) -> PathBuf {
        self.data_folder.join("logs")
    }

    pub(crate) fn deleted_logs_folder(&self) -> PathBuf {
        self.data_folder.join("deleted-logs")
    }

    pub(crate) fn deleted_logs_of(&self, instance: InstanceId) -> PathBuf {
        self.deleted_logs_folder().join(instance.to_string())
    }

    pub(crate) fn volumes_folder(&self) -> PathBuf {
        self.data_folder.join("volumes")
    }

    pub(crate) fn volumes_of(&self, instance: InstanceId) -> PathBuf {
        self.volumes_folder().join(instance.to_string())
    }

    pub(crate) fn logs_of(&self, instance: InstanceId) -> PathBuf {
        self.logs_folder().join(instance.to_string())
    }
}

/// Instances have no IPv6 address, so link-local IPv6 would only be a way around the IPv4 firewall. A kernel without IPv6
/// has no such setting and needs none.
fn sysctls_without_ipv6(kernel_settings: &Path) -> BTreeMap<String, String> {
    let setting = "net.ipv6.conf.all.disable_ipv6";
    let exists = kernel_settings.join(setting.replace('.', "/")).exists();
    exists.then(|| (setting.to_owned(), "1".to_owned())).into_iter().collect()
}

/// The kernel's name for this boot of the machine.
pub fn read_boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the kernel's boot id is not a UUID"))
}
