//! What is stored against what was acknowledged, what containerd has, and what names say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::dns;
use crate::engine::EngineThing;
use crate::fleet::Fleet;
use crate::machine::Machine;
use crate::replica::Replica;
use crate::witness::Run;

use super::{Entry, Findings};

/// All that the check reads of the store, in one statement, which sees one moment.
const STATEMENT: &str = "SELECT json_build_object(
    'instances', (SELECT coalesce(json_agg(json_build_object(
            'id', i.id, 'name', i.name, 'state', i.state, 'node', i.node, 'machine', n.name, 'holds', i.holds_resources,
            'address', i.address, 'cpu_millis', (i.record->'spec'->'containers'->0->>'cpu')::bigint,
            'memory_mib', (i.record->'spec'->'containers'->0->>'memory')::bigint
        )), '[]'::json) FROM instances i LEFT JOIN nodes n ON n.id = i.node),
    'nodes', (SELECT coalesce(json_agg(json_build_object(
            'id', id, 'name', name, 'capacity', json_build_array(capacity_cpu_millis, capacity_memory_mib, capacity_instances),
            'used', json_build_array(used_cpu_millis, used_memory_mib, used_instances)
        )), '[]'::json) FROM nodes),
    'intervals', (SELECT coalesce(json_agg(json_build_object(
            'instance', instance, 'cpu_millis', cpu_millis, 'memory_mib', memory_mib, 'start', start_second, 'end', end_second
        ) ORDER BY instance, number), '[]'::json) FROM intervals WHERE kind = 'run')
)";

/// What is stored.
#[derive(Debug, Deserialize)]
pub(super) struct Rows {
    pub(super) instances: Vec<InstanceRow>,
    nodes: Vec<NodeRow>,
    pub(super) intervals: Vec<IntervalRow>,
}

#[derive(Debug, Deserialize)]
pub(super) struct InstanceRow {
    pub(super) id: String,
    name: String,
    pub(super) state: String,
    node: Option<String>,
    pub(super) machine: Option<String>,
    holds: bool,
    address: Option<u32>,
    pub(super) cpu_millis: u64,
    pub(super) memory_mib: u64,
}

#[derive(Debug, Deserialize)]
struct NodeRow {
    id: String,
    name: String,
    capacity: [u64; 3],
    used: [u64; 3],
}

/// A metered interval of running time, in seconds since the epoch.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct IntervalRow {
    pub(super) instance: String,
    pub(super) cpu_millis: u64,
    pub(super) memory_mib: u64,
    pub(super) start: u64,
    pub(super) end: Option<u64>,
}

impl InstanceRow {
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.address.map(Ipv4Addr::from)
    }
}

impl Rows {
    pub(super) fn instance(&self, id: &str) -> Option<&InstanceRow> {
        self.instances.iter().find(|row| row.id == id)
    }
}

pub(super) fn read(fleet: &Fleet) -> Result<Rows> {
    serde_json::from_str(&fleet.psql(STATEMENT)?).context("the store's rows are not as expected")
}

/// Nothing acknowledged is lost, nothing is there unasked.
pub(super) fn acknowledged(entries: &BTreeMap<String, Entry>, rows: &Rows, found: &mut Findings) {
    let mut known = BTreeSet::new();
    for (tag, entry) in entries {
        let Some((id, _)) = &entry.acknowledged else { continue };
        known.insert(id.as_str());
        match rows.instance(id).map(|row| row.state.as_str()) {
            None => found.wrong.push(format!("{tag} was acknowledged and is lost")),
            Some("deleted") if !entry.may_be_deleted => {
                found.wrong.push(format!("{tag} was acknowledged and is deleted, which nobody asked for"));
            }
            Some(state) if entry.deleted && state != "deleted" => {
                found.not_yet.push(format!("the delete of {tag} was acknowledged and it is {state}"));
            }
            Some(_) => {}
        }
    }
    for row in rows.instances.iter().filter(|row| !known.contains(row.id.as_str())) {
        // A create whose answer was lost may have happened, once.
        let asked = entries.values().any(|entry| entry.name == row.name && entry.acknowledged.is_none());
        if !asked {
            found.wrong.push(format!("nobody was told of {row:?}"));
        }
    }
    let mut names = BTreeSet::new();
    for row in rows.instances.iter().filter(|row| row.state != "deleted") {
        if !names.insert(&row.name) {
            found.wrong.push(format!("two live instances are named {}", row.name));
        }
    }
}

/// Each node's row has room for what it has handed out, which is the sum of its instances.
pub(super) fn capacity(rows: &Rows, found: &mut Findings) {
    for node in &rows.nodes {
        let mut sum = [0, 0, 0];
        for row in rows.instances.iter().filter(|row| row.holds && row.node.as_ref() == Some(&node.id)) {
            sum = [sum[0] + row.cpu_millis, sum[1] + row.memory_mib, sum[2] + 1];
        }
        if sum != node.used {
            found.wrong.push(format!("the row of {} holds {:?}, its instances {sum:?}", node.name, node.used));
        }
        if node.used.iter().zip(node.capacity).any(|(used, capacity)| *used > capacity) {
            found.wrong.push(format!("{} has {:?} and handed out {:?}", node.name, node.capacity, node.used));
        }
    }
}

/// No instance ran twice at once, and under `keep` on one machine.
pub(super) fn one_place(entries: &BTreeMap<String, Entry>, runs: &BTreeMap<String, Vec<Run>>, found: &mut Findings) {
    for (tag, of_tag) in runs {
        for pair in of_tag.windows(2) {
            let earlier_is_over = pair[0].missed.is_some() && pair[0].last_seen < pair[1].first_seen;
            if !earlier_is_over {
                found.wrong.push(format!("{tag} ran twice at once: {pair:?}"));
            }
        }
        let machines: BTreeSet<&str> = of_tag.iter().map(|run| run.machine.as_str()).collect();
        if machines.len() > 1 && entries.get(tag).is_some_and(|entry| entry.keeps && !entry.may_move) {
            found.wrong.push(format!("{tag} is to be kept where it is, and ran on {machines:?}"));
        }
    }
}

/// What a machine's containerd has is what is placed on it.
pub(super) fn engine(machine: &Machine, engine: &[EngineThing], rows: &Rows, found: &mut Findings) {
    let name = &machine.host.name;
    let mut running: BTreeMap<&str, u32> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for thing in engine {
        let Some(id) = thing.instance() else { continue };
        let row = rows.instance(id).filter(|row| row.machine.as_ref() == Some(name) && row.state != "deleted");
        let Some(row) = row else {
            found.not_yet.push(format!("{name} has {} of {id}, which has no place there", thing.id));
            continue;
        };
        let (Some(pid), true) = (thing.pid, thing.is_container()) else { continue };
        *running.entry(id).or_default() += 1;
        if thing.sandbox.as_ref().is_some_and(|sandbox| !used.insert(sandbox)) {
            found.not_yet.push(format!("{name} has two containers in the sandbox of {id}"));
        }
        if row.state == "running" && !has_address(pid, row.address()) {
            found.not_yet.push(format!("{id} runs on {name} without the address {:?}", row.address()));
        }
    }
    for row in rows.instances.iter().filter(|row| row.machine.as_ref() == Some(name)) {
        let (there, expected) = (running.get(row.id.as_str()).copied().unwrap_or(0), u32::from(row.state == "running"));
        if there != expected {
            found.not_yet.push(format!("{name} runs {there} containers of {}, which is {}", row.name, row.state));
        }
    }
}

/// The kernel's table of the process's network namespace.
fn has_address(pid: u32, address: Option<Ipv4Addr>) -> bool {
    let table = fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).unwrap_or_default();
    address.is_some_and(|address| table.lines().any(|line| line.trim_end().ends_with(&format!("-- {address}"))))
}

/// Nothing is under way any more, except on machines that are gone and where it waits for a restart or for room.
pub(super) fn settled(rows: &Rows, gone: &BTreeSet<String>, found: &mut Findings) {
    for row in &rows.instances {
        let waits = matches!(row.state.as_str(), "scheduled" | "pulling" | "stopping" | "deleting" | "unknown");
        if waits && !row.machine.as_ref().is_some_and(|machine| gone.contains(machine)) {
            found.not_yet.push(format!("{} is {} on {:?}", row.name, row.state, row.machine));
        }
    }
}

/// A name means the address of what runs, or nothing.
pub(super) fn names(replica: &Replica, entries: &BTreeMap<String, Entry>, rows: &Rows, found: &mut Findings) {
    let mut current: BTreeMap<&str, Vec<Ipv4Addr>> = BTreeMap::new();
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (id, fqdn) in entries.values().filter_map(|entry| entry.acknowledged.as_ref()) {
        let Some(row) = rows.instance(id) else { continue };
        let addresses = current.entry(fqdn).or_default();
        match row.state.as_str() {
            "running" => addresses.extend(row.address()),
            "deleted" | "stopped" | "succeeded" | "failed" | "unknown" => {}
            _ => drop(open.insert(fqdn)),
        }
    }
    for (fqdn, addresses) in current.into_iter().filter(|(fqdn, _)| !open.contains(fqdn)) {
        match dns::ask_in(&replica.host.namespace, replica.dns(), fqdn) {
            Ok(answer) if answer.addresses == addresses => {}
            Ok(answer) => {
                let name = &replica.host.name;
                found.not_yet.push(format!("{name} says {answer:?} for {fqdn}, which is at {addresses:?}"));
            }
            Err(error) => found.not_yet.push(format!("{}: {error:#}", replica.host.name)),
        }
    }
}
