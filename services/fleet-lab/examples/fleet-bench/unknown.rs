//! From the death of a machine to the moment at which the API says `unknown`, with the times that Wherry ships with.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wherry_api_types::InstanceState;
use wherry_model::Capacity;

use crate::agents::{self, Work};
use crate::api::Api;
use crate::figures::Samples;
use crate::plane::{Plane, Store};

const MACHINES: usize = 30;
/// Quick and in earnest.
const DEATHS: [usize; 2] = [3, 20];
/// No multiple of any period of the service, so that deaths fall anywhere in each.
const BETWEEN: Duration = Duration::from_millis(1_730);
/// One instance fills a machine.
const CAPACITY: Capacity = Capacity { cpu_millis: 10, memory_mib: 4, instances: 1 };
/// A replica judges nobody before it has run for the detection time.
const GRACE: Duration = Duration::from_secs(17);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const UNKNOWN_WITHIN: Duration = Duration::from_mins(2);

/// Lines for the report.
pub(crate) async fn measure(binary: &Path, quick: bool) -> Result<Vec<String>> {
    let deaths = DEATHS[usize::from(!quick)];
    let plane = Plane::start(binary, Store::Postgres, 2).await?;
    let begun = Instant::now();
    let api = Api::connect(&plane.replicas[0]).await?;
    let mut agents = agents::join(&api, &plane.folder().join("agents"), MACHINES, CAPACITY, Work::Follow).await?;
    for number in 0..MACHINES {
        api.create(&format!("bench-{number}")).await?;
    }
    tokio::time::sleep(GRACE.saturating_sub(begun.elapsed())).await;
    let watcher = api.at(&plane.replicas[1]);
    let nodes_before = silent(&watcher).await?;
    ensure!(nodes_before.is_empty(), "silent before anybody died: {:?}", nodes_before.keys());
    // Of each dead machine: when it died, and when its last heartbeat had been answered.
    let mut dead: BTreeMap<String, (Instant, Instant)> = BTreeMap::new();
    let mut unknown: Vec<Instant> = Vec::new();
    let mut silent_at: BTreeMap<String, Instant> = BTreeMap::new();
    let mut next = Instant::now();
    let end = Instant::now() + UNKNOWN_WITHIN;
    let mut alive = agents.iter_mut().take(deaths);
    while unknown.len() < deaths {
        ensure!(Instant::now() < end, "{} of {deaths} are unknown", unknown.len());
        if dead.len() < deaths && Instant::now() >= next {
            let agent = alive.next().context("no machine is left")?;
            let heard = agent.heard_at().context("an agent was never heard")?;
            agent.die();
            dead.insert(agent.name.clone(), (Instant::now(), heard));
            next = Instant::now() + BETWEEN;
        }
        for name in silent(&watcher).await?.into_keys() {
            silent_at.entry(name).or_insert_with(Instant::now);
        }
        let page = watcher.instances(100).await?;
        let count = page.items.iter().filter(|instance| instance.state == InstanceState::Unknown).count();
        unknown.resize(count.max(unknown.len()), Instant::now());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (mut since_death, mut since_heard) = (Samples::default(), Samples::default());
    // They died one after the other, each in the same way: the order of deaths is the order of verdicts.
    let mut in_order: Vec<(Instant, Instant)> = dead.values().copied().collect();
    in_order.sort_unstable();
    for ((died, heard), unknown) in in_order.iter().zip(&unknown) {
        since_death.add(unknown.saturating_duration_since(*died));
        since_heard.add(unknown.saturating_duration_since(*heard));
    }
    for name in silent_at.keys() {
        ensure!(dead.contains_key(name), "{name} lives and was judged silent");
    }
    Ok(vec![
        "### A machine dies".to_owned(),
        String::new(),
        format!("- death → `unknown` in the API, {deaths} deaths: {}", since_death.in_seconds()),
        format!("- the same from the last answered heartbeat: {}", since_heard.in_seconds()),
        format!(
            "- PostgreSQL, 2 replicas, {MACHINES} fake agents of which {deaths} end without a word, one each {:.2} s; shipped settings \
             (`detection_seconds = 15`), seen by asking every {} ms; no machine that lived was judged silent",
            BETWEEN.as_secs_f64(),
            LOOK_EVERY.as_millis()
        ),
    ])
}

/// Machines that were not heard of for the detection time.
async fn silent(api: &Api) -> Result<BTreeMap<String, u64>> {
    let nodes = api.nodes().await?.items;
    Ok(nodes.into_iter().filter_map(|node| Some((node.name, node.silent_seconds?))).collect())
}
