//! What instances use: next to what they may, as JSON and in the Prometheus text format.

use std::fmt::Write as _;

use wherry_api_types as wire;
use wherry_control::{InstanceUse, ProjectUse};
use wherry_model::ContainerSpec;

const NANOS_PER_MILLI: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// What one instance uses.
pub(crate) fn instance_stats(used: InstanceUse) -> wire::InstanceStats {
    let InstanceUse { instance, stats, stale } = used;
    let (id, name) = (instance.id.to_string(), instance.name.to_string());
    let Some(stats) = stats.filter(|_| !stale) else {
        return wire::InstanceStats {
            instance: name,
            id,
            stale,
            at: None,
            window_ms: None,
            network: None,
            containers: Vec::new(),
        };
    };
    let containers = stats.containers.into_iter().filter_map(|used| {
        let spec = instance.spec.containers.iter().find(|spec| spec.name == used.container)?;
        Some(wire::ContainerStats {
            name: used.container.to_string(),
            run: used.run,
            cpu_nanos: used.cpu_nanos,
            cpu_nanocores: used.cpu_nanocores,
            cpu_limit_nanocores: cpu_limit(spec),
            throttled_nanos: used.throttled_nanos,
            memory_bytes: used.memory_bytes,
            memory_limit_bytes: spec.most_memory().bytes(),
        })
    });
    wire::InstanceStats {
        instance: name,
        id,
        stale,
        at: Some(stats.at.to_string()),
        window_ms: stats.window_ms,
        network: stats.network.map(|network| wire::NetworkStats {
            received_bytes: network.received_bytes,
            sent_bytes: network.sent_bytes,
            received_bytes_per_second: network.received_bytes_per_second,
            sent_bytes_per_second: network.sent_bytes_per_second,
        }),
        containers: containers.collect(),
    }
}

fn cpu_limit(spec: &ContainerSpec) -> u64 {
    u64::from(spec.most_cpu().get()).saturating_mul(NANOS_PER_MILLI)
}

/// What the instances of a project use.
pub(crate) fn project_stats(used: ProjectUse) -> wire::InstanceStatsList {
    wire::InstanceStatsList { items: used.items.into_iter().map(instance_stats).collect(), more: used.more }
}

/// One number of a container or an instance, by its name in the text format.
struct Family<T> {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&T) -> Option<String>,
}

const OF_CONTAINERS: [Family<wire::ContainerStats>; 6] = [
    Family {
        name: "wherry_container_cpu_seconds_total",
        kind: "counter",
        help: "Processor time of the present run, in seconds of one core.",
        value: |used| Some(billionths(used.cpu_nanos)),
    },
    Family {
        name: "wherry_container_cpu_cores",
        kind: "gauge",
        help: "Cores that it uses.",
        value: |used| used.cpu_nanocores.map(billionths),
    },
    Family {
        name: "wherry_container_cpu_limit_cores",
        kind: "gauge",
        help: "Cores that it may use.",
        value: |used| Some(billionths(used.cpu_limit_nanocores)),
    },
    Family {
        name: "wherry_container_cpu_throttled_seconds_total",
        kind: "counter",
        help: "How long its threads were held back by that limit in the present run.",
        value: |used| used.throttled_nanos.map(billionths),
    },
    Family {
        name: "wherry_container_memory_working_set_bytes",
        kind: "gauge",
        help: "Memory that it holds and that cannot be taken from it.",
        value: |used| Some(used.memory_bytes.to_string()),
    },
    Family {
        name: "wherry_container_memory_limit_bytes",
        kind: "gauge",
        help: "Memory that it may hold.",
        value: |used| Some(used.memory_limit_bytes.to_string()),
    },
];

const OF_INSTANCES: [Family<wire::InstanceStats>; 3] = [
    Family {
        name: "wherry_instance_up",
        kind: "gauge",
        help: "1 when it could be read, 0 when its machine does not answer: then no other number of it is here.",
        value: |used| Some(u8::from(!used.stale).to_string()),
    },
    Family {
        name: "wherry_instance_network_received_bytes_total",
        kind: "counter",
        help: "Bytes that came in since it was started.",
        value: |used| used.network.map(|network| network.received_bytes.to_string()),
    },
    Family {
        name: "wherry_instance_network_sent_bytes_total",
        kind: "counter",
        help: "Bytes that went out since it was started.",
        value: |used| used.network.map(|network| network.sent_bytes.to_string()),
    },
];

/// The Prometheus text format. Labels are names of instances and containers, which have no character to be escaped.
pub(crate) fn metrics(stats: &wire::InstanceStatsList) -> String {
    let mut text = String::new();
    for Family { name, kind, help, value } in &OF_INSTANCES {
        head(&mut text, name, kind, help);
        for used in &stats.items {
            if let Some(value) = value(used) {
                let _ = writeln!(text, "{name}{{instance=\"{}\"}} {value}", used.instance);
            }
        }
    }
    for Family { name, kind, help, value } in &OF_CONTAINERS {
        head(&mut text, name, kind, help);
        for (instance, used) in stats.items.iter().flat_map(|one| one.containers.iter().map(|c| (&one.instance, c))) {
            if let Some(value) = value(used) {
                let _ = writeln!(text, "{name}{{instance=\"{instance}\",container=\"{}\"}} {value}", used.name);
            }
        }
    }
    head(&mut text, "wherry_instances_omitted", "gauge", "1 when the project runs more instances than are here.");
    let _ = writeln!(text, "wherry_instances_omitted {}", u8::from(stats.more));
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// `1500000000` as `1.500000000`.
fn billionths(number: u64) -> String {
    format!("{}.{:09}", number / NANOS_PER_SECOND, number % NANOS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_has_every_number_that_there_is() {
        let container = wire::ContainerStats {
            name: "main".into(),
            run: 1,
            cpu_nanos: 2_500_000_000,
            cpu_nanocores: Some(31_000_000),
            cpu_limit_nanocores: 250_000_000,
            throttled_nanos: None,
            memory_bytes: 4096,
            memory_limit_bytes: 67_108_864,
        };
        let network = wire::NetworkStats { received_bytes: 7, sent_bytes: 8, ..wire::NetworkStats::default() };
        let web = wire::InstanceStats {
            instance: "web".into(),
            id: "1".into(),
            stale: false,
            at: None,
            window_ms: Some(1000),
            network: Some(network),
            containers: vec![container],
        };
        let lost = wire::InstanceStats {
            instance: "lost".into(),
            stale: true,
            network: None,
            containers: Vec::new(),
            ..web.clone()
        };
        let text = metrics(&wire::InstanceStatsList { items: vec![lost, web], more: true });
        let numbers: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            r#"wherry_instance_up{instance="lost"} 0"#,
            r#"wherry_instance_up{instance="web"} 1"#,
            r#"wherry_instance_network_received_bytes_total{instance="web"} 7"#,
            r#"wherry_instance_network_sent_bytes_total{instance="web"} 8"#,
            r#"wherry_container_cpu_seconds_total{instance="web",container="main"} 2.500000000"#,
            r#"wherry_container_cpu_cores{instance="web",container="main"} 0.031000000"#,
            r#"wherry_container_cpu_limit_cores{instance="web",container="main"} 0.250000000"#,
            r#"wherry_container_memory_working_set_bytes{instance="web",container="main"} 4096"#,
            r#"wherry_container_memory_limit_bytes{instance="web",container="main"} 67108864"#,
            "wherry_instances_omitted 1",
        ];
        assert_eq!(numbers, expected);
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE")).count(), 10);
    }
}
