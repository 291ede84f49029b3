//! Counts for metrics: plain atomics, read by whoever exports them. Never by name or client: both are unbounded.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hickory_proto::op::ResponseCode;

use crate::wire::{Reply, Transport};

/// Counts answers of one server since it began.
#[derive(Debug, Default)]
pub struct QueryCounters {
    udp: RcodeCounters,
    tcp: RcodeCounters,
    pub(crate) truncated: AtomicU64,
    pub(crate) ignored: AtomicU64,
    pub(crate) unsent: AtomicU64,
    pub(crate) tcp_refused: AtomicU64,
    pub(crate) forwarded: AtomicU64,
    pub(crate) forward_failed: AtomicU64,
    pub(crate) forward_shed: AtomicU64,
}

#[derive(Debug, Default)]
struct RcodeCounters {
    no_error: AtomicU64,
    format_error: AtomicU64,
    server_failure: AtomicU64,
    name_error: AtomicU64,
    not_implemented: AtomicU64,
    refused: AtomicU64,
    other: AtomicU64,
}

/// Answers by response code (RFC 1035, section 4.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RcodeCounts {
    /// NOERROR, with or without records.
    pub no_error: u64,
    /// FORMERR: the request was malformed.
    pub format_error: u64,
    /// SERVFAIL: no zone yet, or no answer from upstream.
    pub server_failure: u64,
    /// NXDOMAIN: no such name.
    pub name_error: u64,
    /// NOTIMP: an operation that is not spoken here.
    pub not_implemented: u64,
    /// REFUSED: outside the zone, a transfer, an update, or a stranger.
    pub refused: u64,
    /// Any other code.
    pub other: u64,
}

/// What the node's resolver did with names outside the zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardCounts {
    /// Questions handed to the forwarder, its cache included.
    pub forwarded: u64,
    /// Of these: no usable answer in time.
    pub failed: u64,
    /// Questions answered SERVFAIL at once: too many in flight.
    pub shed: u64,
}

/// All counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryCounts {
    /// Answers over UDP.
    pub udp: RcodeCounts,
    /// Answers over TCP.
    pub tcp: RcodeCounts,
    /// Answers over UDP that told the client to come back over TCP.
    pub truncated: u64,
    /// Packets that got no answer: no DNS, or themselves answers.
    pub ignored: u64,
    /// Answers that could not be sent.
    pub unsent: u64,
    /// TCP connections closed at once: too many.
    pub tcp_refused: u64,
    /// Names outside the zone.
    pub forward: ForwardCounts,
}

impl QueryCounters {
    pub(crate) fn answered(&self, transport: Transport, reply: &Reply) {
        let by_code = match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
        };
        by_code.of(reply.code).fetch_add(1, Relaxed);
        if reply.truncated {
            self.truncated.fetch_add(1, Relaxed);
        }
    }

    /// Reads all counts. Each is exact; together they may be a few queries apart.
    pub fn read(&self) -> QueryCounts {
        QueryCounts {
            udp: self.udp.read(),
            tcp: self.tcp.read(),
            truncated: self.truncated.load(Relaxed),
            ignored: self.ignored.load(Relaxed),
            unsent: self.unsent.load(Relaxed),
            tcp_refused: self.tcp_refused.load(Relaxed),
            forward: ForwardCounts {
                forwarded: self.forwarded.load(Relaxed),
                failed: self.forward_failed.load(Relaxed),
                shed: self.forward_shed.load(Relaxed),
            },
        }
    }
}

impl RcodeCounters {
    fn of(&self, code: ResponseCode) -> &AtomicU64 {
        match code {
            ResponseCode::NoError => &self.no_error,
            ResponseCode::FormErr => &self.format_error,
            ResponseCode::ServFail => &self.server_failure,
            ResponseCode::NXDomain => &self.name_error,
            ResponseCode::NotImp => &self.not_implemented,
            ResponseCode::Refused => &self.refused,
            _ => &self.other,
        }
    }

    fn read(&self) -> RcodeCounts {
        RcodeCounts {
            no_error: self.no_error.load(Relaxed),
            format_error: self.format_error.load(Relaxed),
            server_failure: self.server_failure.load(Relaxed),
            name_error: self.name_error.load(Relaxed),
            not_implemented: self.not_implemented.load(Relaxed),
            refused: self.refused.load(Relaxed),
            other: self.other.load(Relaxed),
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
