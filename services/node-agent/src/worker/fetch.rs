//! Volumes that are filled from repositories, before any container is made.
//!
//! What is fetched becomes the volume when it is whole, by its name, so a crash at any moment begins anew and a container
//! never sees half of it. It is fetched through the firewall as the instance itself, with its limits, and counts as what it wrote.

use std::time::Duration;

use tokio::time::Instant;
use wherry_agent_api::DesiredInstance;
use wherry_model::{EndReason, Fact, MemoryMib, Volume, VolumeSource};
use wherry_runtime::{Fetched, RepositoryRequest, SandboxConfig, SandboxId};

use super::{Trouble, Worker};
use crate::backoff::Backoff;
use crate::blocking::blocking;
use crate::disk;
use crate::journal::Memory;
use crate::verdict::Verdict;
use crate::volumes;

/// How often it is looked how much has come, at most; looking takes a tenth of a processor as in [`disk`].
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How far volumes are.
pub(super) enum Filled {
    /// Each holds what it should.
    All,
    /// Not yet: after a while there is another try.
    Later(Duration),
    /// It will not get better.
    Never(Verdict),
    /// Something else is desired by now.
    NotWanted,
}

pub(super) fn has_repositories(desired: &DesiredInstance) -> bool {
    desired.more.volumes.iter().any(|volume| matches!(volume.source, VolumeSource::Git { .. }))
}

impl Worker {
    /// Fetches what is not there. Volumes are prepared, the firewall is open for the instance.
    pub(super) async fn fill_volumes(
        &self,
        desired: &DesiredInstance,
        memory: &Memory,
        sandbox: &SandboxId,
        config: &SandboxConfig,
    ) -> Result<Filled, Trouble> {
        for volume in &desired.more.volumes {
            if let VolumeSource::Git { .. } = &volume.source {
                match self.fill(desired, memory, sandbox, config, volume).await? {
                    Filled::All => {}
                    other => return Ok(other),
                }
            }
        }
        Ok(Filled::All)
    }

    async fn fill(
        &self,
        desired: &DesiredInstance,
        memory: &Memory,
        sandbox: &SandboxId,
        config: &SandboxConfig,
        volume: &Volume,
    ) -> Result<Filled, Trouble> {
        let VolumeSource::Git { repository, revision, directory } = &volume.source else { return Ok(Filled::All) };
        let said = memory.volumes.get(&volume.name).copied().unwrap_or_default();
        let now = self.node.clock.now();
        if let Some(retry_at) = said.retry_at.filter(|retry_at| *retry_at > now) {
            return Ok(Filled::Later(retry_at.since(now)));
        }
        let (folder, of, which, inner) =
            (self.node.config.volumes_of(desired.id), desired.clone(), volume.clone(), directory.clone());
        let made = blocking(move || volumes::to_fetch(&folder, &of, &which, inner.as_deref())).await?;
        let Some(place) = made else { return Ok(Filled::All) };
        let _permit = tokio::select! {
            biased;
            permit = self.node.pulls.acquire(desired.tenant) => permit,
            () = self.desired_otherwise(desired) => return Ok(Filled::NotWanted),
        };
        let limit = disk::limit(&self.node, desired);
        let request = RepositoryRequest {
            repository: repository.clone(),
            revision: revision.clone(),
            into: place.into.clone(),
            cgroup_name: config.cgroup_name.clone(),
            dns: config.dns.clone(),
            timeout: self.node.config.pulls.timeout,
            file_bytes: limit.bytes(),
        };
        let fetched = tokio::select! {
            biased;
            fetched = self.node.runtime.fetch_repository(sandbox, &request) => fetched?,
            verdict = self.too_much(desired, volume, limit) => return Ok(Filled::Never(verdict)),
            () = self.desired_otherwise(desired) => return Ok(Filled::NotWanted),
        };
        match fetched {
            Fetched::Commit(commit) => {
                let message = format!("holds {repository} at {commit}");
                self.say(desired.generation, Fact::VolumeReady { volume: volume.name.clone(), message });
                blocking(move || std::fs::rename(place.fresh, place.path)).await?;
                Ok(Filled::All)
            }
            Fetched::Refused(why) => {
                let failures = said.failures.saturating_add(1);
                if failures >= self.node.config.pulls.tries {
                    let message = format!(
                        "volume {} could not be fetched from {repository}: {why}; {failures} tries failed, check address and \
                         revision and start it again",
                        volume.name
                    );
                    return Ok(Filled::Never(Verdict::new(EndReason::VolumeFailed, message)));
                }
                let delay = Backoff::PULL.delay(failures);
                let retry_at = self.node.clock.now().plus(delay);
                let (volume, message) = (volume.name.clone(), format!("{repository}: {why}"));
                self.say(desired.generation, Fact::VolumeRetrying { volume, message, retry_at });
                Ok(Filled::Later(delay))
            }
        }
    }

    /// Comes to its end when more was fetched than the instance may write.
    async fn too_much(&self, desired: &DesiredInstance, volume: &Volume, limit: MemoryMib) -> Verdict {
        let mut pause = LOOK_EVERY;
        loop {
            tokio::time::sleep(pause).await;
            let begun = Instant::now();
            let (folder, of) = (self.node.config.volumes_of(desired.id), desired.clone());
            let looked = blocking(move || volumes::written(&folder, &of)).await;
            pause = LOOK_EVERY.max(begun.elapsed() * disk::PAUSE_FOR_WALK);
            let Ok(written) = looked else { continue };
            if written.bytes > limit.bytes() || written.too_many {
                let message = format!(
                    "the repository of volume {} is larger than the {limit} ({} bytes) of ephemeral_disk that the instance may \
                     write; ask for more",
                    volume.name,
                    limit.bytes()
                );
                return Verdict::new(EndReason::DiskExceeded, message);
            }
        }
    }
}
