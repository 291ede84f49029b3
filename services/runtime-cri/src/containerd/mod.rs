//! Wherry's own containerd: started, watched, started again, stopped, and cleaned up after.
//!
//! Invariants:
//! - It is never the host's: own root, state, socket, CNI configuration, images. Its mount namespace is private, so what it
//!   mounts is seen by nobody else and disappears with it; the two fixed paths of containerd and CNI that no setting moves
//!   (`/run/containerd` for the shims' sockets, `/var/lib/cni` for results) are our own folders in there.
//! - It outlives Wherry: it pumps the containers' output into their logs, and a shim without it blocks them.
//! - A process is ours when its arguments name our configuration file, or, for shims, our socket. There is no pid file that
//!   could lie after a crash.
//! - A new containerd after a crash joins the mount namespace of a surviving shim: the network namespaces that the
//!   running sandboxes hold are mounted there.
//! - Nothing is swept while a sandbox is being started ([`crate::CriRuntime`] and the sweep share a gate).

mod config;
mod leftovers;
mod start;
mod sweep;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use wherry_runtime::{ContainerRuntime as _, RuntimeError};

pub use config::{ContainerdOptions, Handler, OciRuntime};
pub use leftovers::Leftovers;
pub use sweep::Swept;

use crate::adapter::{CriOptions, CriRuntime};
use crate::cgroup::Cgroups;
use crate::oci::{OciError, OciImage};
use crate::pause;
use crate::process;

/// An engine that has not answered for this long is taken for stuck, and replaced.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// What keeps containerd from running.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// A program that is needed is not installed.
    #[error("{program} is not installed; on Debian: apt-get install {package}")]
    Missing {
        /// Which program.
        program: &'static str,
        /// In which Debian package it is.
        package: &'static str,
    },
    /// The options cannot work.
    #[error("{0}")]
    Options(String),
    /// A file or folder of ours is in the way or cannot be written.
    #[error("{path} cannot be {done}")]
    File {
        /// What was to be done with it.
        done: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A process could not be started.
    #[error("{program} cannot be started")]
    Spawn {
        /// Which program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It ended, or never answered.
    #[error("containerd did not come up: {reason}; its log is {log}")]
    NotReady {
        /// What was seen, with the last lines of the log.
        reason: String,
        /// The log file.
        log: PathBuf,
    },
    /// The sandbox image could not be built or imported.
    #[error("the sandbox image cannot be imported: {0}")]
    SandboxImage(String),
    /// The engine failed a call of ours.
    #[error("containerd failed a call while it was set up")]
    Runtime(#[from] RuntimeError),
}

impl From<OciError> for ContainerdError {
    fn from(error: OciError) -> Self {
        Self::SandboxImage(error.to_string())
    }
}

/// What [`Containerd::ensure_running`] had to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and answered.
    Running,
    /// It did not run, or was stuck; now a new one runs, and this was cleaned up.
    Started(Swept),
}

/// The supervisor of one private containerd. One per data folder: the caller holds a lock on it.
#[derive(Debug)]
pub struct Containerd {
    layout: config::Layout,
    pause: OciImage,
    runtime: Arc<CriRuntime>,
    cgroups: Cgroups,
    watch: Mutex<Watch>,
}

#[derive(Debug)]
struct Watch {
    /// The process, when this Wherry started it: it must be reaped.
    child: Option<Child>,
    last_answer: Instant,
    unowned: sweep::Unowned,
}

impl Containerd {
    /// Checks the options and finds the programs; starts nothing. Must be called in a tokio runtime.
    pub fn new(options: ContainerdOptions) -> Result<Self, ContainerdError> {
        let pause = pause::image()?;
        let cri = CriOptions {
            socket: options.run_dir.join(config::SOCKET_NAME),
            cgroup_root: options.cgroup_root.clone(),
            runtime_handler: String::new(),
            sandbox_image: pause::reference(&pause),
            images_dir: options.data_dir.join("root"),
            claims_dir: options.data_dir.join("claims"),
            sandbox_files_dir: options.data_dir.join("root/io.containerd.grpc.v1.cri/sandboxes"),
            exec_dir: options.run_dir.join("exec"),
        };
        let cgroups = Cgroups::detect(&options.cgroup_root)?;
        let layout = config::Layout::new(options)?;
        let runtime = Arc::new(CriRuntime::connect(cri)?);
        let watch = Mutex::new(Watch { child: None, last_answer: Instant::now(), unowned: sweep::Unowned::default() });
        Ok(Self { layout, pause, runtime, cgroups, watch })
    }

    /// Keeps `count` sandboxes ready in advance, so that starting a container waits for none of them; each costs a shim, some
    /// 3 MiB of memory, and an address. 0, the default, keeps none.
    pub fn with_warm_sandboxes(self, count: u32) -> Self {
        self.runtime.warm().set_target(count);
        self
    }

    /// The engine behind the contract. Fails with `Unavailable` while it does not run.
    pub fn runtime(&self) -> Arc<CriRuntime> {
        Arc::clone(&self.runtime)
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.layout.socket
    }

    /// Its log file.
    pub fn log_path(&self) -> &Path {
        &self.layout.log
    }

    /// Whether crun makes the containers, else runc.
    pub fn uses_crun(&self) -> bool {
        self.layout.oci_runtime.file_name().is_some_and(|name| name == "crun")
    }

    /// Process id, when it runs.
    pub fn pid(&self) -> Option<u32> {
        process::containerds(&self.layout.config_file).first().copied()
    }

    /// Makes sure that it runs and answers: adopts a running one, starts one where there is none, and replaces one that has
    /// not answered for half a minute. Call it at the start and then every few seconds.
    pub async fn ensure_running(&self) -> Result<Outcome, ContainerdError> {
        let mut watch = self.watch.lock().await;
        if let Some(child) = &mut watch.child
            && !matches!(child.try_wait(), Ok(None))
        {
            watch.child = None;
        }
        self.layout.trim_log();
        if self.pid().is_some() {
            let first_look = watch.child.is_none() && watch.last_answer.elapsed() < STUCK_AFTER;
            match self.runtime.version().await {
                Ok(_) => {
                    watch.last_answer = Instant::now();
                    self.runtime.warm().set_paused(false);
                    self.runtime.sweep_execs().await;
                    sweep::sweep_records(&self.layout, &self.runtime, &mut watch.unowned).await?;
                    sweep::sweep_unowned(&self.layout, &self.runtime, &self.cgroups, &mut watch.unowned).await?;
                    return Ok(Outcome::Running);
                }
                Err(error) if watch.last_answer.elapsed() < STUCK_AFTER && !first_look => return Err(error.into()),
                // One that was left by an earlier Wherry and does not answer, or one that is stuck for long.
                Err(error) => tracing::warn!(%error, "containerd does not answer, replacing it"),
            }
        }
        self.kill_containerd(&mut watch).await;
        sweep::remove_broken_network_results(&self.layout.cni_cache);
        self.start(&mut watch).await?;
        start::import_pause(&self.layout, &self.runtime, &self.pause).await?;
        watch.last_answer = Instant::now();
        let swept = sweep::sweep(&self.layout, &self.runtime, &self.cgroups).await?;
        self.runtime.sweep_execs().await;
        self.runtime.warm().set_paused(false);
        self.runtime.warm().look_soon();
        Ok(Outcome::Started(swept))
    }

    /// Imports an OCI archive ([`OciImage::archive`]), so that its reference can run without a pull.
    pub async fn import_image(&self, archive: &[u8]) -> Result<(), ContainerdError> {
        start::import(&self.layout, archive).await
    }

    /// Stops containerd alone: containers run on, their output blocks once the pipes are full. For an upgrade of containerd.
    pub async fn stop_engine(&self) {
        let mut watch = self.watch.lock().await;
        self.runtime.warm().set_paused(true);
        self.kill_containerd(&mut watch).await;
    }

    /// Stops everything and removes every trace outside of the data folder: containers, shims, containerd, network
    /// namespaces, mounts, cgroups, run folder. Images stay. Returns what could not be removed.
    ///
    /// Remove the sandboxes through the runtime first when the containers deserve their grace.
    pub async fn destroy(&self) -> Result<Leftovers, ContainerdError> {
        let mut watch = self.watch.lock().await;
        self.runtime.warm().set_paused(true);
        self.kill_containerd(&mut watch).await;
        leftovers::destroy(&self.layout, &self.cgroups).await?;
        Ok(leftovers::find(&self.layout, &self.cgroups))
    }

    /// What is on the machine because of this containerd, running ones included.
    pub fn leftovers(&self) -> Leftovers {
        leftovers::find(&self.layout, &self.cgroups)
    }

    /// Starts one; again without its mount namespace when the shim to join dies just then.
    async fn start(&self, watch: &mut Watch) -> Result<(), ContainerdError> {
        loop {
            let survivor = process::shims(&self.layout.socket).first().map(|shim| shim.pid);
            watch.child = Some(start::spawn(&self.layout, survivor, &pause::reference(&self.pause))?);
            match start::wait_until_ready(&self.layout, &self.runtime, watch).await {
                Err(error) => match survivor {
                    Some(shim) if !process::runs(shim) => self.kill_containerd(watch).await,
                    _ => return Err(error),
                },
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn kill_containerd(&self, watch: &mut Watch) {
        let pids = process::with_argument(&self.layout.config_file);
        process::end(&pids, Duration::from_secs(5), watch.child.as_mut()).await;
        watch.child = None;
    }
}
