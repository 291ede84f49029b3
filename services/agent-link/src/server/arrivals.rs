//! Who comes to the port: the crowds before a node is known, and what became of those who did not get further.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::crowd::{Crowd, Stand};
use super::limits::Limits;

/// Who is at the agents' port without being known as a node, and how many were closed since it was made, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Connections in their handshake now.
    pub handshakes: usize,
    /// Connections without a certificate now: machines that join, or strangers.
    pub strangers: usize,
    /// Gave way in their handshake, because there were too many.
    pub handshakes_displaced: u64,
    /// Gave way without a certificate, because there were too many.
    pub strangers_displaced: u64,
    /// Did not finish their handshake in time.
    pub handshakes_late: u64,
    /// Failed in their handshake: another authority's certificate, or no TLS.
    pub handshakes_failed: u64,
    /// Asked nothing for too long after their handshake.
    pub silent: u64,
    /// Stayed too long without a certificate.
    pub overstayed: u64,
    /// Nodes' connections beyond the share of one node, or beyond what the port has for all.
    pub nodes_refused: u64,
}

/// How a connection ended that did not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    HandshakeLate,
    HandshakeFailed,
    Silent,
    Overstayed,
    NodeRefused,
}

/// The same while it counts.
pub(super) struct Gate {
    handshakes: Crowd,
    strangers: Crowd,
    endings: [AtomicU64; 5],
}

impl Gate {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            handshakes: Crowd::new(limits.handshakes, limits.handshakes_of_an_address),
            strangers: Crowd::new(limits.strangers, limits.strangers_of_an_address),
            endings: Default::default(),
        }
    }

    pub(super) fn handshake(&self, address: IpAddr) -> Stand {
        self.handshakes.admit(address.into())
    }

    pub(super) fn stranger(&self, address: IpAddr) -> Stand {
        self.strangers.admit(address.into())
    }

    pub(super) fn ended(&self, ending: Ending) {
        self.counter(ending).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Arrivals {
        let count = |ending| self.counter(ending).load(Ordering::Relaxed);
        Arrivals {
            handshakes: self.handshakes.count(),
            strangers: self.strangers.count(),
            handshakes_displaced: self.handshakes.displaced(),
            strangers_displaced: self.strangers.displaced(),
            handshakes_late: count(Ending::HandshakeLate),
            handshakes_failed: count(Ending::HandshakeFailed),
            silent: count(Ending::Silent),
            overstayed: count(Ending::Overstayed),
            nodes_refused: count(Ending::NodeRefused),
        }
    }

    fn counter(&self, ending: Ending) -> &AtomicU64 {
        let [late, failed, silent, overstayed, refused] = &self.endings;
        match ending {
            Ending::HandshakeLate => late,
            Ending::HandshakeFailed => failed,
            Ending::Silent => silent,
            Ending::Overstayed => overstayed,
            Ending::NodeRefused => refused,
        }
    }
}
