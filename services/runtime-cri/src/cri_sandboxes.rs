//! The engine's sandboxes as CRI gives them, with the cgroup that each gets from us.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{RwLock, RwLockWriteGuard};
use wherry_runtime::{Result, RuntimeError, SandboxConfig};

use crate::cgroup::Cgroups;
use crate::connection::{Connection, READ_LIMIT, WRITE_LIMIT, answered, request};
use crate::failure::About;
use crate::generated::runtime::v1;
use crate::{process, sandbox};

/// containerd learns of the death of a shim, and cleans up after it, within about this time.
const SHIM_NOTICES: Duration = Duration::from_millis(200);

/// How often a removal is tried when containerd fails it for reasons of its own.
const REMOVE_TRIES: u32 = 5;

#[derive(Debug)]
pub(crate) struct CriSandboxes {
    connection: Connection,
    pub(crate) cgroups: Cgroups,
    runtime_handler: String,
    socket: PathBuf,
    /// Read while a sandbox is being started, written while leftovers are swept.
    gate: RwLock<()>,
}

impl CriSandboxes {
    pub(crate) fn new(connection: Connection, cgroups: Cgroups, runtime_handler: String, socket: PathBuf) -> Self {
        Self { connection, cgroups, runtime_handler, socket, gate: RwLock::default() }
    }

    /// Keeps sandboxes from being started until the guard is dropped, after those on their way have ended: one on its
    /// way has a cgroup, a shim and an address, and is not listed yet.
    pub(crate) async fn close_gate(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    pub(crate) async fn run(&self, config: &SandboxConfig) -> Result<String> {
        let _gate = self.gate.read().await;
        self.cgroups.prepare(&config.cgroup_name, config.into())?;
        let message = v1::RunPodSandboxRequest {
            config: Some(sandbox::cri_config(config, self.cgroups.parent(&config.cgroup_name))),
            runtime_handler: match config.runtime_handler.as_str() {
                "" => self.runtime_handler.clone(),
                other => other.to_owned(),
            },
        };
        let mut client = self.connection.runtime();
        let answer = client.run_pod_sandbox(request(message, WRITE_LIMIT));
        Ok(answered("RunPodSandbox", About::Engine, WRITE_LIMIT, answer).await?.pod_sandbox_id)
    }

    pub(crate) async fn list(&self) -> Result<Vec<v1::PodSandbox>> {
        let mut client = self.connection.runtime();
        let answer = client.list_pod_sandbox(request(v1::ListPodSandboxRequest::default(), READ_LIMIT));
        Ok(answered("ListPodSandbox", About::Engine, READ_LIMIT, answer).await?.items)
    }

    /// Ids of the sandboxes in which there is a container, in whatever state.
    pub(crate) async fn used(&self) -> Result<BTreeSet<String>> {
        let mut client = self.connection.runtime();
        let answer = client.list_containers(request(v1::ListContainersRequest::default(), READ_LIMIT));
        let containers = answered("ListContainers", About::Engine, READ_LIMIT, answer).await?.containers;
        Ok(containers.into_iter().map(|container| container.pod_sandbox_id).collect())
    }

    pub(crate) async fn status(&self, id: &str) -> Result<Option<v1::PodSandboxStatus>> {
        Ok(self.verbose_status(id, false).await?.and_then(|response| response.status))
    }

    /// containerd's own information about a sandbox: its process, its namespaces.
    pub(crate) async fn information(&self, id: &str) -> Result<BTreeMap<String, String>> {
        Ok(self.verbose_status(id, true).await?.map(|response| response.info).unwrap_or_default())
    }

    async fn verbose_status(&self, id: &str, verbose: bool) -> Result<Option<v1::PodSandboxStatusResponse>> {
        let message = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose };
        let mut client = self.connection.runtime();
        let answer = client.pod_sandbox_status(request(message, READ_LIMIT));
        match answered("PodSandboxStatus", About::Sandbox(id), READ_LIMIT, answer).await {
            Ok(response) => Ok(Some(response)),
            Err(RuntimeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn stop(&self, id: &str) -> Result<()> {
        let message = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let mut client = self.connection.runtime();
        let answer = client.stop_pod_sandbox(request(message, WRITE_LIMIT));
        gone_is_fine(answered("StopPodSandbox", About::Sandbox(id), WRITE_LIMIT, answer).await.map(drop))
    }

    /// Removes it with the cgroup that it was made with, and with `more_cgroups`.
    ///
    /// A containerd that was killed while it started or deleted a container may find a task that its OCI runtime does not
    /// know, and then never gets rid of the sandbox: crun's words for "no such container" are none that its shim knows.
    /// What counts is that nothing runs any more: kill processes and shim, and containerd takes note of that.
    pub(crate) async fn remove(&self, id: &str, more_cgroups: &[String]) -> Result<()> {
        let filter = v1::PodSandboxFilter { id: id.to_owned(), ..v1::PodSandboxFilter::default() };
        let mut client = self.connection.runtime();
        let answer = client.list_pod_sandbox(request(v1::ListPodSandboxRequest { filter: Some(filter) }, READ_LIMIT));
        let mut known = answered("ListPodSandbox", About::Engine, READ_LIMIT, answer).await?.items;
        let own = known.pop().and_then(|mut item| item.annotations.remove(sandbox::CGROUP_ANNOTATION));
        let cgroups: Vec<&String> = own.iter().chain(more_cgroups).collect();
        let mut tries = 0;
        while let Err(error) = self.cri_remove(id).await {
            tries += 1;
            if !matches!(error, RuntimeError::Internal { .. }) || tries == REMOVE_TRIES {
                return Err(error);
            }
            tracing::warn!(%error, sandbox = id, "containerd cannot remove a sandbox, its processes are killed");
            for name in &cgroups {
                self.cgroups.kill(name).await?;
            }
            let shims = process::shims(&self.socket).into_iter().filter(|shim| shim.sandbox == id);
            process::kill(&shims.map(|shim| shim.pid).collect::<Vec<_>>()).await;
            tokio::time::sleep(SHIM_NOTICES).await;
        }
        for name in cgroups {
            self.cgroups.remove(name).await?;
        }
        Ok(())
    }

    async fn cri_remove(&self, id: &str) -> Result<()> {
        // containerd stops it on the way; asking for that first would undo its network twice.
        let message = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let mut client = self.connection.runtime();
        let answer = client.remove_pod_sandbox(request(message, WRITE_LIMIT));
        gone_is_fine(answered("RemovePodSandbox", About::Sandbox(id), WRITE_LIMIT, answer).await.map(drop))
    }
}

/// Makes "it is not there" a success.
pub(crate) fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(RuntimeError::NotFound { .. }) => Ok(()),
        other => other,
    }
}
