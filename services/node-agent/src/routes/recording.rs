//! Routes in memory, for tests.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use wherry_agent_api::Peer;

use super::{RouteError, RouteTable};

/// Remembers the peers that were asked for last, and fails when told to.
#[derive(Debug, Default)]
pub struct RecordingRoutes {
    state: Mutex<Recorded>,
}

#[derive(Debug, Default)]
struct Recorded {
    peers: Vec<Peer>,
    failures: u32,
    calls: u32,
}

impl RecordingRoutes {
    /// The peers that have a way now.
    pub fn peers(&self) -> Vec<Peer> {
        self.state().peers.clone()
    }

    /// How often the ways were looked at, failures included.
    pub fn calls(&self) -> u32 {
        self.state().calls
    }

    /// Makes the next `times` calls fail.
    pub fn fail(&self, times: u32) {
        self.state().failures = times;
    }

    /// Takes every way away, as somebody else would.
    pub fn lose(&self) {
        self.state().peers.clear();
    }

    fn state(&self) -> MutexGuard<'_, Recorded> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RouteTable for RecordingRoutes {
    async fn keep(&self, peers: &[Peer]) -> Result<(), RouteError> {
        let mut state = self.state();
        state.calls += 1;
        if state.failures > 0 {
            state.failures -= 1;
            return Err(RouteError::Refused("told to fail".to_owned()));
        }
        state.peers = peers.to_vec();
        Ok(())
    }

    async fn remove(&self) -> Result<(), RouteError> {
        self.keep(&[]).await
    }
}
