//! What goes wrong in a pass over many nodes or instances: one that cannot be dealt with does not hold up those behind it.

use wherry_model::{InstanceId, NodeId};

use crate::{Control, Error};

/// The nodes and instances of one pass that could not be dealt with.
#[derive(Default)]
pub(super) struct Failures(Option<Error>);

impl Failures {
    /// Notes one, and says whether to go on with those behind it: not if the store does not answer at all, and not if this has
    /// taken so long that the work is another's now. So a pass ends soon also when every node would fail.
    pub(super) async fn note(&mut self, control: &Control, node: NodeId, error: Error) -> bool {
        tracing::error!(
            %node,
            error = &error as &dyn std::error::Error,
            "a node cannot be dealt with, it is tried again"
        );
        self.keep(control, error).await
    }

    /// The same of an instance.
    pub(super) async fn note_instance(&mut self, control: &Control, instance: InstanceId, error: Error) -> bool {
        tracing::error!(
            %instance,
            error = &error as &dyn std::error::Error,
            "an instance cannot be dealt with, it is tried again"
        );
        self.keep(control, error).await
    }

    async fn keep(&mut self, control: &Control, error: Error) -> bool {
        self.0.get_or_insert(error);
        matches!(control.leads().await, Ok(true))
    }

    /// Whether nothing went wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The first of them, or what was done if there is none.
    pub(super) fn or<T>(self, done: T) -> Result<T, Error> {
        self.0.map_or(Ok(done), Err)
    }
}
