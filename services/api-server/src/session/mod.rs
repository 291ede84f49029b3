//! The WebSocket around a conversation with the inside of an instance: subprotocol `wherry.v1` of `wherry_api_types`.
//!
//! Both directions wait for each other: a message is read from the client when the inside has taken the one before, and from
//! the inside when the client's socket has. Only then is the next one asked for, so a slow side costs one message of memory
//! here and the buffers of its socket. Whatever ends it drops the conversation, and with it what was run for it.
//!
//! Refusals come before the upgrade, as problems like any other. Who asks without an upgrade is told so only when it could be
//! made: the answer must not tell whether a stranger's instance exists.

mod speak;

use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::request::Parts;
use wherry_api_types::{BEARER_PROTOCOL, MAX_SESSION_MESSAGE_BYTES, SESSION_PROTOCOL};
use wherry_control::{SessionKind, TerminalSize};
use wherry_model::{Principal, ProjectName};

use crate::error::ApiError;
use crate::extract::QueryReader;
use crate::layers::StreamPlace;
use crate::state::ApiState;

/// What waits to be written to the client's socket.
const MAX_WRITE_BUFFER_BYTES: usize = 4 * MAX_SESSION_MESSAGE_BYTES;

/// The wish to go on as a WebSocket, if the request has one.
pub(crate) struct Upgrade(Option<WebSocketUpgrade>);

impl FromRequestParts<ApiState> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await.ok();
        let offers: Vec<&str> = parts
            .headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(',').map(str::trim))
            .filter(|offer| !offer.starts_with(BEARER_PROTOCOL))
            .collect();
        if upgrade.is_some() && !offers.is_empty() && !offers.contains(&SESSION_PROTOCOL) {
            let detail = format!("this speaks the subprotocol {SESSION_PROTOCOL}: offer it, or none");
            return Err(ApiError::malformed(SEC_WEBSOCKET_PROTOCOL.as_str(), detail));
        }
        Ok(Self(upgrade))
    }
}

/// Whom a conversation is wanted with.
pub(crate) struct Wanted {
    pub(crate) project: ProjectName,
    pub(crate) instance: String,
    pub(crate) kind: SessionKind,
}

/// Begins the conversation and answers with the upgrade.
pub(crate) async fn begin(
    state: ApiState,
    principal: Principal,
    place: StreamPlace,
    Upgrade(upgrade): Upgrade,
    Wanted { project, instance, kind }: Wanted,
) -> Result<Response, ApiError> {
    let Some(upgrade) = upgrade else {
        state.control.check_session(&principal, &project, &instance, &kind).await?;
        return Err(ApiError::UpgradeRequired);
    };
    let permit = place.admit(&state, principal.tenant)?;
    let session = state.control.instance_session(&principal, &project, &instance, kind).await?;
    let most = MAX_SESSION_MESSAGE_BYTES + 1;
    let upgrade = upgrade
        .protocols([SESSION_PROTOCOL])
        .max_message_size(most)
        .max_frame_size(most)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES);
    Ok(upgrade.on_upgrade(async move |socket| {
        let _held_until_the_end = permit;
        speak::speak(socket, session, state, principal).await;
    }))
}

/// The terminal that a query asks for.
pub(crate) fn terminal(query: &mut QueryReader) -> Result<Option<TerminalSize>, ApiError> {
    let tty = query.flag("tty", false)?;
    let columns = query.number("columns", 1..=u16::MAX)?;
    let rows = query.number("rows", 1..=u16::MAX)?;
    if !tty && let Some(field) = columns.map(|_| "columns").or(rows.map(|_| "rows")) {
        return Err(ApiError::impossible(field, "only a terminal has a size: ask for one with tty=true"));
    }
    Ok(tty.then_some(TerminalSize { columns: columns.unwrap_or(80), rows: rows.unwrap_or(24) }))
}
