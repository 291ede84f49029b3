//! The server for strangers: authoritative for the zone, and silent about the rest of the world.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::answer::answer;
use crate::counters::QueryCounters;
use crate::handle::ZoneHandle;
use crate::limits::Limits;
use crate::listen::{BindError, Presence, Sockets};
use crate::serve::{Responder, Response, Service};
use crate::wire::{Answer, Reply, Request, Transport};

/// Where and how much to serve.
#[derive(Clone, Debug)]
pub struct AuthoritativeConfig {
    /// Addresses, each for UDP and TCP. Port 0 lets the system choose one port for both. On a machine with several addresses
    /// name each of them instead of `0.0.0.0`: an answer over UDP leaves from the address that the route prefers.
    pub listen: Vec<SocketAddr>,
    /// What clients may use.
    pub limits: Limits,
}

/// A running server. It stops when the token given to [`bind`](Self::bind) is cancelled or the value is dropped.
pub struct AuthoritativeServer {
    addresses: Vec<SocketAddr>,
    counters: Arc<QueryCounters>,
    tasks: TaskTracker,
    _stop: DropGuard,
}

impl AuthoritativeServer {
    /// Listens on all addresses, or on none, and begins to answer. Must be called within a tokio runtime.
    pub fn bind(
        config: &AuthoritativeConfig,
        zones: Arc<ZoneHandle>,
        shutdown: &CancellationToken,
    ) -> Result<Self, BindError> {
        let sockets: Vec<Sockets> = config
            .listen
            .iter()
            .map(|address| Sockets::bind(*address, Presence::Required))
            .collect::<Result<_, _>>()?;
        let addresses = sockets.iter().map(|sockets| sockets.address).collect();
        let (counters, tasks, stop) = (Arc::<QueryCounters>::default(), TaskTracker::new(), shutdown.child_token());
        let service = Service {
            responder: Authority { zones },
            counters: Arc::clone(&counters),
            limits: config.limits.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        service.start(sockets);
        Ok(Self { addresses, counters, tasks, _stop: stop.drop_guard() })
    }

    /// Where the server listens, over UDP and TCP, in the order of the configuration.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Counts of queries, for metrics.
    pub fn counters(&self) -> &Arc<QueryCounters> {
        &self.counters
    }

    /// Ends when the server has stopped: all sockets closed, every answer begun has been sent.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

/// Answers one packet as the server does over UDP, without a socket: for measuring and fuzzing. `None` is silence.
pub fn answer_packet(zones: &ZoneHandle, packet: &[u8]) -> Option<Vec<u8>> {
    reply(zones, packet, Transport::Udp).map(|reply| reply.bytes)
}

fn reply(zones: &ZoneHandle, packet: &[u8], transport: Transport) -> Option<Reply> {
    match Request::read(packet, transport) {
        Request::Ignore => None,
        Request::Reject(reply) => Some(reply),
        Request::Ask(question) => {
            let answer = answer(zones, &question).unwrap_or_else(|| Answer::bare(ResponseCode::Refused));
            Some(question.reply(answer))
        }
    }
}

struct Authority {
    zones: Arc<ZoneHandle>,
}

impl Responder for Authority {
    type Waiting = Infallible;

    fn respond(&self, request: &[u8], _client: SocketAddr, transport: Transport) -> Response<Infallible> {
        reply(&self.zones, request, transport).map_or(Response::Ignore, Response::Now)
    }

    async fn finish(&self, waiting: Infallible) -> Reply {
        match waiting {}
    }
}
