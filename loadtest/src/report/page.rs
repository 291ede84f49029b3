//! The result as one page without anything outside of it.

use super::plot::{Line, plot};
use super::{Report, number, table};
use crate::samples::Sample;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:800px;margin:2em auto;padding:0 1em;color:#222}\
     pre{background:#f5f5f5;padding:1em;overflow-x:auto;font-size:12px}svg{width:100%;margin:.6em 0}\
     .title{font-weight:600;font-size:13px}.scale{font-size:11px;fill:#666}.key{font-size:12px}.grid{stroke:#ddd}\
     .simulated{background:#fff3cd;padding:.5em 1em}";

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let plots =
        [latency(report), rate(report), curve(report), processors(report), memory(report), running(report)].join("\n");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Wherry load test: {} simulated nodes</title>\
         <style>{STYLE}</style></head><body>\n<h1>Wherry load test</h1>\n<p class=\"simulated\">{} <strong>simulated nodes</strong>: they \
         speak the agents' protocol and run no containers.</p>\n{plots}\n<pre>{}</pre>\n</body></html>\n",
        report.simulated_nodes,
        report.simulated_nodes,
        escaped(&table(report))
    )
}

fn latency(report: &Report) -> String {
    let line = |name, pick: fn(&super::Second) -> f64| Line { name, points: seconds(report, pick) };
    let lines = [line("p50", |second| second.p50_ms), line("p99", |second| second.p99_ms)];
    plot("Latency of creates from their scheduled time, ms", "second of the run", &lines)
}

fn rate(report: &Report) -> String {
    let line = |name, pick: fn(&super::Second) -> f64| Line { name, points: seconds(report, pick) };
    let lines =
        [line("acknowledged", |second| number(second.acknowledged)), line("failed", |second| number(second.failed))];
    plot("Creates by the second in which they were scheduled", "second of the run", &lines)
}

fn curve(report: &Report) -> String {
    let points = report.latency_curve.iter().copied().filter(|(percent, _)| *percent <= 99.95).collect();
    plot("Latency by percentile, ms (to 99.95 %)", "percent of creates", &[Line { name: "creates", points }])
}

fn processors(report: &Report) -> String {
    let cores = |millicores: u64| number(millicores) / 1_000.0;
    let lines = [
        samples(report, "wherry", |sample| sample.wherry_millicores.map(cores)),
        samples(report, "load generator", |sample| Some(cores(sample.generator_millicores))),
    ];
    plot("Cores used", "second of the run", &lines)
}

fn memory(report: &Report) -> String {
    let mib = |kib: u64| number(kib) / 1_024.0;
    let lines = [
        samples(report, "wherry", |sample| sample.wherry_resident_kib.map(mib)),
        samples(report, "load generator", |sample| Some(mib(sample.generator_resident_kib))),
    ];
    plot("Resident memory, MiB", "second of the run", &lines)
}

fn running(report: &Report) -> String {
    let line = samples(report, "running", |sample| Some(number(sample.running)));
    plot("Instances that run on simulated nodes", "second of the run", &[line])
}

fn seconds(report: &Report, pick: fn(&super::Second) -> f64) -> Vec<(f64, f64)> {
    let numbered = report.by_second.iter().zip(0_u32..);
    numbered.map(|(second, at)| (f64::from(at), pick(second))).collect()
}

fn samples<'a>(report: &Report, name: &'a str, pick: impl Fn(&Sample) -> Option<f64>) -> Line<'a> {
    let points = report.samples.iter().filter_map(|sample| Some((sample.at_seconds, pick(sample)?))).collect();
    Line { name, points }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
