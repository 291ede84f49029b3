//! Keeps containerd running while Wherry runs.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wherry_runtime_cri::containerd::{Containerd, Outcome};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks at containerd until `stop`; one that died or is stuck is replaced. Containers do not notice.
pub(super) async fn keep_running(containerd: Arc<Containerd>, stop: CancellationToken) {
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match containerd.ensure_running().await {
            Ok(Outcome::Running) => failing = false,
            Ok(Outcome::Started(swept)) => {
                failing = false;
                tracing::warn!(?swept, "containerd was away and has been started again");
            }
            Err(error) => {
                if !failing {
                    tracing::error!(error = &error as &dyn std::error::Error, "containerd does not answer");
                }
                failing = true;
            }
        }
    }
}
