//! The line to the control plane, downwards: introduces the node, then asks for its desired state for ever.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use wherry_agent_api::ControlError;

use crate::backoff::Backoff;
use crate::blocking::blocking;
use crate::desired::Received;
use crate::fence;
use crate::node::Node;

/// Without an answer in this time the control plane counts as away.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The same for a question that it answers after about 30 s when nothing changes.
const LONG_POLL_WITHIN: Duration = Duration::from_mins(1);

/// A node that was removed looks again so often: its operator may have put the store back.
pub(crate) const REMOVED_LOOK: Duration = Duration::from_mins(5);

/// Runs for ever. Whatever goes wrong is waited out; what is desired meanwhile is what was known last.
pub(crate) async fn keep(node: Arc<Node>) {
    let (mut failures, mut fenced_in_a_row) = (0, false);
    loop {
        let heard = introduce_and_listen(&node, &mut failures).await;
        let removal_is_kept = heard == ControlError::Removed && end_everything(&node).await;
        let trouble = match heard {
            // The first time there is nothing to wait for.
            ControlError::Fenced { .. } if failures == 0 && !fenced_in_a_row => {
                fenced_in_a_row = true;
                continue;
            }
            ControlError::UnknownNode => "the control plane does not know this node; it is introduced again".to_owned(),
            error => error.to_string(),
        };
        if failures == 0 {
            tracing::warn!(trouble, "the line to the control plane broke");
        }
        fenced_in_a_row = false;
        failures = failures.saturating_add(1);
        node.board.set(|status| &mut status.control_plane_trouble, Some(trouble));
        let wait = if removal_is_kept { REMOVED_LOOK } else { Backoff::CONTROL_PLANE.delay(failures) };
        tokio::time::sleep(wait).await;
    }
}

/// The node was removed: what it has is nobody's here, and may run elsewhere. It is ended as what a desired state does not list,
/// by an agent that begins later too. Returns whether that is on disk.
async fn end_everything(node: &Arc<Node>) -> bool {
    if !node.desired.is_removed() {
        tracing::error!("this node was removed from its fleet; everything that it has is ended");
    }
    let store = node.desired.clone();
    let kept = blocking(move || store.remove()).await;
    if let Err(error) = &kept {
        tracing::error!(%error, "that this node was removed cannot be kept on disk");
    }
    kept.is_ok()
}

async fn introduce_and_listen(node: &Arc<Node>, failures: &mut u32) -> ControlError {
    // A word of it from before is answered by this.
    let _was_said = node.fenced_out.notified().now_or_never();
    if let Err(error) = within(ANSWER_WITHIN, node.control.hello(node.hello().await)).await {
        return error;
    }
    // The first answer of a life is asked for in any case: it confirms what the file says.
    let mut have = None;
    loop {
        // Whoever asks for all of it finds out by the answer.
        let fenced_out = async {
            match have {
                Some(_) => node.fenced_out.notified().await,
                None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            biased;
            () = fenced_out => return ControlError::Fenced { epoch: node.desired.epoch() },
            answer = within(LONG_POLL_WITHIN, node.control.desired(node.config.machine.node, have)) => answer,
        };
        // What is not listed any more is not the fence's any more.
        fence::passed(node).await;
        match answer {
            Err(error) => return error,
            Ok(None) => {}
            Ok(Some(desired)) => {
                let store = node.desired.clone();
                let revision = desired.revision;
                let kept = blocking(move || store.receive(desired)).await;
                match kept {
                    Ok(Received::Taken) => have = Some(revision),
                    Ok(Received::Older) => {
                        return ControlError::Refused(format!(
                            "it sent revision {revision} of the desired state, which is older than what it sent before"
                        ));
                    }
                    Err(error) => {
                        return ControlError::Unavailable(format!("the desired state cannot be kept on disk: {error}"));
                    }
                }
            }
        }
        *failures = 0;
        node.board.set(|status| &mut status.control_plane_trouble, None);
        node.board.set(|status| &mut status.desired_revision, node.desired.revision());
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, ControlError>>) -> Result<T, ControlError> {
    let answer = tokio::time::timeout(limit, call).await;
    answer.unwrap_or_else(|_| Err(ControlError::Unavailable("it did not answer".to_owned())))
}
