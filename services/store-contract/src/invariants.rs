//! The oracle: recomputes from all records what nodes, names and meters must say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;
use wherry_metering::Interval;
use wherry_model::lifecycle::MeterKind;
use wherry_model::{Capacity, Gpus, Instance, InstanceId, InstanceState};
use wherry_store::{Store, StoreError, TenantRecord, UsageQuery};

const PAGE: u32 = 500;

/// What does not hold.
#[derive(Debug, Error)]
pub enum Broken {
    /// The store could not be read.
    #[error("the store could not be read")]
    Unreadable(#[from] StoreError),
    /// These sentences are not true.
    #[error("{}", .0.join("; "))]
    Facts(Vec<String>),
}

/// Checks, while nobody writes:
/// - what each node has handed out, of its GPUs too, is the sum of what its instances hold;
/// - no name is used by two live instances;
/// - a meter has an open interval exactly when its instance's record says so, and never for an instance that is gone;
/// - intervals of one meter do not overlap, and their numbers count up from 1 in order of time;
/// - a record is found the same by id, by name and on its node;
/// - what waits for a place has no node, no address and holds nothing, and nothing on a node waits for one.
pub async fn check(store: &Arc<dyn Store>) -> Result<(), Broken> {
    let mut wrong = Vec::new();
    let mut live: BTreeMap<InstanceId, Instance> = BTreeMap::new();
    for node in store.nodes().await? {
        let instances = store.instances_on(node.id).await?.unwrap_or_default().instances;
        let held = sum(instances.iter().filter(|instance| instance.holds_resources));
        if held != node.used {
            wrong.push(format!("node {} has handed out {:?}, its instances hold {held:?}", node.id, node.used));
        }
        let mut gpus = [0_u16; Gpus::MOST];
        for gpu in instances.iter().filter(|instance| instance.holds_resources).filter_map(|one| one.demand().gpu) {
            gpu.devices.iter().for_each(|device| gpus[device] += gpu.each());
        }
        if gpus != node.offer.gpus.used_permille {
            let told = node.offer.gpus.used_permille;
            wrong.push(format!("node {} has handed out {told:?} of its GPUs, its instances hold {gpus:?}", node.id));
        }
        live.extend(instances.into_iter().map(|instance| (instance.id, instance)));
    }
    check_places(&live, &mut wrong);
    let waiting = store.pending(u32::MAX).await?;
    check_waiting(&waiting, &mut wrong);
    live.extend(waiting.into_iter().map(|instance| (instance.id, instance)));
    check_records(store, &live, &mut wrong).await?;
    for tenant in tenants(store).await? {
        let intervals = intervals(store, &tenant).await?;
        check_meters(&intervals, &live, &tenant, &mut wrong);
    }
    if wrong.is_empty() { Ok(()) } else { Err(Broken::Facts(wrong)) }
}

fn sum<'i>(instances: impl Iterator<Item = &'i Instance>) -> Capacity {
    instances.fold(Capacity::default(), |sum, instance| {
        let demand = instance.demand();
        Capacity {
            cpu_millis: sum.cpu_millis + u64::from(demand.cpu.get()),
            memory_mib: sum.memory_mib + u64::from(demand.memory.get()),
            instances: sum.instances + 1,
        }
    })
}

/// Of what was read from the nodes.
fn check_places(placed: &BTreeMap<InstanceId, Instance>, wrong: &mut Vec<String>) {
    for instance in placed.values().filter(|instance| instance.state == InstanceState::Pending) {
        wrong.push(format!("instance {} waits for a place and is on a node", instance.id));
    }
}

fn check_waiting(waiting: &[Instance], wrong: &mut Vec<String>) {
    for instance in waiting {
        if instance.state != InstanceState::Pending {
            wrong.push(format!("instance {} is said to wait and is {}", instance.id, instance.state.as_str()));
        }
        if instance.node.is_some() || instance.holds_resources || instance.address.is_some() {
            wrong.push(format!(
                "instance {} waits for a place and has node {:?}, address {:?}, resources {}",
                instance.id, instance.node, instance.address, instance.holds_resources
            ));
        }
    }
}

async fn check_records(
    store: &Arc<dyn Store>,
    live: &BTreeMap<InstanceId, Instance>,
    wrong: &mut Vec<String>,
) -> Result<(), StoreError> {
    let mut names = BTreeSet::new();
    for instance in live.values() {
        let id = instance.id;
        if instance.state == InstanceState::Deleted {
            wrong.push(format!("instance {id} is deleted and still on its node"));
        }
        if !names.insert((instance.tenant, instance.project, &instance.name)) {
            wrong.push(format!("the name {} is used twice", instance.name));
        }
        let by_id = store.instance(instance.tenant, id).await?;
        let by_name = store.instance_by_name(instance.tenant, instance.project, &instance.name).await?;
        if by_id.as_ref() != Some(instance) || by_name.as_ref() != Some(instance) {
            wrong.push(format!("instance {id} is not the same by id, by name and on its node"));
        }
    }
    Ok(())
}

async fn tenants(store: &Arc<dyn Store>) -> Result<Vec<TenantRecord>, StoreError> {
    let mut all: Vec<TenantRecord> = Vec::new();
    loop {
        let page = store.tenants(all.last().map(|tenant| &tenant.name), PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

async fn intervals(store: &Arc<dyn Store>, tenant: &TenantRecord) -> Result<Vec<Interval>, StoreError> {
    let mut query = UsageQuery {
        tenant: tenant.id,
        project: None,
        instance: None,
        from_second: i64::MIN,
        to_second: i64::MAX,
        limit: PAGE,
        after: None,
    };
    let mut all: Vec<Interval> = Vec::new();
    loop {
        let page = store.intervals(&query).await?;
        let Some(last) = page.last() else { return Ok(all) };
        query.after = Some((last.instance, last.kind, last.number));
        all.extend(page);
    }
}

fn check_meters(
    intervals: &[Interval],
    live: &BTreeMap<InstanceId, Instance>,
    tenant: &TenantRecord,
    wrong: &mut Vec<String>,
) {
    let mut meters: BTreeMap<(InstanceId, MeterKind), Vec<&Interval>> = BTreeMap::new();
    for interval in intervals {
        meters.entry((interval.instance, interval.kind)).or_default().push(interval);
    }
    for ((instance, kind), intervals) in &mut meters {
        intervals.sort_by_key(|interval| interval.number);
        for pair in intervals.windows(2) {
            if pair[0].end_second.is_none_or(|end| end > pair[1].start_second) {
                wrong.push(format!("intervals {} and {} of {instance} overlap", pair[0].number, pair[1].number));
            }
        }
        let open = intervals.iter().any(|interval| interval.end_second.is_none());
        if open && !live.contains_key(instance) {
            wrong.push(format!("instance {instance} is gone and its {} meter is open", kind.as_str()));
        }
    }
    for instance in live.values().filter(|instance| instance.tenant == tenant.id) {
        for (kind, meter) in [(MeterKind::Run, instance.run_meter), (MeterKind::Pull, instance.pull_meter)] {
            let open = meters
                .get(&(instance.id, kind))
                .into_iter()
                .flatten()
                .filter(|interval| interval.end_second.is_none())
                .count();
            if open != usize::from(meter.open_since.is_some()) {
                let id = instance.id;
                wrong.push(format!("the {} meter of {id} has {open} open intervals: {meter:?}", kind.as_str()));
            }
        }
    }
}
