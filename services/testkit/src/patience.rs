//! Waits that end.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// How long anything in a test may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again until `check` gives something; panics with `what` when it does not within [`PATIENCE`]. That is measured on
/// the real clock, so a check may let time pass on the others.
pub async fn eventually<T, F, Fut>(what: &str, mut check: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
