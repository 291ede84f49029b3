//! `POST answer/<ticket>`: a node answers a question.
//!
//! A ticket works with the certificate of the node that it was made for, and the node says itself which instance and generation
//! its answer is about. The head of the response comes when the ticket was taken, so a node runs nothing for nobody; its body stays open
//! until the answer is not read any more, which is how the node learns that the client has gone. In it comes what is said to the
//! inside in a conversation, and otherwise nothing.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, stream};
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;
use wherry_agent_api::ControlError;
use wherry_model::NodeId;

use super::Port;
use super::admission::{Caller, Refusal, enrolled};
use super::dial_back::{Asker, TicketError};
use super::limits::Share;
use crate::frames::Frame;
use crate::wire::{GENERATION_HEADER, INSTANCE_HEADER, PROTOCOL_OF_FLEETS};

pub(super) async fn answer(
    State(port): State<Arc<Port>>,
    Extension(caller): Extension<Caller>,
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
    let node = caller.node;
    let over = async move {
        tokio::select! {
            biased;
            _ = is_read => {}
            () = port.shutdown.cancelled() => {}
            () = removed(&port, node) => {
                tracing::warn!(%node, "security: a node that was removed does not go on answering");
            }
        }
    };
    let open = Open { over: over.boxed(), says: Some(says), _share: share };
    Ok((StatusCode::OK, Body::from_stream(stream::unfold(open, next_said))).into_response())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What an answer holds while it is read.
struct Open {
    /// The answer is not read any more, the node was removed or the replica is about to end.
    over: BoxFuture<'static, ()>,
    /// What the asker says; none when it has said all.
    says: Option<mpsc::Receiver<Bytes>>,
    _share: Share,
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
        () = &mut open.over => return None,
        said = said => said,
    };
    let frame = said.unwrap_or_else(|| {
        open.says = None;
        Frame::InputEnded.encode()
    });
    Some((Ok(frame), open))
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
