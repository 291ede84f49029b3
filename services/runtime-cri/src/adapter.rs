//! [`ContainerRuntime`] over CRI.
//!
//! Stateless but for the connection and a memory of images whose labels were looked at: what a pinned reference means
//! never changes, so that is no cache that can be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{RwLockWriteGuard, broadcast};
use tokio::task::AbortHandle;
use wherry_runtime::{
    AttachRequest, Container, ContainerConfig, ContainerId, ContainerRuntime, ContainerState, ContainerStatus,
    Conversation, ExecOutput, ExecRequest, Fetched, Image, ImageDisk, Labels, PullProgress, PullRequest, PulledImage,
    Readiness, RepositoryRequest, Result, RuntimeError, RuntimeEvent, RuntimeVersion, Sandbox, SandboxConfig,
    SandboxId, SandboxStatus, StreamExec, Usage, refusal_by_labels,
};

use crate::cgroup::Cgroups;
use crate::connection::{Connection, PING_LIMIT, READ_LIMIT, WRITE_LIMIT, answered, request};
use crate::cri_sandboxes::{CriSandboxes, gone_is_fine};
use crate::downloads::Downloads;
use crate::exec::Execs;
use crate::failure::About;
use crate::generated::runtime::v1;
use crate::mounts::Mounts;
use crate::warm::{WarmFolders, WarmPool};
use crate::{attach, container, image, outside, port, repository, sandbox, usage};

/// Wake-ups kept for a slow listener; it reads everything when it lost some.
const EVENT_BUFFER: usize = 1024;

/// Most images remembered as looked at.
const VETTED_MOST: usize = 4096;

/// Which engine, and how its instances are set up.
#[derive(Debug, Clone)]
pub struct CriOptions {
    /// The engine's Unix socket.
    pub socket: PathBuf,
    /// Cgroup below which the instances' cgroups are made: `/` and one name.
    pub cgroup_root: String,
    /// Name of the runtime handler in the engine's configuration, empty for its default.
    pub runtime_handler: String,
    /// The engine's own sandbox image, which is not listed and not removed.
    pub sandbox_image: String,
    /// A folder on the file system of the engine's images.
    pub images_dir: PathBuf,
    /// Folder for our notes on sandboxes that were made in advance; made when needed.
    pub claims_dir: PathBuf,
    /// containerd's folder with the files of each sandbox.
    pub sandbox_files_dir: PathBuf,
    /// Folder for the pipes of programs inside containers; made when needed. It must not outlive a boot.
    pub exec_dir: PathBuf,
}

/// A CRI engine.
#[derive(Debug)]
pub struct CriRuntime {
    options: CriOptions,
    connection: Connection,
    sandboxes: Arc<CriSandboxes>,
    warm: Arc<WarmPool>,
    execs: Execs,
    downloads: Downloads,
    mounts: Mounts,
    events: broadcast::Sender<RuntimeEvent>,
    /// The listener to the engine's events and the keeper of the warm sandboxes.
    tasks: [AbortHandle; 2],
    vetted: Mutex<BTreeSet<String>>,
}

/// What the engine's sandboxes own on the machine.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) sandboxes: BTreeSet<String>,
    /// Those of them that are ready, or in which a container runs: their shims serve something.
    pub(crate) alive: BTreeSet<String>,
    pub(crate) network_namespaces: BTreeSet<String>,
    pub(crate) cgroups: BTreeSet<String>,
}

impl Drop for CriRuntime {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl CriRuntime {
    /// Connects when first needed, and again whenever the line broke; must be called in a tokio runtime.
    pub fn connect(options: CriOptions) -> Result<Self> {
        let connection = Connection::lazy(&options.socket)?;
        let cgroups = Cgroups::detect(&options.cgroup_root)?;
        let (events, _) = broadcast::channel(EVENT_BUFFER);
        let (handler, socket) = (options.runtime_handler.clone(), options.socket.clone());
        let sandboxes = Arc::new(CriSandboxes::new(connection.clone(), cgroups, handler, socket));
        let folders =
            WarmFolders { claims: options.claims_dir.clone(), sandbox_files: options.sandbox_files_dir.clone() };
        let warm = Arc::new(WarmPool::new(Arc::clone(&sandboxes), folders)?);
        let listener = tokio::spawn(crate::events::listen(connection.clone(), events.clone())).abort_handle();
        let keeper = tokio::spawn(Arc::clone(&warm).tend()).abort_handle();
        let tasks = [listener, keeper];
        let execs = Execs::new(connection.clone(), options.exec_dir.clone());
        let downloads = Downloads::new(connection.clone());
        let (mounts, vetted) = (Mounts::default(), Mutex::default());
        Ok(Self { options, connection, sandboxes, warm, execs, downloads, mounts, events, tasks, vetted })
    }

    /// Keeps this many sandboxes ready in advance; the supervisor says when.
    pub(crate) fn warm(&self) -> &WarmPool {
        &self.warm
    }

    /// See [`Execs::sweep`].
    pub(crate) async fn sweep_execs(&self) {
        self.execs.sweep().await;
    }

    /// See [`CriSandboxes::close_gate`].
    pub(crate) async fn close_gate(&self) -> RwLockWriteGuard<'_, ()> {
        self.sandboxes.close_gate().await
    }

    /// What belongs to the sandboxes that the engine knows.
    pub(crate) async fn known(&self) -> Result<Known> {
        let mut known = Known::default();
        for mut item in self.sandboxes.list().await? {
            let information = self.sandboxes.information(&item.id).await?;
            known.network_namespaces.extend(sandbox::network_namespace(&information));
            known.cgroups.extend(item.annotations.remove(sandbox::CGROUP_ANNOTATION));
            if item.state() == v1::PodSandboxState::SandboxReady {
                known.alive.insert(item.id.clone());
            }
            known.sandboxes.insert(item.id);
        }
        known.cgroups.extend(self.warm.claimed_cgroups());
        for container in self.list_containers(&Labels::new()).await? {
            if container.state == ContainerState::Running {
                known.alive.insert(container.sandbox.to_string());
            }
        }
        Ok(known)
    }

    async fn cri_remove_container(&self, id: &ContainerId) -> Result<()> {
        let message = v1::RemoveContainerRequest { container_id: id.to_string() };
        let mut client = self.connection.runtime();
        let answer = client.remove_container(request(message, WRITE_LIMIT));
        gone_is_fine(answered("RemoveContainer", About::Container(id.as_str()), WRITE_LIMIT, answer).await.map(drop))
    }

    /// What the engine says of a program in a container that has ended depends on how far both were.
    async fn why_no_program(&self, id: &ContainerId, error: RuntimeError) -> RuntimeError {
        match self.container(id).await {
            Ok(Some(status)) if status.state == ContainerState::Running => error,
            Ok(Some(_)) => RuntimeError::NotRunning { id: id.to_string() },
            Ok(None) => RuntimeError::NotFound { what: "container", id: id.to_string() },
            Err(_) => error,
        }
    }

    /// The sandboxes that the engine knows, and their cgroups.
    pub(crate) async fn owners(&self) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
        let mut sandboxes = BTreeSet::new();
        let mut cgroups: BTreeSet<String> = self.warm.claimed_cgroups().collect();
        for mut item in self.sandboxes.list().await? {
            cgroups.extend(item.annotations.remove(sandbox::CGROUP_ANNOTATION));
            sandboxes.insert(item.id);
        }
        Ok((sandboxes, cgroups))
    }

    /// Looks the image up and refuses what must not run.
    async fn vetted_image(&self, reference: &str) -> Result<Option<Image>> {
        let Some(found) = self.image(reference).await? else { return Ok(None) };
        if let Some(reason) = refusal_by_labels(&found.labels) {
            return Err(RuntimeError::ImageRefused { reference: reference.to_owned(), reason });
        }
        let mut vetted = self.vetted.lock().unwrap_or_else(PoisonError::into_inner);
        if vetted.len() >= VETTED_MOST {
            vetted.clear();
        }
        vetted.extend(found.digests.iter().cloned());
        drop(vetted);
        Ok(Some(found))
    }

    fn is_vetted(&self, reference: &str) -> bool {
        self.vetted.lock().unwrap_or_else(PoisonError::into_inner).contains(reference)
    }
}

/// What containerd says of a container that it cannot remove because of a task, in whichever state that is.
const TASK_IN_THE_WAY: &str = "cannot delete running task";

/// Kills and removes a container's task by containerd's own tool; CRI has no call for it.
async fn remove_task(socket: &std::path::Path, id: &ContainerId) -> Result<()> {
    let failed = |why: String| RuntimeError::Internal { message: format!("the task of a container stays: {why}") };
    let output = tokio::process::Command::new("ctr")
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "--timeout", "10s", "tasks", "delete", "--force", id.as_str()])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(format!("ctr cannot be started: {error}")))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || text.contains("not found") { Ok(()) } else { Err(failed(text.trim().to_owned())) }
}

/// The engine does not say whom it has looked for.
fn unknown_user(error: RuntimeError, user: Option<&str>) -> RuntimeError {
    match (error, user) {
        (RuntimeError::CannotStart { message }, Some(user)) if message.contains("no users found") => {
            let message =
                format!("the image knows no user \"{user}\": give uid or uid:gid, or a name of its /etc/passwd");
            RuntimeError::CannotStart { message }
        }
        (error, _) => error,
    }
}

fn image_spec(reference: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: reference.to_owned(), ..v1::ImageSpec::default() }
}

#[async_trait]
impl ContainerRuntime for CriRuntime {
    async fn version(&self) -> Result<RuntimeVersion> {
        let mut client = self.connection.runtime();
        let answer = client.version(request(v1::VersionRequest { version: "v1".into() }, PING_LIMIT));
        let version = answered("Version", About::Engine, PING_LIMIT, answer).await?;
        Ok(RuntimeVersion { name: version.runtime_name, version: version.runtime_version })
    }

    async fn status(&self) -> Result<Readiness> {
        let mut client = self.connection.runtime();
        let answer = client.status(request(v1::StatusRequest { verbose: false }, READ_LIMIT));
        let status = answered("Status", About::Engine, READ_LIMIT, answer).await?.status.unwrap_or_default();
        let failed = status.conditions.into_iter().find(|condition| !condition.status);
        Ok(match failed {
            None => Readiness::Ready,
            Some(condition) => {
                let reason = format!("{}: {} {}", condition.r#type, condition.reason, condition.message);
                Readiness::NotReady { reason: reason.trim_end().to_owned() }
            }
        })
    }

    async fn pull_image(&self, pull: &PullRequest) -> Result<PulledImage> {
        let auth = pull.auth.as_ref().map(|auth| v1::AuthConfig {
            username: auth.username.clone(),
            password: auth.password.clone(),
            server_address: image::server_address(&pull.reference),
            ..v1::AuthConfig::default()
        });
        let reference = pull.reference.as_str();
        let message = v1::PullImageRequest { image: Some(image_spec(reference)), auth, sandbox_config: None };
        let mut client = self.connection.images();
        let answer = client.pull_image(request(message, pull.timeout));
        let pulled = answered("PullImage", About::Image(reference), pull.timeout, answer).await?;
        let found = match self.vetted_image(&pulled.image_ref).await {
            Err(RuntimeError::ImageRefused { reason, .. }) => {
                // It must not stay either: it takes disk that nobody's quota shows.
                self.remove_image(&pulled.image_ref).await?;
                return Err(RuntimeError::ImageRefused { reference: reference.to_owned(), reason });
            }
            other => other?,
        };
        let vanished = || RuntimeError::Internal {
            message: format!("image \"{reference}\" was removed while it was pulled; pull it again"),
        };
        let image = found.ok_or_else(vanished)?;
        let pinned_reference = image::pinned_reference(reference, &image).ok_or_else(vanished)?;
        let digest = pinned_reference.split_once('@').map(|(_, digest)| digest.to_owned()).ok_or_else(vanished)?;
        Ok(PulledImage { digest, pinned_reference, image })
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let message = v1::ImageStatusRequest { image: Some(image_spec(reference)), verbose: true };
        let mut client = self.connection.images();
        let answer = client.image_status(request(message, READ_LIMIT));
        let status = answered("ImageStatus", About::Image(reference), READ_LIMIT, answer).await?;
        Ok(status.image.map(|found| image::image(found, &status.info)))
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        let mut client = self.connection.images();
        let answer = client.list_images(request(v1::ListImagesRequest::default(), READ_LIMIT));
        let listed = answered("ListImages", About::Engine, READ_LIMIT, answer).await?.images;
        let foreign = |found: &v1::Image| !found.repo_tags.contains(&self.options.sandbox_image);
        Ok(listed.into_iter().filter(foreign).map(|found| image::image(found, &BTreeMap::new())).collect())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let message = v1::RemoveImageRequest { image: Some(image_spec(reference)) };
        let mut client = self.connection.images();
        let answer = client.remove_image(request(message, WRITE_LIMIT));
        answered("RemoveImage", About::Image(reference), WRITE_LIMIT, answer).await.map(drop)
    }

    /// CRI's `ImageFsInfo` knows what images take and not how much room there is: the file system is asked itself.
    async fn image_disk(&self) -> Result<ImageDisk> {
        let found = rustix::fs::statvfs(&self.options.images_dir);
        let found = found.map_err(|error| RuntimeError::Internal {
            message: format!("the file system of images cannot be looked at: {error}"),
        })?;
        // Blocks that are kept for root are nobody's: what is left for others counts, as `df` does.
        let used = found.f_blocks.saturating_sub(found.f_bfree);
        let usable = used.saturating_add(found.f_bavail);
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(ImageDisk { total_bytes: bytes(usable), used_bytes: bytes(used) })
    }

    async fn pull_progress(&self, references: &[String]) -> Result<Vec<PullProgress>> {
        self.downloads.progress(references).await
    }

    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<SandboxId> {
        Ok(SandboxId::new(self.warm.run(config).await?))
    }

    async fn sandbox(&self, id: &SandboxId) -> Result<Option<SandboxStatus>> {
        let Some(status) = self.sandboxes.status(id.as_str()).await? else { return Ok(None) };
        let address = sandbox::address(&status);
        Ok(self.warm.dressed(sandbox::item(status)).map(|item| sandbox::status(item, address)))
    }

    async fn list_sandboxes(&self, selector: &Labels) -> Result<Vec<Sandbox>> {
        // The engine cannot select by labels that only the claims know.
        let all = self.sandboxes.list().await?.into_iter().filter_map(|item| self.warm.dressed(item));
        let selected = |item: &v1::PodSandbox| selector.iter().all(|(key, value)| item.labels.get(key) == Some(value));
        Ok(all.filter(selected).map(sandbox::listed).collect())
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.sandboxes.stop(id.as_str()).await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.warm.remove(id.as_str()).await
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        sandbox_config: &SandboxConfig,
        config: &ContainerConfig,
    ) -> Result<ContainerId> {
        // An unknown image is left to the engine, which looks for the sandbox first.
        if !self.is_vetted(&config.image) {
            self.vetted_image(&config.image).await?;
        }
        self.mounts.prepare(&self.options.socket, &config.mounts).await?;
        // What was in it may have been ended by force.
        self.sandboxes.cgroups.open(&sandbox_config.cgroup_name, sandbox_config.into())?;
        let parent = self.sandboxes.cgroups.parent(&sandbox_config.cgroup_name);
        let message = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_string(),
            config: Some(container::cri_config(config)),
            sandbox_config: Some(sandbox::cri_config(sandbox_config, parent)),
        };
        let about = About::Create { sandbox: sandbox.as_str(), image: &config.image };
        let mut client = self.connection.runtime();
        let answer = client.create_container(request(message, WRITE_LIMIT));
        let created = answered("CreateContainer", about, WRITE_LIMIT, answer).await;
        let created = created.map_err(|error| unknown_user(error, config.user.as_deref()))?;
        Ok(ContainerId::new(created.container_id))
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let message = v1::StartContainerRequest { container_id: id.to_string() };
        let mut client = self.connection.runtime();
        let answer = client.start_container(request(message, WRITE_LIMIT));
        answered("StartContainer", About::Container(id.as_str()), WRITE_LIMIT, answer).await.map(drop)
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let whole_seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let timeout = i64::try_from(whole_seconds).unwrap_or(i64::MAX);
        let message = v1::StopContainerRequest { container_id: id.to_string(), timeout };
        let limit = WRITE_LIMIT.saturating_add(grace);
        let mut client = self.connection.runtime();
        let answer = client.stop_container(request(message, limit));
        gone_is_fine(answered("StopContainer", About::Container(id.as_str()), limit, answer).await.map(drop))
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        match self.cri_remove_container(id).await {
            // A start that was cut off, by a Wherry that was killed, may leave a task of which CRI knows nothing: it calls
            // the container ended, and yet never gets rid of it.
            Err(RuntimeError::Internal { message }) if message.contains(TASK_IN_THE_WAY) => {
                tracing::warn!(container = %id, %message, "its task is removed past CRI");
                remove_task(&self.options.socket, id).await?;
                self.cri_remove_container(id).await
            }
            outcome => outcome,
        }
    }

    async fn container(&self, id: &ContainerId) -> Result<Option<ContainerStatus>> {
        container::ask(&self.connection, id).await
    }

    async fn list_containers(&self, selector: &Labels) -> Result<Vec<Container>> {
        let filter = v1::ContainerFilter { label_selector: selector.clone(), ..v1::ContainerFilter::default() };
        let mut client = self.connection.runtime();
        let answer = client.list_containers(request(v1::ListContainersRequest { filter: Some(filter) }, READ_LIMIT));
        let listed = answered("ListContainers", About::Engine, READ_LIMIT, answer).await?.containers;
        Ok(listed.into_iter().map(container::listed).collect())
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        let message = v1::ReopenContainerLogRequest { container_id: id.to_string() };
        let mut client = self.connection.runtime();
        let answer = client.reopen_container_log(request(message, READ_LIMIT));
        answered("ReopenContainerLog", About::Container(id.as_str()), READ_LIMIT, answer).await.map(drop)
    }

    async fn exec(&self, id: &ContainerId, program: &ExecRequest) -> Result<ExecOutput> {
        let request = StreamExec { command: program.command.clone(), ..StreamExec::default() };
        self.exec_stream(id, &request).await?.run_to_end(program).await
    }

    async fn exec_stream(&self, id: &ContainerId, request: &StreamExec) -> Result<Conversation> {
        match self.execs.begin(id, request).await {
            Ok(conversation) => Ok(conversation),
            Err(error) => Err(self.why_no_program(id, error).await),
        }
    }

    async fn attach(&self, id: &ContainerId, request: &AttachRequest) -> Result<Conversation> {
        match attach::begin(&self.connection, id, request).await {
            Ok(conversation) => Ok(conversation),
            Err(error) => Err(self.why_no_program(id, error).await),
        }
    }

    async fn connect(&self, sandbox: &SandboxId, port: u16) -> Result<wherry_runtime::Connection> {
        port::connect(&self.sandboxes, sandbox, port).await
    }

    async fn reach(&self, address: Ipv4Addr, port: u16) -> Result<wherry_runtime::Connection> {
        outside::reach(address, port).await
    }

    async fn signal_container(&self, id: &ContainerId, signal: u8) -> Result<()> {
        outside::signal(&self.connection, id, signal).await
    }

    async fn alive_in_cgroup(&self, cgroup_name: &str) -> Result<BTreeSet<ContainerId>> {
        self.sandboxes.cgroups.alive(cgroup_name)
    }

    async fn end_by_force(&self, cgroup_name: &str) -> Result<()> {
        self.sandboxes.cgroups.end_by_force(cgroup_name).await
    }

    async fn usage(&self, sandbox: &SandboxId, cgroup_name: &str) -> Result<Usage> {
        usage::read(&self.connection, &self.sandboxes, sandbox, cgroup_name).await
    }

    async fn written(&self, sandbox: &SandboxId) -> Result<BTreeMap<ContainerId, u64>> {
        usage::written(&self.connection, sandbox).await
    }

    async fn fetch_repository(&self, sandbox: &SandboxId, request: &RepositoryRequest) -> Result<Fetched> {
        repository::fetch(&self.sandboxes, sandbox, request).await
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }
}
