//! Keeps one connection to some replica.
//!
//! A task of its own, because callers give up when they like and a connection must come about all the same. It stays with a
//! replica that works. When it loses one it goes to another, chosen at random so that the agents of a dead replica do not
//! all fall upon the same neighbour, after a random wait so that they do not do it at once.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::dial::{DialError, Live, dial};
use super::{Endpoint, Message, Shared};

pub(super) async fn keep_connected(shared: Arc<Shared>, end: CancellationToken) {
    tokio::select! {
        biased;
        () = end.cancelled() => {}
        () = connect_for_ever(&shared) => {}
    }
    shared.live.send_replace(None);
}

async fn connect_for_ever(shared: &Shared) {
    let mut live = connect(shared, None).await;
    loop {
        shared.live.send_replace(Some(Arc::clone(&live)));
        tokio::select! {
            biased;
            () = live.lost() => {
                shared.live.send_replace(None);
                live = connect(shared, Some(&live.endpoint)).await;
            }
            () = shared.renewed.notified() => {
                // The old connection serves until there is one with the new certificate.
                if let Ok(renewed) = dial_and_prove(shared, &live.endpoint).await {
                    let old = std::mem::replace(&mut live, Arc::new(renewed));
                    shared.live.send_replace(Some(Arc::clone(&live)));
                    old.leave();
                } else {
                    live.leave();
                }
            }
        }
    }
}

/// Tries until there is a connection. `lost` is the replica that was lost just now.
async fn connect(shared: &Shared, lost: Option<&Endpoint>) -> Arc<Live> {
    let mut begin = None;
    loop {
        let endpoints = shared.endpoints();
        let attempt = shared.failures.fetch_add(1, Ordering::Relaxed);
        // The first connection of all is not delayed.
        if lost.is_some() || begin.is_some() {
            tokio::time::sleep(shared.settings.wait(attempt, endpoints.len(), &*shared.entropy)).await;
        }
        let number = begin.get_or_insert_with(|| first(shared, &endpoints, lost));
        let endpoint = endpoints.get(*number % endpoints.len().max(1));
        *number = number.wrapping_add(1);
        let Some(endpoint) = endpoint else { continue };
        match dial_and_prove(shared, endpoint).await {
            Ok(live) => return Arc::new(live),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the control plane cannot be reached there");
                *shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        }
    }
}

/// A connection on which the replica has answered: so it takes our certificate, and one that has expired shows here and not
/// in the first message.
async fn dial_and_prove(shared: &Shared, endpoint: &Endpoint) -> Result<Live, DialError> {
    let live = dial(endpoint, Arc::clone(&shared.tls), &shared.settings).await?;
    let ping = Message::ping().request(shared.settings.protocol);
    match timeout(shared.settings.handshake, live.exchange(ping)).await {
        Ok(Ok(_)) => Ok(live),
        Ok(Err(error)) => {
            let reason = live.ending().await;
            live.cut_off();
            Err(reason.map_or(error, |reason| DialError::Lost { endpoint: endpoint.to_string(), reason }))
        }
        Err(_) => {
            live.cut_off();
            Err(DialError::Late { endpoint: endpoint.to_string() })
        }
    }
}

/// The first of all is the best; after a loss any other.
fn first(shared: &Shared, endpoints: &[Endpoint], lost: Option<&Endpoint>) -> usize {
    let Some(lost) = lost else { return 0 };
    let others: Vec<usize> =
        endpoints.iter().enumerate().filter(|(_, endpoint)| *endpoint != lost).map(|(number, _)| number).collect();
    if others.is_empty() {
        return 0;
    }
    let mut bytes = [0_u8; 4];
    shared.entropy.fill(&mut bytes);
    let any = usize::try_from(u32::from_le_bytes(bytes)).unwrap_or_default();
    others.get(any % others.len()).copied().unwrap_or_default()
}
