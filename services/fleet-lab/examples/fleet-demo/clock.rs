//! The machine's wall clock, which all processes of the fleet share, and the API's times.

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// Seconds since 1970, floored.
pub(crate) fn now() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// Whole seconds since 1970 of an RFC 3339 time.
pub(crate) fn seconds(text: &str) -> Result<i64> {
    let time: jiff::Timestamp = text.parse().with_context(|| format!("{text:?} is no time"))?;
    Ok(time.as_millisecond().div_euclid(1_000))
}

/// RFC 3339.
pub(crate) fn text(seconds: i64) -> Result<String> {
    Ok(jiff::Timestamp::from_second(seconds).context("no such time")?.to_string())
}
