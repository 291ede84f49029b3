//! This machine as a node: part of `wherry up`, or alone as `wherry node`.
//!
//! `wherry node` begins without the control plane: who it is, what it should run, which names there are and where the other
//! nodes are is on its disk. It listens on nothing that another machine reaches, the gateway of its own instances aside.
//!
//! Order of the start: what can be refused at once (rights, programs, lock, port), then who this machine is, which at the
//! first start is asked of the control plane, then containerd and that nothing of another node is in it, link, names, agent.
//! Order of the stop: answers to others, the agent with its last reports, the link. Containers and containerd run on.

mod another;
mod engine;
mod greeting;
mod guard;
mod join_token;
mod machine;
mod membership;
mod part;
mod underlay;
mod ways;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wherry_agent_api::{ControlPlane, NodeServices};
use wherry_agent_link::{Answerer, Identity, LinkClient, LinkSettings};
use wherry_dns_server::ZoneHandle;

pub(crate) use guard::run as run_guard;
pub(crate) use machine::name as machine_name;
pub(crate) use part::{NodePart, Place, Surface, engine_of, firewall_of, leave_clean, resolver, start_engine};
pub(crate) use ways::remove as remove_ways;

use crate::base::{Base, Signals, require_absent};
use crate::cli::{NodeArgs, Role};
use crate::control_role::listeners::bind;
use crate::data::DataFolder;
use crate::settings::{Settings, parse_range};
use crate::zone::Publisher;
use crate::{doctor, metrics};

/// How long the greeting waits for the control plane, to be able to say that it answers.
const GREETING_WAITS: Duration = Duration::from_secs(5);

/// The range of what may be left of this data folder's node.
pub(crate) fn kept_range(data: &DataFolder, settings: &Settings) -> anyhow::Result<(Ipv4Addr, u8)> {
    match Identity::open(&data.identity()) {
        Ok(Some(identity)) => Ok(identity.range()),
        Ok(None) => parse_range(&settings.network.range),
        Err(error) => {
            // Cleaning up goes by names of our own; the range is only written into files that are deleted then.
            tracing::warn!(error = &error as &dyn std::error::Error, "this machine's identity cannot be read");
            parse_range(&settings.network.range)
        }
    }
}

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run(data: DataFolder, args: &NodeArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut signals = Signals::install()?;
    let base = Base::new(data.clone(), settings(&data, args)?);
    for path in [data.node_id_file(), data.keys()] {
        require_absent(
            &path,
            "this data folder is that of `wherry up` or `wherry control`, give another folder with --data",
        )?;
    }
    let known = membership::open(&base)?;
    let require = |range| doctor::require(Role::Node, &data, &base.settings, range);
    require(known.as_ref().map(Identity::range))?;
    data.create_for_node()?;
    let lock = data.lock("wherry node")?;
    if let Some(known) = &known {
        another::note_owner(&data, known.node())?;
    }
    let was_known = known.is_some();
    let identity = tokio::select! {
        biased;
        identity = membership::settle(&base, known, &args.join) => Arc::new(identity?),
        () = signals.stop_asked() => return Ok(()),
    };
    if !was_known {
        require(Some(identity.range()))?;
    }
    let address = base.settings.listen.operator;
    let operator = bind(address, "metrics and health", "--listen-operator or listen.operator").await?;
    let place = membership::place(&base, &identity, args.join.underlay).await?;
    let started = tokio::select! {
        biased;
        node = Node::start(&base, &place, &identity, operator) => Some(node),
        () = signals.stop_asked() => None,
    };
    let node = match started {
        Some(Ok(node)) => node,
        Some(Err(error)) => {
            if let Err(trouble) = tidy(&base, place.range).await {
                tracing::warn!(error = format!("{trouble:#}"), "not everything could be cleaned up");
            }
            return Err(error);
        }
        None => {
            greeting::print_farewell(tidy(&base, place.range).await?);
            return Ok(());
        }
    };
    tokio::select! {
        biased;
        () = signals.stop_asked() => {}
        () = node.greet(&base, &place, begun) => signals.stop_asked().await,
    }
    signals.stop_in_order(node.stop(), "wherry node").await?;
    drop(lock);
    Ok(())
}

/// After a start that did not come to its end.
async fn tidy(base: &Base, range: (Ipv4Addr, u8)) -> anyhow::Result<usize> {
    let Base { data, settings, .. } = base;
    leave_clean(base, range, &engine_of(data, settings, range)?, &firewall_of(data, settings, range)?).await
}

fn settings(data: &DataFolder, args: &NodeArgs) -> anyhow::Result<Settings> {
    let mut settings = Settings::load(args.config.as_deref(), data.root())?;
    settings.listen.operator = args.listen_operator.unwrap_or(settings.listen.operator);
    settings.node.zone = args.zone.or(settings.node.zone);
    Ok(settings)
}

/// Everything that runs.
struct Node {
    part: NodePart,
    link: Arc<LinkClient>,
    answerer: JoinHandle<()>,
    tasks: TaskTracker,
    operator: std::net::SocketAddr,
    /// Ends everything but the agent.
    stop: CancellationToken,
}

impl Node {
    async fn start(
        base: &Base,
        place: &Place,
        identity: &Arc<Identity>,
        operator: TcpListener,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let containerd = start_engine(base, place.range).await?;
        another::require_none_of_another(containerd.runtime().as_ref(), place.node, &base.data).await?;
        if let Some(aside) = another::put_aside(&base.data, place.node)? {
            tracing::warn!(to = %aside.display(), "what this machine kept as another node was put aside; delete it when it is not needed");
        }
        let zones = ZoneHandle::new(&identity.enrolled().apex).context("the control plane's zone is none")?;
        let resolver = resolver(base, place.range, &zones, &stop)?;
        let names = Publisher { zones, ttl_seconds: base.settings.names.ttl_seconds, name_server: place.gateway() };
        let (clock, entropy) = (Arc::clone(&base.clock), Arc::clone(&base.entropy));
        let link = identity.link(LinkSettings::default(), clock, entropy).context("there is no link")?;
        let control = Arc::clone(&link) as Arc<dyn ControlPlane>;
        let surface = Surface { control, names: Some(Arc::new(names)) };
        let address = operator.local_addr()?;
        // Last of what can fail: an agent that has begun would put back what is cleaned up after a failed start.
        let part = NodePart::start(base, place, containerd, resolver, surface, &stop).await?;
        let services = Arc::clone(part.agent()) as Arc<dyn NodeServices>;
        let answerer = Answerer::start(Arc::clone(&link), services, stop.clone());
        let tasks = TaskTracker::new();
        let (clock, entropy) = (Arc::clone(&base.clock), Arc::clone(&base.entropy));
        tasks.spawn(Arc::clone(identity).keep_renewed(Arc::clone(&link), clock, entropy, stop.clone()));
        let registry = Registry::new();
        let sources = metrics::Sources::new(None, part.numbers(Some(membership::life(base, identity))));
        if let Err(error) = metrics::start(&registry, sources, stop.clone()) {
            tracing::error!(error = format!("{error:#}"), "there are no metrics");
        }
        let router = wherry_api_server::node_operator_router(registry, vec![part.readiness()]);
        tasks.spawn(wherry_api_server::serve(operator, router, stop.clone()));
        Ok(Self { part, link, answerer, tasks, operator: address, stop })
    }

    /// Says where everything is, once the control plane has answered or has had the time to.
    async fn greet(&self, base: &Base, place: &Place, begun: Instant) {
        let took = begun.elapsed();
        let has_answered = self.part.is_heard(GREETING_WAITS).await;
        let line = match (has_answered, self.link.endpoint(), self.link.trouble()) {
            (true, Some(endpoint), _) => endpoint.to_string(),
            (_, _, Some(trouble)) => format!("does not answer yet: {trouble}"),
            _ => "does not answer yet".to_owned(),
        };
        greeting::print(base, place, self.operator, &line, took);
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let kept = self.part.stop().await;
        if let Err(error) = self.answerer.await {
            tracing::warn!(%error, "answers to the control plane ended badly");
        }
        self.tasks.close();
        self.tasks.wait().await;
        drop(self.link);
        greeting::print_farewell(kept?);
        Ok(())
    }
}
