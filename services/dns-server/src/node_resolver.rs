//! The resolver of one node's instances: the zone from memory, everything else through the host's upstream resolvers.
//!
//! It listens on the gateway address of the node's range, which need not exist yet, and answers only clients in that range.
//! One instance cannot take all the forwarding: each client has a share.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_resolver::TokioResolver;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::answer::answer;
use crate::counters::{QueryCounters, count};
use crate::handle::ZoneHandle;
use crate::limits::{Limits, Permit, Permits};
use crate::listen::{BindError, Presence, Sockets};
use crate::range::Ipv4Range;
use crate::serve::{Responder, Response, Service};
use crate::upstream::{Forwarder, Patience, Upstream, stays_inside};
use crate::wire::{Answer, Question, Reply, Request, Transport};

/// Where to listen, whom to serve, whom to ask.
#[derive(Clone, Debug)]
pub struct NodeResolverConfig {
    /// The gateway address of the node's range, usually with port 53. It need not exist yet.
    pub listen: SocketAddrV4,
    /// Clients outside this range are refused.
    pub clients: Ipv4Range,
    /// Who answers for names outside the zone.
    pub upstream: Upstream,
    /// After this long without an answer from upstream the client gets SERVFAIL.
    pub forward_timeout: Duration,
    /// Questions at upstream at a time; more get SERVFAIL at once.
    pub forwards: usize,
    /// Of these, for one client.
    pub forwards_per_client: usize,
    /// Outside answers remembered.
    pub cache_entries: u64,
    /// What clients may use.
    pub limits: Limits,
}

impl NodeResolverConfig {
    /// The usual limits, with the host's own upstream resolvers.
    pub fn new(listen: SocketAddrV4, clients: Ipv4Range) -> Self {
        Self {
            listen,
            clients,
            upstream: Upstream::system(),
            forward_timeout: Duration::from_secs(4),
            forwards: 256,
            forwards_per_client: 32,
            cache_entries: 4096,
            limits: Limits::default(),
        }
    }
}

/// A running resolver. It stops when the token given to [`bind`](Self::bind) is cancelled or the value is dropped.
pub struct NodeResolver {
    address: SocketAddr,
    counters: Arc<QueryCounters>,
    tasks: TaskTracker,
    _stop: DropGuard,
}

impl NodeResolver {
    /// Listens and begins to answer. Must be called within a tokio runtime.
    pub fn bind(
        config: &NodeResolverConfig,
        zones: Arc<ZoneHandle>,
        shutdown: &CancellationToken,
    ) -> Result<Self, BindError> {
        let sockets = Sockets::bind(config.listen.into(), Presence::MayComeLater)?;
        let address = sockets.address;
        let (counters, tasks, stop) = (Arc::<QueryCounters>::default(), TaskTracker::new(), shutdown.child_token());
        let patience = Patience { timeout: config.forward_timeout, cache_entries: config.cache_entries };
        let forwarder = Arc::new(Forwarder::new(config.upstream.clone(), address, patience));
        tasks.spawn({
            let (forwarder, stop) = (Arc::clone(&forwarder), stop.clone());
            async move { forwarder.follow(stop).await }
        });
        let responder = InstanceResolver {
            zones,
            clients: config.clients,
            forwarder,
            permits: Permits::new(config.forwards, config.forwards_per_client),
            counters: Arc::clone(&counters),
        };
        let service = Service {
            responder,
            counters: Arc::clone(&counters),
            limits: config.limits.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        service.start(vec![sockets]);
        Ok(Self { address, counters, tasks, _stop: stop.drop_guard() })
    }

    /// Where the resolver listens, over UDP and TCP.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Counts of queries, for metrics.
    pub fn counters(&self) -> &Arc<QueryCounters> {
        &self.counters
    }

    /// Ends when the resolver has stopped. Questions still at upstream are given up.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

struct InstanceResolver {
    zones: Arc<ZoneHandle>,
    clients: Ipv4Range,
    forwarder: Arc<Forwarder>,
    permits: Permits,
    counters: Arc<QueryCounters>,
}

/// A question on its way to upstream.
struct Forward {
    question: Question,
    resolver: Arc<TokioResolver>,
    _permit: Permit,
}

impl InstanceResolver {
    /// What can be answered without asking anybody; `None` if upstream has to be asked.
    fn at_once(&self, question: &Question, client: IpAddr) -> Option<Answer> {
        let IpAddr::V4(client) = client.to_canonical() else { return Some(Answer::bare(ResponseCode::Refused)) };
        if !self.clients.contains(client) {
            return Some(Answer::bare(ResponseCode::Refused));
        }
        let known = answer(&self.zones, question).or_else(|| outside(question));
        known.map(|mut answer| {
            answer.recursion_available = true;
            answer
        })
    }
}

/// What needs no asking although the name is not in the zone.
fn outside(question: &Question) -> Option<Answer> {
    let query = &question.query;
    if query.query_class() != DNSClass::IN || !question.recursion_desired() {
        return Some(Answer::bare(ResponseCode::Refused));
    }
    if query.query_type() == RecordType::ANY {
        return Some(Answer::bare(ResponseCode::NotImp));
    }
    // Without an SOA nobody may remember this, so a zone that appears later is seen at once.
    stays_inside(query.name()).then(|| Answer::bare(ResponseCode::NXDomain))
}

impl Responder for InstanceResolver {
    type Waiting = Forward;

    fn respond(&self, request: &[u8], client: SocketAddr, transport: Transport) -> Response<Forward> {
        let question = match Request::read(request, transport) {
            Request::Ignore => return Response::Ignore,
            Request::Reject(reply) => return Response::Now(reply),
            Request::Ask(question) => question,
        };
        if let Some(answer) = self.at_once(&question, client.ip()) {
            return Response::Now(question.reply(answer));
        }
        let Some(resolver) = self.forwarder.resolver() else {
            return Response::Now(question.reply(failed()));
        };
        let Some(permit) = self.permits.take(client.ip()) else {
            count(&self.counters.forward_shed);
            return Response::Now(question.reply(failed()));
        };
        count(&self.counters.forwarded);
        Response::Later(Forward { question, resolver, _permit: permit })
    }

    async fn finish(&self, forward: Forward) -> Reply {
        let answer = match self.forwarder.ask(&forward.resolver, &forward.question).await {
            Ok(mut answer) => {
                answer.recursion_available = true;
                answer
            }
            Err(error) => {
                count(&self.counters.forward_failed);
                tracing::debug!(error = &error as &dyn std::error::Error, "a name outside the zone got no answer");
                failed()
            }
        };
        forward.question.reply(answer)
    }
}

fn failed() -> Answer {
    let mut answer = Answer::bare(ResponseCode::ServFail);
    answer.recursion_available = true;
    answer
}
