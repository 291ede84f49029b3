//! Messages in bodies: bounded in size and time, garbage named.

use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use wherry_agent_api::ControlError;

/// Reads a message. What is too long, cut off or no such message is refused: sending it again would not help.
pub(super) async fn read<T: DeserializeOwned>(body: Body, limit: usize, time: Duration) -> Result<T, ControlError> {
    let whole = tokio::time::timeout(time, Limited::new(body, limit).collect());
    let whole = whole.await.map_err(|_| ControlError::Unavailable("the message took too long to arrive".to_owned()))?;
    let whole = whole.map_err(|error| {
        ControlError::Refused(if error.is::<http_body_util::LengthLimitError>() {
            format!("the message is longer than {limit} bytes")
        } else {
            "the message was cut off".to_owned()
        })
    })?;
    serde_json::from_slice(&whole.to_bytes())
        .map_err(|error| ControlError::Refused(format!("the message cannot be read: {error}")))
}
