//! Stopping and removing. Evidence goes only after what it proves is on disk.

use std::time::Duration;

use futures_util::future::join_all;
use wherry_runtime::{ContainerId, SandboxId};

use super::{Next, Trouble, Worker};
use crate::blocking::blocking;
use crate::fenced_notes;
use crate::logs;

impl Worker {
    /// Stops containers, all at the same time. An agent that stops does not wait for them: its successor goes on.
    pub(super) async fn stop_containers(&mut self, ids: &[ContainerId], grace_seconds: u32) -> Result<(), Trouble> {
        self.stopped_by_us.extend(ids.iter().cloned());
        let grace = Duration::from_secs(u64::from(grace_seconds));
        let node = self.node.clone();
        let stops = join_all(ids.iter().map(|id| node.runtime.stop_container(id, grace)));
        let outcomes = tokio::select! {
            biased;
            outcomes = stops => outcomes,
            () = node.stopping.cancelled() => return Ok(()),
        };
        outcomes.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    }

    pub(super) async fn remove_container(&mut self, id: &ContainerId) -> Result<Next, Trouble> {
        if !self.facts_are_on_disk().await {
            return Ok(Next::Rest(None));
        }
        self.node.runtime.remove_container(id).await?;
        let (folder, id) = (self.node.config.data_folder.clone(), id.clone());
        blocking(move || fenced_notes::remove(&folder, &id)).await;
        Ok(Next::LookAgain)
    }

    /// The address leaves the firewall before the engine may give it to another instance.
    pub(super) async fn remove_sandbox(&mut self, id: &SandboxId) -> Result<Next, Trouble> {
        self.node.gate.release(self.instance).await?;
        if !self.facts_are_on_disk().await {
            return Ok(Next::Rest(None));
        }
        self.node.runtime.stop_sandbox(id).await?;
        self.node.runtime.remove_sandbox(id).await?;
        // Whoever ended it by force could not tell the sandbox's own process from a container's.
        let (folder, id) = (self.node.config.data_folder.clone(), ContainerId::new(id.as_str()));
        self.node.fenced().remove(&id);
        blocking(move || fenced_notes::remove(&folder, &id)).await;
        Ok(Next::LookAgain)
    }

    pub(super) async fn forget(&mut self) -> Result<Next, Trouble> {
        self.node.gate.release(self.instance).await?;
        self.remove_logs().await?;
        self.node.proofs.forget(self.instance, |_| true);
        self.node.journal.forget(self.instance);
        Ok(Next::Done)
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
