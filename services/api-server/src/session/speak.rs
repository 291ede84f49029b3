//! Messages in both directions, until one side ends it.

use std::ops::ControlFlow;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::{MissedTickBehavior, interval, timeout};
use wherry_api_types::{Channel, SessionCommand, SessionEnd};
use wherry_control::{Error as ControlError, InstanceSession, SessionInput, SessionOutput, SessionSink, TerminalSize};
use wherry_model::Principal;

use crate::error::{ApiError, problem_of};
use crate::state::ApiState;
use crate::v1::streams::until_unwelcome;

/// How long the last words may take to leave.
const FAREWELL: Duration = Duration::from_secs(5);

/// How it ends.
enum End {
    /// It says so, and then closes.
    Said(SessionEnd, u16),
    /// The client is not there any more.
    Gone,
}

pub(super) async fn speak(socket: WebSocket, session: InstanceSession, state: ApiState, principal: Principal) {
    let (mut to_client, from_client) = socket.split();
    let InstanceSession { input, mut output } = session;
    let keep_alive = state.settings.stream_keep_alive;
    let end = {
        let outward = async {
            let mut pings = interval(keep_alive);
            pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let message = tokio::select! {
                    biased;
                    message = output.next() => message,
                    _ = pings.tick() => {
                        if to_client.send(Message::Ping(Bytes::new())).await.is_err() {
                            return End::Gone;
                        }
                        continue;
                    }
                };
                match outward(message, &mut to_client).await {
                    ControlFlow::Continue(()) => {}
                    ControlFlow::Break(end) => return end,
                }
            }
        };
        tokio::select! {
            biased;
            end = outward => end,
            end = inward(from_client, input) => end,
            () = until_unwelcome(state.clone(), principal) => sent_away(),
        }
    };
    // The inside is left before the last words, which may take a while.
    drop(output);
    if let End::Said(last, code) = end {
        let words = serde_json::to_vec(&last).unwrap_or_default();
        let farewell = async {
            to_client.send(Message::Binary(Channel::Control.message(&words).into())).await?;
            to_client.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await
        };
        if !matches!(timeout(FAREWELL, farewell).await, Ok(Ok(()))) {
            tracing::debug!("a client was gone before the last words");
        }
    }
}

async fn outward(
    message: Option<Result<SessionOutput, ControlError>>,
    to_client: &mut SplitSink<WebSocket, Message>,
) -> ControlFlow<End> {
    let message = match message {
        Some(Ok(SessionOutput::Stdout(bytes))) => Channel::Stdout.message(&bytes),
        Some(Ok(SessionOutput::Stderr(bytes))) => Channel::Stderr.message(&bytes),
        Some(Ok(SessionOutput::Exited(code))) => {
            return ControlFlow::Break(End::Said(SessionEnd::ExitCode(code), close_code::NORMAL));
        }
        Some(Err(error)) => return ControlFlow::Break(failed(error.into())),
        None => {
            let broken = ControlError::Unavailable {
                message: "the connection to the inside of this instance broke off".to_owned(),
                source: None,
            };
            return ControlFlow::Break(failed(broken.into()));
        }
    };
    match to_client.send(Message::Binary(message.into())).await {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(End::Gone),
    }
}

async fn inward(mut from_client: SplitStream<WebSocket>, mut input: SessionSink) -> End {
    let (mut has_ended, mut is_deaf) = (false, false);
    loop {
        let message = match from_client.next().await {
            None | Some(Err(_) | Ok(Message::Close(_))) => return End::Gone,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(_))) => {
                return unintelligible("messages are binary: a channel's byte, then what it carries");
            }
            Some(Ok(Message::Binary(message))) => message,
        };
        let said = match understand(&message) {
            Ok(said) => said,
            Err(why) => return unintelligible(why),
        };
        // Input after its end is nobody's, and so is all when the program does not listen any more.
        if is_deaf || (has_ended && !matches!(said, SessionInput::Resize(_))) {
            continue;
        }
        has_ended |= matches!(said, SessionInput::End);
        is_deaf = input.send(said).await.is_err();
    }
}

fn understand(message: &[u8]) -> Result<SessionInput, &'static str> {
    match Channel::split(message) {
        Some((Channel::Stdin, bytes)) => Ok(SessionInput::Data(bytes.to_vec())),
        Some((Channel::Control, json)) => match serde_json::from_slice(json) {
            Ok(SessionCommand::EndOfInput(true)) => Ok(SessionInput::End),
            Ok(SessionCommand::Resize(size)) if size.columns > 0 && size.rows > 0 => {
                Ok(SessionInput::Resize(TerminalSize { columns: size.columns, rows: size.rows }))
            }
            _ => Err(r#"a control message is {"resize":{"columns":80,"rows":24}} or {"end_of_input":true}"#),
        },
        _ => Err("a message to the inside begins with the byte 0 (input) or 3 (control)"),
    }
}

fn unintelligible(why: &'static str) -> End {
    End::Said(SessionEnd::Error(problem_of(&ApiError::malformed("message", why))), close_code::POLICY)
}

fn failed(error: ApiError) -> End {
    End::Said(SessionEnd::Error(problem_of(&error)), close_code::ERROR)
}

fn sent_away() -> End {
    let away = ControlError::Unavailable {
        message: "the service is stopping, or the key behind this connection does not work any more".to_owned(),
        source: None,
    };
    End::Said(SessionEnd::Error(problem_of(&away.into())), close_code::AWAY)
}
