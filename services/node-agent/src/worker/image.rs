//! Getting images. The first pull asks the registry what the reference means; from then on exactly that is run, and the
//! registry is asked again only when it is not on the machine any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use wherry_agent_api::{DesiredContainer, DesiredInstance};
use wherry_model::{ContainerName, ContainerSpec, Digest, EndReason, Fact, InstanceId, PullPolicy};
use wherry_runtime::{Image, PullRequest, RuntimeError};

use super::behind::Sought;
use super::{Trouble, Worker};
use crate::backoff::Backoff;
use crate::journal::{Memory, RunMemory};
use crate::node::Node;
use crate::status::Phase;
use crate::verdict::Verdict;
use crate::{message, plan, secrets};

/// A pull that only asks what a reference means ends sooner than this and is not worth a word. One that takes longer is
/// given up and begun again as a pull like any other, so that no registry can hold up the questions to others.
const QUIET_PULL: Duration = Duration::from_millis(500);

/// An image that is wanted, and what is on the machine of it.
pub(super) struct Wanted<'a> {
    pub(super) container: &'a DesiredContainer,
    reference: String,
    /// What was said to have been pulled, or asked for.
    pinned: Option<Digest>,
    present: Option<Image>,
    /// Whether the registry has shown the image to this project already. What is only on the machine may be there by the
    /// credentials of others, and a digest is no secret.
    shown: bool,
}

impl Wanted<'_> {
    pub(super) fn is_present(&self) -> bool {
        self.present.is_some()
    }

    /// Whether nobody has to be asked before it can be run.
    pub(super) fn is_settled(&self) -> bool {
        self.present.is_some() && self.pinned.is_some() && self.shown
    }
}

/// What became of an image.
#[derive(Debug)]
pub(super) enum Got {
    /// It is here; the reference for the engine.
    Here(String),
    /// Not now: why was said.
    Later,
    /// It will not be had; whether it may be had later.
    Never { verdict: Verdict, may_pass: bool },
}

/// Fetches images for an instance; many may be on their way at the same time.
#[derive(Clone)]
pub(super) struct Puller {
    pub(super) node: Arc<Node>,
    pub(super) instance: InstanceId,
}

/// Takes an image out of the list of pulls however the pull ends.
struct Listed<'a> {
    node: &'a Node,
    key: (InstanceId, ContainerName),
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.node.pulling().remove(&self.key);
    }
}

impl Puller {
    /// One question to the engine for each image.
    pub(super) async fn look_up<'a>(
        &self,
        desired: &'a DesiredInstance,
        memory: &Memory,
        names: &BTreeSet<ContainerName>,
    ) -> Result<Vec<Wanted<'a>>, Trouble> {
        let asked = desired.containers.iter().filter(|container| names.contains(&container.spec.name));
        let look_ups = asked.map(|container| async {
            let spec = &container.spec;
            let said = memory.container(&spec.name).digest_of(container.revision).cloned();
            let own = match spec.pull {
                PullPolicy::Once | PullPolicy::IfNotPresent => container.digest.clone().or(said),
                // What it meant at an earlier start is no matter at this one.
                PullPolicy::Always => said,
            };
            if own.is_none()
                && spec.pull == PullPolicy::IfNotPresent
                && !container.asks_registry
                && let Some(digest) = self.here_already(desired, spec)
            {
                let reference = spec.image.pinned(digest.clone()).to_string();
                // Another one of the project knew what it means, and it was removed since: then it is not present.
                if let Some(present) = self.node.runtime.image(&reference).await? {
                    return Ok(Wanted {
                        container,
                        reference,
                        pinned: Some(digest),
                        present: Some(present),
                        shown: true,
                    });
                }
            }
            let by_digest = || spec.image.digest().is_some() && self.here_already(desired, spec).is_some();
            let shown = own.is_some() || by_digest();
            let pinned = own.or_else(|| spec.image.digest().cloned());
            let reference = match &pinned {
                Some(digest) => spec.image.pinned(digest.clone()).to_string(),
                None => spec.image.to_string(),
            };
            let present = self.node.runtime.image(&reference).await?;
            Ok::<_, Trouble>(Wanted { container, reference, pinned, present, shown })
        });
        try_join_all(look_ups).await
    }

    /// What the reference means to another instance of the same project on this machine. Not what it means to anybody:
    /// an image may be here by the credentials of others.
    fn here_already(&self, desired: &DesiredInstance, spec: &ContainerSpec) -> Option<Digest> {
        let watch = self.node.desired.watch();
        let known = watch.borrow();
        let own = known.instances.values().filter(|other| {
            (other.tenant, other.project) == (desired.tenant, desired.project) && other.id != desired.id
        });
        let mut same = own.flat_map(|other| &other.containers).filter(|other| other.spec.image == spec.image);
        same.find_map(|other| other.digest.clone())
    }

    /// Looks one up and pulls it if it is not here or not pinned.
    pub(super) async fn provide(&self, desired: &DesiredInstance, name: &ContainerName) -> Result<Got, Trouble> {
        let memory = self.memory(desired);
        let names = BTreeSet::from([name.clone()]);
        match self.look_up(desired, &memory, &names).await?.first() {
            Some(wanted) => self.fetch(desired, &memory, wanted).await,
            None => Ok(Got::Later),
        }
    }

    /// Pulls what is not here or not pinned.
    pub(super) async fn fetch(
        &self,
        desired: &DesiredInstance,
        memory: &Memory,
        image: &Wanted<'_>,
    ) -> Result<Got, Trouble> {
        let name = &image.container.spec.name;
        let said = memory.container(name);
        if let (Some(digest), true) = (&image.pinned, image.is_present() && image.shown) {
            if said.digest_of(image.container.revision) != Some(digest) {
                self.say_pulled(desired, image, digest.clone(), true);
            }
            self.node.images_used.note(&image.reference);
            return Ok(Got::Here(image.reference.clone()));
        }
        let key = (self.instance, name.clone());
        self.node.pulling().insert(key.clone(), image.reference.clone());
        let _listed = Listed { node: &self.node, key };
        let pulled = match self.pull(desired, memory, image).await {
            Ok(pulled) => pulled,
            // The engine is away or stuck: nothing was learnt about the image.
            Err(error @ RuntimeError::Unavailable { .. }) => return Err(error.into()),
            Err(error) => return Ok(self.not_pulled(desired, image, &error)),
        };
        let Ok(digest) = pulled.digest.parse::<Digest>() else {
            return Err(RuntimeError::Internal { message: format!("{:?} is not a digest", pulled.digest) }.into());
        };
        let cached = image.present.as_ref().is_some_and(|present| present.id == pulled.image.id);
        self.say_pulled(desired, image, digest, cached);
        self.node.images_used.note(&pulled.pinned_reference);
        Ok(Got::Here(pulled.pinned_reference))
    }

    /// The pull itself; not said to have started when only a question to the registry was needed.
    async fn pull(
        &self,
        desired: &DesiredInstance,
        memory: &Memory,
        image: &Wanted<'_>,
    ) -> Result<wherry_runtime::PulledImage, RuntimeError> {
        let container = image.container.spec.name.clone();
        let timeout = self.node.config.pulls.timeout;
        let auth = secrets::registry_auth(desired, &image.container.spec.image)?;
        let request = PullRequest { reference: image.reference.clone(), auth, timeout };
        if image.is_present() {
            let _permit = self.node.look_ups.acquire(desired.tenant).await;
            let quick = tokio::time::timeout(QUIET_PULL, self.node.runtime.pull_image(&request));
            if let Ok(pulled) = quick.await {
                return pulled;
            }
        }
        let _permit = self.node.pulls.acquire(desired.tenant).await;
        self.say(desired, image, Fact::PullStarted { container });
        if desired.containers.len() == 1 && !runs(memory, image) {
            self.node.board.set_phase(self.instance, Some(Phase::Pulling));
        }
        self.node.runtime.pull_image(&request).await
    }

    fn say_pulled(&self, desired: &DesiredInstance, image: &Wanted<'_>, digest: Digest, cached: bool) {
        let container = image.container.spec.name.clone();
        self.say(desired, image, Fact::Pulled { container, digest, cached });
    }

    fn say(&self, desired: &DesiredInstance, image: &Wanted<'_>, fact: Fact) {
        self.node.journal.say_of(self.instance, desired.generation, image.container.revision, fact);
    }

    fn not_pulled(&self, desired: &DesiredInstance, image: &Wanted<'_>, error: &RuntimeError) -> Got {
        tracing::warn!(instance = %self.instance, %error, "an image could not be pulled");
        let (tries, revision) = (self.node.config.pulls.tries.max(1), image.container.revision);
        let container = image.container.spec.name.clone();
        // After the last of them, which may have ended nothing, they begin anew.
        let so_far = self.memory(desired).container(&container).pull_of(revision).0 % tries;
        let (failures, message) = (so_far.saturating_add(1), message::for_tenant(error));
        if matches!(error, RuntimeError::ImageRefused { .. }) {
            return Got::Never { verdict: Verdict::new(EndReason::ImageRefused, message), may_pass: false };
        }
        if !error.is_retryable() {
            return Got::Never { verdict: Verdict::new(EndReason::ImagePullFailed, message), may_pass: false };
        }
        if failures >= tries {
            let message = format!("{message}; {failures} tries failed");
            return Got::Never { verdict: Verdict::new(EndReason::ImagePullFailed, message), may_pass: true };
        }
        let retry_at = self.node.clock.now().plus(Backoff::PULL.delay(failures));
        self.say(desired, image, Fact::PullRetrying { container, message, retry_at });
        Got::Later
    }

    fn memory(&self, desired: &DesiredInstance) -> Memory {
        let known = self.node.journal.memory(self.instance).filter(|known| known.generation == desired.generation);
        known.unwrap_or_else(|| Memory::new(desired.generation))
    }
}

impl Worker {
    /// What was sought will not be had: what runs without it runs on and that is said, or nothing of the
    /// instance does any more.
    pub(super) fn do_without(&mut self, container: &ContainerName, sought: Sought, verdict: Verdict, may_pass: bool) {
        let (Some(desired), _) = self.desired() else { return };
        let Some(wanted) = desired.container(container) else { return };
        if Sought::of(&desired, wanted) != sought {
            return;
        }
        let (generation, revision) = (desired.generation, wanted.revision);
        let Verdict { reason, message } = verdict;
        let message = message.unwrap_or_default();
        let memory = self.memory(Some(generation));
        let snapshot = self.node.observer.shown();
        let seen = snapshot.and_then(|snapshot| snapshot.instances.get(&self.instance).cloned()).unwrap_or_default();
        if plan::is_spared(&desired, &memory, &seen, &self.behind.at_work, container) {
            // That no moment lies ahead says that there is no next try. The same moment twice would be the same fact twice.
            let now = self.node.clock.now();
            let is_told = memory.container(container).pull_retry_at == Some(now);
            let retry_at = if is_told { now.minus(Duration::from_millis(1)) } else { now };
            let fact = Fact::PullRetrying { container: container.clone(), message, retry_at };
            self.node.journal.say_of(self.instance, generation, revision, fact);
            self.behind.give_up(container, sought);
            return;
        }
        let advice = if may_pass { ", create or start it again later" } else { "" };
        self.behind.condemn(&desired, Verdict::new(reason, format!("{message}{advice}")));
    }
}

/// Whether the container runs, with another image.
fn runs(memory: &Memory, image: &Wanted<'_>) -> bool {
    let said = memory.container(&image.container.spec.name);
    matches!(said.state, RunMemory::Running { .. }) && said.is_outdated(image.container.revision)
}
