//! Folders, programs, and the configuration files of containerd and CNI.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::ContainerdError;

pub(super) const SOCKET_NAME: &str = "containerd.sock";

/// Longest path of a Unix socket that the kernel takes, in bytes.
const SOCKET_PATH_MOST: usize = 107;

/// At this size the log starts again from empty, in bytes.
const LOG_MOST_BYTES: u64 = 8 << 20;

/// Bit of `CAP_SYS_RESOURCE` in the kernel's capability masks.
const CAP_SYS_RESOURCE_BIT: u64 = 24;

/// Which program makes the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OciRuntime {
    /// crun where it is installed, it starts containers in half the time; else runc.
    #[default]
    Automatic,
    /// crun.
    Crun,
    /// runc.
    Runc,
}

/// What keeps instances of a class apart that is not the shared one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// crun.
    Crun,
    /// runc.
    Runc,
    /// gVisor, by its shim `containerd-shim-runsc-v1`.
    Runsc,
    /// Kata Containers, by their shim `containerd-shim-kata-v2`.
    Kata,
}

impl Handler {
    /// Program that must be installed, and what it comes with.
    const fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Crun => ("crun", "crun"),
            Self::Runc => ("runc", "runc"),
            Self::Runsc => ("containerd-shim-runsc-v1", "runsc (from gVisor's own repository)"),
            Self::Kata => ("containerd-shim-kata-v2", "kata-containers (from its own releases)"),
        }
    }

    const fn runtime_type(self) -> &'static str {
        match self {
            Self::Crun | Self::Runc => "io.containerd.runc.v2",
            Self::Runsc => "io.containerd.runsc.v1",
            Self::Kata => "io.containerd.kata.v2",
        }
    }
}

impl std::str::FromStr for Handler {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "crun" => Ok(Self::Crun),
            "runc" => Ok(Self::Runc),
            "runsc" => Ok(Self::Runsc),
            "kata" => Ok(Self::Kata),
            _ => Err(format!("{text:?} is not known, write \"crun\", \"runc\", \"runsc\" or \"kata\"")),
        }
    }
}

/// How to set containerd up.
#[derive(Debug, Clone)]
pub struct ContainerdOptions {
    /// What must survive a reboot: images, snapshots, address leases, log. Made when missing.
    pub data_dir: PathBuf,
    /// What need not: socket, state of running containers. Made when missing, mode 0700; keep it short, the path of a
    /// Unix socket has at most 107 bytes. Best below `/run`.
    pub run_dir: PathBuf,
    /// IPv4 range of the sandboxes on this node, `10.77.0.0/16`.
    pub address_range: String,
    /// Cgroup below which all instances are, `/NAME`.
    pub cgroup_root: String,
    /// Which OCI runtime.
    pub oci_runtime: OciRuntime,
    /// Further runtimes by the names of the classes that they are for ([`SandboxConfig::runtime_handler`]).
    ///
    /// [`SandboxConfig::runtime_handler`]: wherry_runtime::SandboxConfig::runtime_handler
    pub handlers: BTreeMap<String, Handler>,
}

/// Every path and program, found once.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) options: ContainerdOptions,
    pub(super) socket: PathBuf,
    pub(super) state: PathBuf,
    pub(super) root: PathBuf,
    pub(super) config_file: PathBuf,
    pub(super) log: PathBuf,
    pub(super) cni_conf: PathBuf,
    pub(super) cni_leases: PathBuf,
    pub(super) cni_cache: PathBuf,
    pub(super) shim_sockets: PathBuf,
    /// Temporary files of containerd, shims and OCI runtime: crun leaves some of its behind.
    pub(super) temporary: PathBuf,
    pub(super) registry_hosts: PathBuf,
    pub(super) containerd: PathBuf,
    pub(super) ctr: PathBuf,
    pub(super) oci_runtime: PathBuf,
    /// Name, kind and program of each further runtime.
    handlers: Vec<(String, Handler, PathBuf)>,
    cni_plugins: PathBuf,
}

impl Layout {
    pub(super) fn new(options: ContainerdOptions) -> Result<Self, ContainerdError> {
        for path in [&options.data_dir, &options.run_dir] {
            if !path.is_absolute() {
                return Err(ContainerdError::Options(format!("folder {} must be an absolute path", path.display())));
            }
        }
        let socket = options.run_dir.join(SOCKET_NAME);
        if socket.as_os_str().len() > SOCKET_PATH_MOST {
            let message = format!(
                "socket path {} has more than {SOCKET_PATH_MOST} bytes; choose a shorter run folder",
                socket.display()
            );
            return Err(ContainerdError::Options(message));
        }
        check_range(&options.address_range)?;
        let found = |program, package| find_program(program).ok_or(ContainerdError::Missing { program, package });
        let crun = || found("crun", "crun");
        let runc = || found("runc", "runc");
        let oci_runtime = match options.oci_runtime {
            OciRuntime::Automatic => crun().or_else(|_| runc())?,
            OciRuntime::Crun => crun()?,
            OciRuntime::Runc => runc()?,
        };
        found("containerd-shim-runc-v2", "containerd")?;
        let handlers = options.handlers.iter().map(|(name, handler)| {
            let (program, package) = handler.program();
            Ok((name.clone(), *handler, found(program, package)?))
        });
        let handlers = handlers.collect::<Result<_, ContainerdError>>()?;
        for program in ["unshare", "nsenter", "setsid"] {
            found(program, "util-linux")?;
        }
        let cni_plugins = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"]
            .into_iter()
            .map(PathBuf::from)
            .find(|folder| folder.join("ptp").exists() && folder.join("host-local").exists())
            .ok_or(ContainerdError::Missing { program: "CNI plugin ptp", package: "containernetworking-plugins" })?;
        let (data, run) = (&options.data_dir, &options.run_dir);
        Ok(Self {
            socket,
            state: run.join("state"),
            root: data.join("root"),
            config_file: run.join("containerd.toml"),
            log: data.join("containerd.log"),
            cni_conf: run.join("cni"),
            cni_leases: data.join("leases"),
            cni_cache: run.join("cni-cache"),
            shim_sockets: run.join("shims"),
            temporary: run.join("tmp"),
            registry_hosts: data.join("registries"),
            containerd: found("containerd", "containerd")?,
            ctr: found("ctr", "containerd")?,
            oci_runtime,
            handlers,
            cni_plugins,
            options,
        })
    }

    /// Makes the folders and writes the configuration.
    pub(super) fn prepare(&self, sandbox_image: &str) -> Result<(), ContainerdError> {
        let folders = [
            &self.options.run_dir,
            &self.options.data_dir,
            &self.state,
            &self.root,
            &self.cni_conf,
            &self.cni_leases,
            &self.cni_cache,
            &self.shim_sockets,
            &self.temporary,
            &self.registry_hosts,
        ];
        for folder in folders {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|source| ContainerdError::File { done: "made", path: folder.clone(), source })?;
        }
        write(&self.config_file, &self.containerd_toml(sandbox_image))?;
        write(&self.cni_conf.join("10-wherry.conflist"), &self.cni_conflist())
    }

    /// The log for the process to be, appended to.
    pub(super) fn open_log(&self) -> Result<std::fs::File, ContainerdError> {
        let opened = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log);
        opened.map_err(|source| ContainerdError::File { done: "written", path: self.log.clone(), source })
    }

    /// Keeps the log bounded. The process appends, so it goes on at the new end.
    pub(super) fn trim_log(&self) {
        if std::fs::metadata(&self.log).is_ok_and(|metadata| metadata.len() > LOG_MOST_BYTES)
            && let Ok(file) = std::fs::OpenOptions::new().write(true).open(&self.log)
            && let Err(error) = file.set_len(0)
        {
            tracing::warn!(%error, log = %self.log.display(), "containerd's log cannot be trimmed");
        }
    }

    fn containerd_toml(&self, sandbox_image: &str) -> String {
        format!(
            r#"# Written by Wherry at every start of its containerd; changes are lost.
version = 2
root = {root}
state = {state}
oom_score = 0
# restart would start containers past Wherry's records; the rest costs time and memory at start and is not used.
disabled_plugins = [
  "io.containerd.internal.v1.restart",
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.monitor.v1.cgroups",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.native",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.nri.v1.nri",
]

[grpc]
address = {socket}
uid = 0
gid = 0
# Of what a program in a container prints, 16 MiB of either stream are kept and sent in one message.
max_send_message_size = 67108864

[debug]
level = "warn"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {image}
disable_tcp_service = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
stream_idle_timeout = "10m0s"
enable_selinux = false
disable_apparmor = {disable_apparmor}
restrict_oom_score_adj = {restrict_oom}
tolerate_missing_hugetlb_controller = true
netns_mounts_under_state_dir = true
max_container_log_line_size = 16384
max_concurrent_downloads = 4

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "wherry"
discard_unpacked_layers = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.wherry]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.wherry.options]
BinaryName = {oci_runtime}
Root = {oci_root}
SystemdCgroup = false
{handlers}
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {cni_plugins}
conf_dir = {cni_conf}
max_conf_num = 1

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = {registry_hosts}
"#,
            root = quoted(&self.root),
            state = quoted(&self.state),
            socket = quoted(&self.socket),
            image = quoted(Path::new(sandbox_image)),
            disable_apparmor = !Path::new("/sys/kernel/security/apparmor").exists(),
            restrict_oom = !may_lower_oom_score(),
            oci_runtime = quoted(&self.oci_runtime),
            oci_root = quoted(&self.state.join("oci")),
            handlers = self.handlers_toml(),
            cni_plugins = quoted(&self.cni_plugins),
            cni_conf = quoted(&self.cni_conf),
            registry_hosts = quoted(&self.registry_hosts),
        )
    }

    /// The further runtimes, each with a place of its own for what it notes of its containers.
    fn handlers_toml(&self) -> String {
        let section = |(name, handler, program): &(String, Handler, PathBuf)| {
            let runtime =
                format!(r#"[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{}"#, quoted(Path::new(name)));
            let kind = handler.runtime_type();
            let options = match handler {
                Handler::Crun | Handler::Runc => format!(
                    "\n{runtime}.options]\nBinaryName = {}\nRoot = {}\nSystemdCgroup = false\n",
                    quoted(program),
                    quoted(&self.state.join(format!("oci-{name}"))),
                ),
                Handler::Runsc | Handler::Kata => String::new(),
            };
            format!("\n{runtime}]\nruntime_type = \"{kind}\"\n{options}")
        };
        self.handlers.iter().map(section).collect()
    }

    /// `ptp`: every sandbox has a line of its own to the machine, no layer 2 is shared. Masquerading is left to the agent's
    /// nftables.
    fn cni_conflist(&self) -> String {
        let document = json!({
            "cniVersion": "0.4.0",
            "name": "wherry",
            "plugins": [{
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.cni_leases,
                    "ranges": [[{ "subnet": self.options.address_range }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }],
        });
        format!("{document:#}\n")
    }
}

/// A TOML string; JSON's escapes are a subset of TOML's.
fn quoted(path: &Path) -> String {
    json!(path.to_string_lossy()).to_string()
}

fn write(path: &Path, text: &str) -> Result<(), ContainerdError> {
    let failed = |source| ContainerdError::File { done: "written", path: path.to_owned(), source };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

fn check_range(range: &str) -> Result<(), ContainerdError> {
    let parsed = range
        .split_once('/')
        .and_then(|(address, bits)| Some((address.parse::<std::net::Ipv4Addr>().ok()?, bits.parse::<u8>().ok()?)));
    match parsed {
        Some((_, bits)) if (8..=29).contains(&bits) => Ok(()),
        _ => Err(ContainerdError::Options(format!(
            "address range {range:?} is not an IPv4 range of 8 to 29 bits, for example 10.77.0.0/16"
        ))),
    }
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(extra).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// Whether this process may make others less likely to be killed for want of memory; containerd fails without when told to.
fn may_lower_oom_score() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .is_some_and(|mask| mask >> CAP_SYS_RESOURCE_BIT & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        for good in ["10.77.0.0/16", "192.168.7.0/29"] {
            assert!(check_range(good).is_ok(), "{good}");
        }
        for bad in ["", "10.77.0.0", "10.77.0.0/30", "10.77.0/16", "fd00::/64"] {
            assert!(check_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_run_folders_are_refused_before_anything_starts() {
        let options = ContainerdOptions {
            data_dir: "/data".into(),
            run_dir: format!("/{}", "r".repeat(100)).into(),
            address_range: "10.77.0.0/16".into(),
            cgroup_root: "/wherry-test".into(),
            oci_runtime: OciRuntime::Automatic,
            handlers: BTreeMap::new(),
        };
        let error = Layout::new(options).unwrap_err().to_string();
        assert!(error.contains("choose a shorter run folder"), "{error}");
    }
}
