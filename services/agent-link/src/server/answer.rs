//! `POST answer/<ticket>`: a node answers a question.
//!
//! A ticket works with the certificate of the node that it was made for, and the node says itself which instance and generation
//! its answer is about. The head of the response comes when the ticket was taken, so a node runs nothing for nobody; its body stays open
//! until the answer is not read any more, which is how the node learns that the client has gone. In it comes what is said to the
//! inside in a conversation, and otherwise nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use wherry_agent_api::ControlError;
use wherry_model::NodeId;

use super::Port;
use super::accept::HangUp;
use super::admission::{Caller, Refusal, enrolled};
use super::dial_back::{Asker, TicketError};
use super::limits::Share;
use crate::frames::Frame;
use crate::wire::{GENERATION_HEADER, INSTANCE_HEADER, PROTOCOL_OF_FLEETS};

/// How long a node may take to take the end.
const TAKES_THE_END: Duration = Duration::from_secs(1);

pub(super) async fn answer(
    State(port): State<Arc<Port>>,
    Extension(caller): Extension<Caller>,
    Extension(hang_up): Extension<HangUp>,
    Path(ticket): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    if caller.protocol < PROTOCOL_OF_FLEETS {
        return Ok(super::routes::no_route().await);
    }
    let share = port.answers.take(caller.node);
    let share = share.ok_or_else(|| ControlError::Unavailable("this node answers too much at once".to_owned()))?;
    let instance = text(&headers, INSTANCE_HEADER).and_then(|text| text.parse().ok());
    let generation = text(&headers, GENERATION_HEADER).and_then(|text| serde_json::from_str(text).ok());
    let claim = port.services.dial_back.claim(&ticket, caller.node, instance, generation).map_err(|error| {
        if error == TicketError::Foreign {
            tracing::warn!(node = %caller.node, "security: a node showed a ticket that was made for another question");
        }
        // One sentence for all: who guesses learns nothing.
        ControlError::Forbidden("this ticket does not work, or not any more".to_owned())
    })?;
    let waiting = claim.answer(body);
    let Asker { is_read, says } =
        waiting.ok_or_else(|| ControlError::Forbidden("nobody waits for this answer any more".to_owned()))?;
    let (over, ended) = (CancellationToken::new(), CancellationToken::new());
    let open = Open { over: over.clone(), says: Some(says), _share: share, _ended: ended.clone().drop_guard() };
    tokio::spawn(watch(port, caller.node, is_read, Said { over, ended, hang_up }));
    Ok((StatusCode::OK, Body::from_stream(stream::unfold(open, next_said))).into_response())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What an answer holds while it is read.
struct Open {
    over: CancellationToken,
    /// What the asker says; none when it has said all.
    says: Option<mpsc::Receiver<Bytes>>,
    _share: Share,
    _ended: DropGuard,
}

/// What is said next, until it is over.
async fn next_said(mut open: Open) -> Option<(Result<Bytes, std::convert::Infallible>, Open)> {
    let said = async {
        match &mut open.says {
            Some(says) => says.recv().await,
            None => std::future::pending().await,
        }
    };
    let said = tokio::select! {
        biased;
        () = open.over.cancelled() => return None,
        said = said => said,
    };
    let frame = said.unwrap_or_else(|| {
        open.says = None;
        Frame::InputEnded.encode()
    });
    Some((Ok(frame), open))
}

/// The body of the answer 200, as who watches over it has it.
struct Said {
    /// To be cancelled when it is to end.
    over: CancellationToken,
    /// Cancelled when it has.
    ended: CancellationToken,
    hang_up: HangUp,
}

/// Ends the body when the answer is not read any more, the node was removed or the replica is about to end. Where a program takes
/// nothing of what it is told, the end would queue behind that and the node would not learn of it: then its connection, which is
/// for this answer alone, ends.
async fn watch(port: Arc<Port>, node: NodeId, is_read: oneshot::Receiver<std::convert::Infallible>, said: Said) {
    tokio::select! {
        biased;
        () = said.ended.cancelled() => return,
        _ = is_read => {}
        () = port.shutdown.cancelled() => {}
        () = removed(&port, node) => {
            tracing::warn!(%node, "security: a node that was removed does not go on answering");
        }
    }
    said.over.cancel();
    if tokio::time::timeout(TAKES_THE_END, said.ended.cancelled()).await.is_err() {
        said.hang_up.0.cancel();
    }
}

async fn removed(port: &Port, node: NodeId) {
    loop {
        tokio::time::sleep(port.limits.look_at_enrolment).await;
        // A store that cannot say is no reason to break off what was allowed.
        if matches!(enrolled(port, node).await, Ok(false)) {
            return;
        }
    }
}
