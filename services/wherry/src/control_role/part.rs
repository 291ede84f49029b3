//! The control part of a process: store, application, background work, and what answers: API, agents' port, names.
//!
//! It begins in three steps, because in `wherry up` this machine's agent begins between the last two: [`Opened`] has read
//! everything that can be refused, [`Running`] works, and [`Running::serve`] lets callers in.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wherry_agent_link::{AgentPort, AgentPortSettings, DialBack, Services};
use wherry_api_server::{ApiParts, ApiSettings, ApiState, JoinPoint, ReadinessCheck};
use wherry_control::{Background, Control, ControlConfig};
use wherry_dns_server::{AuthoritativeConfig, AuthoritativeServer, Limits, QueryCounters, ZoneHandle};

use super::client_file;
use super::enrolments::Enrolments;
use super::listeners::{Addresses, AgentsListener, Listeners};
use crate::base::Base;
use crate::keys::Keys;
use crate::settings::{SHUTDOWN_GRACE, parse_range};
use crate::store::OpenStore;
use crate::webhooks::Bridge;
use crate::zone::Publisher;

/// Everything was read and nothing was refused.
pub(crate) struct Opened {
    base: Base,
    store: OpenStore,
    keys: Keys,
    issuer: String,
    listeners: Listeners,
    zones: Arc<ZoneHandle>,
    dns: AuthoritativeServer,
    control: Control,
    stop: CancellationToken,
}

/// It works, and lets nobody in yet.
pub(crate) struct Running {
    opened: Opened,
    background: Arc<Background>,
}

/// It answers.
pub(crate) struct Serving {
    store: OpenStore,
    control: Control,
    background: Arc<Background>,
    servers: TaskTracker,
    state: ApiState,
    agents: Option<Arc<AgentPort>>,
    stop: CancellationToken,
    /// It stops when it is dropped.
    dns: AuthoritativeServer,
}

impl Opened {
    /// Opens the application on the store. `name_server` stands in the zone as the server's address when names are answered
    /// on no IPv4 address.
    pub(crate) async fn new(
        base: &Base,
        store: OpenStore,
        listeners: Listeners,
        name_server: Ipv4Addr,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let keys = Keys::open(base, listeners.agents.is_some())?;
        keys.settle(base, store.store().as_ref()).await?;
        let issuer = issuer(base, &store, listeners.addresses).await?;
        let config = config(base, &keys, &listeners)?;
        let zones = ZoneHandle::new(&config.apex()).context("names.region and names.zone make no zone")?;
        let dns = AuthoritativeConfig { listen: vec![listeners.addresses.dns], limits: Limits::default() };
        let dns = AuthoritativeServer::bind(&dns, Arc::clone(&zones), stop)
            .context("choose another address with --listen-dns or listen.dns")?;
        let publisher = Publisher {
            zones: Arc::clone(&zones),
            ttl_seconds: base.settings.names.ttl_seconds,
            name_server: match listeners.addresses.dns.ip() {
                std::net::IpAddr::V4(address) => address,
                std::net::IpAddr::V6(_) => name_server,
            },
        };
        let (clock, entropy) = (Arc::clone(&base.clock), Arc::clone(&base.entropy));
        let control = Control::open(store.store(), clock, entropy, Arc::new(publisher), config)
            .await
            .context("cannot read what is stored")?;
        let own = [base.settings.fleet.range.as_str(), base.settings.network.range.as_str()];
        let bridge = Bridge::new(&base.settings.webhooks, &own, control.config().apex()).context("webhooks")?;
        control.set_webhook_sender(Arc::new(bridge));
        client_file::ensure(&base.data, &control, listeners.addresses.api).await?;
        let (base, stop) = (base.clone(), stop.clone());
        Ok(Self { base, store, keys, issuer, listeners, zones, dns, control, stop })
    }

    /// What names are answered from.
    pub(crate) const fn zones(&self) -> &Arc<ZoneHandle> {
        &self.zones
    }

    /// Begins the background work.
    pub(crate) fn begin(self) -> Running {
        let background = Arc::new(Background::start(&self.control));
        Running { opened: self, background }
    }
}

impl Running {
    pub(crate) const fn control(&self) -> &Control {
        &self.opened.control
    }

    /// Lets callers in. `readiness` is what `/readyz` asks besides the store.
    pub(crate) fn serve(self, readiness: Vec<Arc<dyn ReadinessCheck>>) -> anyhow::Result<Serving> {
        let Self { opened, background } = self;
        let Opened { base, store, keys, issuer, listeners, zones: _, dns, control, stop } = opened;
        let Listeners { addresses: _, api, operator, agents: listener } = listeners;
        let servers = TaskTracker::new();
        let mut settings = ApiSettings::new(issuer);
        let agents = match (listener, keys.authority) {
            (Some(AgentsListener { listener, url, host }), Some(authority)) => {
                settings.join =
                    Some(JoinPoint { url: url.clone(), ca_fingerprint: authority.fingerprint().to_string() });
                let port = agents_port(&base, &control, &store, authority, (url, host), &stop)?;
                let serving = Arc::clone(&port);
                servers.spawn(async move { serving.serve(listener).await });
                Some(port)
            }
            _ => None,
        };
        let state = ApiState::new(ApiParts {
            control: control.clone(),
            clock: Arc::clone(&base.clock),
            entropy: Arc::clone(&base.entropy),
            signing_key: keys.signing,
            outside_issuers: keys.outside,
            readiness,
            settings,
            shutdown: stop.child_token(),
        });
        let public = wherry_api_server::public_router(&state);
        let inner = wherry_api_server::operator_router(&state);
        servers.spawn(wherry_api_server::serve(api, public, stop.child_token()));
        servers.spawn(wherry_api_server::serve(operator, inner, stop.child_token()));
        Ok(Serving { store, control, background, servers, state, agents, stop, dns })
    }

    /// After a start that did not come to its end.
    pub(crate) async fn give_up(self) {
        self.background.stop().await;
        leave(self.opened.control, self.opened.store).await;
    }
}

impl Serving {
    pub(crate) const fn state(&self) -> &ApiState {
        &self.state
    }

    pub(crate) const fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) const fn background(&self) -> &Arc<Background> {
        &self.background
    }

    pub(crate) const fn agents(&self) -> Option<&Arc<AgentPort>> {
        self.agents.as_ref()
    }

    /// Answers of the authoritative server.
    pub(crate) fn dns_counters(&self) -> Arc<QueryCounters> {
        Arc::clone(self.dns.counters())
    }

    /// Lets nobody in any more and waits until those who are in have been answered, within bounds.
    pub(crate) async fn close_doors(&self) {
        self.stop.cancel();
        self.servers.close();
        if tokio::time::timeout(SHUTDOWN_GRACE, self.servers.wait()).await.is_err() {
            tracing::warn!("requests were still open and have been cut off");
        }
    }

    /// Ends the background work, gives up leases and leaves the store.
    pub(crate) async fn finish(self) {
        let Self { store, control, background, state, agents, dns, .. } = self;
        background.stop().await;
        drop((dns, state, agents));
        leave(control, store).await;
    }
}

async fn leave(control: Control, store: OpenStore) {
    if let Err(error) = control.close().await {
        tracing::warn!(%error, "the store was not told that this process has ended; it finds out by itself");
    }
    drop(control);
    store.close().await;
}

fn config(base: &Base, keys: &Keys, listeners: &Listeners) -> anyhow::Result<ControlConfig> {
    let settings = &base.settings;
    let mut config = ControlConfig::new(keys.naming);
    config.sealing = keys.sealing.clone();
    config.region.clone_from(&settings.names.region);
    config.zone.clone_from(&settings.names.zone);
    config.detection = settings.fleet.detection();
    config.fence_after_seconds = settings.fleet.fence_after_seconds;
    config.fence_margin = settings.fleet.fence_margin();
    config.retention = settings.fleet.deleted_retention();
    config.forgetting = settings.fleet.forgetting();
    config.audit_retention = settings.fleet.audit_retention();
    config.entries_per_hour = settings.fleet.entries_per_hour;
    config.events_per_instance = settings.fleet.events_per_instance;
    config.lease_time = settings.fleet.lease();
    config.fleet_range = parse_range(&settings.fleet.range).context("fleet.range")?;
    config.node_prefix = settings.fleet.node_prefix;
    config.allow_limits_above_request = settings.fleet.allow_limits_above_request;
    config.overcommit = settings.fleet.overcommit();
    config.learn_lifetimes = settings.fleet.learn_lifetimes;
    config.spot_notice = std::time::Duration::from_secs(settings.fleet.spot_notice_seconds);
    config.webhooks = settings.webhooks.bounds();
    // A SQLite file is one process's.
    config.is_alone = settings.store.url.is_none();
    config.agents_url = listeners.agents_url().map(str::to_owned);
    if let Some(prices) = &settings.prices {
        config.price_book = prices.clone();
    }
    Ok(config)
}

/// The `iss` of tokens. Replicas must agree on it, or one would refuse what another has issued: unless the operator names it, the
/// first replica's is everybody's.
async fn issuer(base: &Base, store: &OpenStore, addresses: Addresses) -> anyhow::Result<String> {
    if let Some(issuer) = &base.settings.auth.issuer {
        return Ok(issuer.clone());
    }
    let own = format!("http://{}", addresses.api);
    if !store.is_shared() {
        return Ok(own);
    }
    store.store().settle("issuer", &own).await.context("the store does not say who issues tokens")
}

fn agents_port(
    base: &Base,
    control: &Control,
    store: &OpenStore,
    authority: Arc<wherry_agent_link::Authority>,
    (url, host): (String, String),
    stop: &CancellationToken,
) -> anyhow::Result<Arc<AgentPort>> {
    let control = Arc::new(control.clone());
    let dial_back = DialBack::new(control.clone(), url, Arc::clone(&base.clock), Arc::clone(&base.entropy));
    control.set_directory(dial_back.directory());
    let enrolment = Arc::new(Enrolments::new(control.clone(), store.store()));
    let services = Services { control: control.clone(), board: control, dial_back, enrolment };
    let settings = AgentPortSettings { hosts: vec![host], ..AgentPortSettings::default() };
    let port = AgentPort::new(services, authority, settings, Arc::clone(&base.clock), stop.child_token());
    Ok(Arc::new(port.context("the agents' port does not open")?))
}
