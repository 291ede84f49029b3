//! Numbers of everything but the HTTP surface, written into the registry that `/metrics` shows. Read every few seconds
//! from where they are kept; never labelled by instance or tenant, so their count does not grow with use.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};
use tokio_util::sync::CancellationToken;
use wherry_control::{Background, Control, FleetSummary};
use wherry_dns_server::{QueryCounters, RcodeCounts};
use wherry_node_agent::{AgentStatus, Phase};

/// How old a number may be.
const READ_EVERY: Duration = Duration::from_secs(2);

/// Where the numbers come from.
pub(super) struct Sources {
    pub(super) control: Control,
    pub(super) background: Arc<Background>,
    pub(super) agent: tokio::sync::watch::Receiver<AgentStatus>,
    pub(super) dns: [(&'static str, Arc<QueryCounters>); 2],
}

struct Gauges {
    capacity: IntGaugeVec,
    used: IntGaugeVec,
    nodes: IntGaugeVec,
    instances: IntGaugeVec,
    agent: IntGaugeVec,
    troubles: IntGaugeVec,
    answers: IntGaugeVec,
    reconcilers: IntGaugeVec,
    build: GaugeVec,
}

/// Registers the numbers and keeps them fresh until `stop`.
pub(super) fn start(registry: &Registry, sources: Sources, stop: CancellationToken) -> anyhow::Result<()> {
    let gauges = Gauges::register(registry)?;
    gauges.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(READ_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => gauges.read(&sources).await,
            }
        }
    });
    Ok(())
}

impl Gauges {
    fn register(registry: &Registry) -> anyhow::Result<Self> {
        let gauge = |name: &str, help: &str, labels: &[&str]| -> anyhow::Result<IntGaugeVec> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let build = GaugeVec::new(Opts::new("wherry_build_info", "The version that runs."), &["version"])?;
        registry.register(Box::new(build.clone()))?;
        Ok(Self {
            capacity: gauge("wherry_fleet_capacity", "What all nodes can hand out.", &["resource"])?,
            used: gauge("wherry_fleet_used", "What all nodes have handed out.", &["resource"])?,
            nodes: gauge("wherry_fleet_nodes", "Nodes by whether they take new instances.", &["ready"])?,
            instances: gauge(
                "wherry_node_instances",
                "Instances of this node by what is done about them.",
                &["phase"],
            )?,
            agent: gauge(
                "wherry_node_agent",
                "Unacknowledged facts and the desired revision of this node.",
                &["what"],
            )?,
            troubles: gauge("wherry_node_trouble", "1 while a part of this node does not work.", &["part"])?,
            answers: gauge("wherry_dns_answers", "DNS answers since the start.", &["server", "transport", "rcode"])?,
            reconcilers: gauge("wherry_reconciler", "Activations and failures since the start.", &["name", "what"])?,
            build,
        })
    }

    async fn read(&self, sources: &Sources) {
        if let Ok(summary) = sources.control.fleet_summary().await {
            self.fleet(&summary);
        }
        self.agent(&sources.agent.borrow());
        for (server, counters) in &sources.dns {
            let counts = counters.read();
            self.answers(server, "udp", &counts.udp);
            self.answers(server, "tcp", &counts.tcp);
        }
        for status in sources.background.statuses() {
            self.reconcilers.with_label_values(&[status.name, "activations"]).set(whole(status.activations));
            self.reconcilers.with_label_values(&[status.name, "failures"]).set(whole(status.failures));
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
    }

    fn agent(&self, status: &AgentStatus) {
        for phase in Phase::ALL {
            let count = i64::try_from(status.count(phase)).unwrap_or(i64::MAX);
            self.instances.with_label_values(&[phase.as_str()]).set(count);
        }
        let facts = i64::try_from(status.journal_facts).unwrap_or(i64::MAX);
        self.agent.with_label_values(&["journal_facts"]).set(facts);
        self.agent.with_label_values(&["desired_revision"]).set(whole(status.desired_revision.unwrap_or(0)));
        for (part, trouble) in [
            ("journal", &status.journal_trouble),
            ("container_engine", &status.runtime_trouble),
            ("firewall", &status.firewall_trouble),
            ("control_plane", &status.control_plane_trouble),
        ] {
            self.troubles.with_label_values(&[part]).set(i64::from(trouble.is_some()));
        }
    }

    fn answers(&self, server: &str, transport: &str, counts: &RcodeCounts) {
        for (rcode, count) in [
            ("noerror", counts.no_error),
            ("formerr", counts.format_error),
            ("servfail", counts.server_failure),
            ("nxdomain", counts.name_error),
            ("notimp", counts.not_implemented),
            ("refused", counts.refused),
            ("other", counts.other),
        ] {
            self.answers.with_label_values(&[server, transport, rcode]).set(whole(count));
        }
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
