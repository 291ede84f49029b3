//! The result as a table in Markdown, which a terminal shows as well.

use std::fmt::Write as _;

use super::{Percentiles, Report};

/// The whole report.
pub(crate) fn table(report: &Report) -> String {
    let mut lines = vec![
        format!("**{} simulated nodes**; {}", report.simulated_nodes, report.asked),
        String::new(),
        "| | |".to_owned(),
        "|---|---:|".to_owned(),
    ];
    let mut row = |what: &str, value: String| lines.push(format!("| {what} | {value} |"));
    let creates = &report.creates;
    row("creates scheduled", creates.scheduled.to_string());
    row("acknowledged, durable", creates.acknowledged.to_string());
    row("failed", creates.failed.to_string());
    row("acknowledged per second", format!("{:.0}", creates.per_second));
    row("latency from the scheduled time, ms", percentiles(&creates.latency_ms));
    row("latency from the send, ms", percentiles(&creates.service_ms));
    row("acknowledged and never started", creates.never_started.to_string());
    let cores =
        |cores: Option<f64>| cores.map_or_else(|| "not known: give --pid".to_owned(), |cores| format!("{cores:.2}"));
    row("cores used by `wherry`", cores(report.processors.wherry_cores));
    row("of these at rest, all nodes connected", cores(report.processors.wherry_cores_at_rest));
    row("cores used by the load generator with its nodes", format!("{:.2}", report.processors.generator_cores));
    let micros = report.processors.wherry_micros_per_create;
    row(
        "processor time of `wherry` per create, µs",
        micros.map_or_else(|| "not known".to_owned(), |us| format!("{us:.0}")),
    );
    let mib = |kib: Option<u64>| kib.map_or_else(|| "not known".to_owned(), |kib| format!("{} MiB", kib / 1_024));
    row(
        "memory of `wherry` at rest, after",
        format!("{}, {}", mib(report.memory.wherry_kib_at_rest), mib(report.memory.wherry_kib_after)),
    );
    let bytes = report.memory.wherry_bytes_per_instance;
    row(
        "that is per acknowledged instance, bytes",
        bytes.map_or_else(|| "not known".to_owned(), |bytes| bytes.to_string()),
    );
    let audit = &report.audit;
    let verdict = if audit.passed { "passed".to_owned() } else { format!("FAILED, {} findings", audit.findings) };
    row("auditor", verdict);
    row(
        "audited creates, runs, metered seconds",
        format!("{}, {}, {}", audit.creates, audit.runs, audit.metered_seconds),
    );
    let mut text = lines.join("\n");
    text.push_str("\n\n");
    for line in report.notes.iter().map(String::as_str) {
        let _ = writeln!(text, "- {line}");
    }
    let _ = writeln!(
        text,
        "- {}; {}; load before {}, after {}",
        report.machine, report.date, report.load_before, report.load_after
    );
    for (why, count) in creates
        .failures
        .iter()
        .map(|(why, count)| (format!("create: {why}"), count))
        .chain(creates.failed_deletes.iter().map(|(why, count)| (format!("delete: {why}"), count)))
    {
        let _ = writeln!(text, "- failed, {count} times: {why}");
    }
    for finding in &audit.shown {
        let _ = writeln!(text, "- AUDITOR: {finding}");
    }
    text
}

fn percentiles(of: &Percentiles) -> String {
    format!("p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}", of.p50, of.p90, of.p99, of.p999, of.max)
}
