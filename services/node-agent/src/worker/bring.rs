//! Bringing up what should run: the path that a tenant waits for.
//!
//! Round trips in a row, image present: look up the image; make the sandbox (meanwhile ask the registry what the tag means, if it is
//! not pinned); learn its address; create the containers (meanwhile open the firewall); start.
//!
//! What is said on the way goes to disk beside it, and if the agent dies first the engine still shows it, save one thing:
//! what the image reference meant. That is on disk before anything of it runs; it was said long before, while the
//! containers are made, so nobody waits for it either.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::{join, try_join_all, try_join3};
use tokio::time::Instant;
use wherry_agent_api::{DesiredContainer, DesiredInstance};
use wherry_model::{ContainerName, ContainerSpec, EndReason, Fact};
use wherry_runtime::{
    ContainerConfig, ContainerId, ContainerState, DnsConfig, Mount, RuntimeError, SandboxConfig, SandboxId,
};

use super::behind::{Sought, state_of};
use super::fetch::{Filled, has_repositories};
use super::image::{Got, Puller, Wanted};
use super::{Next, Trouble, Worker, hosts};
use crate::blocking::blocking;
use crate::firewall::Admitted;
use crate::journal::{Memory, RunMemory};
use crate::plan::{Seen, SeenContainer};
use crate::status::Phase;
use crate::verdict::Verdict;
use crate::{gpus, labels, logs, message, secrets, volumes};

/// What is to be started, with the engine's references to the images.
type Images<'a> = Vec<(&'a DesiredContainer, String)>;

/// A container that is to run now.
struct Due<'a> {
    container: &'a DesiredContainer,
    image: String,
    run: u32,
    /// Made before a crash, never started.
    made: Option<ContainerId>,
}

impl Worker {
    pub(super) async fn bring(
        &mut self,
        desired: &DesiredInstance,
        memory: &Memory,
        seen: &Seen,
        start: &[ContainerName],
        fetch: &[ContainerName],
    ) -> Result<Next, Trouble> {
        if !memory.containers.values().any(|said| matches!(said.state, RunMemory::Running { .. })) {
            self.node.board.set_phase(self.instance, Some(Phase::Starting));
        }
        for container in fetch {
            self.fetch_behind(desired, container);
        }
        if start.is_empty() {
            return Ok(Next::GoOn);
        }
        match self.try_bring(desired, memory, seen, start).await {
            Ok(next) => {
                self.failed_starts = 0;
                Ok(next)
            }
            Err(Trouble::Runtime(error)) => self.start_failed(desired, error),
            Err(trouble) => Err(trouble),
        }
    }

    /// Fetches an image while the worker does other things.
    fn fetch_behind(&mut self, desired: &DesiredInstance, container: &ContainerName) {
        let (puller, wanted, name) = (self.puller(), desired.clone(), container.clone());
        self.behind.pull(desired, container, async move { puller.provide(&wanted, &name).await });
    }

    fn puller(&self) -> Puller {
        Puller { node: self.node.clone(), instance: self.instance }
    }

    /// Fetches now what is to be started now. Ends early when something else is desired, or other credentials are
    /// given; none when there is nothing to start.
    async fn fetch_now<'a>(
        &mut self,
        desired: &'a DesiredInstance,
        memory: &Memory,
        wanted: Vec<Wanted<'a>>,
    ) -> Result<Option<Images<'a>>, Trouble> {
        let puller = self.puller();
        let fetches = wanted.iter().map(|image| puller.fetch(desired, memory, image));
        let fetched = tokio::select! {
            biased;
            fetched = try_join_all(fetches) => fetched?,
            () = self.until_desired(|now| now.action != desired.action || state_of(now) != state_of(desired)) => return Ok(None),
        };
        let mut images = Images::new();
        for (wanted, got) in wanted.into_iter().zip(fetched) {
            match got {
                Got::Here(reference) => images.push((wanted.container, reference)),
                Got::Later => return Ok(None),
                Got::Never { verdict, may_pass } => {
                    let sought = Sought::of(desired, wanted.container);
                    self.do_without(&wanted.container.spec.name, sought, verdict, may_pass);
                    return Ok(None);
                }
            }
        }
        Ok(Some(images))
    }

    async fn try_bring(
        &mut self,
        desired: &DesiredInstance,
        memory: &Memory,
        seen: &Seen,
        start: &[ContainerName],
    ) -> Result<Next, Trouble> {
        let begun = Instant::now();
        let config = self.sandbox_config(desired)?;
        let names: BTreeSet<ContainerName> = start.iter().cloned().collect();
        let mut wanted = self.puller().look_up(desired, memory, &names).await?;
        if desired.containers.len() > 1 {
            // Nobody waits for the image of another.
            let (settled, others): (Vec<_>, Vec<_>) = wanted.into_iter().partition(Wanted::is_settled);
            for other in others {
                self.fetch_behind(desired, &other.container.spec.name);
            }
            wanted = settled;
        }
        if wanted.is_empty() {
            return Ok(Next::GoOn);
        }
        let (images, sandbox) = if wanted.iter().all(Wanted::is_present) {
            let has_begun = self.begin_sandbox(desired, seen, &config);
            let (images, sandbox) = join(self.fetch_now(desired, memory, wanted), has_begun).await;
            (images?, sandbox?)
        } else {
            let Some(images) = self.fetch_now(desired, memory, wanted).await? else { return Ok(Next::GoOn) };
            (Some(images), self.begin_sandbox(desired, seen, &config).await?)
        };
        let Some(images) = images else { return Ok(Next::LookAgain) };
        let sandbox_after = begun.elapsed();
        let due = due(desired, memory, seen, images);
        let address = self.address_of(&sandbox).await?;
        let hosts = hosts::write(&config.log_directory, desired, address).await?;
        self.prepare_volumes(desired).await?;
        let is_admitted = has_repositories(desired);
        if is_admitted {
            self.admit(desired, memory, address).await?;
            match self.fill_volumes(desired, memory, &sandbox, &config).await? {
                Filled::All => {}
                Filled::Later(delay) => return Ok(Next::Rest(Some(delay))),
                Filled::Never(verdict) => {
                    self.behind.condemn(desired, verdict);
                    return Ok(Next::LookAgain);
                }
                Filled::NotWanted => return Ok(Next::LookAgain),
            }
        }
        let admitted = async { if is_admitted { Ok(()) } else { self.admit(desired, memory, address).await } };
        let created = try_join_all(due.iter().map(|due| self.create(desired, &sandbox, &config, &hosts, due)));
        let (ids, (), ()) = try_join3(created, admitted, self.images_are_on_record()).await?;
        let made = begun.elapsed();
        for (due, id) in due.iter().zip(ids) {
            // Much time may have passed since the step was chosen: a pull, a sleep of the machine.
            crate::fence::passed(&self.node).await;
            if self.node.lease.forbids(desired) {
                return Ok(Next::LookAgain);
            }
            self.node.runtime.start_container(&id).await?;
            if let Some(status) = self.node.runtime.container(&id).await? {
                let (sandbox, generation) = (sandbox.clone(), desired.generation);
                let spec = &due.container.spec;
                let (name, revision) = (spec.name.clone(), due.container.revision);
                let started =
                    SeenContainer { id, sandbox, generation, name, run: due.run, revision, state: status.state };
                if spec.hooks.post_start.is_none() {
                    self.say_started(desired, &started, &status);
                }
            }
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (sandbox_ms, made_ms, started_ms) = (millis(sandbox_after), millis(made), millis(begun.elapsed()));
        tracing::debug!(instance = %self.instance, sandbox_ms, made_ms, started_ms, "brought up");
        Ok(Next::LookAgain)
    }

    async fn images_are_on_record(&self) -> Result<(), Trouble> {
        if self.facts_are_on_disk().await {
            return Ok(());
        }
        Err(Trouble::Journal("the journal is not written in time".to_owned()))
    }

    /// The sandbox that is there, or a new one. Its attempt is the generation, so the engine itself refuses a second.
    fn begin_sandbox(
        &self,
        desired: &DesiredInstance,
        seen: &Seen,
        config: &SandboxConfig,
    ) -> impl Future<Output = Result<SandboxId, Trouble>> + use<> {
        let present = seen.sandbox_of(desired.generation).filter(|sandbox| sandbox.ready);
        let (node, present, config) = (self.node.clone(), present.map(|sandbox| sandbox.id.clone()), config.clone());
        async move {
            if let Some(present) = present {
                return Ok(present);
            }
            let folder = config.log_directory.clone();
            blocking(move || std::fs::create_dir_all(folder)).await?;
            node.closings.watch(&config.log_directory);
            // The semaphore is never closed.
            let _permit = node.starts.acquire().await;
            Ok(node.runtime.run_sandbox(&config).await?)
        }
    }

    /// The address that the engine gave the sandbox.
    pub(super) async fn address_of(&self, sandbox: &SandboxId) -> Result<Ipv4Addr, Trouble> {
        let status = self.node.runtime.sandbox(sandbox).await?;
        let address = status.and_then(|status| status.address);
        address.ok_or_else(|| RuntimeError::Internal { message: "the sandbox has no address".to_owned() }.into())
    }

    /// Opens the firewall for the instance's address.
    pub(super) async fn admit(
        &self,
        desired: &DesiredInstance,
        memory: &Memory,
        address: Ipv4Addr,
    ) -> Result<(), Trouble> {
        let (tenant, project) = (desired.tenant, desired.project);
        let admitted = Admitted { address, tenant, project, ports: desired.ports().cloned().collect() };
        self.node.gate.admit(self.instance, admitted).await?;
        if memory.address != Some(address) {
            self.say(desired.generation, Fact::SandboxReady { address });
        }
        Ok(())
    }

    async fn create(
        &self,
        desired: &DesiredInstance,
        sandbox: &SandboxId,
        sandbox_config: &SandboxConfig,
        hosts: &Mount,
        due: &Due<'_>,
    ) -> Result<ContainerId, Trouble> {
        if let Some(made) = &due.made {
            return Ok(made.clone());
        }
        let spec = &due.container.spec;
        let (folder, name, keep) =
            (sandbox_config.log_directory.clone(), spec.name.clone(), self.node.config.logs.runs);
        let pruned = blocking(move || logs::prune_runs(&folder, &name, keep.saturating_sub(1)));
        let plain = spec.env.iter().filter(|variable| variable.secret.is_none());
        let config = ContainerConfig {
            name: spec.name.to_string(),
            attempt: due.run,
            image: due.image.clone(),
            command: spec.command.clone(),
            args: spec.args.clone(),
            working_dir: spec.working_dir.clone(),
            env: plain
                .map(|variable| (variable.name.clone(), variable.value.clone()))
                .chain(gpus::environment(desired))
                .collect(),
            secret_env: secrets::environment(desired, spec).map_err(RuntimeError::from)?,
            labels: labels::of_container(self.node.config.machine.node, desired, due.container, due.run),
            log_path: logs::file_name(&spec.name, due.run).into(),
            cpu_millis: u64::from(spec.most_cpu().get()),
            cpu_reserved_millis: u64::from(spec.cpu.get()),
            memory_bytes: spec.most_memory().bytes(),
            user: spec.user.clone(),
            mounts: self.mounts(desired, spec, hosts)?,
            devices: self.node.config.gpus.devices(desired)?,
            stdin: spec.stdin,
            stdin_once: spec.stdin_once,
            tty: spec.tty,
            ..ContainerConfig::default()
        };
        let created = self.node.runtime.create_container(sandbox, sandbox_config, &config).await?;
        if let Err(error) = pruned.await {
            tracing::warn!(instance = %self.instance, %error, "old logs could not be removed");
        }
        Ok(created)
    }

    fn sandbox_config(&self, desired: &DesiredInstance) -> Result<SandboxConfig, RuntimeError> {
        let config = &self.node.config;
        let id = desired.id.to_string();
        let isolation = desired.more.isolation;
        if !config.isolation.has(isolation) {
            let message = format!("its machine does not offer the isolation class {isolation} any more");
            return Err(RuntimeError::InvalidArgument { message });
        }
        Ok(SandboxConfig {
            name: id.clone(),
            uid: id.clone(),
            namespace: desired.tenant.to_string(),
            attempt: u32::try_from(desired.generation.0).unwrap_or(u32::MAX),
            labels: labels::of_sandbox(config.machine.node, desired),
            hostname: desired.name.to_string(),
            dns: dns(desired, config.machine.dns_server),
            log_directory: config.logs_of(desired.id),
            cgroup_name: id,
            pids_max: processes_of(desired.more.pids.unwrap_or(config.pids_max), isolation.is_shared()),
            memory_bytes: memory_of(desired),
            sysctls: config.sysctls.clone(),
            runtime_handler: if isolation.is_shared() { String::new() } else { isolation.to_string() },
            ..SandboxConfig::default()
        })
    }

    async fn prepare_volumes(&self, desired: &DesiredInstance) -> Result<(), Trouble> {
        let (folder, desired) = (self.node.config.volumes_of(desired.id), desired.clone());
        Ok(blocking(move || volumes::prepare(&folder, &desired)).await?)
    }

    /// What a container sees of the machine; a tenant's own `/etc/hosts` goes before ours.
    fn mounts(
        &self,
        desired: &DesiredInstance,
        spec: &ContainerSpec,
        hosts: &Mount,
    ) -> Result<Vec<Mount>, RuntimeError> {
        let mut mounts = volumes::mounts(&self.node.config.volumes_of(desired.id), desired, spec)?;
        if mounts.iter().all(|mount| mount.container_path != hosts.container_path) {
            mounts.push(hosts.clone());
        }
        Ok(mounts)
    }

    /// Says what will not get better by trying again; counts what may.
    fn start_failed(&mut self, desired: &DesiredInstance, error: RuntimeError) -> Result<Next, Trouble> {
        let reason = match &error {
            RuntimeError::ImageRefused { .. } => EndReason::ImageRefused,
            RuntimeError::CannotStart { .. } | RuntimeError::InvalidArgument { .. } => EndReason::StartFailed,
            RuntimeError::Internal { .. } => {
                self.failed_starts = self.failed_starts.saturating_add(1);
                if self.failed_starts < self.node.config.start_tries {
                    return Err(error.into());
                }
                EndReason::StartFailed
            }
            // What is there has to be read again, or the machine as a whole is in trouble.
            RuntimeError::NotFound { .. }
            | RuntimeError::AlreadyExists { .. }
            | RuntimeError::ImageNotFound { .. }
            | RuntimeError::RegistryUnavailable { .. }
            | RuntimeError::Unauthorized { .. }
            | RuntimeError::DiskFull { .. }
            | RuntimeError::Timeout { .. }
            | RuntimeError::NotRunning { .. }
            | RuntimeError::ProgramTimeout { .. }
            | RuntimeError::Detached { .. }
            | RuntimeError::NothingListens { .. }
            | RuntimeError::Unavailable { .. } => return Err(error.into()),
        };
        tracing::warn!(instance = %self.instance, %error, "the instance cannot be started");
        self.failed_starts = 0;
        self.behind.condemn(desired, Verdict::new(reason, message::for_tenant(&error)));
        Ok(Next::LookAgain)
    }
}

/// For the sandbox's own process, and what starts and programs inside take beside their containers' limits.
const MEMORY_OVERHEAD_MIB: u64 = 16;
/// The same for each container.
const MEMORY_OVERHEAD_OF_CONTAINER_MIB: u64 = 2;

/// The same for a kernel of its own and what runs that: gVisor's sentry, or a virtual machine's monitor.
const MEMORY_OVERHEAD_OF_KERNEL_MIB: u64 = 512;
/// Threads of the same.
const PROCESSES_OF_KERNEL: u32 = 1024;

/// The most that all of the instance takes together: what its containers may at one time, and some for what is around them.
fn memory_of(desired: &DesiredInstance) -> u64 {
    let count = u64::try_from(desired.containers.len()).unwrap_or(u64::MAX);
    let kernel = if desired.more.isolation.is_shared() { 0 } else { MEMORY_OVERHEAD_OF_KERNEL_MIB };
    let of_all = MEMORY_OVERHEAD_OF_CONTAINER_MIB.saturating_mul(count);
    let around = of_all.saturating_add(MEMORY_OVERHEAD_MIB).saturating_add(kernel);
    desired.most_memory().bytes().saturating_add(around << 20)
}

/// Processes that the machine sees: a kernel of its own has threads itself, and may need several for one process inside.
const fn processes_of(inside: u32, is_shared: bool) -> u32 {
    if is_shared { inside } else { inside.saturating_mul(4).saturating_add(PROCESSES_OF_KERNEL) }
}

/// The service's resolver and the project's names, unless the spec says otherwise.
fn dns(desired: &DesiredInstance, resolver: Ipv4Addr) -> DnsConfig {
    let asked = desired.more.dns.clone();
    let servers = if asked.servers.is_empty() { vec![resolver.into()] } else { asked.servers };
    let searches = std::iter::once(desired.search_domain.clone()).chain(asked.searches).collect();
    DnsConfig { servers, searches, options: asked.options }
}

/// What is to be started, with the number of its next run.
fn due<'a>(desired: &DesiredInstance, memory: &Memory, seen: &Seen, images: Images<'a>) -> Vec<Due<'a>> {
    let due = images.into_iter().map(|(container, image)| {
        let name = &container.spec.name;
        let run = desired.first_run.max(memory.container(name).run.saturating_add(1));
        let is_it = |made: &&SeenContainer| {
            let same_run = made.generation == desired.generation && &made.name == name && made.run == run;
            same_run && made.revision == container.revision && made.state == ContainerState::Created
        };
        let made = seen.containers.iter().find(is_it).map(|made| made.id.clone());
        Due { container, image, run, made }
    });
    due.collect()
}
