//! Another spec for an instance that is there. Name, address and generation are kept; only containers that cannot take their
//! change while they run are ended and started again, by a higher revision.
//!
//! What belongs to the sandbox or to the choice of the machine cannot change below a running container. It can once the
//! instance has ended: the next start makes everything anew. Rejected: to stop and start it behind the caller's back, which
//! would give up address and place in a request that looks like a small one.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::instance::{ContainerStatus, EventKind, Instance, InstanceState};
use crate::name::ContainerName;
use crate::spec::{ContainerSpec, InstanceSpec};
use crate::time::Timestamp;

use super::draft::Draft;
use super::restart::make_outdated;
use super::{Change, Refusal};

/// A container that a change restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRestart {
    /// Which.
    pub container: ContainerName,
    /// The fields of it that are why.
    pub because: Vec<String>,
}

/// What a change of the spec does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpdatePlan {
    /// Fields that differ, by their paths.
    pub changes: Vec<String>,
    /// Containers that are ended and started again, in the order of the spec. Empty for an instance that has ended.
    pub restarts: Vec<ContainerRestart>,
    /// Whether another amount is taken from its machine.
    pub resizes: bool,
}

/// Why a change cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotInPlace {
    /// This field cannot change while the instance is there to run.
    #[error("{0} cannot be changed while the instance is there to run")]
    Fixed(String),
    /// This field stays as long as the instance.
    #[error("{0} cannot be changed")]
    Forever(String),
    /// Not now, or never.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Says what `spec` would change.
pub fn plan_update(instance: &Instance, spec: &InstanceSpec) -> Result<UpdatePlan, NotInPlace> {
    use InstanceState as S;
    if matches!(instance.state, S::Deleting | S::Deleted) {
        return Err(Refusal::Gone.into());
    }
    let before = &instance.spec;
    let mut plan =
        UpdatePlan { resizes: instance.holds_resources && before.demand() != spec.demand(), ..UpdatePlan::default() };
    let has_ended = instance.state.is_settled() && !instance.holds_resources;
    for (field, is_fixed) in fields(before, spec) {
        if FOR_EVER.contains(&field.as_str()) {
            return Err(NotInPlace::Forever(field));
        }
        if is_fixed && !has_ended {
            return Err(NotInPlace::Fixed(field));
        }
        plan.changes.push(field);
    }
    if plan.resizes && instance.unknown_since.is_some() {
        // Time that nobody has proved yet would be metered with amounts of another time.
        return Err(Refusal::Silent.into());
    }
    for (after, path) in spec.containers.iter().zip(spec.container_fields()) {
        let Some(before) = before.container(&after.name) else { continue };
        let (because, calm) = split(before, after);
        let [because, calm] = [because, calm].map(|fields| on_wire(before, after, fields));
        plan.changes.extend(because.iter().chain(&calm).map(|field| format!("{path}.{field}")));
        if !because.is_empty() && !has_ended {
            plan.restarts.push(ContainerRestart { container: after.name.clone(), because });
        }
    }
    // That they differ, never in what.
    plan.changes.extend(spec.secrets_changed_since(before));
    Ok(plan)
}

/// Gives the instance another spec, while its node proves that it lives. None when it has that spec.
pub fn update(
    instance: &Instance,
    spec: &InstanceSpec,
    actor: &str,
    now: Timestamp,
) -> Result<Option<Change>, NotInPlace> {
    update_proved(instance, spec, actor, now, now)
}

/// The same, where the node's last proof of life is that of `proof_at`: what is metered with the amounts of before ends there,
/// because nothing later is proved yet.
pub fn update_proved(
    instance: &Instance,
    spec: &InstanceSpec,
    actor: &str,
    proof_at: Timestamp,
    now: Timestamp,
) -> Result<Option<Change>, NotInPlace> {
    let plan = plan_update(instance, spec)?;
    if instance.spec == *spec {
        return Ok(None);
    }
    let mut draft = Draft::of(instance, now);
    let after = &mut draft.instance;
    after.updates = after.updates.saturating_add(1);
    let mut known = std::mem::take(&mut after.containers);
    after.containers = spec
        .containers
        .iter()
        .map(|container| {
            let position = known.iter().position(|status| status.name == container.name);
            let Some(mut status) = position.map(|position| known.swap_remove(position)) else {
                return ContainerStatus::new(container.name.clone());
            };
            let before = instance.spec.container(&container.name);
            if let Some(because) =
                before.map(|before| restarting(before, container)).filter(|fields| !fields.is_empty())
            {
                make_outdated(instance, &mut status, because.iter().any(|field| field == "image"));
            }
            // Nobody is asked any more whether it is ready.
            status.unready &= container.probes.delay_readiness();
            status
        })
        .collect();
    after.spec = spec.clone();
    if plan.resizes {
        draft.hold_anew(proof_at.min(now));
    }
    let changes = plan.changes.join(", ");
    let names: Vec<&str> = plan.restarts.iter().map(|restart| restart.container.as_str()).collect();
    let message = match names.as_slice() {
        [] => format!("changed: {changes}"),
        names => format!("changed: {changes}; restarts {}", names.join(", ")),
    };
    draft.event_by(EventKind::Updated, now, message, Some(actor));
    Ok(Some(draft.finish()))
}

/// Fields of the instance that may change while it is there to run. Any other, and any that is added to the spec before
/// somebody has decided about it, is fixed.
const CHANGEABLE: [&str; 10] = [
    "deadline_seconds",
    "ephemeral_disk",
    "labels",
    "max_restarts",
    "publish_unready",
    "registry_credentials",
    "restart_policy",
    "schedule",
    "stop_grace_seconds",
    "ttl_seconds",
];

/// What an instance is called: who asks for its name must not find another one, and the store lets nobody else have it.
const FOR_EVER: [&str; 2] = ["dns_label", "dns_reuse_scope"];

/// Fields that a container takes while it runs, or at its next start. Any other restarts it; ports do because its node opens
/// them when it starts a container.
const CALM: [&str; 4] = ["depends_on", "hooks", "probes", "pull"];

/// Fields of the instance that differ, and whether each is fixed while it is there to run.
fn fields(before: &InstanceSpec, after: &InstanceSpec) -> Vec<(String, bool)> {
    let names =
        |spec: &InstanceSpec| -> Vec<_> { spec.containers.iter().map(|one| (one.name.clone(), one.kind)).collect() };
    let others = |spec: &InstanceSpec| InstanceSpec { containers: Vec::new(), ..spec.clone() };
    let set = (names(before) != names(after)).then(|| ("containers".to_owned(), true));
    let differing = differing(&others(before), &others(after)).into_iter().map(|field| {
        let is_fixed = !CHANGEABLE.contains(&field.as_str());
        (field, is_fixed)
    });
    set.into_iter().chain(differing).collect()
}

/// Fields that a container cannot take while it runs, and those that it can.
fn split(before: &ContainerSpec, after: &ContainerSpec) -> (Vec<String>, Vec<String>) {
    let comparable = |field: &String| !matches!(field.as_str(), "name" | "kind");
    differing(before, after).into_iter().filter(comparable).partition(|field| !CALM.contains(&field.as_str()))
}

/// The fields as a caller knows them, who gives some of them one by one or under another name.
fn on_wire(before: &ContainerSpec, after: &ContainerSpec, fields: Vec<String>) -> Vec<String> {
    let renamed = |field: String| match field.as_str() {
        "pull" => vec!["pull_policy".to_owned()],
        "mounts" => vec!["volume_mounts".to_owned()],
        "cpu_limit" => vec!["limits.cpu".to_owned()],
        "memory_limit" => vec!["limits.memory".to_owned()],
        "probes" => {
            differing(&before.probes, &after.probes).into_iter().map(|probe| format!("{probe}_probe")).collect()
        }
        "hooks" => differing(&before.hooks, &after.hooks),
        _ => vec![field],
    };
    fields.into_iter().flat_map(renamed).collect()
}

fn restarting(before: &ContainerSpec, after: &ContainerSpec) -> Vec<String> {
    split(before, after).0
}

/// Names of the fields in which two records differ, in order. A field that is left out has its default.
fn differing<T: serde::Serialize + PartialEq>(before: &T, after: &T) -> Vec<String> {
    use serde_json::Value;
    let object = |record: &T| match serde_json::to_value(record) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (before, after) = (object(before), object(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}
