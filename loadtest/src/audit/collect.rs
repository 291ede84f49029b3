//! Gathers the evidence: from the public and operator API what the store says, from the simulated nodes what they did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use jiff::Timestamp as Moment;
use wherry_api_client::{Client, ListOptions, UsageOptions};
use wherry_api_types::{MeterKind, Resource};
use wherry_model::{Capacity, InstanceId, NodeId};

use super::{Evidence, Metered, NodeFacts};
use crate::ledger::Ledger;
use crate::nodes::Node;

/// The largest page.
const PAGE: u32 = 200;

/// All that there is. Bills are asked for from `since`, RFC 3339, to `until`.
pub(crate) async fn collect(
    client: &Client,
    projects: &[String],
    nodes: &[Arc<Node>],
    ledger: &Ledger,
    (since, until): (&str, &str),
) -> Result<Evidence> {
    let mut stored = BTreeSet::new();
    let mut metered: BTreeMap<InstanceId, Vec<Metered>> = BTreeMap::new();
    for project in projects {
        list(client, project, &mut stored).await?;
        bills(client, project, (since, until), &mut metered).await?;
    }
    let rows = client.nodes().await.context("the nodes cannot be listed")?.items;
    let mut taken: BTreeMap<NodeId, Capacity> = BTreeMap::new();
    for row in rows {
        let used = row.used;
        let used = Capacity { cpu_millis: used.cpu_millis, memory_mib: used.memory_mib, instances: used.instances };
        taken.insert(row.id.parse().context("a node has an id that is none")?, used);
    }
    let nodes = nodes.iter().map(|node| node.record()).map(|record| NodeFacts {
        name: record.name,
        capacity: record.capacity,
        taken: taken.get(&record.node).copied(),
        died: record.died,
        proved: record.proved,
        runs: record.runs,
    });
    Ok(Evidence {
        acknowledged: ledger.acknowledged.clone(),
        repeated: ledger.repeated.clone(),
        stored,
        nodes: nodes.collect(),
        metered,
    })
}

async fn list(client: &Client, project: &str, stored: &mut BTreeSet<InstanceId>) -> Result<()> {
    let mut cursor = None;
    loop {
        let options = ListOptions { cursor, limit: Some(PAGE), ..ListOptions::default() };
        let page = client.instances(project, &options).await.context("the instances cannot be listed")?;
        for instance in page.items {
            stored.insert(instance.id.parse().context("an instance has an id that is none")?);
        }
        let Some(next) = page.next else { return Ok(()) };
        cursor = Some(next);
    }
}

async fn bills(
    client: &Client,
    project: &str,
    (since, until): (&str, &str),
    metered: &mut BTreeMap<InstanceId, Vec<Metered>>,
) -> Result<()> {
    let options =
        UsageOptions { project: Some(project.to_owned()), from: Some(since.to_owned()), to: Some(until.to_owned()) };
    let usage = client.usage(&options).await.context("the bills cannot be read")?;
    for line in usage.lines {
        if line.kind == MeterKind::Run && line.resource == Resource::Cpu {
            let second =
                |text: &str| text.parse::<Moment>().map(Moment::as_second).context("a bill has a time that is none");
            let interval = Metered { from: second(&line.from)?, to: second(&line.to)?, open: line.open };
            let id = line.instance_id.parse().context("a bill has an id that is none")?;
            metered.entry(id).or_default().push(interval);
        }
    }
    Ok(())
}
