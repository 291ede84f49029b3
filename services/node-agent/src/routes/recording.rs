//! Routes in memory, for tests.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use wherry_agent_api::Peer;

use super::{RouteError, RouteTable};

/// Remembers the peers that were asked for last.
#[derive(Debug, Default)]
pub struct RecordingRoutes {
    peers: Mutex<Vec<Peer>>,
}

impl RecordingRoutes {
    /// The peers that have a way now.
    pub fn peers(&self) -> Vec<Peer> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl RouteTable for RecordingRoutes {
    async fn keep(&self, peers: &[Peer]) -> Result<(), RouteError> {
        *self.peers.lock().unwrap_or_else(PoisonError::into_inner) = peers.to_vec();
        Ok(())
    }

    async fn remove(&self) -> Result<(), RouteError> {
        self.keep(&[]).await
    }
}
