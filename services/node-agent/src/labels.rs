//! The labels by which an agent finds after a crash what it made, and whose it is.

use wherry_agent_api::{DesiredContainer, DesiredInstance};
use wherry_model::{ContainerName, Generation, InstanceId, NodeId};
use wherry_runtime::Labels;

const NODE: &str = "wherry/node";
const INSTANCE: &str = "wherry/instance";
const GENERATION: &str = "wherry/generation";
const TENANT: &str = "wherry/tenant";
const PROJECT: &str = "wherry/project";
const CONTAINER: &str = "wherry/container";
const RUN: &str = "wherry/run";
const REVISION: &str = "wherry/revision";
const FENCE_AFTER: &str = "wherry/fence-after-seconds";

/// Stands for "it is never run elsewhere" where seconds would stand.
const NEVER: &str = "never";
/// The least that a fleet's settings take: what nothing is known of may have to end then.
pub(crate) const SHORTEST_FENCE_SECONDS: u32 = 10;

/// The node, as text, whose agent made the sandbox or container with these labels; none when no agent did.
pub fn node_of(labels: &Labels) -> Option<&str> {
    labels.get(NODE).map(String::as_str)
}

/// Selects everything that this node's agents ever made.
pub(crate) fn selector(node: NodeId) -> Labels {
    Labels::from([(NODE.to_owned(), node.to_string())])
}

/// Labels of an instance's sandbox.
pub(crate) fn of_sandbox(node: NodeId, desired: &DesiredInstance) -> Labels {
    let mut labels = selector(node);
    labels.insert(INSTANCE.to_owned(), desired.id.to_string());
    labels.insert(GENERATION.to_owned(), desired.generation.to_string());
    labels.insert(TENANT.to_owned(), desired.tenant.to_string());
    labels.insert(PROJECT.to_owned(), desired.project.to_string());
    let fence_after = desired.fence_after_seconds.map_or_else(|| NEVER.to_owned(), |seconds| seconds.to_string());
    labels.insert(FENCE_AFTER.to_owned(), fence_after);
    labels
}

/// With how old a lease it has to end, for an agent that has nothing else to know it from; none when it may stay. What an
/// agent made that did not say so may be anything, and counts as what ends first.
pub(crate) fn fence_after_seconds(labels: &Labels) -> Option<u32> {
    let said = labels.get(FENCE_AFTER).map(String::as_str);
    (said != Some(NEVER)).then(|| said.and_then(|text| text.parse().ok()).unwrap_or(SHORTEST_FENCE_SECONDS))
}

/// Labels of a container.
pub(crate) fn of_container(node: NodeId, desired: &DesiredInstance, container: &DesiredContainer, run: u32) -> Labels {
    let mut labels = of_sandbox(node, desired);
    labels.insert(CONTAINER.to_owned(), container.spec.name.to_string());
    labels.insert(REVISION.to_owned(), container.revision.to_string());
    labels.insert(RUN.to_owned(), run.to_string());
    labels
}

/// Instance and generation of a sandbox or container.
pub(crate) fn owner(labels: &Labels) -> Option<(InstanceId, Generation)> {
    Some((labels.get(INSTANCE)?.parse().ok()?, Generation(labels.get(GENERATION)?.parse().ok()?)))
}

/// The revision that a container was started for. An agent that did not say so knew the first only.
pub(crate) fn revision(labels: &Labels) -> u32 {
    labels.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Name and run number of a container.
pub(crate) fn run(labels: &Labels) -> Option<(ContainerName, u32)> {
    Some((labels.get(CONTAINER)?.parse().ok()?, labels.get(RUN)?.parse().ok()?))
}
