//! Keeps the ways to the other nodes as the latest list of them says.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use wherry_agent_api::Peer;

use super::RouteTable;
use crate::backoff::Backoff;
use crate::status::Board;

/// How long ways that somebody else removed can be gone unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Runs for ever. Touches nothing before the other nodes are known.
pub(crate) async fn keep(table: Arc<dyn RouteTable>, board: Arc<Board>, mut peers: watch::Receiver<Option<Vec<Peer>>>) {
    let (mut failures, mut said) = (0, None);
    loop {
        let wanted = peers.borrow_and_update().clone();
        let wait = match wanted {
            None => None,
            Some(wanted) => {
                let trouble = table.keep(&wanted).await.err().map(|error| error.to_string());
                if let Some(trouble) = trouble.as_ref().filter(|trouble| said.as_ref() != Some(*trouble)) {
                    tracing::error!(trouble, "not every other node can be reached; it is tried again");
                }
                failures = if trouble.is_some() { u32::saturating_add(failures, 1) } else { 0 };
                said.clone_from(&trouble);
                board.set(|status| &mut status.routes_trouble, trouble);
                Some(if failures == 0 { LOOK_EVERY } else { Backoff::MACHINE.delay(failures) })
            }
        };
        tokio::select! {
            biased;
            changed = peers.changed() => {
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            () = passed(wait) => {}
        }
    }
}

async fn passed(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
