//! One run from its begin to its verdict.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;
use wherry_api_client::Client;
use wherry_model::{Capacity, Clock as _, Timestamp};

use crate::arguments::Run;
use crate::arrivals::{self, Arrival, trace};
use crate::audit;
use crate::drive::{self, Load};
use crate::ledger::Ledger;
use crate::nodes::{self, Faults, Habits, Node};
use crate::plane::{self, Plane};
use crate::process;
use crate::report::{self, Audit, Creates, Memory, Processors, Report, number};
use crate::samples::{Sample, Sampler};
use crate::system::{WallClock, allow_open_files};

/// Creates of one project: its bills are read in one answer, which has a bound.
const CREATES_PER_PROJECT: usize = 25_000;
/// How long the fleet is watched before the load, to know what it uses at rest.
const AT_REST: Duration = Duration::from_secs(5);
/// How long reports may take to arrive after the load.
const SETTLED_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longer than a heartbeat is apart: the last proof of life of each node is stored.
const LAST_PROOF: Duration = Duration::from_secs(5);
/// Files beside the nodes' connections: requests under way, and what a process has anyway.
const OTHER_FILES: u64 = 4_500;

/// True when the auditor found nothing.
pub(crate) async fn run(arguments: &Run) -> Result<bool> {
    allow_open_files(u64::from(arguments.nodes) + OTHER_FILES)?;
    let arrivals = arrivals_of(arguments)?;
    ensure!(!arrivals.is_empty(), "nothing arrives: give a higher --rate, more --seconds or another --trace");
    let scratch = tempfile::Builder::new().prefix("wherry-loadtest-").tempdir().context("no scratch folder")?;
    let folder = arguments.folder.clone().unwrap_or_else(|| scratch.path().to_owned());
    let bar = progress()?;
    let (_plane, client, pid) = service(arguments, &folder).await?;
    let projects = projects(&client, arrivals.len()).await?;
    let habits = habits(arguments);
    let nodes = nodes::bring_up(&client, &folder.join("nodes"), arguments.nodes, habits, &bar).await?;

    bar.set_message("the fleet at rest");
    let resting = Sampler::start(pid, nodes.clone());
    tokio::time::sleep(AT_REST).await;
    let resting = resting.end().await;
    let load_before = process::load();

    let since = rfc3339(WallClock.now());
    let time = arrivals.last().map_or(Duration::ZERO, |arrival| arrival.at);
    let (begun, scheduled) = (Instant::now(), arrivals.len());
    let sampler = Sampler::start(pid, nodes.clone());
    let faults = Faults {
        deaths: arguments.deaths,
        silences: arguments.silences,
        silence: Duration::from_secs(arguments.silence_seconds),
    };
    let faults = faults.begin(&nodes, time, arguments.seed);
    let load = Load {
        client: client.clone(),
        arrivals,
        projects: projects.clone(),
        deleted_permille: arguments.deleted_permille,
        seed: arguments.seed,
    };
    let ledger = drive::run(load, time, &bar).await?;
    let took = begun.elapsed();
    let samples = sampler.end().await;
    let load_after = process::load();

    bar.set_message("the fleet settles");
    drop(faults.join_all().await);
    settle(&nodes).await?;
    bar.set_message("the auditor reads");
    let until = rfc3339(WallClock.now().plus(Duration::from_mins(1)));
    let evidence = audit::collect(&client, &projects, &nodes, &ledger, (&since, &until)).await?;
    let verdict = audit::judge(&evidence, WallClock.now());
    bar.finish_and_clear();

    let report = Report {
        simulated_nodes: arguments.nodes,
        machine: process::machine(),
        date: since,
        load_before,
        load_after,
        asked: asked(arguments),
        notes: notes(arguments, habits),
        seconds: took.as_secs_f64(),
        creates: creates(&ledger, scheduled, took, &evidence, habits)?,
        processors: processors(&samples, &resting, &ledger, took),
        memory: memory(&samples, &resting, &ledger),
        audit: Audit::from(&verdict),
        by_second: report::by_second(&ledger),
        samples,
        latency_curve: report::curve(&ledger.latency),
    };
    println!("{}", report::table(&report));
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if let Some(path) = &arguments.html {
        std::fs::write(path, report::page(&report)).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(report.audit.passed)
}

async fn service(arguments: &Run, folder: &std::path::Path) -> Result<(Option<Plane>, Client, Option<u32>)> {
    if let Some(binary) = &arguments.start {
        let (plane, client) = Plane::start(binary, folder).await?;
        let pid = plane.pid();
        return Ok((Some(plane), client, Some(pid)));
    }
    let file: &PathBuf = arguments.client.as_ref().context("give --start or --client")?;
    Ok((None, plane::client(file)?, arguments.pid))
}

/// New ones for each run, so that nothing of an earlier run is in the books of this one.
async fn projects(client: &Client, creates: usize) -> Result<Vec<String>> {
    let run = WallClock.now().as_micros() / 1_000;
    let mut names = Vec::new();
    for number in 0..creates.div_ceil(CREATES_PER_PROJECT) {
        let name = format!("load-{run}-{number}");
        client.create_project(&name).await.context("a project cannot be made: the key needs all scopes")?;
        names.push(name);
    }
    Ok(names)
}

fn arrivals_of(arguments: &Run) -> Result<Vec<Arrival>> {
    let time = Duration::from_secs(arguments.seconds);
    let Some(path) = &arguments.trace else {
        return Ok(arrivals::at_rate(arguments.rate, time, arguments.life.map(Duration::from_secs), arguments.seed));
    };
    let play = trace::Play { speed_up: arguments.speed_up, copies: arguments.copies, time: Some(time) };
    Ok(trace::play(&wherry_trace::read(path)?.rows, play))
}

fn habits(arguments: &Run) -> Habits {
    let capacity = Capacity {
        cpu_millis: arguments.node_cores.saturating_mul(1_000),
        memory_mib: arguments.node_gib.saturating_mul(1_024),
        instances: arguments.node_instances,
    };
    Habits { capacity, starts: !arguments.no_starts, surroundings: arguments.surroundings, seed: arguments.seed }
}

/// Until nothing is on its way any more from a node that lives.
async fn settle(nodes: &[Arc<Node>]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let waiting =
            nodes.iter().map(|node| node.record()).filter(|node| !node.died && node.unacknowledged > 0).count();
        if waiting == 0 {
            break;
        }
        ensure!(
            begun.elapsed() < SETTLED_WITHIN,
            "facts of {waiting} simulated nodes are not acknowledged after {SETTLED_WITHIN:?}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tokio::time::sleep(LAST_PROOF).await;
    Ok(())
}

fn creates(
    ledger: &Ledger,
    scheduled: usize,
    took: Duration,
    evidence: &audit::Evidence,
    habits: Habits,
) -> Result<Creates> {
    let acknowledged = ledger.latency.len();
    let ran: std::collections::BTreeSet<_> =
        evidence.nodes.iter().flat_map(|node| &node.runs).map(|run| run.instance).collect();
    let waits = |(id, entry): &(&wherry_model::InstanceId, &crate::ledger::Acknowledged)| {
        !entry.delete_asked && !ran.contains(id)
    };
    let never_started = if habits.starts { ledger.acknowledged.iter().filter(waits).count() } else { 0 };
    Ok(Creates {
        scheduled: u64::try_from(scheduled)?,
        acknowledged,
        failed: ledger.failed(),
        failures: ledger.failures.clone(),
        failed_deletes: ledger.failed_deletes.clone(),
        per_second: number(acknowledged) / took.as_secs_f64(),
        latency_ms: (&ledger.latency).into(),
        service_ms: (&ledger.service).into(),
        never_started: u64::try_from(never_started)?,
    })
}

fn processors(samples: &[Sample], resting: &[Sample], ledger: &Ledger, took: Duration) -> Processors {
    let count = |samples: &[Sample]| f64::from(u32::try_from(samples.len()).unwrap_or(u32::MAX).max(1));
    let mean = |samples: &[Sample], pick: fn(&Sample) -> Option<u64>| {
        let all: Option<u64> = samples.iter().map(pick).sum();
        all.map(|millicores| number(millicores) / count(samples) / 1_000.0)
    };
    let wherry_cores = mean(samples, |sample| sample.wherry_millicores);
    let acknowledged = number(ledger.latency.len()).max(1.0);
    Processors {
        wherry_cores,
        generator_cores: mean(samples, |sample| Some(sample.generator_millicores)).unwrap_or_default(),
        wherry_micros_per_create: wherry_cores.map(|cores| cores * took.as_secs_f64() * 1e6 / acknowledged),
        wherry_cores_at_rest: mean(resting, |sample| sample.wherry_millicores),
    }
}

fn memory(samples: &[Sample], resting: &[Sample], ledger: &Ledger) -> Memory {
    let kib = |samples: &[Sample]| samples.last().and_then(|sample| sample.wherry_resident_kib);
    let (before, after) = (kib(resting), kib(samples));
    let grown = before.zip(after).map(|(before, after)| after.saturating_sub(before) * 1_024);
    Memory {
        wherry_kib_at_rest: before,
        wherry_kib_after: after,
        wherry_bytes_per_instance: grown.map(|bytes| bytes / ledger.latency.len().max(1)),
        generator_kib: samples.last().map_or(0, |sample| sample.generator_resident_kib),
    }
}

fn asked(arguments: &Run) -> String {
    let what = match &arguments.trace {
        Some(path) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            format!("trace {name}, {} times faster, {} copies", arguments.speed_up, arguments.copies)
        }
        None => format!("{} creates/s asked for", arguments.rate),
    };
    let life = arguments.life.map(|life| format!(", mean life {life} s")).unwrap_or_default();
    format!("{what}{life}, {} s, seed {}, open loop", arguments.seconds, arguments.seed)
}

fn notes(arguments: &Run, habits: Habits) -> Vec<String> {
    let mut notes = vec![
        "nodes are simulated: they speak the agents' protocol over real TLS connections, one each, with heartbeats every 2 s, and run nothing"
            .to_owned(),
        "latency counts from the scheduled time; every acknowledged create is on disk (SQLite `synchronous=FULL`, or what the service has)"
            .to_owned(),
    ];
    notes.push(if habits.starts {
        "each instance is \"started\" after a delay drawn from measured starts, and reported as real agents do"
            .to_owned()
    } else {
        "nothing that was placed was started: creates alone are measured".to_owned()
    });
    if !habits.surroundings {
        notes.push("names, ways and neighbours were not followed by the nodes".to_owned());
    }
    if arguments.deaths + arguments.silences > 0 {
        notes.push(format!(
            "{} simulated nodes died, {} were not heard for {} s",
            arguments.deaths, arguments.silences, arguments.silence_seconds
        ));
    }
    notes
}

fn progress() -> Result<ProgressBar> {
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{msg:32} {wide_bar} {pos}/{len} {elapsed}")?);
    bar.enable_steady_tick(Duration::from_millis(250));
    Ok(bar)
}

fn rfc3339(at: Timestamp) -> String {
    at.to_string()
}
