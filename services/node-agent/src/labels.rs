//! The labels by which an agent finds after a crash what it made, and whose it is.

use wherry_agent_api::DesiredInstance;
use wherry_model::{ContainerName, Generation, InstanceId, NodeId};
use wherry_runtime::Labels;

const NODE: &str = "wherry/node";
const INSTANCE: &str = "wherry/instance";
const GENERATION: &str = "wherry/generation";
const TENANT: &str = "wherry/tenant";
const PROJECT: &str = "wherry/project";
const CONTAINER: &str = "wherry/container";
const RUN: &str = "wherry/run";

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
    labels
}

/// Labels of a container.
pub(crate) fn of_container(node: NodeId, desired: &DesiredInstance, name: &ContainerName, run: u32) -> Labels {
    let mut labels = of_sandbox(node, desired);
    labels.insert(CONTAINER.to_owned(), name.to_string());
    labels.insert(RUN.to_owned(), run.to_string());
    labels
}

/// Instance and generation of a sandbox or container.
pub(crate) fn owner(labels: &Labels) -> Option<(InstanceId, Generation)> {
    Some((labels.get(INSTANCE)?.parse().ok()?, Generation(labels.get(GENERATION)?.parse().ok()?)))
}

/// Name and run number of a container.
pub(crate) fn run(labels: &Labels) -> Option<(ContainerName, u32)> {
    Some((labels.get(CONTAINER)?.parse().ok()?, labels.get(RUN)?.parse().ok()?))
}
