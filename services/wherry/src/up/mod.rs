//! `wherry up`: a control part and a node part in one process, which talk by direct calls. With `--listen-agents` other
//! machines join it.
//!
//! Order of the start: what can be refused at once (lock, ports, settings) first, then containerd and the store side by
//! side, then the application, its agent, its names, its API. Order of the stop: API, agent, background work. Containers
//! and containerd run on; when there is no instance at all, containerd is stopped and cleaned up too.

mod greeting;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::NodeServices;
use wherry_control::Control;

use crate::base::{Base, Signals, main_address, require_absent};
use crate::cli::{Role, UpArgs};
use crate::control_role::listeners::Listeners;
use crate::control_role::{Opened, Serving};
use crate::data::DataFolder;
use crate::metrics;
use crate::node_role::{self, NodePart, Place, Surface};
use crate::settings::{Settings, parse_range};
use crate::store::OpenStore;

/// How long callers wait for this machine's agent.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run(data: DataFolder, args: &UpArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut signals = Signals::install()?;
    let base = Base::new(data.clone(), settings(&data, args)?);
    let range = parse_range(&base.settings.network.range)?;
    require_absent(
        &data.identity(),
        "this data folder is that of a machine that has joined another Wherry, start it with `wherry node`, or give \
         another folder with --data",
    )?;
    crate::doctor::require(Role::Up, &data, &base.settings, Some(range))?;
    data.create()?;
    let lock = data.lock("wherry up")?;
    let listeners = Listeners::bind(&base.settings).await?;
    let (addresses, url) = (listeners.addresses, listeners.agents_url().map(str::to_owned));
    let started = tokio::select! {
        biased;
        up = Up::start(&base, range, listeners) => Some(up),
        () = signals.stop_asked() => None,
    };
    let up = match started {
        Some(Ok(up)) => up,
        Some(Err(error)) => {
            if let Err(trouble) = leave_clean(&base, range).await {
                tracing::warn!(error = format!("{trouble:#}"), "not everything could be cleaned up");
            }
            return Err(error);
        }
        None => {
            greeting::print_farewell(leave_clean(&base, range).await?);
            return Ok(());
        }
    };
    greeting::print(&addresses, url.as_deref(), &base, begun.elapsed());
    signals.stop_asked().await;
    signals.stop_in_order(up.stop(), "wherry up").await?;
    drop(lock);
    Ok(())
}

/// After a start that did not come to its end.
async fn leave_clean(base: &Base, range: (Ipv4Addr, u8)) -> anyhow::Result<usize> {
    let Base { data, settings, .. } = base;
    let engine = node_role::engine_of(data, settings, range)?;
    node_role::leave_clean(base, range, &engine, &node_role::firewall_of(data, settings, range)?).await
}

fn settings(data: &DataFolder, args: &UpArgs) -> anyhow::Result<Settings> {
    let mut settings = Settings::load(args.config.as_deref(), data.root())?;
    args.listen.apply(&mut settings);
    settings.agents.listen = args.listen_agents.or(settings.agents.listen);
    settings.node.zone = args.zone.or(settings.node.zone);
    if let Some(range) = &args.range {
        settings.network.range.clone_from(range);
    }
    Ok(settings)
}

/// Everything that runs.
struct Up {
    serving: Serving,
    node: NodePart,
    /// Ends what the node part has besides its agent.
    node_stop: CancellationToken,
}

impl Up {
    async fn start(base: &Base, range: (Ipv4Addr, u8), listeners: Listeners) -> anyhow::Result<Self> {
        let (stop, node_stop) = (CancellationToken::new(), CancellationToken::new());
        let place = place(base, range, listeners.agents_url().is_some())?;
        let engine = node_role::start_engine(base, range);
        let open = OpenStore::open(&base.data, &base.settings);
        // Neither is given up half way when the other fails: who cleans up has to know what runs.
        let (containerd, store) = tokio::join!(engine, open);
        let (containerd, store) = (containerd?, store?);
        let opened = Opened::new(base, store, listeners, place.gateway(), &stop).await?;
        let resolver = node_role::resolver(base, range, opened.zones(), &node_stop)?;
        // Last of what can fail: an agent that has begun would put back what is cleaned up after a failed start.
        let running = opened.begin();
        let control: Control = running.control().clone();
        let surface = Surface { control: Arc::new(control.clone()), names: None };
        let node = match NodePart::start(base, &place, containerd, resolver, surface, &node_stop).await {
            Ok(node) => node,
            Err(error) => {
                running.give_up().await;
                return Err(error);
            }
        };
        control.attach_node(place.node, Arc::clone(node.agent()) as Arc<dyn NodeServices>);
        // Whoever creates something right after the greeting finds a machine.
        if !node.is_heard(HEARD_WITHIN).await {
            tracing::warn!("this machine takes no instances yet: its agent has not been heard");
        }
        let serving = running.serve(vec![node.readiness()])?;
        let sources = metrics::Sources::new(metrics::ControlSource::of(&serving), node.numbers(None));
        metrics::start(serving.state().registry(), sources, stop.clone())?;
        Ok(Self { serving, node, node_stop })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.serving.close_doors().await;
        self.node_stop.cancel();
        let kept = self.node.stop().await;
        self.serving.finish().await;
        greeting::print_farewell(kept?);
        Ok(())
    }
}

/// Where other machines' agents call is where their instances find this one too, if it is one address.
fn address_for_agents(settings: &Settings) -> Option<Ipv4Addr> {
    match settings.agents.listen?.ip() {
        IpAddr::V4(address) if !address.is_unspecified() && !address.is_loopback() => Some(address),
        _ => None,
    }
}

/// This machine as a node: it needs no certificate, and other nodes only where there can be any.
fn place(base: &Base, range: (Ipv4Addr, u8), has_others: bool) -> anyhow::Result<Place> {
    let Base { data, settings, clock, entropy } = base;
    let node = data.node_id(clock.as_ref(), entropy.as_ref())?;
    let underlay = match (settings.network.underlay, has_others) {
        (Some(address), _) => Some(address),
        (None, false) => None,
        (None, true) => Some(address_for_agents(settings).or_else(main_address).context(
            "network.underlay: this machine has no default route, so say under which address the other nodes reach it",
        )?),
    };
    Ok(Place { node, name: node_role::machine_name(&settings.node), range, underlay })
}
