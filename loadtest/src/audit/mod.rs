//! The auditor: holds what was acknowledged, what the store says, what was metered and what the nodes really did against each other.
//! It knows none of Wherry's code paths, only their results; a finding fails the run.
//!
//! - **Oversubscription**: at no moment ran more on a node than it has, and no node's row says that more is taken than there is.
//! - **Double placement**: no instance ran on two nodes, or in two generations, at the same moment.
//! - **Lost create**: what was acknowledged is there, unless its delete was asked for.
//! - **Billing gap**: every second of the grid in which an instance ran is metered once, and no other. Where a node was not heard the
//!   meter may stop at its last proof of life, which is what is promised.

mod collect;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use wherry_model::{Capacity, InstanceId, Timestamp};

use crate::ledger::Acknowledged;
use crate::nodes::Run;

pub(crate) use collect::collect;

/// Seconds that the end of an open meter may lie behind a heartbeat that this process sent: it is on its way, or its second has
/// only begun.
const PROOF_LAG_SECONDS: i64 = 6;
/// Findings of one kind that are shown.
const SHOWN: usize = 5;

/// A node, from both sides.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) capacity: Capacity,
    /// What its row says is taken; none when the service does not know the node.
    pub(crate) taken: Option<Capacity>,
    pub(crate) died: bool,
    /// Its last proof of life that was acknowledged.
    pub(crate) proved: Option<Timestamp>,
    pub(crate) runs: Vec<Run>,
}

/// A metered interval, in seconds of the grid, its end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Metered {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) open: bool,
}

/// All that is held against each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    pub(crate) acknowledged: BTreeMap<InstanceId, Acknowledged>,
    pub(crate) repeated: Vec<InstanceId>,
    /// Instances that the service lists.
    pub(crate) stored: BTreeSet<InstanceId>,
    pub(crate) nodes: Vec<NodeFacts>,
    pub(crate) metered: BTreeMap<InstanceId, Vec<Metered>>,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    Oversubscribed { node: String, what: String },
    DoublePlaced { instance: InstanceId, what: String },
    LostCreate { instance: InstanceId, what: String },
    BillingGap { instance: InstanceId, what: String },
}

impl Finding {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Oversubscribed { .. } => "oversubscription",
            Self::DoublePlaced { .. } => "double placement",
            Self::LostCreate { .. } => "lost create",
            Self::BillingGap { .. } => "billing gap",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oversubscribed { node, what } => write!(f, "{}: {node} {what}", self.kind()),
            Self::DoublePlaced { instance, what }
            | Self::LostCreate { instance, what }
            | Self::BillingGap { instance, what } => write!(f, "{}: {instance} {what}", self.kind()),
        }
    }
}

/// What the auditor has to say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    pub(crate) findings: Vec<Finding>,
    /// What was looked at.
    pub(crate) creates: usize,
    pub(crate) runs: usize,
    pub(crate) metered_seconds: i64,
}

impl Verdict {
    /// Findings by kind, of each the first few.
    pub(crate) fn shown(&self) -> Vec<String> {
        let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
        let mut lines = Vec::new();
        for finding in &self.findings {
            let count = shown.entry(finding.kind()).or_default();
            *count += 1;
            if *count <= SHOWN {
                lines.push(finding.to_string());
            }
        }
        for (kind, count) in shown.into_iter().filter(|(_, count)| *count > SHOWN) {
            lines.push(format!("{kind}: {} more", count - SHOWN));
        }
        lines
    }
}

/// Judges. `now` is when the evidence was complete.
pub(crate) fn judge(evidence: &Evidence, now: Timestamp) -> Verdict {
    let mut findings = Vec::new();
    for node in &evidence.nodes {
        findings.extend(oversubscribed(node, now));
    }
    let mut runs: BTreeMap<InstanceId, Vec<(&NodeFacts, &Run)>> = BTreeMap::new();
    for node in &evidence.nodes {
        for run in &node.runs {
            runs.entry(run.instance).or_default().push((node, run));
        }
    }
    for (instance, runs) in &mut runs {
        runs.sort_by_key(|(_, run)| run.from);
        findings.extend(double_placed(*instance, runs, now));
    }
    findings.extend(lost(evidence));
    let instances: BTreeSet<InstanceId> = runs.keys().chain(evidence.metered.keys()).copied().collect();
    for instance in instances {
        let runs = runs.get(&instance).map(Vec::as_slice).unwrap_or_default();
        let metered = evidence.metered.get(&instance).map(Vec::as_slice).unwrap_or_default();
        findings.extend(billed(instance, runs, metered, now));
    }
    Verdict {
        findings,
        creates: evidence.acknowledged.len(),
        runs: runs.values().map(Vec::len).sum(),
        metered_seconds: evidence.metered.values().flatten().map(|interval| interval.to - interval.from).sum(),
    }
}

/// A sweep over the begins and ends of runs on one node; at the same moment ends come first.
fn oversubscribed(node: &NodeFacts, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |what: String| findings.push(Finding::Oversubscribed { node: node.name.clone(), what });
    let room = node.capacity;
    if let Some(taken) = node.taken
        && (taken.cpu_millis > room.cpu_millis
            || taken.memory_mib > room.memory_mib
            || taken.instances > room.instances)
    {
        say(format!("has {room:?}, and its row says that {taken:?} is taken"));
    }
    let mut steps: Vec<(Timestamp, bool, &Run)> = Vec::new();
    for run in &node.runs {
        steps.push((run.from, true, run));
        steps.push((run.to.unwrap_or(now).max(run.from), false, run));
    }
    steps.sort_by_key(|(at, begins, _)| (*at, *begins));
    let (mut cpu_millis, mut memory_mib, mut instances) = (0_i128, 0_i128, 0_i128);
    for (at, begins, run) in steps {
        let sign = if begins { 1 } else { -1 };
        cpu_millis += sign * i128::from(run.cpu_millis);
        memory_mib += sign * i128::from(run.memory_mib);
        instances += sign;
        if cpu_millis > i128::from(room.cpu_millis)
            || memory_mib > i128::from(room.memory_mib)
            || instances > i128::from(room.instances)
        {
            say(format!(
                "has {room:?}, and {cpu_millis}m CPU, {memory_mib} MiB in {instances} instances ran on it at {at}"
            ));
            break;
        }
    }
    findings
}

fn double_placed(instance: InstanceId, runs: &[(&NodeFacts, &Run)], now: Timestamp) -> Option<Finding> {
    let mut latest: Option<(&NodeFacts, &Run)> = None;
    for (node, run) in runs {
        if let Some((other, earlier)) = latest
            && run.from < earlier.to.unwrap_or(now)
        {
            let what = format!(
                "ran on {} (generation {}) and on {} (generation {}) at {}",
                other.name, earlier.generation.0, node.name, run.generation.0, run.from
            );
            return Some(Finding::DoublePlaced { instance, what });
        }
        let ends_later = latest.is_none_or(|(_, earlier)| run.to.unwrap_or(now) > earlier.to.unwrap_or(now));
        if ends_later {
            latest = Some((node, run));
        }
    }
    None
}

fn lost(evidence: &Evidence) -> Vec<Finding> {
    let mut findings: Vec<Finding> = evidence
        .acknowledged
        .iter()
        .filter(|(id, entry)| !entry.delete_asked && !evidence.stored.contains(id))
        .map(|(id, _)| Finding::LostCreate { instance: *id, what: "was acknowledged and is not there".to_owned() })
        .collect();
    let repeated = evidence.repeated.iter();
    findings.extend(repeated.map(|id| Finding::LostCreate {
        instance: *id,
        what: "is the answer to two creates with different keys".to_owned(),
    }));
    findings
}

/// Seconds that must be metered, and seconds that may be.
fn billed(instance: InstanceId, runs: &[(&NodeFacts, &Run)], metered: &[Metered], now: Timestamp) -> Option<Finding> {
    let gap = |what: String| Some(Finding::BillingGap { instance, what });
    let mut metered = metered.to_vec();
    metered.sort_unstable();
    if let Some(pair) = metered.windows(2).find(|pair| pair[1].from < pair[0].to) {
        return gap(format!("is metered twice: {pair:?}"));
    }
    for (node, run) in runs {
        let from = run.from.grid_second();
        let ends = run.to.unwrap_or(now).grid_second();
        // Beyond the last proof of life of a node that died, or of a run that goes on, nothing need be metered.
        let proved = node.proved.map_or(from, Timestamp::grid_second);
        let must = if node.died || run.to.is_none() { ends.min(proved - PROOF_LAG_SECONDS) } else { ends };
        let mut at = from;
        for interval in &metered {
            if interval.from <= at && interval.to > at {
                at = interval.to;
            }
        }
        if at < must {
            return gap(format!(
                "ran on {} from second {from} to {ends} and is not metered from {at} on: {metered:?}",
                node.name
            ));
        }
    }
    for interval in &metered {
        let mut at = interval.from;
        for (_, run) in runs {
            let (from, to) = (run.from.grid_second(), run.to.map_or(i64::MAX, Timestamp::grid_second));
            if from <= at && to > at {
                at = to;
            }
        }
        if at < interval.to {
            return gap(format!("is metered from second {at} to {} without having run", interval.to));
        }
    }
    None
}

#[cfg(test)]
mod tests;
