//! What a worker has done behind its back, so that nothing of it holds up the other containers of the instance: pulls of an
//! instance of several containers, ends of single containers, and what is to be done after a start.
//!
//! All of it is lost with the worker and begun again by the next one: the plan sees that it is not done.

use std::collections::BTreeMap;

use tokio::task::{AbortHandle, JoinSet};
use wherry_agent_api::{DesiredContainer, DesiredInstance};
use wherry_model::{ContainerName, Generation};
use wherry_runtime::{ContainerId, RegistryAuth};

use super::Trouble;
use super::image::Got;
use crate::check::Finding;
use crate::plan::AtWork;
use crate::secrets::{self, NotOpened};
use crate::verdict::Verdict;

/// What was done.
pub(super) enum Done {
    Pull { container: ContainerName, of: Sought, outcome: Result<Got, Trouble> },
    End { container: ContainerId, outcome: Result<(), Trouble> },
    Greeting { container: ContainerId, finding: Finding },
}

/// For which state of things an image is fetched. Another revision may name another one, and other credentials may get it where
/// these do not: what was found out with one says nothing about the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sought {
    generation: Generation,
    revision: u32,
    auth: Result<Option<RegistryAuth>, NotOpened>,
}

impl Sought {
    pub(super) fn of(desired: &DesiredInstance, container: &DesiredContainer) -> Self {
        let auth = secrets::registry_auth(desired, &container.spec.image);
        Self { generation: desired.generation, revision: container.revision, auth }
    }
}

/// For what an image is fetched, and how to give that up.
struct Pull {
    of: Sought,
    task: AbortHandle,
}

#[derive(Default)]
pub(super) struct Behind {
    tasks: JoinSet<Done>,
    pulls: BTreeMap<ContainerName, Pull>,
    greetings: BTreeMap<ContainerId, AbortHandle>,
    /// For what [`AtWork::given_up`] is so.
    given_up: BTreeMap<ContainerName, Sought>,
    pub(super) at_work: AtWork,
    /// For which state of things [`AtWork::doom`] is so: another may be better.
    doomed: Option<Vec<Sought>>,
}

impl Behind {
    pub(super) fn pull(
        &mut self,
        desired: &DesiredInstance,
        container: &ContainerName,
        work: impl Future<Output = Result<Got, Trouble>> + Send + 'static,
    ) {
        let Some(wanted) = desired.container(container) else { return };
        if !self.at_work.pulling.insert(container.clone()) {
            return;
        }
        let (name, of) = (container.clone(), Sought::of(desired, wanted));
        let sought = of.clone();
        let task = self.tasks.spawn(async move { Done::Pull { container: name, of: sought, outcome: work.await } });
        self.pulls.insert(container.clone(), Pull { of, task });
    }

    pub(super) fn end(
        &mut self,
        container: &ContainerId,
        work: impl Future<Output = Result<(), Trouble>> + Send + 'static,
    ) {
        if self.at_work.ending.insert(container.clone()) {
            let container = container.clone();
            self.tasks.spawn(async move { Done::End { container, outcome: work.await } });
        }
    }

    pub(super) fn greet(&mut self, container: &ContainerId, work: impl Future<Output = Finding> + Send + 'static) {
        if self.at_work.greeting.insert(container.clone()) {
            let of = container.clone();
            let task = self.tasks.spawn(async move { Done::Greeting { container: of, finding: work.await } });
            self.greetings.insert(container.clone(), task);
        }
    }

    /// Gives up what is to be done after the start of containers that do not run any more: it may go to an address, which soon
    /// is another's.
    pub(super) fn greet_only(&mut self, runs: impl Fn(&ContainerId) -> bool) {
        self.greetings.retain(|container, task| {
            let keep = runs(container);
            if !keep {
                task.abort();
                self.at_work.greeting.remove(container);
            }
            keep
        });
    }

    pub(super) fn condemn(&mut self, desired: &DesiredInstance, verdict: Verdict) {
        self.doomed = Some(state_of(desired));
        self.at_work.doom = Some(verdict);
    }

    /// What was sought is not asked for again while the instance may go on without it.
    pub(super) fn give_up(&mut self, container: &ContainerName, sought: Sought) {
        self.given_up.insert(container.clone(), sought);
        self.at_work.given_up.insert(container.clone());
    }

    /// Gives up what is not wanted any more.
    pub(super) fn follow(&mut self, desired: Option<&DesiredInstance>, runs: bool) {
        let desired = desired.filter(|_| runs);
        let is_asked = |name: &ContainerName, of: &Sought| {
            let now = desired.and_then(|desired| Some(Sought::of(desired, desired.container(name)?)));
            now.as_ref() == Some(of)
        };
        self.pulls.retain(|name, pull| {
            let keep = is_asked(name, &pull.of);
            if !keep {
                pull.task.abort();
                self.at_work.pulling.remove(name);
            }
            keep
        });
        self.given_up.retain(|name, sought| {
            let keep = is_asked(name, sought);
            if !keep {
                self.at_work.given_up.remove(name);
            }
            keep
        });
        if self.doomed.is_some() && (!runs || self.doomed != desired.map(state_of)) {
            self.doomed = None;
            self.at_work.doom = None;
        }
    }

    /// Waits until something is done; for ever when nothing is under way.
    pub(super) async fn done(&mut self) -> Done {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(done)) => return self.noted(done),
                // Given up.
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => std::future::pending::<()>().await,
            }
        }
    }

    /// Something that is done by now.
    pub(super) fn done_by_now(&mut self) -> Option<Done> {
        loop {
            match self.tasks.try_join_next()? {
                Ok(done) => return Some(self.noted(done)),
                Err(error) if error.is_cancelled() => {}
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
    }

    fn noted(&mut self, done: Done) -> Done {
        match &done {
            // One that was given up may be done as well, when the next has begun.
            Done::Pull { container, of, .. } if self.pulls.get(container).is_some_and(|pull| pull.of == *of) => {
                self.pulls.remove(container);
                self.at_work.pulling.remove(container);
            }
            Done::Pull { .. } => {}
            Done::End { container, .. } => drop(self.at_work.ending.remove(container)),
            Done::Greeting { container, .. } => {
                self.greetings.remove(container);
                self.at_work.greeting.remove(container);
            }
        }
        done
    }
}

/// What is sought for each container.
pub(super) fn state_of(desired: &DesiredInstance) -> Vec<Sought> {
    desired.containers.iter().map(|container| Sought::of(desired, container)).collect()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use wherry_model::SecretText;

    use super::*;
    use crate::secrets::tests::instance;

    #[tokio::test]
    async fn what_was_fetched_under_other_credentials_is_not_what_is_being_fetched() {
        let mut behind = Behind::default();
        let mut desired = instance();
        let name = desired.containers[0].spec.name.clone();
        behind.pull(&desired, &name, async { Ok(Got::Later) });
        let mut before = behind.pulls[&name].of.clone();
        while !behind.pulls[&name].task.is_finished() {
            tokio::task::yield_now().await;
        }
        // It is done, nobody has looked yet, and by now the password is another.
        let sealed = desired.more.registry_credentials[0].password.clone();
        desired.more.secrets.insert(&sealed, SecretText::new("other".to_owned()));
        behind.follow(Some(&desired), true);
        assert!(behind.at_work.pulling.is_empty(), "it is sought anew");
        behind.pull(&desired, &name, pending());
        let Some(Done::Pull { of, .. }) = behind.done_by_now() else { panic!("it was done") };
        assert!(of == before && of != Sought::of(&desired, &desired.containers[0]));
        assert!(behind.at_work.pulling.contains(&name), "the one that goes on is not the one that is done");
        // One that goes on ends with the credentials that it goes on under.
        before = behind.pulls[&name].of.clone();
        behind.follow(Some(&desired), true);
        assert!(behind.pulls[&name].of == before);
        desired.more.registry_credentials.clear();
        behind.follow(Some(&desired), true);
        assert!(behind.pulls.is_empty() && behind.at_work.pulling.is_empty());
    }

    #[tokio::test]
    async fn a_greeting_ends_with_its_container_and_no_other_does() {
        let mut behind = Behind::default();
        let (stays, goes) = (ContainerId::new("stays"), ContainerId::new("goes"));
        let [(held, mut is_held), (left, is_left)] = [oneshot::channel::<()>(), oneshot::channel()];
        for (id, sign) in [(&stays, held), (&goes, left)] {
            behind.greet(id, async move {
                let _sign = sign;
                pending().await
            });
        }
        behind.greet_only(|id| *id == stays);
        assert!(is_left.await.is_err(), "it lets go of what it held");
        assert_eq!(behind.at_work.greeting, [stays].into());
        assert!(is_held.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
    }
}
