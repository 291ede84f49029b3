//! What the agent has said of an instance: a fold over the facts of its latest generation.
//!
//! This is all that the agent remembers of an instance. Folding a fact twice is the same as folding it once.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use wherry_agent_api::{DesiredContainer, DesiredInstance};
use wherry_model::{ContainerExit, ContainerName, Digest, EndReason, Fact, Generation, Timestamp, VolumeName};

use crate::backoff::next_in_a_row;

/// Where the latest run of a container stands, as far as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunMemory {
    /// No run in this generation.
    #[default]
    NotStarted,
    /// It was said to have started.
    Running { started_at: Timestamp },
    /// It was said to have ended, and to be started again.
    Waiting { restart_at: Timestamp },
    /// It was said to have ended for good.
    Over,
}

/// What was said of a volume that is to be fetched and is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct VolumeMemory {
    /// Failed tries in a row.
    pub(crate) failures: u32,
    /// When the next try may begin.
    pub(crate) retry_at: Option<Timestamp>,
}

/// What was said of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ContainerMemory {
    /// What its image reference meant.
    pub(crate) digest: Option<Digest>,
    /// In which revision of the container it meant that.
    #[serde(default)]
    pub(crate) digest_revision: u32,
    /// Failed pulls in a row.
    pub(crate) pull_failures: u32,
    /// When the next pull may begin.
    pub(crate) pull_retry_at: Option<Timestamp>,
    /// The revision of the container that these pulls were for.
    #[serde(default)]
    pub(crate) pull_revision: u32,
    /// Number of the latest run; 0 before the first.
    pub(crate) run: u32,
    /// How that run stands.
    pub(crate) state: RunMemory,
    /// Restarts in a row that did not last.
    pub(crate) restarts_in_a_row: u32,
    /// What was said last of the readiness of that run; nothing before its probes decided.
    #[serde(default)]
    pub(crate) ready: Option<bool>,
    /// The revision of the container that the latest run was started for.
    #[serde(default)]
    pub(crate) revision: u32,
    /// Whether the latest run that has ended did so as it should.
    #[serde(default)]
    pub(crate) succeeded: bool,
    /// Restarts by policy in this generation.
    #[serde(default)]
    pub(crate) restarts: u32,
    /// Number and exit code of the latest run that has ended.
    #[serde(default)]
    pub(crate) last_end: Option<(u32, i32)>,
}

impl ContainerMemory {
    /// What the image reference means, if that was learnt for this revision.
    pub(crate) fn digest_of(&self, revision: u32) -> Option<&Digest> {
        self.digest.as_ref().filter(|_| self.digest_revision == revision)
    }

    /// Failed pulls in a row for this revision, and when its next one may begin.
    pub(crate) fn pull_of(&self, revision: u32) -> (u32, Option<Timestamp>) {
        if self.pull_revision == revision { (self.pull_failures, self.pull_retry_at) } else { (0, None) }
    }

    /// Whether its latest run, which is over or about to be followed by another, is not the one that is asked for.
    pub(crate) const fn is_outdated(&self, revision: u32) -> bool {
        self.run > 0 && self.revision < revision
    }
}

/// Whether the end of a run is the program's own doing, so that being started again counts.
pub(crate) fn counts_as_restart(exit: &ContainerExit) -> bool {
    !matches!(exit.reason, EndReason::Restarted | EndReason::NodeLost)
}

/// What was said of one instance in its latest generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) generation: Generation,
    pub(crate) containers: BTreeMap<ContainerName, ContainerMemory>,
    /// The address of its sandbox.
    pub(crate) address: Option<Ipv4Addr>,
    /// It cannot be started in this generation.
    pub(crate) failed: bool,
    pub(crate) sandbox_stopped: bool,
    pub(crate) removed: bool,
    /// When a container first ran in this generation.
    #[serde(default)]
    pub(crate) first_started_at: Option<Timestamp>,
    /// What was said of volumes that are to be fetched.
    #[serde(default)]
    pub(crate) volumes: BTreeMap<VolumeName, VolumeMemory>,
}

impl Memory {
    pub(crate) fn new(generation: Generation) -> Self {
        Self {
            generation,
            containers: BTreeMap::new(),
            address: None,
            failed: false,
            sandbox_stopped: false,
            removed: false,
            first_started_at: None,
            volumes: BTreeMap::new(),
        }
    }

    /// Adds what is said. A fact of an older generation changes nothing, one of a newer begins anew.
    pub(crate) fn fold(&mut self, generation: Generation, revision: u32, fact: &Fact) {
        if generation < self.generation {
            return;
        }
        if generation > self.generation {
            *self = Self::new(generation);
        }
        match fact {
            Fact::PullStarted { .. } => {}
            Fact::PullRetrying { container, retry_at, .. } => {
                let known = self.containers.entry(container.clone()).or_default();
                if revision > known.pull_revision {
                    (known.pull_failures, known.pull_retry_at) = (0, None);
                    known.pull_revision = revision;
                }
                if revision == known.pull_revision && known.pull_retry_at != Some(*retry_at) {
                    known.pull_failures = known.pull_failures.saturating_add(1);
                    known.pull_retry_at = Some(*retry_at);
                }
            }
            Fact::Pulled { container, digest, .. } => {
                let known = self.containers.entry(container.clone()).or_default();
                if revision >= known.digest_revision {
                    known.digest = Some(digest.clone());
                    known.digest_revision = revision;
                }
                known.pull_failures = 0;
                known.pull_retry_at = None;
            }
            Fact::VolumeRetrying { volume, retry_at, .. } => {
                let known = self.volumes.entry(volume.clone()).or_default();
                if known.retry_at != Some(*retry_at) {
                    known.failures = known.failures.saturating_add(1);
                    known.retry_at = Some(*retry_at);
                }
            }
            Fact::VolumeReady { volume, .. } => drop(self.volumes.remove(volume)),
            Fact::SandboxReady { address } => self.address = Some(*address),
            Fact::ContainerStarted { container, run, started_at } => {
                self.began(*started_at);
                let known = self.containers.entry(container.clone()).or_default();
                if *run > known.run {
                    known.run = *run;
                    known.ready = None;
                    known.revision = revision;
                    known.state = RunMemory::Running { started_at: *started_at };
                }
            }
            Fact::ContainerExited { container, run, started_at, exit, restart_at } => {
                self.began(*started_at);
                let known = self.containers.entry(container.clone()).or_default();
                let ends_it =
                    *run > known.run || (*run == known.run && matches!(known.state, RunMemory::Running { .. }));
                if ends_it {
                    known.run = *run;
                    known.ready = None;
                    known.revision = revision.max(known.revision);
                    known.succeeded = !exit.is_failure();
                    known.last_end = Some((*run, exit.exit_code));
                    if counts_as_restart(exit) && restart_at.is_some() {
                        known.restarts = known.restarts.saturating_add(1);
                    }
                    known.restarts_in_a_row = if exit.reason == EndReason::Restarted {
                        0
                    } else {
                        next_in_a_row(known.restarts_in_a_row, exit.finished_at.since(*started_at))
                    };
                    known.state = match restart_at {
                        Some(restart_at) => RunMemory::Waiting { restart_at: *restart_at },
                        None => RunMemory::Over,
                    };
                }
            }
            Fact::Readiness { container, run, ready, .. } => {
                let known = self.containers.entry(container.clone()).or_default();
                if *run == known.run && matches!(known.state, RunMemory::Running { .. }) {
                    known.ready = Some(*ready);
                }
            }
            Fact::Failed { .. } => self.failed = true,
            Fact::SandboxStopped => {
                self.sandbox_stopped = true;
                self.address = None;
            }
            Fact::Removed => self.removed = true,
        }
    }

    /// What was said of a container; the default when nothing was.
    pub(crate) fn container(&self, name: &ContainerName) -> ContainerMemory {
        self.containers.get(name).cloned().unwrap_or_default()
    }

    /// Whether nothing of this generation will be started any more, whatever its desired action.
    pub(crate) fn ended(&self, desired: &DesiredInstance) -> bool {
        self.failed || self.sandbox_stopped || desired.containers.iter().all(|container| self.is_over(container))
    }

    fn is_over(&self, container: &DesiredContainer) -> bool {
        self.containers
            .get(&container.spec.name)
            .is_some_and(|known| known.state == RunMemory::Over && !known.is_outdated(container.revision))
    }

    fn began(&mut self, at: Timestamp) {
        self.first_started_at = Some(self.first_started_at.map_or(at, |first| first.min(at)));
    }
}
