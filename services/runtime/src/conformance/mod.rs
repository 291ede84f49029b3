//! What every [`ContainerRuntime`] must do, as checks that run against the fake and against a real engine.
//!
//! A check needs an image with a busybox as its shell, and cleans up what it made, also what an aborted run of
//! itself left. Checks may run at the same time. Failures are values, not panics, so that a command may run them too.

mod attached;
mod containers;
mod conversations;
mod devices;
mod exec;
mod force;
mod images;
mod outside;
mod sandboxes;
mod usage;
mod volumes;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

pub use attached::{
    attaching_needs_an_input_or_a_terminal, attaching_reaches_the_input, attaching_reaches_the_terminal,
};
pub use containers::{
    containers_end_with_their_code, containers_live_once, containers_need_sandbox_and_image, logs_reopen,
    missing_commands_cannot_start, stop_kills_after_grace,
};
pub use conversations::{
    conversations_carry_both_directions, conversations_end_with_their_container, conversations_have_terminals,
    conversations_need_a_container_that_runs, ports_inside_are_reached,
};
pub use devices::{devices_are_seen_where_they_are_given, missing_devices_are_refused};
pub use exec::{
    programs_end_with_their_code_and_output, programs_need_a_container_that_runs, programs_past_their_time_are_killed,
};
pub use force::{what_is_in_a_cgroup_ends_by_force, what_was_ended_by_force_can_run_again};
pub use images::{
    bad_images_are_told_apart, images_are_removed_whole, private_images_need_a_password, pulls_pin_a_digest,
};
pub use outside::{addresses_are_reached_from_the_machine, signals_reach_the_main_process};
pub use sandboxes::{
    another_runtime_makes_a_sandbox_and_its_containers, engine_is_ready, removed_sandboxes_take_all_along,
    sandboxes_live_once,
};
pub use usage::{containers_say_what_they_use, sandboxes_count_their_network};
pub use volumes::{repositories_are_asked_from_inside, what_containers_write_is_measured};

use crate::{
    ContainerConfig, ContainerId, ContainerRuntime, ContainerState, ContainerStatus, Device, DnsConfig, Labels,
    PullRequest, PulledImage, RegistryAuth, RuntimeError, SandboxConfig, SandboxId,
};

/// Longest wait for something that the engine does by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Label that the checks find their own sandboxes by.
const CHECK_LABEL: &str = "wherry.conformance/check";

/// What the checks work with.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// An image with a shell that can be pulled.
    pub image: String,
    /// A name at the same registry that it does not have.
    pub missing_image: String,
    /// An image that can be pulled, with a label `containerd.io/restart.status`.
    pub refused_image: String,
    /// An image that the registry gives only to who has `private_auth`; nothing of it is anywhere else.
    pub private_image: String,
    /// User and password for that.
    pub private_auth: RegistryAuth,
    /// An existing folder for log files.
    pub log_root: PathBuf,
}

/// What did not hold.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A call that must succeed did not.
    #[error("call failed")]
    Call(#[from] RuntimeError),
    /// Something is not as it must be.
    #[error("{0}")]
    Broken(String),
}

/// Result of a check.
pub type Check = Result<(), Failure>;

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Failure::Broken(format!($($text)+)));
        }
    };
}
use ensure;

/// Runs all checks one after another.
pub async fn all(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    engine_is_ready(runtime, fixture).await?;
    images_are_removed_whole(runtime, fixture).await?;
    pulls_pin_a_digest(runtime, fixture).await?;
    bad_images_are_told_apart(runtime, fixture).await?;
    private_images_need_a_password(runtime, fixture).await?;
    sandboxes_live_once(runtime, fixture).await?;
    removed_sandboxes_take_all_along(runtime, fixture).await?;
    another_runtime_makes_a_sandbox_and_its_containers(runtime, fixture).await?;
    containers_need_sandbox_and_image(runtime, fixture).await?;
    missing_commands_cannot_start(runtime, fixture).await?;
    containers_live_once(runtime, fixture).await?;
    containers_end_with_their_code(runtime, fixture).await?;
    devices_are_seen_where_they_are_given(runtime, fixture).await?;
    missing_devices_are_refused(runtime, fixture).await?;
    stop_kills_after_grace(runtime, fixture).await?;
    logs_reopen(runtime, fixture).await?;
    signals_reach_the_main_process(runtime, fixture).await?;
    programs_end_with_their_code_and_output(runtime, fixture).await?;
    programs_past_their_time_are_killed(runtime, fixture).await?;
    programs_need_a_container_that_runs(runtime, fixture).await?;
    ports_inside_are_reached(runtime, fixture).await?;
    addresses_are_reached_from_the_machine(runtime, fixture).await?;
    containers_say_what_they_use(runtime, fixture).await?;
    sandboxes_count_their_network(runtime, fixture).await?;
    what_containers_write_is_measured(runtime, fixture).await?;
    repositories_are_asked_from_inside(runtime, fixture).await?;
    conversations_carry_both_directions(runtime, fixture).await?;
    conversations_have_terminals(runtime, fixture).await?;
    conversations_need_a_container_that_runs(runtime, fixture).await?;
    conversations_end_with_their_container(runtime, fixture).await?;
    attaching_reaches_the_input(runtime, fixture).await?;
    attaching_reaches_the_terminal(runtime, fixture).await?;
    attaching_needs_an_input_or_a_terminal(runtime, fixture).await?;
    what_is_in_a_cgroup_ends_by_force(runtime, fixture).await?;
    what_was_ended_by_force_can_run_again(runtime, fixture).await?;
    Ok(())
}

/// The stage of one check: its configs, and its cleaning.
struct Stage<'a> {
    runtime: &'a dyn ContainerRuntime,
    fixture: &'a Fixture,
    check: &'static str,
}

impl<'a> Stage<'a> {
    async fn open(
        runtime: &'a dyn ContainerRuntime,
        fixture: &'a Fixture,
        check: &'static str,
    ) -> Result<Self, Failure> {
        let stage = Self { runtime, fixture, check };
        stage.close().await?;
        Ok(stage)
    }

    async fn close(&self) -> Check {
        for sandbox in self.runtime.list_sandboxes(&self.labels()).await? {
            self.runtime.remove_sandbox(&sandbox.id).await?;
        }
        Ok(())
    }

    fn labels(&self) -> Labels {
        Labels::from([(CHECK_LABEL.to_owned(), self.check.to_owned())])
    }

    fn sandbox_config(&self, name: &str) -> SandboxConfig {
        SandboxConfig {
            name: format!("{}-{name}", self.check),
            uid: format!("uid-{}-{name}", self.check),
            namespace: "conformance".into(),
            attempt: 0,
            labels: self.labels(),
            annotations: Labels::from([("note".to_owned(), name.to_owned())]),
            hostname: name.to_owned(),
            dns: DnsConfig { servers: vec![[127, 0, 0, 1].into()], ..DnsConfig::default() },
            log_directory: self.fixture.log_root.clone(),
            cgroup_name: format!("conformance-{}-{name}", self.check),
            pids_max: 64,
            memory_bytes: 0,
            sysctls: Labels::new(),
            runtime_handler: String::new(),
        }
    }

    fn container_config(&self, image: &PulledImage, name: &str, shell: &str) -> ContainerConfig {
        ContainerConfig {
            name: name.to_owned(),
            image: image.pinned_reference.clone(),
            command: ["/bin/sh", "-c", shell].map(str::to_owned).to_vec(),
            labels: self.labels(),
            log_path: format!("{}-{name}.log", self.check).into(),
            cpu_millis: 500,
            memory_bytes: 64 << 20,
            ..ContainerConfig::default()
        }
    }

    async fn pull(&self, reference: &str) -> Result<PulledImage, RuntimeError> {
        let request = PullRequest { reference: reference.to_owned(), auth: None, timeout: PATIENCE };
        self.runtime.pull_image(&request).await
    }

    /// Sandbox with one created container.
    async fn container(&self, name: &str, shell: &str) -> Result<(SandboxId, ContainerId), Failure> {
        let (sandbox, created) = self.container_with(name, shell, Vec::new()).await?;
        Ok((sandbox, created?))
    }

    /// The same with devices.
    async fn container_with(
        &self,
        name: &str,
        shell: &str,
        devices: Vec<Device>,
    ) -> Result<(SandboxId, Result<ContainerId, RuntimeError>), Failure> {
        let image = self.pull(&self.fixture.image).await?;
        let sandbox_config = self.sandbox_config(name);
        let sandbox = self.runtime.run_sandbox(&sandbox_config).await?;
        let config = ContainerConfig { devices, ..self.container_config(&image, name, shell) };
        // Engines append to the log that an earlier run of this check left.
        drop(std::fs::remove_file(self.fixture.log_root.join(&config.log_path)));
        let created = self.runtime.create_container(&sandbox, &sandbox_config, &config).await;
        Ok((sandbox, created))
    }

    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, Failure> {
        let status = self.runtime.container(id).await?;
        status.ok_or_else(|| Failure::Broken(format!("container {id} is unknown though it was not removed")))
    }

    async fn wait_for(&self, id: &ContainerId, state: ContainerState) -> Result<ContainerStatus, Failure> {
        let started = Instant::now();
        loop {
            let status = self.status(id).await?;
            if status.state == state {
                return Ok(status);
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "container is {:?} and not {state:?} after {PATIENCE:?}",
                status.state
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
