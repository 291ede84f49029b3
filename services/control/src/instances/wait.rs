//! Waiting until an instance is in a state.

use std::time::Duration;

use wherry_model::{Instance, InstanceState, Principal, ProjectName, Scope};

use crate::{Control, Error, InstanceView};

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// A state.
    State(InstanceState),
    /// That it runs, and that every container that is there to last is found ready by its probes.
    Ready,
    /// That nothing of it goes on by itself any more.
    Ended,
}

impl From<InstanceState> for Awaited {
    fn from(state: InstanceState) -> Self {
        Self::State(state)
    }
}

impl Awaited {
    fn is_true_of(self, instance: &Instance) -> bool {
        match self {
            Self::State(state) => instance.state == state,
            Self::Ready => instance.is_ready(),
            Self::Ended => instance.state.is_settled(),
        }
    }

    /// Whether somebody may bring it about while nothing goes on by itself: who waits for a delete waits for somebody to ask.
    const fn comes_by_a_delete(self) -> bool {
        matches!(self, Self::State(InstanceState::Deleting | InstanceState::Deleted))
    }
}

/// How a wait ended.
#[derive(Debug, Clone)]
pub struct Waited {
    /// The instance at the end of the wait.
    pub view: InstanceView,
    /// Whether it is as it was waited for.
    pub reached: bool,
}

impl Control {
    /// Returns when one of `wanted` is true of the instance, when it can no longer get there by itself, or at the timeout. What
    /// a schedule starts again gets there by itself.
    pub async fn wait_instance<W: Copy + Into<Awaited> + Sync>(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        wanted: &[W],
        timeout: Duration,
    ) -> Result<Waited, Error> {
        Self::require(principal, Scope::InstancesRead)?;
        let mut instance = self.instance_of(principal, project, name_or_id).await?;
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            let seen = self.store().position();
            instance = self.reread(instance.id).await?;
            let reached = wanted.iter().any(|wanted| (*wanted).into().is_true_of(&instance));
            let leaves = instance.state != InstanceState::Deleted
                && wanted.iter().any(|wanted| (*wanted).into().comes_by_a_delete());
            let starts_again = instance.timetable.as_ref().is_some_and(|table| table.due_at.is_some());
            let over = instance.state.is_settled() && !instance.holds_resources && !starts_again && !leaves;
            if reached || over || tokio::time::timeout_at(deadline, self.store().changed(seen)).await.is_err() {
                return Ok(Waited { view: self.view(instance).await?, reached });
            }
        }
    }
}
