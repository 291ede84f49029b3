//! Who may ask: version, certificate, enrolment, share. Every request passes here before its route sees it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use wherry_agent_api::ControlError;
use wherry_model::NodeId;

use super::Port;
use super::accept::Peer;
use crate::refusal::status_of;
use crate::wire::{
    LEAVING_HEADER, OLDEST_PROTOCOL, PROTOCOL_HEADER, PROTOCOL_HIGHEST_HEADER, PROTOCOL_OF_FLEETS, path,
};

/// The node whose certificate the connection has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) node: NodeId,
    /// The version that the two speak.
    pub(super) protocol: u32,
}

impl Caller {
    /// Refuses a message that says to be of another node.
    pub(super) fn must_be(self, named: NodeId, what: &str) -> Result<(), Refusal> {
        if named == self.node {
            return Ok(());
        }
        tracing::warn!(node = %self.node, named = %named, what, "security: a node spoke for another");
        Err(Refusal(ControlError::Forbidden(format!("the {what} names another node than the certificate"))))
    }
}

/// [`ControlError`] as an answer.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) ControlError);

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (status_of(&self.0), Json(self.0)).into_response()
    }
}

/// Puts the check in front of every route, and of what is no route.
pub(super) fn admitted(routes: Router<Arc<Port>>, port: &Arc<Port>) -> Router<Arc<Port>> {
    routes.layer(from_fn_with_state(Arc::clone(port), admit))
}

async fn admit(State(port): State<Arc<Port>>, mut request: Request, next: Next) -> Response {
    let asked = match asked_version(&request) {
        Ok(asked) => asked,
        Err((status, refusal)) => return (status, Json(refusal)).into_response(),
    };
    let spoken = asked.min(port.protocol);
    let mut response = match check(&port, &mut request, spoken).await {
        Ok(share) => {
            let response = next.run(request).await;
            drop(share);
            response
        }
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(PROTOCOL_HEADER, HeaderValue::from(spoken));
    headers.insert(PROTOCOL_HIGHEST_HEADER, HeaderValue::from(port.protocol));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if port.shutdown.is_cancelled() && response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(LEAVING_HEADER, HeaderValue::from_static("1"));
    }
    response
}

fn asked_version(request: &Request) -> Result<u32, (StatusCode, ControlError)> {
    let asked = request.headers().get(PROTOCOL_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    let refused = |status, sentence| (status, ControlError::Refused(sentence));
    match asked {
        None => Err(refused(StatusCode::UNPROCESSABLE_ENTITY, format!("the header {PROTOCOL_HEADER} is missing"))),
        Some(asked) if asked < OLDEST_PROTOCOL => Err(refused(
            StatusCode::UPGRADE_REQUIRED,
            format!(
                "this replica understands no agent of protocol {asked}: upgrade the agent, the oldest is {OLDEST_PROTOCOL}"
            ),
        )),
        Some(asked) => Ok(asked),
    }
}

async fn check(port: &Port, request: &mut Request, protocol: u32) -> Result<Option<super::limits::Share>, Refusal> {
    let forbidden = |sentence: &str| Refusal(ControlError::Forbidden(sentence.to_owned()));
    if request.uri().path() == path::ENROL {
        return Ok(None);
    }
    let peer = request.extensions().get::<Peer>().copied();
    let Some((node, peer)) = peer.and_then(|peer| Some((peer.node?, peer))) else {
        let address = peer.map(|peer| peer.address);
        tracing::warn!(?address, path = request.uri().path(), "security: a request without a node's certificate");
        return Err(forbidden("this needs a node's certificate: join the fleet first"));
    };
    if peer.not_after < port.clock.now() {
        return Err(forbidden("the certificate of this connection has expired: connect again with the renewed one"));
    }
    if request.uri().path() == path::PING {
        return Ok(None);
    }
    if !enrolled(port, node).await? {
        tracing::warn!(%node, address = %peer.address, "security: a node that is not enrolled (any more) was refused");
        return Err(Refusal(not_enrolled(port, Caller { node, protocol }).await));
    }
    let share = port.requests.take(node);
    let share =
        share.ok_or_else(|| ControlError::Unavailable("this node has too many requests under way".to_owned()))?;
    request.extensions_mut().insert(Caller { node, protocol });
    Ok(Some(share))
}

/// What a node with a valid certificate hears that is not enrolled: that it was removed, which ends all that it has, only if that
/// is on record and it understands it. A store that was put back knows neither.
pub(super) async fn not_enrolled(port: &Port, caller: Caller) -> ControlError {
    let asked = tokio::time::timeout(port.limits.message, port.services.enrolment.is_removed(caller.node));
    if caller.protocol >= PROTOCOL_OF_FLEETS && matches!(asked.await, Ok(Ok(true))) {
        return ControlError::Removed;
    }
    ControlError::Forbidden("this node is not enrolled any more".to_owned())
}

/// Asks whether the node is enrolled, for no longer than a message may take.
pub(super) async fn enrolled(port: &Port, node: NodeId) -> Result<bool, ControlError> {
    match tokio::time::timeout(port.limits.message, port.services.enrolment.is_enrolled(node)).await {
        Ok(answer) => answer,
        Err(_) => Err(ControlError::Unavailable("whether the node is enrolled cannot be found out now".to_owned())),
    }
}
