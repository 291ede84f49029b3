//! A container engine in memory, for tests of what stands above it.
//!
//! It obeys the rules that containerd's CRI plugin enforces ([`crate::conformance`] holds both to them) and it can be told
//! to misbehave: slow or failing pulls, calls that hang before or after they took effect, an engine that is down or stuck,
//! containers that exit or run out of memory. Waiting uses tokio's time, so a test may pause it; moments come from the
//! given [`Clock`].

mod attach;
mod conversation;
mod program;
mod runtime;
mod state;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};
use wherry_model::Clock;

use self::program::{Program, Step};
use self::state::State;
use crate::{
    ContainerId, ContainerStatus, ExecOutput, Image, Labels, RegistryAuth, Result, RuntimeError, RuntimeEvent,
    SandboxId, SandboxState,
};

/// An image in the fake registry.
#[derive(Debug, Clone, Default)]
pub struct FakeImage {
    /// Labels of its configuration.
    pub labels: Labels,
    /// Size in bytes.
    pub size_bytes: u64,
    /// How long a pull takes.
    pub pull_delay: Duration,
    /// Errors of the next pulls, first one first; then pulls succeed.
    pub pull_failures: Vec<RuntimeError>,
    /// Who alone may pull it; anybody when absent.
    pub auth: Option<RegistryAuth>,
}

/// How a call misbehaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Does nothing, and times out.
    HangBefore,
    /// Does all, and times out: the caller must find out by reading.
    HangAfter,
    /// Does nothing, and answers this.
    Fail(RuntimeError),
}

#[derive(Debug, Default)]
struct Script {
    registry: BTreeMap<String, FakeImage>,
    faults: BTreeMap<&'static str, (Fault, u32)>,
    engine_down: bool,
    engine_stuck: bool,
    calls: BTreeMap<&'static str, u64>,
}

/// Sees every process of the machine begin and end, at that very moment, whatever the engine tells its callers.
pub trait RunWitness: std::fmt::Debug + Send + Sync {
    /// It runs from now on.
    fn started(&self, container: &ContainerStatus);
    /// It does not run any more.
    fn ended(&self, container: &ContainerStatus);
}

/// Comes between the engine and whoever calls it: waits, or waits for ever because the caller dies there.
#[async_trait]
pub trait Interposed: Send + Sync {
    /// Before a call does anything.
    async fn before(&self);
    /// When a call has done what it does, before its caller learns of it.
    async fn after(&self);
}

/// The fake engine. Clones share one machine.
#[derive(Clone)]
pub struct FakeRuntime {
    frozen: Arc<watch::Sender<bool>>,
    interposed: Arc<OnceLock<Arc<dyn Interposed>>>,
    state: Arc<Mutex<State>>,
    script: Arc<Mutex<Script>>,
    events: broadcast::Sender<RuntimeEvent>,
    clock: Arc<dyn Clock>,
    call_timeout: Duration,
    /// Programs that are talked to.
    talking: Arc<AtomicUsize>,
}

impl std::fmt::Debug for FakeRuntime {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FakeRuntime").field("state", &self.state).finish_non_exhaustive()
    }
}

impl FakeRuntime {
    /// An empty machine with an empty registry; hanging calls time out after 10 s.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            frozen: Arc::new(watch::channel(false).0),
            interposed: Arc::default(),
            state: Arc::default(),
            script: Arc::default(),
            events: broadcast::channel(256).0,
            clock,
            call_timeout: Duration::from_secs(10),
            talking: Arc::default(),
        }
    }

    /// Sets after how long a hanging call gives up.
    pub fn with_call_timeout(mut self, call_timeout: Duration) -> Self {
        self.call_timeout = call_timeout;
        self
    }

    /// Gives sandboxes addresses of this range, the first two and the last one left out.
    pub fn with_range(self, (first, prefix): (Ipv4Addr, u8)) -> Self {
        let size = 1_u32.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(u32::MAX);
        self.state().addresses = Some((first.to_bits() + 2, first.to_bits() + size.saturating_sub(2).max(2)));
        self
    }

    /// Shows every begin and end of a process to `witness`.
    pub fn show(&self, witness: Arc<dyn RunWitness>) {
        self.state().witness = Some(witness);
    }

    /// Puts something between this engine and its callers, once and for all.
    pub fn interpose(&self, between: Arc<dyn Interposed>) {
        self.interposed.get_or_init(|| between);
    }

    /// Power off and on: every process is gone, what the engine has written down is not.
    pub fn reboot(&self) {
        let now = self.clock.now();
        self.state().reboot(now);
    }

    /// While frozen no call begins or ends: what a caller that is stopped (SIGSTOP) would see of it. Processes run on.
    pub fn set_frozen(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    async fn thawed(&self) {
        if *self.frozen.borrow() {
            // The sender lives in `self`, so the channel cannot close.
            drop(self.frozen.subscribe().wait_for(|frozen| !frozen).await);
        }
    }

    /// Puts an image into the fake registry, or changes how it behaves there.
    pub fn publish(&self, reference: &str, image: FakeImage) {
        self.script().registry.insert(reference.to_owned(), image);
    }

    /// Puts an image on the machine without a pull.
    pub fn preload(&self, reference: &str, image: FakeImage) {
        let image = pulled(reference, &image).image;
        self.state().images.insert(image.id.clone(), image);
    }

    /// Containers of this name have written so much to their own file systems.
    pub fn set_written(&self, container: &str, bytes: u64) {
        self.state().written.insert(container.to_owned(), bytes);
    }

    /// Makes a repository give this commit, which is a file README with its name.
    pub fn publish_repository(&self, url: &str, commit: &str) {
        self.state().repositories.insert(url.to_owned(), commit.to_owned());
    }

    /// The file system of images has this many bytes and holds nothing else.
    pub fn set_image_disk(&self, bytes: u64) {
        self.state().image_disk_bytes = bytes;
    }

    /// Makes the next `times` calls named `call` misbehave. Names are CRI's: `RunPodSandbox`, `StartContainer`, …
    pub fn inject(&self, call: &'static str, fault: Fault, times: u32) {
        self.script().faults.insert(call, (fault, times));
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        self.script().faults.clear();
    }

    /// Stops or starts the engine. Containers run on without it, their wake-ups are lost.
    pub fn set_engine_down(&self, down: bool) {
        self.script().engine_down = down;
        if !down {
            self.wake(RuntimeEvent::Resynchronise);
        }
    }

    /// Stops (SIGSTOP) the engine, or lets it go on: it takes calls and answers none. Containers run on, their wake-ups are lost.
    pub fn set_engine_stuck(&self, stuck: bool) {
        self.script().engine_stuck = stuck;
        if !stuck {
            self.wake(RuntimeEvent::Resynchronise);
        }
    }

    /// How often a call was made, failed ones included.
    pub fn calls(&self, call: &str) -> u64 {
        self.script().calls.get(call).copied().unwrap_or(0)
    }

    /// Ends a running container by itself; false when it does not run.
    pub fn exit_container(&self, id: &ContainerId, exit_code: i32) -> bool {
        self.end(id, exit_code, if exit_code == 0 { "Completed" } else { "Error" })
    }

    /// Lets the kernel kill a running container for want of memory; false when it does not run.
    pub fn kill_out_of_memory(&self, id: &ContainerId) -> bool {
        let ended = self.end(id, 137, "OOMKilled");
        if ended {
            self.wake(RuntimeEvent::OutOfMemory { id: id.to_string() });
        }
        ended
    }

    /// Kills the sandbox's first process behind the engine's back, as a crash of the machine's shim would.
    pub fn break_sandbox(&self, id: &SandboxId) {
        if let Some(record) = self.state().sandboxes.get_mut(id) {
            record.sandbox.state = SandboxState::NotReady;
        }
        self.wake(RuntimeEvent::Exited { id: id.to_string() });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, event: RuntimeEvent) {
        let is_heard = {
            let script = self.script();
            !script.engine_down && !script.engine_stuck
        };
        if is_heard {
            // Nobody listening is normal.
            drop(self.events.send(event));
        }
    }

    fn end(&self, id: &ContainerId, exit_code: i32, reason: &str) -> bool {
        let now = self.clock.now();
        let ended = self.state().end(id, exit_code, reason, now);
        if ended {
            self.wake(RuntimeEvent::Exited { id: id.to_string() });
        }
        ended
    }

    /// Runs a program as a started container would.
    async fn run(self, id: ContainerId, program: Program, log_path: std::path::PathBuf) {
        for step in program.steps {
            match step {
                Step::Echo(text) => self.log(&log_path, "stdout", &text),
                Step::Complain(text) => self.log(&log_path, "stderr", &text),
                Step::Sleep(duration) => tokio::time::sleep(duration).await,
                Step::Exit(code) => {
                    self.exit_container(&id, code);
                    return;
                }
                Step::IgnoreTerminate
                | Step::ExitOnUser1(_)
                | Step::Zeros(_)
                | Step::Copy
                | Step::TerminalSize
                | Step::NeedsDevice(..) => {}
                Step::Serve | Step::EchoServer(_) => return,
            }
        }
        self.exit_container(&id, 0);
    }

    /// Runs a program to its end as the engine would inside a container.
    async fn run_inside(program: Program) -> ExecOutput {
        let mut output = ExecOutput::default();
        for step in program.steps {
            match step {
                Step::Echo(text) => output.stdout.extend_from_slice(format!("{text}\n").as_bytes()),
                Step::Complain(text) => output.stderr.extend_from_slice(format!("{text}\n").as_bytes()),
                Step::Zeros(count) => output.stdout.resize(output.stdout.len() + count, 0),
                Step::Sleep(duration) => tokio::time::sleep(duration).await,
                Step::Exit(code) => {
                    output.exit_code = code;
                    return output;
                }
                Step::IgnoreTerminate
                | Step::ExitOnUser1(_)
                | Step::Copy
                | Step::TerminalSize
                | Step::NeedsDevice(..) => {}
                Step::Serve | Step::EchoServer(_) => std::future::pending().await,
            }
        }
        output
    }

    /// Appends a line in CRI's log format. A log that cannot be written is lost, as with a real engine.
    fn log(&self, path: &Path, stream: &str, text: &str) {
        use std::io::Write as _;
        if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
            drop(writeln!(file, "{} {stream} F {text}", self.clock.now()));
        }
    }
}

/// What a pull of a reference gives: its digest is a function of the reference alone.
fn pulled(reference: &str, image: &FakeImage) -> crate::PulledImage {
    let (repository, given) = match reference.split_once('@') {
        Some((repository, digest)) => (repository, Some(digest.to_owned())),
        None => (strip_tag(reference), None),
    };
    let mut hasher = DefaultHasher::new();
    reference.hash(&mut hasher);
    let word = hasher.finish();
    let digest = given.unwrap_or_else(|| format!("sha256:{}", format!("{word:016x}").repeat(4)));
    let pinned_reference = format!("{repository}@{digest}");
    let image = Image {
        id: format!("sha256:{}", format!("{:016x}", !word).repeat(4)),
        tags: if reference.contains('@') { Vec::new() } else { vec![reference.to_owned()] },
        digests: vec![pinned_reference.clone()],
        size_bytes: image.size_bytes,
        labels: image.labels.clone(),
        user: None,
    };
    crate::PulledImage { digest, pinned_reference, image }
}

fn strip_tag(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => reference,
    }
}

/// The error of a call to an engine that is down.
fn down<T>() -> Result<T> {
    Err(RuntimeError::Unavailable { message: "the fake engine is down".into() })
}
