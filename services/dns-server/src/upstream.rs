//! The host's upstream resolvers: who they are, and asking them.
//!
//! With the system's configuration the file is looked at again now and then, because a machine may get its resolvers after
//! Wherry has begun (DHCP), or other ones later.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::wire::{Answer, Question};

/// How often the system's configuration is looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// Longest that outside answers are remembered, in seconds.
const MAX_CACHE_SECONDS: u64 = 3600;
/// Longest that a missing outside name is remembered, in seconds.
const MAX_NEGATIVE_CACHE_SECONDS: u64 = 60;
/// Tries at one upstream before the question fails.
const ATTEMPTS: usize = 2;
/// Upstreams asked in turn; resolv.conf allows three, a list some more.
const MAX_UPSTREAMS: usize = 8;

/// Who answers for names outside the zone.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// The servers in a file of resolv.conf(5) form, read again when it changes. See [`Upstream::system`].
    ResolvConf(PathBuf),
    /// These servers, at most 8.
    Servers(Vec<SocketAddr>),
    /// Nobody: names outside the zone answer SERVFAIL at once.
    Nobody,
}

impl Upstream {
    /// What the host itself uses.
    pub fn system() -> Self {
        Self::ResolvConf(PathBuf::from("/etc/resolv.conf"))
    }
}

/// Limits of asking.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// For the whole question, all tries together.
    pub(crate) timeout: Duration,
    /// Answers remembered.
    pub(crate) cache_entries: u64,
}

/// The current upstream resolvers.
pub(crate) struct Forwarder {
    upstream: Upstream,
    own: SocketAddr,
    patience: Patience,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    servers: Vec<SocketAddr>,
    resolver: Option<Arc<TokioResolver>>,
}

impl Forwarder {
    /// `own` is where the caller listens: asking itself would never end.
    pub(crate) fn new(upstream: Upstream, own: SocketAddr, patience: Patience) -> Self {
        let forwarder = Self { upstream, own, patience, current: Mutex::default() };
        match &forwarder.upstream {
            Upstream::ResolvConf(path) => forwarder.adopt(read_servers(path)),
            Upstream::Servers(servers) => forwarder.adopt(servers.clone()),
            Upstream::Nobody => {}
        }
        if forwarder.resolver().is_none() {
            tracing::warn!("no upstream resolver: instances resolve names of the zone only");
        }
        forwarder
    }

    /// Who can be asked now.
    pub(crate) fn resolver(&self) -> Option<Arc<TokioResolver>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).resolver.clone()
    }

    /// Follows changes of the system's configuration until `stop`.
    pub(crate) async fn follow(&self, stop: CancellationToken) {
        let Upstream::ResolvConf(path) = &self.upstream else { return };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
            }
            let path = path.clone();
            // A task that was cancelled by the end of the runtime has nothing to adopt.
            if let Ok(servers) = tokio::task::spawn_blocking(move || read_servers(&path)).await {
                self.adopt(servers);
            }
        }
    }

    fn adopt(&self, mut servers: Vec<SocketAddr>) {
        servers.retain(|server| *server != self.own);
        servers.truncate(MAX_UPSTREAMS);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.servers == servers {
            return;
        }
        let resolver = build(&servers, self.patience);
        tracing::info!(?servers, usable = resolver.is_some(), "upstream resolvers of the node");
        *current = Current { servers, resolver };
    }

    /// Asks for a name outside the zone.
    pub(crate) async fn ask(&self, resolver: &TokioResolver, question: &Question) -> Result<Answer, ForwardError> {
        let query = &question.query;
        let mut name = query.name().clone();
        name.set_fqdn(true);
        let looked_up = timeout(self.patience.timeout, resolver.lookup(name, query.query_type()))
            .await
            .map_err(|_| ForwardError::Timeout)?;
        match looked_up {
            Ok(lookup) => {
                let mut answer = Answer::bare(ResponseCode::NoError);
                answer.answers = lookup.answers().to_vec();
                Ok(answer)
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(missing))) => {
                let mut answer = Answer::bare(missing.response_code);
                answer.authorities = missing.soa.map(|soa| soa.into_record_of_rdata()).into_iter().collect();
                Ok(answer)
            }
            Err(source) => Err(ForwardError::Upstream(source)),
        }
    }
}

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("no upstream resolver answered in time")]
    Timeout,
    #[error("the upstream resolver failed")]
    Upstream(#[source] NetError),
}

/// Names that must never leave the node: their answers could only come from somebody who should not be asked.
pub(crate) fn stays_inside(name: &Name) -> bool {
    name.iter().next_back().is_some_and(|top| top.eq_ignore_ascii_case(b"internal"))
}

fn read_servers(path: &Path) -> Vec<SocketAddr> {
    let parsed = std::fs::read(path).map_err(NetError::from).and_then(parse_resolv_conf);
    match parsed {
        Ok((config, _)) => config.name_servers().iter().map(|server| SocketAddr::new(server.ip, 53)).collect(),
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "no resolver in the system's configuration");
            Vec::new()
        }
    }
}

fn build(servers: &[SocketAddr], patience: Patience) -> Option<Arc<TokioResolver>> {
    if servers.is_empty() {
        return None;
    }
    let servers = servers.iter().map(|server| name_server(server.ip(), server.port())).collect();
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options(patience);
    match builder.build() {
        Ok(resolver) => Some(Arc::new(resolver)),
        Err(error) => {
            tracing::warn!(%error, "the upstream resolvers cannot be used; names outside the zone answer SERVFAIL");
            None
        }
    }
}

fn name_server(ip: IpAddr, port: u16) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = port;
        connection
    };
    NameServerConfig::new(ip, true, vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())])
}

fn options(patience: Patience) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    let tries = u32::try_from(ATTEMPTS).unwrap_or(1) + 1;
    options.timeout = patience.timeout / tries;
    options.attempts = ATTEMPTS;
    options.cache_size = patience.cache_entries;
    // The host's own table is not the tenants' business.
    options.use_hosts_file = ResolveHosts::Never;
    options.positive_max_ttl = Some(Duration::from_secs(MAX_CACHE_SECONDS));
    options.negative_max_ttl = Some(Duration::from_secs(MAX_NEGATIVE_CACHE_SECONDS));
    options.try_tcp_on_error = true;
    options
}
