//! The trait itself.
//!
//! Each method is one CRI call (or two where CRI's answer alone is not enough), so what the agent does between two of
//! them is visible to it and it can resume after a crash at any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::{
    AttachRequest, Connection, Container, ContainerConfig, ContainerId, ContainerStatus, Conversation, ExecOutput,
    ExecRequest, Fetched, Image, ImageDisk, Labels, PullProgress, PullRequest, PulledImage, RepositoryRequest, Result,
    RuntimeEvent, Sandbox, SandboxConfig, SandboxId, SandboxStatus, StreamExec, Usage,
};

/// Name and version of the engine, for `doctor` and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// Name of the engine, for example `containerd`.
    pub name: String,
    /// Version of the engine, for example `1.6.20~ds1`.
    pub version: String,
}

/// Whether the engine can start sandboxes now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot.
    NotReady {
        /// Why, as a sentence for the operator.
        reason: String,
    },
}

/// A container engine on this machine.
#[async_trait]
pub trait ContainerRuntime: fmt::Debug + Send + Sync {
    /// Name and version of the engine; the cheapest proof that it answers.
    async fn version(&self) -> Result<RuntimeVersion>;

    /// Whether engine and network are ready for sandboxes.
    async fn status(&self) -> Result<Readiness>;

    /// Pulls an image and says which digest the reference meant. Pulling what is present asks the registry again.
    ///
    /// Refuses with [`crate::RuntimeError::ImageRefused`] what must not run here.
    async fn pull_image(&self, request: &PullRequest) -> Result<PulledImage>;

    /// The image behind a reference (tag, pinned reference or id), `None` when it is not on this machine.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;

    /// All images on this machine. Labels and user are not filled in: ask [`Self::image`] for them.
    async fn list_images(&self) -> Result<Vec<Image>>;

    /// Removes an image with all its references. Idempotent.
    async fn remove_image(&self, reference: &str) -> Result<()>;

    /// The file system that images are kept on.
    async fn image_disk(&self) -> Result<ImageDisk>;

    /// How far the pulls of these references are, in their order. To be asked only while they are pulled.
    async fn pull_progress(&self, references: &[String]) -> Result<Vec<PullProgress>>;

    /// Creates and starts a sandbox: network namespace with an address, cgroup, log folder.
    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<SandboxId>;

    /// One sandbox, `None` when the engine does not know it.
    async fn sandbox(&self, id: &SandboxId) -> Result<Option<SandboxStatus>>;

    /// All sandboxes that carry all the given labels (none given: all).
    async fn list_sandboxes(&self, selector: &Labels) -> Result<Vec<Sandbox>>;

    /// Kills what runs in the sandbox and gives its address back. Idempotent.
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()>;

    /// Removes the sandbox with all its containers, stopping them first. Idempotent.
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()>;

    /// Creates a container in a ready sandbox; `sandbox_config` is the one that [`Self::run_sandbox`] got.
    async fn create_container(
        &self,
        sandbox: &SandboxId,
        sandbox_config: &SandboxConfig,
        config: &ContainerConfig,
    ) -> Result<ContainerId>;

    /// Starts a created container. A container starts once; running it again is another container (`attempt` + 1).
    async fn start_container(&self, id: &ContainerId) -> Result<()>;

    /// Sends the image's stop signal (SIGTERM), and SIGKILL when `grace` is over. Idempotent. Sub-second grace is
    /// rounded up to whole seconds, zero kills at once.
    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()>;

    /// Removes a container, killing it first when it runs; its log file stays. Idempotent.
    async fn remove_container(&self, id: &ContainerId) -> Result<()>;

    /// One container, `None` when the engine does not know it.
    async fn container(&self, id: &ContainerId) -> Result<Option<ContainerStatus>>;

    /// All containers that carry all the given labels (none given: all).
    async fn list_containers(&self, selector: &Labels) -> Result<Vec<Container>>;

    /// Makes the engine open the log file again, after the agent renamed it for rotation. The container must run.
    async fn reopen_log(&self, id: &ContainerId) -> Result<()>;

    /// Runs a program in a container that runs, without input, and waits for its end and for its output: a process that it
    /// leaves behind and that holds its output open counts as the program itself.
    ///
    /// [`crate::RuntimeError::ProgramTimeout`] when it had to be killed, [`crate::RuntimeError::CannotStart`] when there is
    /// no such program, [`crate::RuntimeError::NotRunning`] when the container does not run.
    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecOutput>;

    /// Runs a program in a container that runs, with its input and output as streams. Errors as of [`Self::exec`]; when there is
    /// an answer the program runs, or has run.
    async fn exec_stream(&self, id: &ContainerId, request: &StreamExec) -> Result<Conversation>;

    /// Attaches to the main program of a container that runs and has an input or a terminal: what it prints from now on, as it
    /// prints it, and its input. Any number may be attached: each is given all output, and what they give is put together as
    /// it comes; a terminal has the size that was asked for last.
    ///
    /// The program waits for all of them, but for none longer than [`AttachRequest::PATIENCE`]: who takes nothing for so long is cut
    /// off, and the end of [`Conversation::program`] is [`crate::RuntimeError::Detached`] for that one. Dropping a conversation
    /// leaves the program alone. The end of the input, or its loss, is the program's only where the container says so
    /// ([`crate::ContainerConfig::stdin_once`]), never on a terminal, where Ctrl-D is a key as others are.
    ///
    /// [`crate::RuntimeError::NotRunning`] when the container does not run, [`crate::RuntimeError::InvalidArgument`] when it has
    /// neither input nor terminal, is asked for the one that it has not, or would lose its input to one who only listens: that is so
    /// with `stdin_once`, and the log is the way to listen then.
    async fn attach(&self, id: &ContainerId, request: &AttachRequest) -> Result<Conversation>;

    /// Connects to a TCP port on the loopback address inside a sandbox, which is where programs that listen on any address
    /// are reached too.
    ///
    /// [`crate::RuntimeError::NothingListens`] when nobody answers, [`crate::RuntimeError::NotFound`] when there is no such
    /// sandbox or it was stopped.
    async fn connect(&self, sandbox: &SandboxId, port: u16) -> Result<Connection>;

    /// Connects to a TCP port at the address of a sandbox ([`crate::SandboxStatus::address`]), from the machine: as somebody outside
    /// of it would, past every packet filter. How long that may take is up to the caller.
    ///
    /// [`crate::RuntimeError::NothingListens`] when nobody answers.
    async fn reach(&self, address: Ipv4Addr, port: u16) -> Result<Connection>;

    /// Sends a signal, by its number on this machine, to the main process of a container. Does nothing where none runs.
    async fn signal_container(&self, id: &ContainerId, signal: u8) -> Result<()>;

    /// What has processes in the cgroup of this name ([`crate::SandboxConfig::cgroup_name`]), as the kernel shows it: engine and shim
    /// are not asked, so this works while they hang. May name the sandbox too, whose own process can be a member.
    async fn alive_in_cgroup(&self, cgroup_name: &str) -> Result<BTreeSet<ContainerId>>;

    /// Kills every process in the cgroup of this name, past the engine, for one that does not do it. Succeeds only when it has
    /// found no process left in there, also of what came into it meanwhile. Idempotent; a cgroup that is not there is empty.
    ///
    /// The engine learns of the ends by itself, as of any other; sandboxes of this cgroup may be broken by it. As far as the
    /// kernel can see to it nothing begins in the cgroup any more until [`Self::run_sandbox`] or [`Self::create_container`] is
    /// called for it: a start that the engine was at fails. Who depends on that looks again, all the same.
    async fn end_by_force(&self, cgroup_name: &str) -> Result<()>;

    /// What the containers of a sandbox that run use now, and what passed its network, which has the cgroup of this name
    /// ([`crate::SandboxConfig::cgroup_name`]). Of a sandbox that is not there nothing runs.
    async fn usage(&self, sandbox: &SandboxId, cgroup_name: &str) -> Result<Usage>;

    /// Bytes that containers of a sandbox wrote to their own file systems, volumes apart; of those of which the engine has
    /// measured it, which it does from time to time.
    async fn written(&self, sandbox: &SandboxId) -> Result<BTreeMap<ContainerId, u64>>;

    /// Puts one commit of a git repository into a folder of the machine that is empty, from within the network of a sandbox
    /// that is ready: with its name resolution, its reach, and its limits. Everything is for everybody to read and write.
    ///
    /// What is not the machine's fault is [`Fetched::Refused`]. Dropping the future ends it.
    async fn fetch_repository(&self, sandbox: &SandboxId, request: &RepositoryRequest) -> Result<Fetched>;

    /// Wake-ups from now on. They can be lost or doubled, so whoever listens also reads the state from time to time.
    fn events(&self) -> broadcast::Receiver<RuntimeEvent>;
}
