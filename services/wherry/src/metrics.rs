//! Numbers of everything but the HTTP surface, written into the registry that `/metrics` shows. Read every few seconds
//! from where they are kept; never labelled by instance or tenant, so their count does not grow with use.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{GaugeVec, IntGauge, IntGaugeVec, Opts, Registry};
use tokio_util::sync::CancellationToken;
use wherry_agent_link::{AgentPort, Arrivals};
use wherry_control::{Background, Control, FleetSummary};
use wherry_dns_server::{QueryCounters, RcodeCounts};
use wherry_node_agent::{AgentStatus, Phase};

use crate::control_role::Serving;

/// How old a number may be.
const READ_EVERY: Duration = Duration::from_secs(2);

/// Where the numbers of a control plane come from.
pub(crate) struct ControlSource {
    control: Control,
    background: Arc<Background>,
    agents: Option<Arc<AgentPort>>,
    dns: Arc<QueryCounters>,
}

impl ControlSource {
    pub(crate) fn of(serving: &Serving) -> Self {
        Self {
            control: serving.control().clone(),
            background: Arc::clone(serving.background()),
            agents: serving.agents().cloned(),
            dns: serving.dns_counters(),
        }
    }
}

/// How long something lasts from now on, below 0 when it is over.
pub(crate) type SecondsLeft = Box<dyn Fn() -> i64 + Send + Sync>;

/// Where the numbers of a node come from.
pub(crate) struct NodeSource {
    pub(crate) agent: tokio::sync::watch::Receiver<AgentStatus>,
    pub(crate) dns: Arc<QueryCounters>,
    /// When its certificate ends; none where it needs none.
    pub(crate) certificate_expires_in: Option<SecondsLeft>,
}

/// Where the numbers of a process come from: one part or both.
pub(crate) struct Sources {
    control: Option<ControlSource>,
    node: Option<NodeSource>,
}

impl Sources {
    pub(crate) fn new(control: impl Into<Option<ControlSource>>, node: impl Into<Option<NodeSource>>) -> Self {
        Self { control: control.into(), node: node.into() }
    }
}

struct Gauges {
    control: Option<ControlGauges>,
    node: Option<NodeGauges>,
    answers: IntGaugeVec,
    build: GaugeVec,
}

struct ControlGauges {
    capacity: IntGaugeVec,
    used: IntGaugeVec,
    nodes: IntGaugeVec,
    nodes_in_state: IntGaugeVec,
    pending: IntGauge,
    brake: IntGauge,
    connected: IntGauge,
    unproven: IntGaugeVec,
    turned_away: IntGaugeVec,
    reconcilers: IntGaugeVec,
    webhooks: IntGaugeVec,
}

struct NodeGauges {
    instances: IntGaugeVec,
    agent: IntGaugeVec,
    troubles: IntGaugeVec,
    images: IntGaugeVec,
    image_disk: IntGaugeVec,
    /// Only where there is a certificate.
    certificate: Option<IntGauge>,
}

/// Registers the numbers and keeps them fresh until `stop`.
pub(crate) fn start(registry: &Registry, sources: Sources, stop: CancellationToken) -> anyhow::Result<()> {
    let gauges = Gauges::register(registry, &sources)?;
    gauges.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(READ_EVERY);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = timer.tick() => gauges.read(&sources).await,
            }
        }
    });
    Ok(())
}

impl Gauges {
    fn register(registry: &Registry, sources: &Sources) -> anyhow::Result<Self> {
        let build = GaugeVec::new(Opts::new("wherry_build_info", "The version that runs."), &["version"])?;
        registry.register(Box::new(build.clone()))?;
        let control = sources.control.as_ref().map(|_| ControlGauges::register(registry)).transpose()?;
        let certificate = sources.node.as_ref().is_some_and(|node| node.certificate_expires_in.is_some());
        let node = sources.node.as_ref().map(|_| NodeGauges::register(registry, certificate)).transpose()?;
        let labels = ["server", "transport", "rcode"];
        let answers = gauges(registry, "wherry_dns_answers", "DNS answers since the start.", &labels)?;
        Ok(Self { control, node, answers, build })
    }

    async fn read(&self, sources: &Sources) {
        if let (Some(gauges), Some(source)) = (&self.control, &sources.control) {
            gauges.read(source).await;
            self.answers("public", &source.dns);
        }
        if let (Some(gauges), Some(source)) = (&self.node, &sources.node) {
            gauges.read(source);
            self.answers("instances", &source.dns);
        }
    }

    fn answers(&self, server: &str, counters: &QueryCounters) {
        let counts = counters.read();
        for (transport, counts) in [("udp", &counts.udp), ("tcp", &counts.tcp)] {
            for (rcode, count) in by_code(counts) {
                self.answers.with_label_values(&[server, transport, rcode]).set(whole(count));
            }
        }
    }
}

impl ControlGauges {
    fn register(registry: &Registry) -> anyhow::Result<Self> {
        let many = |name: &str, help: &str, labels: &[&str]| gauges(registry, name, help, labels);
        let one = |name: &str, help: &str| gauge(registry, name, help);
        Ok(Self {
            capacity: many("wherry_fleet_capacity", "What all nodes can hand out.", &["resource"])?,
            used: many("wherry_fleet_used", "What all nodes have handed out.", &["resource"])?,
            nodes: many("wherry_fleet_nodes", "Nodes by whether they take new instances.", &["ready"])?,
            nodes_in_state: many("wherry_fleet_nodes_in_state", "Nodes by their state.", &["state"])?,
            pending: one("wherry_fleet_pending_instances", "Instances that wait for a place, counted up to 1000.")?,
            brake: one("wherry_fleet_brake", "1 while too many nodes are silent for any to be replaced.")?,
            connected: one("wherry_agents_connected", "Nodes whose agents are connected to this replica.")?,
            unproven: many(
                "wherry_agents_port_unproven",
                "Connections to the agents' port that have not shown a node's certificate.",
                &["stage"],
            )?,
            turned_away: many(
                "wherry_agents_port_turned_away",
                "Connections that the agents' port has closed since the start.",
                &["why"],
            )?,
            webhooks: many(
                "wherry_webhooks",
                "Tries of deliveries that were taken and that failed, deliveries given up, webhooks disabled: since the start. And tries under way.",
                &["what"],
            )?,
            reconcilers: many("wherry_reconciler", "Activations and failures since the start.", &["name", "what"])?,
        })
    }

    async fn read(&self, source: &ControlSource) {
        if let Ok(summary) = source.control.fleet_summary().await {
            self.fleet(&summary);
        }
        let connected = source.agents.as_ref().map_or(0, |port| port.connected_nodes());
        self.connected.set(i64::try_from(connected).unwrap_or(i64::MAX));
        self.arrivals(&source.agents.as_ref().map(|port| port.arrivals()).unwrap_or_default());
        let webhooks = source.control.webhook_counts();
        for (what, count) in [
            ("delivered", webhooks.delivered),
            ("failed", webhooks.failed),
            ("given_up", webhooks.given_up),
            ("disabled", webhooks.disabled),
            ("under_way", webhooks.under_way),
        ] {
            self.webhooks.with_label_values(&[what]).set(whole(count));
        }
        for status in source.background.statuses() {
            self.reconcilers.with_label_values(&[status.name, "activations"]).set(whole(status.activations));
            self.reconcilers.with_label_values(&[status.name, "failures"]).set(whole(status.failures));
        }
    }

    fn arrivals(&self, arrivals: &Arrivals) {
        for (stage, count) in [("handshake", arrivals.handshakes), ("joining", arrivals.strangers)] {
            self.unproven.with_label_values(&[stage]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (why, count) in [
            ("handshake_displaced", arrivals.handshakes_displaced),
            ("handshake_late", arrivals.handshakes_late),
            ("handshake_failed", arrivals.handshakes_failed),
            ("joining_displaced", arrivals.strangers_displaced),
            ("joining_overstayed", arrivals.overstayed),
            ("silent", arrivals.silent),
            ("node_over_share", arrivals.nodes_refused),
        ] {
            self.turned_away.with_label_values(&[why]).set(whole(count));
        }
    }

    fn fleet(&self, summary: &FleetSummary) {
        for (gauge, amount) in [(&self.capacity, summary.capacity), (&self.used, summary.used)] {
            gauge.with_label_values(&["cpu_millis"]).set(whole(amount.cpu_millis));
            gauge.with_label_values(&["memory_mib"]).set(whole(amount.memory_mib));
            gauge.with_label_values(&["instances"]).set(i64::from(amount.instances));
        }
        self.nodes.with_label_values(&["true"]).set(i64::from(summary.ready_nodes));
        self.nodes.with_label_values(&["false"]).set(i64::from(summary.other_nodes));
        for (state, count) in [
            ("ready", summary.ready_nodes),
            ("cordoned", summary.cordoned_nodes),
            ("draining", summary.draining_nodes),
            ("silent", summary.silent_nodes),
        ] {
            self.nodes_in_state.with_label_values(&[state]).set(i64::from(count));
        }
        self.pending.set(i64::from(summary.pending_instances));
        self.brake.set(i64::from(summary.brake));
    }
}

impl NodeGauges {
    fn register(registry: &Registry, has_certificate: bool) -> anyhow::Result<Self> {
        let many = |name: &str, help: &str, labels: &[&str]| gauges(registry, name, help, labels);
        let certificate = has_certificate.then(|| {
            let help = "Seconds until the node's certificate ends; below 0 when it has.";
            gauge(registry, "wherry_node_certificate_expires_in_seconds", help)
        });
        Ok(Self {
            instances: many("wherry_node_instances", "Instances of this node by what is done about them.", &["phase"])?,
            agent: many(
                "wherry_node_agent",
                "Unacknowledged facts, desired revision and known names of this node.",
                &["what"],
            )?,
            troubles: many("wherry_node_trouble", "1 while a part of this node does not work.", &["part"])?,
            images: many(
                "wherry_node_images",
                "Images on this node, and those that were removed since the start because their disk was too full.",
                &["what"],
            )?,
            image_disk: many(
                "wherry_node_image_disk_bytes",
                "The file system of images: its size, what is taken by whatever, and what removed images gave back.",
                &["what"],
            )?,
            certificate: certificate.transpose()?,
        })
    }

    fn read(&self, source: &NodeSource) {
        let status = source.agent.borrow();
        for phase in Phase::ALL {
            let count = i64::try_from(status.count(phase)).unwrap_or(i64::MAX);
            self.instances.with_label_values(&[phase.as_str()]).set(count);
        }
        let facts = i64::try_from(status.journal_facts).unwrap_or(i64::MAX);
        self.agent.with_label_values(&["journal_facts"]).set(facts);
        let names = i64::try_from(status.names).unwrap_or(i64::MAX);
        self.agent.with_label_values(&["names"]).set(names);
        self.agent.with_label_values(&["desired_revision"]).set(whole(status.desired_revision.unwrap_or(0)));
        let images = status.images;
        let present = u64::try_from(images.present).unwrap_or(u64::MAX);
        for (what, count) in [("present", present), ("removed", images.removed)] {
            self.images.with_label_values(&[what]).set(whole(count));
        }
        let (total, used, freed) = (images.disk_total_bytes, images.disk_used_bytes, images.freed_bytes);
        for (what, bytes) in [("total", total), ("used", used), ("freed", freed)] {
            self.image_disk.with_label_values(&[what]).set(whole(bytes));
        }
        self.troubles.with_label_values(&["images"]).set(i64::from(images.nothing_to_remove));
        for (part, trouble) in [
            ("journal", &status.journal_trouble),
            ("container_engine", &status.runtime_trouble),
            ("firewall", &status.firewall_trouble),
            ("control_plane", &status.control_plane_trouble),
            ("surroundings", &status.surroundings_trouble),
            ("routes", &status.routes_trouble),
        ] {
            self.troubles.with_label_values(&[part]).set(i64::from(trouble.is_some()));
        }
        if let (Some(gauge), Some(seconds)) = (&self.certificate, &source.certificate_expires_in) {
            gauge.set(seconds());
        }
    }
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> anyhow::Result<IntGaugeVec> {
    let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(made.clone()))?;
    Ok(made)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> anyhow::Result<IntGauge> {
    let made = IntGauge::new(name, help)?;
    registry.register(Box::new(made.clone()))?;
    Ok(made)
}

fn by_code(counts: &RcodeCounts) -> [(&'static str, u64); 7] {
    [
        ("noerror", counts.no_error),
        ("formerr", counts.format_error),
        ("servfail", counts.server_failure),
        ("nxdomain", counts.name_error),
        ("notimp", counts.not_implemented),
        ("refused", counts.refused),
        ("other", counts.other),
    ]
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
