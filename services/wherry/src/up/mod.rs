//! `wherry up`: every role in one process. This is the composition root: here, and only here, the traits meet what
//! implements them.
//!
//! Order of the start: what can be refused at once (lock, ports, settings) first, then containerd and the store side by
//! side, then the application, its agent, its names, its API. Order of the stop: API, agent, background work. Containers
//! and containerd run on; when there is no instance at all, containerd is stopped and cleaned up too.

mod auth;
mod engine;
mod greeting;
mod listeners;
mod machine;
mod metrics;
mod names;
mod node;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wherry_api_server::{ApiParts, ApiSettings, ApiState, OutsideIssuer, SigningKey};
use wherry_control::{Background, Control, ControlConfig, TenantKeyRequest};
use wherry_dns_server::{
    AuthoritativeConfig, AuthoritativeServer, Ipv4Range, Limits, NodeResolver, NodeResolverConfig, Upstream, ZoneHandle,
};
use wherry_model::{Clock, Entropy, ScopeSet, TenantName};
use wherry_store_sqlite::SqliteStore;

use crate::cli::UpArgs;
use crate::client::connection::ClientFile;
use crate::data::{DataFolder, write_private};
use crate::settings::{SHUTDOWN_GRACE, Settings, parse_range};
use crate::system::{SystemClock, SystemEntropy};

use listeners::Listeners;
use node::LocalNode;
pub(crate) use node::{engine_of, firewall_of};

/// The tenant of whoever runs Wherry on this machine.
const LOCAL_TENANT: &str = "default";

/// What instances of this process need from everywhere.
#[derive(Clone)]
struct Surroundings {
    data: DataFolder,
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    range: (Ipv4Addr, u8),
    /// First address of the range: the gateway of every instance, where its resolver listens.
    gateway: Ipv4Addr,
}

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run(data: DataFolder, args: &UpArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut signals = Signals::install()?;
    let surroundings = surroundings(&data, args)?;
    crate::doctor::require_for_up(&data, &surroundings.settings)?;
    data.create()?;
    let lock = data.lock()?;
    let listeners = Listeners::bind(&surroundings.settings.listen).await?;
    let settings = Arc::clone(&surroundings.settings);
    let started = tokio::select! {
        up = Up::start(surroundings, listeners) => Some(up),
        () = signals.stop_asked() => None,
    };
    let up = match started {
        Some(Ok(up)) => up,
        Some(Err(error)) => {
            if let Err(trouble) = leave_clean(&data, &settings).await {
                tracing::warn!(error = format!("{trouble:#}"), "not everything could be cleaned up");
            }
            return Err(error);
        }
        None => {
            greeting::print_farewell(leave_clean(&data, &settings).await?);
            return Ok(());
        }
    };
    up.greet(begun.elapsed());
    signals.stop_asked().await;
    eprintln!("\nstopping (again to stop at once) …");
    tokio::select! {
        ended = up.stop() => ended?,
        () = signals.stop_asked() => anyhow::bail!("stopped at once; the next `wherry up` tidies up"),
    }
    drop(lock);
    Ok(())
}

/// After a start that did not come to its end.
async fn leave_clean(data: &DataFolder, settings: &Settings) -> anyhow::Result<usize> {
    node::leave_clean(data, &engine_of(data, settings)?, &firewall_of(data, settings)?).await
}

fn surroundings(data: &DataFolder, args: &UpArgs) -> anyhow::Result<Surroundings> {
    let mut settings = Settings::load(args.config.as_deref(), data.root())?;
    settings.listen.api = args.listen_api.unwrap_or(settings.listen.api);
    settings.listen.operator = args.listen_operator.unwrap_or(settings.listen.operator);
    settings.listen.dns = args.listen_dns.unwrap_or(settings.listen.dns);
    if let Some(range) = &args.range {
        settings.network.range.clone_from(range);
    }
    let range = parse_range(&settings.network.range)?;
    Ok(Surroundings {
        data: data.clone(),
        settings: Arc::new(settings),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        range,
        gateway: Ipv4Addr::from(u32::from(range.0) + 1),
    })
}

/// Everything that runs.
struct Up {
    surroundings: Surroundings,
    store: Arc<SqliteStore>,
    control: Control,
    background: Arc<Background>,
    node: LocalNode,
    listeners: listeners::Addresses,
    stop: CancellationToken,
    servers: tokio_util::task::TaskTracker,
    /// They stop when they are dropped.
    dns: (AuthoritativeServer, NodeResolver),
}

impl Up {
    async fn start(surroundings: Surroundings, listeners: Listeners) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let Surroundings { data, settings, clock, entropy, .. } = &surroundings;
        let engine = node::start_engine(&surroundings);
        let open = async { SqliteStore::open(data.database()).await.context("cannot open the store") };
        // Neither is given up half way when the other fails: who cleans up has to know what runs.
        let (containerd, store) = tokio::join!(engine, open);
        let (containerd, store) = (containerd?, Arc::new(store?));

        let mut config = ControlConfig::new(data.naming_key(entropy.as_ref())?);
        config.region.clone_from(&settings.names.region);
        config.zone.clone_from(&settings.names.zone);
        if let Some(prices) = &settings.prices {
            config.price_book = prices.clone();
        }
        let zones = ZoneHandle::new(&config.apex()).context("names.region and names.zone make no zone")?;
        let dns = serve_names(&surroundings, &zones, &listeners, &stop)?;
        let publisher = names::Publisher {
            zones,
            ttl_seconds: settings.names.ttl_seconds,
            name_server: match listeners.addresses.dns.ip() {
                std::net::IpAddr::V4(address) => address,
                std::net::IpAddr::V6(_) => surroundings.gateway,
            },
        };
        let control = Control::open(
            Arc::clone(&store) as Arc<dyn wherry_store::Store>,
            Arc::clone(clock),
            Arc::clone(entropy),
            Arc::new(publisher),
            config,
        )
        .await
        .context("cannot read what is stored")?;

        ensure_client_file(&surroundings, &control, listeners.addresses.api).await?;
        let keys = Keys::open(&surroundings)?;

        // Last of what can fail: an agent that has begun would put back what is cleaned up after a failed start.
        let background = Arc::new(Background::start(&control));
        let node = LocalNode::start(&surroundings, containerd, &control, &stop).await?;
        let state = api_state(&surroundings, &control, &node, keys, listeners.addresses.api, &stop);
        let sources = metrics::Sources {
            control: control.clone(),
            background: Arc::clone(&background),
            agent: node.agent().status(),
            dns: [("public", Arc::clone(dns.0.counters())), ("instances", Arc::clone(dns.1.counters()))],
        };
        metrics::start(state.registry(), sources, stop.clone())?;
        let addresses = listeners.addresses;
        let servers = listeners.serve(&state, &stop);
        Ok(Self { surroundings, store, control, background, node, listeners: addresses, stop, servers, dns })
    }

    fn greet(&self, took: std::time::Duration) {
        greeting::print(&self.listeners, &self.surroundings, took);
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.servers.close();
        if tokio::time::timeout(SHUTDOWN_GRACE, self.servers.wait()).await.is_err() {
            tracing::warn!("requests were still open and have been cut off");
        }
        let kept = self.node.stop().await;
        self.background.stop().await;
        drop(self.dns);
        drop(self.control);
        if let Ok(store) = Arc::try_unwrap(self.store) {
            store.close().await;
        }
        greeting::print_farewell(kept?);
        Ok(())
    }
}

fn serve_names(
    surroundings: &Surroundings,
    zones: &Arc<ZoneHandle>,
    listeners: &Listeners,
    stop: &CancellationToken,
) -> anyhow::Result<(AuthoritativeServer, NodeResolver)> {
    let config = AuthoritativeConfig { listen: vec![listeners.addresses.dns], limits: Limits::default() };
    let public = AuthoritativeServer::bind(&config, Arc::clone(zones), stop)
        .context("choose another address with --listen-dns or listen.dns")?;
    let clients = Ipv4Range::new(surroundings.range.0, surroundings.range.1).context("network.range")?;
    let address = std::net::SocketAddrV4::new(surroundings.gateway, 53);
    let mut config = NodeResolverConfig::new(address, clients);
    if !surroundings.settings.network.upstream_dns.is_empty() {
        config.upstream = Upstream::Servers(surroundings.settings.network.upstream_dns.clone());
    }
    let private = NodeResolver::bind(&config, Arc::clone(zones), stop)
        .context("choose another range with --range or network.range")?;
    Ok((public, private))
}

/// What tokens are signed and verified with.
struct Keys {
    signing: SigningKey,
    outside: Vec<OutsideIssuer>,
}

impl Keys {
    fn open(surroundings: &Surroundings) -> anyhow::Result<Self> {
        let path = surroundings.data.keys().join("token.pem");
        let signing =
            SigningKey::open(&path, surroundings.entropy.as_ref()).context("cannot use the token signing key")?;
        Ok(Self { signing, outside: auth::outside_issuers(&surroundings.settings.auth)? })
    }
}

fn api_state(
    surroundings: &Surroundings,
    control: &Control,
    node: &LocalNode,
    keys: Keys,
    api: std::net::SocketAddr,
    stop: &CancellationToken,
) -> ApiState {
    let Surroundings { settings, clock, entropy, .. } = surroundings;
    let external = settings.auth.issuer.clone().unwrap_or_else(|| format!("http://{api}"));
    ApiState::new(ApiParts {
        control: control.clone(),
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
        signing_key: keys.signing,
        outside_issuers: keys.outside,
        readiness: vec![node.readiness()],
        settings: ApiSettings::new(external),
        shutdown: stop.child_token(),
    })
}

/// Makes the key that the CLI on this machine uses, unless it is there and works.
async fn ensure_client_file(
    surroundings: &Surroundings,
    control: &Control,
    api: std::net::SocketAddr,
) -> anyhow::Result<()> {
    let path = surroundings.data.client_file();
    let server = format!("http://{api}");
    let known = ClientFile::read(&path).ok();
    if let Some(known) = known
        && let Ok(id) = known.key_id.parse()
        && control.authenticate_key(id, &known.key_secret).await.is_ok()
    {
        if known.server == server {
            return Ok(());
        }
        return write_private(&path, &ClientFile { server, ..known }.to_json()?);
    }
    let tenant = control.ensure_tenant(TenantName::new(LOCAL_TENANT)?).await?;
    let request = TenantKeyRequest { name: "this machine".to_owned(), scopes: ScopeSet::all(), expires_at: None };
    let key = control.issue_key(tenant.id, request).await?;
    let file = ClientFile {
        server,
        key_id: key.record.id.to_string(),
        key_secret: key.secret,
        project: wherry_model::ProjectName::default_project().to_string(),
    };
    write_private(&path, &file.to_json()?)
}

/// The two signals that mean "stop".
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    async fn stop_asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
