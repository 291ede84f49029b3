//! Getting images. The first pull asks the registry what the reference means; from then on exactly that is run, and the
//! registry is asked again only when it is not on the machine any more.

use std::time::Duration;

use wherry_agent_api::{DesiredContainer, DesiredInstance};
use wherry_model::{Digest, EndReason, Fact, InstanceId};
use wherry_runtime::{Image, PullRequest, RuntimeError};

use super::{Trouble, Worker};
use crate::backoff::Backoff;
use crate::journal::Memory;
use crate::message;
use crate::node::Node;
use crate::status::Phase;

/// A pull that only asks what a reference means ends sooner than this and is not worth a word. One that takes longer is
/// given up and begun again as a pull like any other, so that no registry can hold up the questions to others.
const QUIET_PULL: Duration = Duration::from_millis(500);

/// An image that is wanted, and what is on the machine of it.
pub(super) struct Wanted<'a> {
    container: &'a DesiredContainer,
    reference: String,
    /// What was said to have been pulled.
    pinned: Option<Digest>,
    present: Option<Image>,
}

impl Wanted<'_> {
    pub(super) fn is_present(&self) -> bool {
        self.present.is_some()
    }
}

/// What became of the images.
pub(super) enum Fetched {
    /// All are here; references for the engine, in the order of the containers.
    All(Vec<String>),
    /// Not now: said why, or something else is desired meanwhile.
    NotNow,
}

/// Takes an instance out of the list of pulls however the pull ends.
struct Listed<'a> {
    node: &'a Node,
    instance: InstanceId,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.node.pulling().remove(&self.instance);
    }
}

impl Worker {
    /// One question to the engine for each image.
    pub(super) async fn look_up<'a>(
        &self,
        desired: &'a DesiredInstance,
        memory: &Memory,
    ) -> Result<Vec<Wanted<'a>>, Trouble> {
        let look_ups = desired.containers.iter().map(|container| async {
            let spec = &container.spec;
            let said = memory.container(&spec.name).digest;
            let pinned = container.digest.clone().or(said).or_else(|| spec.image.digest().cloned());
            let reference = match &pinned {
                Some(digest) => spec.image.pinned(digest.clone()).to_string(),
                None => spec.image.to_string(),
            };
            let present = self.node.runtime.image(&reference).await?;
            Ok::<_, Trouble>(Wanted { container, reference, pinned, present })
        });
        futures_util::future::try_join_all(look_ups).await
    }

    /// Pulls what is not here or not pinned. Ends early when something else is desired.
    pub(super) async fn fetch(
        &self,
        desired: &DesiredInstance,
        memory: &Memory,
        wanted: Vec<Wanted<'_>>,
    ) -> Result<Fetched, Trouble> {
        let mut references = Vec::with_capacity(wanted.len());
        for image in wanted {
            let fetched = tokio::select! {
                biased;
                fetched = self.fetch_one(desired, memory, &image) => fetched?,
                () = self.desired_otherwise(desired) => return Ok(Fetched::NotNow),
            };
            match fetched {
                Some(reference) => references.push(reference),
                None => return Ok(Fetched::NotNow),
            }
        }
        Ok(Fetched::All(references))
    }

    async fn fetch_one(
        &self,
        desired: &DesiredInstance,
        memory: &Memory,
        image: &Wanted<'_>,
    ) -> Result<Option<String>, Trouble> {
        let name = &image.container.spec.name;
        let said = memory.container(name);
        if let (Some(digest), true) = (&image.pinned, image.is_present()) {
            if said.digest.as_ref() != Some(digest) {
                let (container, digest) = (name.clone(), digest.clone());
                self.say(desired.generation, Fact::Pulled { container, digest, cached: true });
            }
            return Ok(Some(image.reference.clone()));
        }
        self.node.pulling().insert(self.instance, image.reference.clone());
        let _listed = Listed { node: &self.node, instance: self.instance };
        let pulled = self.pull(desired, image).await;
        let pulled = match pulled {
            Ok(pulled) => pulled,
            // The engine is away or stuck: nothing was learnt about the image.
            Err(error @ RuntimeError::Unavailable { .. }) => return Err(error.into()),
            Err(error) => {
                self.say_not_pulled(desired, image, said.pull_failures, &error);
                return Ok(None);
            }
        };
        let Ok(digest) = pulled.digest.parse::<Digest>() else {
            return Err(RuntimeError::Internal { message: format!("{:?} is not a digest", pulled.digest) }.into());
        };
        let cached = image.present.as_ref().is_some_and(|present| present.id == pulled.image.id);
        self.say(desired.generation, Fact::Pulled { container: name.clone(), digest, cached });
        Ok(Some(pulled.pinned_reference))
    }

    /// The pull itself; not said to have started when only a question to the registry was needed.
    async fn pull(
        &self,
        desired: &DesiredInstance,
        image: &Wanted<'_>,
    ) -> Result<wherry_runtime::PulledImage, RuntimeError> {
        let container = image.container.spec.name.clone();
        let timeout = self.node.config.pulls.timeout;
        let request = PullRequest { reference: image.reference.clone(), auth: None, timeout };
        if image.is_present() {
            let _permit = self.node.look_ups.acquire(desired.tenant).await;
            let quick = tokio::time::timeout(QUIET_PULL, self.node.runtime.pull_image(&request));
            if let Ok(pulled) = quick.await {
                return pulled;
            }
        }
        let _permit = self.node.pulls.acquire(desired.tenant).await;
        self.say(desired.generation, Fact::PullStarted { container });
        self.node.board.set_phase(self.instance, Some(Phase::Pulling));
        self.node.runtime.pull_image(&request).await
    }

    fn say_not_pulled(&self, desired: &DesiredInstance, image: &Wanted<'_>, failures: u32, error: &RuntimeError) {
        tracing::warn!(instance = %self.instance, %error, "an image could not be pulled");
        let container = image.container.spec.name.clone();
        let message = message::for_tenant(error);
        let failures = failures.saturating_add(1);
        let fact = if matches!(error, RuntimeError::ImageRefused { .. }) {
            Fact::Failed { reason: EndReason::ImageRefused, message }
        } else if !error.is_retryable() {
            Fact::Failed { reason: EndReason::ImagePullFailed, message }
        } else if failures >= self.node.config.pulls.tries {
            let message = format!("{message}; {failures} tries failed, create or start it again later");
            Fact::Failed { reason: EndReason::ImagePullFailed, message }
        } else {
            let retry_at = self.node.clock.now().plus(Backoff::PULL.delay(failures));
            Fact::PullRetrying { container, message, retry_at }
        };
        self.say(desired.generation, fact);
    }
}
