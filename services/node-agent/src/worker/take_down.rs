//! Stopping and removing. Evidence goes only after what it proves is on disk.

use std::time::Duration;

use wherry_agent_api::DesiredInstance;
use wherry_runtime::{ContainerId, SandboxId};

use super::stop::Ending;
use super::{Next, Trouble, Worker};
use crate::blocking::blocking;
use crate::fenced_notes;
use crate::logs;
use crate::plan::Seen;
use crate::verdict;
use crate::volumes;

/// What has no instance has no grace of its own.
const GRACE_OF_NOBODY: Duration = Duration::from_secs(10);

impl Worker {
    /// Ends containers because somebody asked for that, as their specs say; without a spec within ten seconds.
    pub(super) async fn stop_containers(
        &mut self,
        desired: Option<&DesiredInstance>,
        seen: &Seen,
        ids: &[ContainerId],
    ) -> Result<(), Trouble> {
        self.stopped_by_us.extend(ids.iter().cloned());
        let ending = |id: &ContainerId| match desired {
            Some(desired) => self.ending(desired, seen, id),
            None => Ending::plain(id.clone(), GRACE_OF_NOBODY),
        };
        let endings: Vec<Ending> = ids.iter().map(ending).collect();
        self.end_all(&endings).await
    }

    pub(super) async fn remove_container(&mut self, id: &ContainerId) -> Result<Next, Trouble> {
        if !self.facts_are_on_disk().await {
            return Ok(Next::Rest(None));
        }
        self.node.runtime.remove_container(id).await?;
        let (folder, id) = (self.node.config.data_folder.clone(), id.clone());
        blocking(move || {
            fenced_notes::remove(&folder, &id);
            verdict::remove(&folder, &id);
        })
        .await;
        Ok(Next::LookAgain)
    }

    /// The address leaves the firewall before the engine may give it to another instance.
    pub(super) async fn remove_sandbox(&mut self, id: &SandboxId) -> Result<Next, Trouble> {
        self.node.gate.release(self.instance).await?;
        if !self.facts_are_on_disk().await {
            return Ok(Next::Rest(None));
        }
        self.node.runtime.stop_sandbox(id).await?;
        // While the sandbox still says that this is to be done.
        let folder = self.node.config.volumes_of(self.instance);
        blocking(move || volumes::remove_memory(&folder)).await?;
        self.node.runtime.remove_sandbox(id).await?;
        // Whoever ended it by force could not tell the sandbox's own process from a container's.
        let (folder, id) = (self.node.config.data_folder.clone(), ContainerId::new(id.as_str()));
        self.node.fenced().remove(&id);
        blocking(move || fenced_notes::remove(&folder, &id)).await;
        Ok(Next::LookAgain)
    }

    pub(super) async fn forget(&mut self) -> Result<Next, Trouble> {
        self.node.gate.release(self.instance).await?;
        self.remove_volumes().await?;
        self.remove_logs().await?;
        self.node.proofs.forget(self.instance, |_| true);
        self.node.journal.forget(self.instance);
        Ok(Next::Done)
    }

    /// The instance is deleted; what it printed is kept for a while.
    pub(super) async fn retire_logs(&self) -> Result<(), Trouble> {
        let (config, instance, now) = (self.node.config.clone(), self.instance, self.node.clock.now());
        Ok(blocking(move || logs::retire(&config, instance, now)).await?)
    }

    /// Its containers are gone, and nobody can write there any more.
    pub(super) async fn remove_volumes(&self) -> Result<(), Trouble> {
        let folder = self.node.config.volumes_of(self.instance);
        Ok(blocking(move || volumes::remove(&folder)).await?)
    }

    pub(super) async fn remove_logs(&self) -> Result<(), Trouble> {
        let folder = self.node.config.logs_of(self.instance);
        Ok(blocking(move || logs::remove_all(&folder)).await?)
    }

    /// False when the disk refuses for long: the next step says why.
    pub(super) async fn facts_are_on_disk(&self) -> bool {
        tokio::select! {
            biased;
            () = self.node.journal.settled() => true,
            () = tokio::time::sleep(Duration::from_secs(2)) => false,
            () = self.node.stopping.cancelled() => false,
        }
    }
}
