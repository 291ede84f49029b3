//! How much of everything, and who holds how much.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wherry_model::NodeId;

/// How much of everything the agents' port gives.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once that have shown a node's certificate.
    pub connections: usize,
    /// Handshakes at once; of one more the oldest of the address with most gives way, so nobody is kept out.
    pub handshakes: usize,
    /// Of these, those of one address (IPv4 /32, IPv6 /64). A fleet behind one address comes back as one.
    pub handshakes_of_an_address: usize,
    /// Connections at once that show no certificate: machines that join. They give way as handshakes do.
    pub strangers: usize,
    /// Of these, those of one address.
    pub strangers_of_an_address: usize,
    /// How long a connection without a certificate may last.
    pub stranger_stay: Duration,
    /// Connections at once of one node. An agent holds one, one more while it changes, and one for each answer.
    pub connections_of_a_node: usize,
    /// Requests at once of one node.
    pub requests_of_a_node: usize,
    /// Answers at once of one node, to questions of this replica.
    pub answers_of_a_node: usize,
    /// How often it is looked whether a node that answers was removed.
    pub look_at_enrolment: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a connection may ask nothing after its handshake.
    pub first_request: Duration,
    /// How long the head of a request may take.
    pub head: Duration,
    /// How long the body of a message may take.
    pub body: Duration,
    /// How long the control plane may take for a message.
    pub message: Duration,
    /// How long a long poll may take.
    pub long_poll: Duration,
    /// How long requests may finish after a shutdown was asked for.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            handshakes: 2_048,
            handshakes_of_an_address: 512,
            strangers: 256,
            strangers_of_an_address: 64,
            stranger_stay: Duration::from_secs(30),
            connections_of_a_node: 112,
            requests_of_a_node: 128,
            answers_of_a_node: 104,
            look_at_enrolment: Duration::from_secs(2),
            handshake: Duration::from_secs(10),
            first_request: Duration::from_secs(15),
            head: Duration::from_secs(15),
            body: Duration::from_secs(20),
            message: Duration::from_secs(30),
            long_poll: Duration::from_mins(1),
            grace: Duration::from_secs(10),
        }
    }
}

/// Bytes of a hello, an enrolment or a renewal.
pub(super) const MAX_SMALL_BYTES: usize = 64 * 1024;
/// Bytes of a heartbeat: every container of a large node.
pub(super) const MAX_HEARTBEAT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a report: [`wherry_agent_api::Report::MAX_OBSERVATIONS`] with their messages.
pub(super) const MAX_REPORT_BYTES: usize = 8 * 1024 * 1024;
/// Headers of one request over HTTP/1.
pub(super) const MAX_HEADERS: usize = 32;
/// Bytes of all headers of one request.
pub(super) const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Streams that a client may open and reset before its connection is closed (rapid reset, CVE-2023-44487).
pub(super) const MAX_RESETS: usize = 50;
/// What is buffered of one request's body: an answer is read no further ahead of whoever wants it.
pub(super) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What is buffered of all bodies of one connection.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How often a silent connection is asked whether it is alive, and how long the answer may take.
pub(super) const PING: Duration = Duration::from_secs(10);

/// Counts what each node holds.
pub(super) struct Shares {
    most: usize,
    held: Arc<Mutex<HashMap<NodeId, usize>>>,
}

/// One of what a node holds; given back when dropped.
pub(super) struct Share {
    node: NodeId,
    held: Arc<Mutex<HashMap<NodeId, usize>>>,
}

impl Shares {
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// One more for the node; none when it has all that it gets.
    pub(super) fn take(&self, node: NodeId) -> Option<Share> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(node).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { node, held: Arc::clone(&self.held) })
    }

    /// How many nodes hold anything.
    pub(super) fn holders(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_its_share_and_others_theirs() {
        let node = |number| NodeId::from_uuid(uuid::Uuid::from_u128(number));
        let shares = Shares::new(2);
        let held = (shares.take(node(1)), shares.take(node(1)), shares.take(node(2)));
        assert!(held.0.is_some() && held.1.is_some() && held.2.is_some());
        assert!(shares.take(node(1)).is_none());
        assert_eq!(shares.holders(), 2);
        drop(held.0);
        assert!(shares.take(node(1)).is_some());
        drop((held.1, held.2));
        assert_eq!(shares.holders(), 0, "nothing is remembered of who is gone");
    }
}
