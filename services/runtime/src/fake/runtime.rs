//! The fake behind the production trait.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::program::Program;
use super::state::{Download, State};
use super::{FakeImage, FakeRuntime, Fault, down, pulled};
use crate::{
    AttachRequest, Connection, Container, ContainerConfig, ContainerId, ContainerRuntime, ContainerState,
    ContainerStatus, Conversation, ExecOutput, ExecRequest, Fetched, Image, ImageDisk, Labels, PullProgress,
    PullRequest, PulledImage, Readiness, RepositoryRequest, Result, RuntimeError, RuntimeEvent, RuntimeVersion,
    Sandbox, SandboxConfig, SandboxId, SandboxStatus, StreamExec, Usage, refusal_by_labels,
};

impl FakeRuntime {
    /// Makes one call: counts it, lets it misbehave as scripted, and applies its effect at one moment.
    pub(super) async fn call<T, F>(&self, call: &'static str, effect: F) -> Result<T>
    where
        F: FnOnce(&mut State) -> Result<T> + Send,
        T: Send,
    {
        self.does(call, true, effect).await
    }

    /// The same for what is done without asking the engine, however that is.
    async fn past_the_engine<T, F>(&self, call: &'static str, effect: F) -> Result<T>
    where
        F: FnOnce(&mut State) -> Result<T> + Send,
        T: Send,
    {
        self.does(call, false, effect).await
    }

    async fn does<T, F>(&self, call: &'static str, needs_engine: bool, effect: F) -> Result<T>
    where
        F: FnOnce(&mut State) -> Result<T> + Send,
        T: Send,
    {
        self.thawed().await;
        if let Some(between) = self.interposed.get() {
            between.before().await;
        }
        let is_stuck = self.script().engine_stuck;
        let fault = self.enter(call, needs_engine)?;
        let outcome = match fault {
            _ if needs_engine && is_stuck => self.hang(call).await,
            Some(Fault::HangBefore) => self.hang(call).await,
            Some(Fault::Fail(error)) => Err(error),
            None => effect(&mut self.state()),
            Some(Fault::HangAfter) => {
                effect(&mut self.state())?;
                self.hang(call).await
            }
        };
        if let Some(between) = self.interposed.get() {
            between.after().await;
        }
        self.thawed().await;
        outcome
    }

    fn enter(&self, call: &'static str, needs_engine: bool) -> Result<Option<Fault>> {
        let mut script = self.script();
        *script.calls.entry(call).or_default() += 1;
        if script.engine_down && needs_engine {
            return down();
        }
        let Some((fault, times)) = script.faults.get_mut(call) else { return Ok(None) };
        let fault = fault.clone();
        *times = times.saturating_sub(1);
        if *times == 0 {
            script.faults.remove(call);
        }
        Ok(Some(fault))
    }

    async fn hang<T>(&self, call: &'static str) -> Result<T> {
        tokio::time::sleep(self.call_timeout).await;
        Err(RuntimeError::Timeout { call, after: self.call_timeout })
    }

    /// What the registry does with a pull; takes one scripted failure.
    fn ask_registry(&self, request: &PullRequest) -> Result<(PulledImage, FakeImage, Option<RuntimeError>)> {
        let reference = &request.reference;
        let mut script = self.script();
        let repository = super::strip_tag(reference.split('@').next().unwrap_or(reference)).to_owned();
        let by_digest = reference.contains('@');
        let found = script.registry.iter_mut().find(|(known, image)| {
            *known == reference
                || (by_digest
                    && super::strip_tag(known) == repository
                    && &pulled(known, image).pinned_reference == reference)
        });
        let Some((known, image)) = found else {
            let message = "the fake registry does not have it".to_owned();
            return Err(RuntimeError::ImageNotFound { reference: reference.clone(), message });
        };
        if image.auth.is_some() && image.auth != request.auth {
            let message = "the fake registry wants another user or password".to_owned();
            return Err(RuntimeError::Unauthorized { reference: reference.clone(), message });
        }
        let failure = if image.pull_failures.is_empty() { None } else { Some(image.pull_failures.remove(0)) };
        let mut answer = pulled(known, image);
        if by_digest {
            answer.image.tags.clear();
        }
        Ok((answer, image.clone(), failure))
    }

    fn announce_exits(&self, ids: Vec<ContainerId>) {
        for id in ids {
            self.wake(RuntimeEvent::Exited { id: id.to_string() });
        }
    }
}

/// Takes a download out of the progress list however the pull ends, also when its future is dropped.
struct DownloadGuard<'a> {
    runtime: &'a FakeRuntime,
    key: u64,
}

impl Drop for DownloadGuard<'_> {
    fn drop(&mut self) {
        self.runtime.state().downloads.remove(&self.key);
    }
}

#[async_trait]
impl ContainerRuntime for FakeRuntime {
    async fn version(&self) -> Result<RuntimeVersion> {
        self.call("Version", |_| Ok(RuntimeVersion { name: "fake".into(), version: "1".into() })).await
    }

    async fn status(&self) -> Result<Readiness> {
        self.call("Status", |_| Ok(Readiness::Ready)).await
    }

    async fn pull_image(&self, request: &PullRequest) -> Result<PulledImage> {
        self.call("PullImage", |_| Ok(())).await?;
        let reference = &request.reference;
        let (mut result, published, failure) = self.ask_registry(request)?;
        let guard = {
            let mut state = self.state();
            let key = state.next_id();
            let (lasts, total_bytes) = (published.pull_delay, published.size_bytes);
            let download = Download { reference: reference.clone(), since: Instant::now(), lasts, total_bytes };
            state.downloads.insert(key, download);
            DownloadGuard { runtime: self, key }
        };
        if published.pull_delay > request.timeout {
            tokio::time::sleep(request.timeout).await;
            return Err(RuntimeError::Timeout { call: "PullImage", after: request.timeout });
        }
        tokio::time::sleep(published.pull_delay).await;
        drop(guard);
        if let Some(error) = failure {
            return Err(error);
        }
        if self.script().engine_down {
            return down();
        }
        if let Some(reason) = refusal_by_labels(&result.image.labels) {
            return Err(RuntimeError::ImageRefused { reference: reference.clone(), reason });
        }
        let mut state = self.state();
        let known = state.images.entry(result.image.id.clone()).or_insert_with(|| result.image.clone());
        for tag in &result.image.tags {
            if !known.tags.contains(tag) {
                known.tags.push(tag.clone());
            }
        }
        result.image = known.clone();
        Ok(result)
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        self.call("ImageStatus", |state| Ok(state.image(reference).cloned())).await
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        let bare = |image: &Image| Image { labels: Labels::new(), user: None, ..image.clone() };
        self.call("ListImages", |state| Ok(state.images.values().map(bare).collect())).await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.call("RemoveImage", |state| {
            if let Some(id) = state.image(reference).map(|image| image.id.clone()) {
                state.images.remove(&id);
            }
            Ok(())
        })
        .await
    }

    async fn image_disk(&self) -> Result<ImageDisk> {
        self.call("ImageFsInfo", |state| Ok(state.image_disk())).await
    }

    async fn pull_progress(&self, references: &[String]) -> Result<Vec<PullProgress>> {
        let all = |state: &mut State| Ok(references.iter().map(|reference| state.progress(reference)).collect());
        self.call("ListStatuses", all).await
    }

    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<SandboxId> {
        self.call("RunPodSandbox", |state| state.run_sandbox(config, self.clock.now())).await
    }

    async fn sandbox(&self, id: &SandboxId) -> Result<Option<SandboxStatus>> {
        self.call("PodSandboxStatus", |state| Ok(state.sandbox_status(id))).await
    }

    async fn list_sandboxes(&self, selector: &Labels) -> Result<Vec<Sandbox>> {
        self.call("ListPodSandbox", |state| {
            let all = state.sandboxes.values().map(|record| &record.sandbox);
            Ok(all.filter(|sandbox| carries(&sandbox.labels, selector)).cloned().collect())
        })
        .await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        let mut killed = Vec::new();
        let result = self
            .call("StopPodSandbox", |state| {
                killed = state.stop_sandbox(id, self.clock.now());
                Ok(())
            })
            .await;
        self.announce_exits(killed);
        result
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        let mut killed = Vec::new();
        let result = self
            .call("RemovePodSandbox", |state| {
                killed = state.stop_sandbox(id, self.clock.now());
                for container in state.containers_of(id) {
                    state.containers.remove(&container);
                }
                state.sandboxes.remove(id);
                Ok(())
            })
            .await;
        self.announce_exits(killed);
        result
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        _sandbox_config: &SandboxConfig,
        config: &ContainerConfig,
    ) -> Result<ContainerId> {
        self.call("CreateContainer", |state| state.create_container(sandbox, config, self.clock.now())).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        self.call("StartContainer", |state| {
            let (program, log_path) = state.start_container(id, self.clock.now())?;
            match state.container_mut(id)?.main.clone() {
                Some(main) => tokio::spawn(self.clone().run_attachable(id.clone(), program, log_path, main)),
                None => tokio::spawn(self.clone().run(id.clone(), program, log_path)),
            };
            Ok(())
        })
        .await
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let ignores = self
            .call("StopContainer", |state| {
                let program = state.containers.get(id).and_then(|record| record.program.as_ref());
                Ok(program.is_some_and(Program::ignores_terminate))
            })
            .await?;
        if ignores && !grace.is_zero() {
            tokio::time::sleep(grace).await;
        }
        self.end(id, if ignores || grace.is_zero() { 137 } else { 143 }, "Error");
        Ok(())
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let mut killed = Vec::new();
        let result = self
            .call("RemoveContainer", |state| {
                if state.end(id, 137, "Error", self.clock.now()) {
                    killed.push(id.clone());
                }
                state.containers.remove(id);
                Ok(())
            })
            .await;
        self.announce_exits(killed);
        result
    }

    async fn container(&self, id: &ContainerId) -> Result<Option<ContainerStatus>> {
        self.call("ContainerStatus", |state| Ok(state.containers.get(id).map(|record| record.status.clone()))).await
    }

    async fn list_containers(&self, selector: &Labels) -> Result<Vec<Container>> {
        self.call("ListContainers", |state| {
            let matching = state.containers.iter().filter(|(_, record)| carries(&record.status.labels, selector));
            Ok(matching.map(|(id, record)| State::listed(id, record)).collect())
        })
        .await
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.call("ReopenContainerLog", |state| {
            let status = &state.container_mut(id)?.status;
            if status.state != ContainerState::Running {
                return Err(RuntimeError::InvalidArgument { message: format!("container {id} does not run") });
            }
            touch(&status.log_path)
        })
        .await
    }

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecOutput> {
        let program = self.call("ExecSync", |state| state.program_inside(id, &request.command)).await?;
        let after = Duration::from_secs(request.timeout_seconds());
        let killed_with_it = async {
            self.until_ended(id).await;
            ExecOutput { exit_code: 137, ..ExecOutput::default() }
        };
        let ended = async {
            tokio::select! {
                biased;
                output = Self::run_inside(program) => output,
                output = killed_with_it => output,
            }
        };
        let outcome = tokio::time::timeout(after, ended).await;
        self.thawed().await;
        let output = outcome.map_err(|_| RuntimeError::ProgramTimeout { after })?;
        Ok(output.cut_at(request.max_output_bytes))
    }

    async fn exec_stream(&self, id: &ContainerId, request: &StreamExec) -> Result<Conversation> {
        self.converse(id, request).await
    }

    async fn attach(&self, id: &ContainerId, request: &AttachRequest) -> Result<Conversation> {
        self.join(id, request).await
    }

    async fn connect(&self, sandbox: &SandboxId, port: u16) -> Result<Connection> {
        self.dial(sandbox, port).await
    }

    async fn reach(&self, address: Ipv4Addr, port: u16) -> Result<Connection> {
        let found = self.state().sandbox_at(address);
        let sandbox = found.ok_or(RuntimeError::NothingListens { port })?;
        self.state().note_connection(&sandbox);
        self.dial(&sandbox, port).await
    }

    async fn signal_container(&self, id: &ContainerId, signal: u8) -> Result<()> {
        let exit_code = self
            .call("Kill", |state| {
                let program = state.containers.get(id).and_then(|record| record.program.as_ref());
                Ok(program.and_then(|program| program.exit_code_by(signal)))
            })
            .await?;
        if let Some(exit_code) = exit_code {
            self.end(id, exit_code, "Error");
        }
        Ok(())
    }

    async fn alive_in_cgroup(&self, cgroup_name: &str) -> Result<BTreeSet<ContainerId>> {
        self.past_the_engine("AliveInCgroup", |state| Ok(state.alive_in_cgroup(cgroup_name))).await
    }

    async fn end_by_force(&self, cgroup_name: &str) -> Result<()> {
        let mut killed = Vec::new();
        let result = self
            .past_the_engine("EndByForce", |state| {
                killed = state.end_by_force(cgroup_name, self.clock.now());
                Ok(())
            })
            .await;
        self.announce_exits(killed);
        result
    }

    async fn usage(&self, sandbox: &SandboxId, _cgroup_name: &str) -> Result<Usage> {
        self.call("Usage", |state| Ok(state.usage(sandbox, self.clock.now()))).await
    }

    async fn written(&self, sandbox: &SandboxId) -> Result<BTreeMap<ContainerId, u64>> {
        self.call("ListContainerStats", |state| Ok(state.written(sandbox))).await
    }

    async fn fetch_repository(&self, sandbox: &SandboxId, request: &RepositoryRequest) -> Result<Fetched> {
        self.call("FetchRepository", |state| state.fetch_repository(sandbox, request)).await
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }
}

fn carries(labels: &Labels, selector: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn touch(path: &Path) -> Result<()> {
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(|error| RuntimeError::Internal { message: format!("{}: {error}", path.display()) })
}
