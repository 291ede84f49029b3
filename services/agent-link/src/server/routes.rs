//! The routes: one for each question of the contract.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Serialize;
use wherry_agent_api::{Ack, Call, ControlError, Heartbeat, NodeHello, Report, Welcome};

use super::admission::{Caller, Refusal};
use super::limits::{MAX_HEARTBEAT_BYTES, MAX_REPORT_BYTES, MAX_SMALL_BYTES};
use super::{Port, answer, body, enrolment};
use crate::wire::{Calls, Have, PROTOCOL_OF_FLEETS, path};

pub(super) fn routes() -> Router<Arc<Port>> {
    Router::new()
        .route(path::ENROL, post(enrolment::enrol))
        .route(path::PING, get(ping))
        .route(path::RENEW, post(enrolment::renew))
        .route(path::HELLO, post(hello))
        .route(path::DESIRED, get(desired))
        .route(path::REPORT, post(report))
        .route(path::HEARTBEAT, post(heartbeat))
        .route(path::SURROUNDINGS, get(surroundings))
        .route(path::CALLS, get(calls))
        .route(path::ANSWER_ROUTE, post(answer::answer))
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
}

pub(super) async fn no_route() -> Response {
    (StatusCode::NOT_FOUND, Json(ControlError::Refused("there is no such route".to_owned()))).into_response()
}

/// That this is answered proves to an agent that its certificate was taken: in TLS 1.3 a client's handshake ends before the
/// server has looked at it.
async fn ping() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn hello(
    State(port): State<Arc<Port>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Option<Welcome>>, Refusal> {
    let mut message: NodeHello = body::read(body, MAX_SMALL_BYTES, port.limits.body).await?;
    message.protocol = caller.protocol;
    caller.must_be(message.node, "hello")?;
    let welcome = port.within(port.limits.message, port.services.control.hello(message)).await?;
    // Version 1 answers nothing.
    Ok(Json((caller.protocol >= PROTOCOL_OF_FLEETS).then_some(welcome)))
}

async fn report(
    State(port): State<Arc<Port>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Ack>, Refusal> {
    let message: Report = body::read(body, MAX_REPORT_BYTES, port.limits.body).await?;
    caller.must_be(message.node, "report")?;
    if message.observations.len() > Report::MAX_OBSERVATIONS {
        let sentence = format!("a report holds at most {} observations", Report::MAX_OBSERVATIONS);
        return Err(ControlError::Refused(sentence).into());
    }
    Ok(Json(port.within(port.limits.message, port.services.control.report(message)).await?))
}

async fn heartbeat(
    State(port): State<Arc<Port>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<()>, Refusal> {
    let message: Heartbeat = body::read(body, MAX_HEARTBEAT_BYTES, port.limits.body).await?;
    caller.must_be(message.node, "heartbeat")?;
    port.within(port.limits.message, port.services.control.heartbeat(message)).await?;
    Ok(Json(()))
}

async fn desired(
    State(port): State<Arc<Port>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Have>,
) -> Result<Response, Refusal> {
    port.within(port.limits.message, port.services.control.is_introduced(caller.node, caller.protocol)).await?;
    // An agent of version 1 does not know what is to be fenced. It gets it nevertheless, and keeps it: what is not listed it would
    // end without a word. The control plane learnt at its hello to take nothing from it, and gives it nothing new of the kind.
    Ok(some_or_no_content(port.long_poll(caller, port.services.control.desired(caller.node, query.have)).await?))
}

async fn surroundings(
    State(port): State<Arc<Port>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Have>,
) -> Result<Response, Refusal> {
    if caller.protocol < PROTOCOL_OF_FLEETS {
        return Ok(no_route().await);
    }
    let answer = port.long_poll(caller, port.services.control.surroundings(caller.node, query.have)).await?;
    Ok(some_or_no_content(answer))
}

async fn calls(State(port): State<Arc<Port>>, Extension(caller): Extension<Caller>) -> Result<Response, Refusal> {
    if caller.protocol < PROTOCOL_OF_FLEETS {
        return Ok(no_route().await);
    }
    let calls: Vec<Call> = port.long_poll(caller, port.services.board.calls(caller.node)).await?;
    Ok(Json(Calls { calls }).into_response())
}

fn some_or_no_content(answer: Option<impl Serialize>) -> Response {
    answer.map_or_else(|| StatusCode::NO_CONTENT.into_response(), |answer| Json(answer).into_response())
}

impl Port {
    /// An answer of the control plane, in time.
    async fn within<T>(
        &self,
        time: Duration,
        answer: impl Future<Output = Result<T, ControlError>>,
    ) -> Result<T, ControlError> {
        tokio::time::timeout(time, answer)
            .await
            .unwrap_or_else(|_| Err(ControlError::Unavailable("the control plane took too long".to_owned())))
    }

    /// The same for an answer that is waited for. It ends when the replica does, and a node that was removed meanwhile does
    /// not get it.
    async fn long_poll<T>(
        &self,
        caller: Caller,
        answer: impl Future<Output = Result<T, ControlError>>,
    ) -> Result<T, ControlError> {
        let answer = tokio::select! {
            biased;
            answer = self.within(self.limits.long_poll, answer) => answer?,
            () = self.shutdown.cancelled() => {
                return Err(ControlError::Unavailable("this replica is about to end: ask another".to_owned()));
            }
        };
        if super::admission::enrolled(self, caller.node).await? {
            Ok(answer)
        } else {
            Err(super::admission::not_enrolled(self, caller).await)
        }
    }
}
