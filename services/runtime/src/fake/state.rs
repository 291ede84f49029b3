//! What the fake engine holds, and the rules by which it changes: the ones that containerd's CRI plugin enforces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;
use wherry_model::Timestamp;

use super::RunWitness;
use super::attach::Main;
use super::program::Program;
use crate::{
    Container, ContainerConfig, ContainerId, ContainerState, ContainerStatus, ContainerUsage, Fetched, Image,
    ImageDisk, NetworkUsage, PullProgress, RepositoryRequest, Result, RuntimeError, Sandbox, SandboxConfig, SandboxId,
    SandboxState, SandboxStatus, Usage,
};

/// Runtimes that make sandboxes; the first is the usual one.
const HANDLERS: [&str; 2] = ["", "sandboxed"];

/// First and last address that sandboxes get, unless a test says otherwise.
const ADDRESSES: (u32, u32) = (0x0a4d_0002, 0x0a4d_fffe);

/// Layers of every image.
const LAYERS: u32 = 4;

/// What every container holds.
const MEMORY_BYTES: u64 = 1 << 20;

/// What a connection from outside moves each way.
const HANDSHAKE_BYTES: u64 = 120;

/// What a container has written that does nothing special.
const LAYER_BYTES: u64 = 8192;

#[derive(Debug)]
pub(super) struct SandboxRecord {
    pub(super) sandbox: Sandbox,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) log_directory: PathBuf,
    pub(super) cgroup_name: String,
    pub(super) network: NetworkUsage,
}

#[derive(Debug)]
pub(super) struct ContainerRecord {
    pub(super) sandbox: SandboxId,
    pub(super) status: ContainerStatus,
    pub(super) image_id: String,
    /// `None`: the executable does not exist in the image.
    pub(super) program: Option<Program>,
    pub(super) cpu_millis: u64,
    /// Where it has an input or a terminal.
    pub(super) main: Option<Arc<Main>>,
}

#[derive(Debug)]
pub(super) struct Download {
    pub(super) reference: String,
    pub(super) since: Instant,
    pub(super) lasts: std::time::Duration,
    pub(super) total_bytes: u64,
}

/// Everything on the fake machine.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) witness: Option<Arc<dyn RunWitness>>,
    pub(super) addresses: Option<(u32, u32)>,
    pub(super) images: BTreeMap<String, Image>,
    /// Size of the file system of images, which holds nothing else; 0: larger than any images.
    pub(super) image_disk_bytes: u64,
    pub(super) sandboxes: BTreeMap<SandboxId, SandboxRecord>,
    pub(super) containers: BTreeMap<ContainerId, ContainerRecord>,
    pub(super) downloads: BTreeMap<u64, Download>,
    /// What containers of a name have written, where it is not [`LAYER_BYTES`].
    pub(super) written: BTreeMap<String, u64>,
    /// URL of a repository → the commit that it gives.
    pub(super) repositories: BTreeMap<String, String>,
    /// Cgroups in which nothing can begin, since what was in them was ended by force.
    closed: BTreeSet<String>,
    last_id: u64,
    last_address: u32,
}

impl State {
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn image(&self, reference: &str) -> Option<&Image> {
        self.images.values().find(|image| {
            image.id == reference || image.tags.iter().chain(&image.digests).any(|known| known == reference)
        })
    }

    pub(super) fn image_disk(&self) -> ImageDisk {
        let used_bytes = self.images.values().map(|image| image.size_bytes).sum();
        let total_bytes = if self.image_disk_bytes == 0 { u64::MAX } else { self.image_disk_bytes };
        ImageDisk { total_bytes, used_bytes }
    }

    pub(super) fn progress(&self, reference: &str) -> PullProgress {
        let Some(download) = self.downloads.values().find(|download| download.reference == reference) else {
            return PullProgress::default();
        };
        let lasts_ms = download.lasts.as_millis().max(1);
        let passed_ms = download.since.elapsed().as_millis().min(lasts_ms);
        let share = |total: u64| u64::try_from(u128::from(total) * passed_ms / lasts_ms).unwrap_or(total);
        PullProgress {
            done_layers: u32::try_from(share(u64::from(LAYERS))).unwrap_or(LAYERS),
            total_layers: LAYERS,
            done_bytes: share(download.total_bytes),
            total_bytes: download.total_bytes,
        }
    }

    /// A program that spins takes all that it may, any other a thousandth of a core.
    pub(super) fn usage(&self, id: &SandboxId, now: Timestamp) -> Usage {
        let Some(sandbox) = self.sandboxes.get(id) else { return Usage::default() };
        let inside = self.containers.iter().filter(|(_, record)| record.sandbox == *id);
        let running = inside.filter(|(_, record)| record.status.state == ContainerState::Running);
        let usage = |(id, record): (&ContainerId, &ContainerRecord)| {
            let since = record.status.started_at.unwrap_or(now);
            let lasted = u64::try_from(now.since(since).as_nanos()).unwrap_or(u64::MAX);
            let spins = record.program.as_ref().is_some_and(Program::spins);
            let cpu_millis = if spins { record.cpu_millis } else { 1 };
            ContainerUsage {
                id: id.clone(),
                at: now,
                cpu_nanos: lasted / 1_000 * cpu_millis,
                throttled_nanos: Some(if spins { lasted / 10 } else { 0 }),
                memory_bytes: MEMORY_BYTES,
            }
        };
        let network = (sandbox.sandbox.state == SandboxState::Ready).then_some(sandbox.network);
        Usage { containers: running.map(usage).collect(), network }
    }

    pub(super) fn written(&self, id: &SandboxId) -> BTreeMap<ContainerId, u64> {
        let inside = self.containers.iter().filter(|(_, record)| record.sandbox == *id);
        inside
            .map(|(id, record)| (id.clone(), self.written.get(&record.status.name).copied().unwrap_or(LAYER_BYTES)))
            .collect()
    }

    pub(super) fn fetch_repository(&self, id: &SandboxId, request: &RepositoryRequest) -> Result<Fetched> {
        if !self.sandboxes.get(id).is_some_and(|record| record.sandbox.state == SandboxState::Ready) {
            return Err(RuntimeError::NotFound { what: "sandbox", id: id.to_string() });
        }
        let Some(commit) = self.repositories.get(&request.repository) else {
            return Ok(Fetched::Refused(format!("unable to access '{}'", request.repository)));
        };
        let file = request.into.join("README");
        std::fs::write(&file, commit)
            .map_err(|error| RuntimeError::Internal { message: format!("{}: {error}", file.display()) })?;
        Ok(Fetched::Commit(commit.clone()))
    }

    pub(super) fn run_sandbox(&mut self, config: &SandboxConfig, now: Timestamp) -> Result<SandboxId> {
        if config.name.is_empty() || config.uid.is_empty() {
            return Err(RuntimeError::InvalidArgument { message: "sandbox needs a name and a uid".into() });
        }
        if !HANDLERS.contains(&config.runtime_handler.as_str()) {
            let message = format!("there is no runtime \"{}\"", config.runtime_handler);
            return Err(RuntimeError::InvalidArgument { message });
        }
        let key = (&config.name, &config.namespace, &config.uid, config.attempt);
        let taken = |record: &SandboxRecord| {
            let sandbox = &record.sandbox;
            (&sandbox.name, &sandbox.namespace, &sandbox.uid, sandbox.attempt) == key
        };
        if self.sandboxes.values().any(taken) {
            let message = format!("sandbox \"{}\" attempt {} exists", config.name, config.attempt);
            return Err(RuntimeError::AlreadyExists { message });
        }
        let address = self.next_address()?;
        let id = SandboxId::new(format!("fake-sandbox-{}", self.next_id()));
        let sandbox = Sandbox {
            id: id.clone(),
            name: config.name.clone(),
            uid: config.uid.clone(),
            namespace: config.namespace.clone(),
            attempt: config.attempt,
            state: SandboxState::Ready,
            created_at: now,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        };
        let log_directory = config.log_directory.clone();
        let cgroup_name = config.cgroup_name.clone();
        self.closed.remove(&cgroup_name);
        self.sandboxes.insert(
            id.clone(),
            SandboxRecord {
                sandbox,
                address: Some(address),
                log_directory,
                cgroup_name,
                network: NetworkUsage::default(),
            },
        );
        Ok(id)
    }

    /// Addresses go round, so that one just freed is not handed out again at once: as CNI's host-local does.
    fn next_address(&mut self) -> Result<Ipv4Addr> {
        let (first, last) = self.addresses.unwrap_or(ADDRESSES);
        let count = last - first + 1;
        for _ in 0..count {
            let candidate = Ipv4Addr::from(first + self.last_address % count);
            self.last_address = (self.last_address + 1) % count;
            if self.sandboxes.values().all(|record| record.address != Some(candidate)) {
                return Ok(candidate);
            }
        }
        Err(RuntimeError::Internal { message: "no address left in the range".into() })
    }

    pub(super) fn sandbox_status(&self, id: &SandboxId) -> Option<SandboxStatus> {
        let record = self.sandboxes.get(id)?;
        Some(SandboxStatus { sandbox: record.sandbox.clone(), address: record.address })
    }

    /// Returns the containers that were killed by it.
    pub(super) fn stop_sandbox(&mut self, id: &SandboxId, now: Timestamp) -> Vec<ContainerId> {
        if let Some(record) = self.sandboxes.get_mut(id) {
            record.sandbox.state = SandboxState::NotReady;
            record.address = None;
        }
        let inside: Vec<ContainerId> = self.containers_of(id);
        inside.into_iter().filter(|container| self.end(container, 137, "Error", now)).collect()
    }

    pub(super) fn containers_of(&self, id: &SandboxId) -> Vec<ContainerId> {
        self.containers.iter().filter(|(_, record)| record.sandbox == *id).map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn create_container(
        &mut self,
        sandbox: &SandboxId,
        config: &ContainerConfig,
        now: Timestamp,
    ) -> Result<ContainerId> {
        let record = self
            .sandboxes
            .get(sandbox)
            .ok_or_else(|| RuntimeError::NotFound { what: "sandbox", id: sandbox.to_string() })?;
        if record.sandbox.state != SandboxState::Ready {
            return Err(RuntimeError::Internal { message: format!("sandbox {sandbox} is not running") });
        }
        let log_path = record.log_directory.join(&config.log_path);
        let missing = || RuntimeError::ImageNotFound {
            reference: config.image.clone(),
            message: "it is not on this machine".into(),
        };
        let image = self.image(&config.image).ok_or_else(missing)?;
        if let Some(reason) = crate::refusal_by_labels(&image.labels) {
            return Err(RuntimeError::ImageRefused { reference: config.image.clone(), reason });
        }
        let image_id = image.id.clone();
        if let Some(missing) = config.devices.iter().find(|device| !device.host_path.exists()) {
            let message = format!("device {} is not on this machine", missing.host_path.display());
            return Err(RuntimeError::Internal { message });
        }
        let taken = |other: &ContainerRecord| {
            other.sandbox == *sandbox && other.status.name == config.name && other.status.attempt == config.attempt
        };
        if self.containers.values().any(taken) {
            let message = format!("container \"{}\" attempt {} exists", config.name, config.attempt);
            return Err(RuntimeError::AlreadyExists { message });
        }
        let cgroup_name = record.cgroup_name.clone();
        self.closed.remove(&cgroup_name);
        let id = ContainerId::new(format!("fake-container-{}", self.next_id()));
        let status = ContainerStatus {
            id: id.clone(),
            name: config.name.clone(),
            attempt: config.attempt,
            state: ContainerState::Created,
            created_at: now,
            started_at: None,
            finished_at: None,
            exit_code: None,
            reason: String::new(),
            message: String::new(),
            pid: None,
            log_path,
            image: config.image.clone(),
            labels: config.labels.clone(),
        };
        let arguments: Vec<String> = config.command.iter().chain(&config.args).cloned().collect();
        let program = Program::parse(&arguments).map(|program| program.seeing(&config.devices));
        self.containers.insert(
            id.clone(),
            ContainerRecord {
                sandbox: sandbox.clone(),
                status,
                image_id,
                program,
                cpu_millis: config.cpu_millis,
                main: Main::of(config),
            },
        );
        Ok(id)
    }

    /// Returns the program to run and the file that its output goes to.
    pub(super) fn start_container(&mut self, id: &ContainerId, now: Timestamp) -> Result<(Program, PathBuf)> {
        let pid = u32::try_from(self.next_id()).unwrap_or(u32::MAX);
        let is_closed = self.cgroup_of(id).is_some_and(|name| self.closed.contains(name));
        let record = self.container_mut(id)?;
        if record.status.state != ContainerState::Created {
            return Err(RuntimeError::InvalidArgument { message: format!("container {id} was started before") });
        }
        if is_closed {
            record.status.state = ContainerState::Exited;
            record.status.finished_at = Some(now);
            record.status.exit_code = Some(128);
            record.status.reason = "StartError".into();
            return Err(RuntimeError::Internal { message: "resource temporarily unavailable".into() });
        }
        let Some(program) = record.program.clone() else {
            record.status.state = ContainerState::Exited;
            record.status.finished_at = Some(now);
            record.status.exit_code = Some(128);
            record.status.reason = "StartError".into();
            let message = "no such file or directory".to_owned();
            record.status.message.clone_from(&message);
            return Err(RuntimeError::CannotStart { message });
        };
        record.status.state = ContainerState::Running;
        record.status.started_at = Some(now);
        record.status.pid = Some(pid);
        let (status, path) = (record.status.clone(), record.status.log_path.clone());
        if let Some(witness) = &self.witness {
            witness.started(&status);
        }
        Ok((program, path))
    }

    /// What a command would be inside a container that runs.
    pub(super) fn program_inside(&mut self, id: &ContainerId, command: &[String]) -> Result<Program> {
        let status = &self.container_mut(id)?.status;
        if status.state != ContainerState::Running {
            return Err(RuntimeError::NotRunning { id: id.to_string() });
        }
        if command.is_empty() {
            return Err(RuntimeError::InvalidArgument { message: "no program is named".into() });
        }
        let missing = || RuntimeError::CannotStart { message: "no such file or directory".into() };
        Program::parse(command).ok_or_else(missing)
    }

    pub(super) fn container_mut(&mut self, id: &ContainerId) -> Result<&mut ContainerRecord> {
        self.containers.get_mut(id).ok_or_else(|| RuntimeError::NotFound { what: "container", id: id.to_string() })
    }

    /// Ends a running container; false when it does not run.
    pub(super) fn end(&mut self, id: &ContainerId, exit_code: i32, reason: &str, now: Timestamp) -> bool {
        let Some(record) = self.containers.get_mut(id) else { return false };
        if record.status.state != ContainerState::Running {
            return false;
        }
        record.status.state = ContainerState::Exited;
        record.status.pid = None;
        record.status.finished_at = Some(now);
        record.status.exit_code = Some(exit_code);
        reason.clone_into(&mut record.status.reason);
        if let Some(witness) = &self.witness {
            witness.ended(&record.status);
        }
        true
    }

    /// The sandbox that has the address and is ready.
    pub(super) fn sandbox_at(&self, address: Ipv4Addr) -> Option<SandboxId> {
        let mut all = self.sandboxes.iter();
        let found =
            all.find(|(_, record)| record.address == Some(address) && record.sandbox.state == SandboxState::Ready);
        found.map(|(id, _)| id.clone())
    }

    /// Somebody connects from outside.
    pub(super) fn note_connection(&mut self, id: &SandboxId) {
        if let Some(record) = self.sandboxes.get_mut(id) {
            record.network.received_bytes += HANDSHAKE_BYTES;
            record.network.sent_bytes += HANDSHAKE_BYTES;
        }
    }

    fn cgroup_of(&self, id: &ContainerId) -> Option<&str> {
        let sandbox = &self.containers.get(id)?.sandbox;
        self.sandboxes.get(sandbox).map(|record| record.cgroup_name.as_str())
    }

    pub(super) fn alive_in_cgroup(&self, name: &str) -> BTreeSet<ContainerId> {
        let running = self.containers.iter().filter(|(_, record)| record.status.state == ContainerState::Running);
        running.filter(|(id, _)| self.cgroup_of(id) == Some(name)).map(|(id, _)| id.clone()).collect()
    }

    /// Kills what is in the cgroup, first processes of sandboxes included; returns the containers that ran.
    pub(super) fn end_by_force(&mut self, name: &str, now: Timestamp) -> Vec<ContainerId> {
        self.closed.insert(name.to_owned());
        for record in self.sandboxes.values_mut().filter(|record| record.cgroup_name == name) {
            record.sandbox.state = SandboxState::NotReady;
        }
        let alive = self.alive_in_cgroup(name);
        alive.into_iter().filter(|id| self.end(id, 137, "Error", now)).collect()
    }

    /// What a reboot leaves: every process is gone, the engine still lists what it made.
    pub(super) fn reboot(&mut self, now: Timestamp) {
        let running: Vec<ContainerId> = self.containers.keys().cloned().collect();
        for id in running {
            if self.end(&id, 255, "Unknown", now)
                && let Some(record) = self.containers.get_mut(&id)
            {
                // containerd finds no task behind its record and knows neither how nor when it ended.
                record.status.state = ContainerState::Unknown;
                record.status.exit_code = None;
            }
        }
        for record in self.sandboxes.values_mut() {
            record.sandbox.state = SandboxState::NotReady;
        }
        self.downloads.clear();
        self.closed.clear();
    }

    pub(super) fn listed(id: &ContainerId, record: &ContainerRecord) -> Container {
        Container {
            id: id.clone(),
            sandbox: record.sandbox.clone(),
            name: record.status.name.clone(),
            attempt: record.status.attempt,
            state: record.status.state,
            created_at: record.status.created_at,
            image_id: record.image_id.clone(),
            labels: record.status.labels.clone(),
        }
    }
}
