//! `GET /v1/projects/{project}/instances/{instance}/containers/{container}/logs`

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use utoipa::IntoParams;
use wherry_api_types::{Problem, text};
use wherry_control::LogRequest;
use wherry_model::Timestamp;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{ContainerPath, FromQuery, Query, QueryReader};
use crate::layers::StreamPlace;
use crate::state::ApiState;
use crate::v1::streams::until_unwelcome;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogsQuery {
    /// Go on as lines are written, until the instance has ended.
    #[param(required = false, value_type = bool)]
    follow: bool,
    /// Only the last so many lines.
    #[param(required = false, minimum = 0, maximum = 100_000, value_type = u32)]
    tail: Option<u32>,
    /// Begin each line with its time, as RFC 3339 has it.
    #[param(required = false, value_type = bool)]
    timestamps: bool,
    /// Which run: its number, 0 for the latest, -1 for the one before it, and so on.
    #[param(required = false, minimum = -1_000_000, maximum = 1_000_000, value_type = i64)]
    run: Option<i64>,
    /// Only from the first line of this time or later: as RFC 3339 has it, or how long ago, for example `90s`, `10m`, `2h`, `1d`.
    /// Of all runs that are kept, unless `run` or `tail` is given.
    #[param(required = false, value_type = String, max_length = 40, example = "10m",
        pattern = "^(?:[0-9]{1,7}[smhd]|2[0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,9})?Z)$")]
    since: Option<Since>,
}

impl FromQuery for LogsQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self {
            follow: query.flag("follow", false)?,
            tail: query.number("tail", 0..=100_000)?,
            timestamps: query.flag("timestamps", false)?,
            run: query.number("run", -1_000_000..=1_000_000)?,
            since: query.text("since")?.map(|text| since(&text)).transpose()?,
        })
    }
}

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    At(Timestamp),
    Ago(Duration),
}

fn since(text: &str) -> Result<Since, ApiError> {
    let seconds = |digits: &str, unit: u64| {
        let plain = (1..=7).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| plain).map(|number| Duration::from_secs(number * unit))
    };
    let ago = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let ago = ago.into_iter().find_map(|(letter, unit)| seconds(text.strip_suffix(letter)?, unit));
    let found = ago.map(Since::Ago).or_else(|| text.parse().ok().map(Since::At));
    found.ok_or_else(|| {
        let way_out = "write how long ago, for example 90s, 10m, 2h or 1d, or a time like 2026-11-23T06:30:00Z";
        ApiError::malformed("since", format!("since: {way_out}"))
    })
}

/// Read what a container prints
///
/// Standard output and standard error in the order in which they were written. What is kept is bounded: by size, by number of
/// runs, and by how fast a container may print; where lines are missing, a line that begins with `[wherry]` says how many.
/// Following goes on into the next run. The output of a deleted instance can be read by its id for a time, a day unless the
/// operator says otherwise.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/instances/{instance}/containers/{container}/logs",
    operation_id = "container_logs",
    tag = "instances",
    security(("token" = ["logs:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
        ("container" = text::LabelName, Path, description = "The container; `main` unless the spec names it otherwise."),
        LogsQuery,
    ),
    responses((status = 200, description = "The output, as it was written.", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 429, description = "The tenant has too many waits and streams open.", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ContainerPath { project, instance, container }: ContainerPath,
    Query(query): Query<LogsQuery>,
    Extension(place): Extension<StreamPlace>,
) -> Result<Response, ApiError> {
    let permit = place.admit(&state, principal.tenant)?;
    let LogsQuery { follow, tail, timestamps, run, since } = query;
    let since = since.map(|since| match since {
        Since::At(time) => time,
        Since::Ago(time) => state.clock.now().minus(time),
    });
    let request = LogRequest { run, tail, follow, timestamps, since };
    let output = state.control.instance_logs(&principal, &project, &instance, &container, request).await?;
    let pieces = output.take_until(until_unwelcome(state.clone(), principal)).map(move |piece| {
        let _held_until_the_end = &permit;
        if let Err(error) = &piece {
            tracing::warn!(code = error.code(), "a log stream broke off");
        }
        piece
    });
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        // What a container prints is anybody's; a browser must not run it.
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("content-security-policy"), "sandbox"),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_or_how_long_ago() {
        assert_eq!(since("90s").unwrap(), Since::Ago(Duration::from_secs(90)));
        assert_eq!(since("2d").unwrap(), Since::Ago(Duration::from_hours(48)));
        let time = Since::At("2026-11-23T05:30:00Z".parse().unwrap());
        assert_eq!(since("2026-11-23T06:30:00+01:00").unwrap(), time);
        for wrong in ["", "s", "10", "-5m", "5 m", "99999999s", "1h30m", "yesterday", "2026-11-23", "10m "] {
            match since(wrong) {
                Err(ApiError::Malformed { field: Some(field), .. }) => assert_eq!(field, "since"),
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }
}
