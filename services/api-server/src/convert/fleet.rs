//! The fleet, for its operator.

use std::net::Ipv4Addr;

use wherry_api_types as wire;
use wherry_control::{
    Brake, DrainProgress, DrainRequest, FleetEvent, FleetEventKind, FleetSummary, JoinTokenRequest, NewJoinToken,
    NodeStatus, ReplicaRecord, Room,
};
use wherry_model as model;
use wherry_model::SpecError;

use crate::settings::JoinPoint;

/// A node.
pub(crate) fn node(status: NodeStatus) -> wire::Node {
    let NodeStatus { record, silent_for, drain: progress } = status;
    let drain = record.drain.map(|asked| drain(asked, progress.unwrap_or_default()));
    wire::Node {
        id: record.id.to_string(),
        name: record.name,
        architecture: super::account::architecture(record.architecture),
        isolation: record.isolation.iter().map(super::account::isolation).collect(),
        state: match record.state {
            model::NodeState::Ready => wire::NodeState::Ready,
            model::NodeState::Cordoned => wire::NodeState::Cordoned,
            model::NodeState::Draining => wire::NodeState::Draining,
            model::NodeState::Silent => wire::NodeState::Silent,
        },
        capacity: capacity(record.capacity),
        used: capacity(record.used),
        zone: record.offer.zone.map(|zone| zone.to_string()),
        disk: record.offer.disk.map(|model::Stock { total_mib, used_mib }| wire::NodeDisk { total_mib, used_mib }),
        gpus: gpus(&record.offer.gpus),
        sole_tenant_id: record.offer.sole_tenant.map(|tenant| tenant.to_string()),
        overcommit: overcommit(record.offer.overcommit),
        address_range: range(record.range),
        underlay: record.underlay.map(|address| address.to_string()),
        proof_at: record.proof_at.to_string(),
        silent_seconds: silent_for.map(|time| time.as_secs()),
        drain,
    }
}

fn gpus(gpus: &model::Gpus) -> Option<wire::NodeGpus> {
    let percent = |used: &u16| u8::try_from(used.div_ceil(10)).unwrap_or(100);
    let used_percent = gpus.used_permille.iter().take(usize::from(gpus.count)).map(percent).collect();
    let model = gpus.model.map(|model| model.to_string());
    (gpus.count > 0).then_some(wire::NodeGpus { model, used_percent })
}

fn overcommit(overcommit: model::Overcommit) -> Option<wire::Overcommit> {
    let model::Overcommit { cpu_percent, memory_percent, disk_percent } = overcommit;
    (overcommit != model::Overcommit::default()).then_some(wire::Overcommit {
        cpu_percent,
        memory_percent,
        disk_percent,
    })
}

fn drain(asked: model::Drain, progress: DrainProgress) -> wire::NodeDrain {
    let model::Drain { asked_at, grace_until, then } = asked;
    let DrainProgress { left, moving, stopping, staying, gone, waits_for_node } = progress;
    wire::NodeDrain {
        asked_at: asked_at.to_string(),
        grace_until: grace_until.to_string(),
        then: match then {
            model::DrainThen::Move => wire::DrainThen::Move,
            model::DrainThen::Stop => wire::DrainThen::Stop,
        },
        left,
        moving,
        stopping,
        staying,
        gone,
        waits_for_node,
    }
}

/// A drain that is asked for.
pub(crate) fn drain_request(body: wire::NodeDrainRequest) -> DrainRequest {
    DrainRequest {
        grace: std::time::Duration::from_secs(body.grace_seconds.unwrap_or(0).into()),
        then: match body.then.unwrap_or_default() {
            wire::DrainThen::Move => model::DrainThen::Move,
            wire::DrainThen::Stop => model::DrainThen::Stop,
        },
    }
}

pub(super) const fn capacity(capacity: model::Capacity) -> wire::NodeCapacity {
    let model::Capacity { cpu_millis, memory_mib, instances } = capacity;
    wire::NodeCapacity { cpu_millis, memory_mib, instances }
}

fn range((first, length): (Ipv4Addr, u8)) -> String {
    format!("{first}/{length}")
}

/// A join token that is asked for.
pub(crate) fn join_token_request(body: &wire::JoinTokenCreate) -> Result<JoinTokenRequest, SpecError> {
    let wrong = || SpecError::new("address_range", "write a range of IPv4 addresses, for example 10.128.7.0/24");
    let parse = |text: &str| {
        let (first, length) = text.split_once('/')?;
        let digits = length.bytes().all(|byte| byte.is_ascii_digit());
        Some((first.parse().ok()?, length.parse().ok().filter(|_| digits)?))
    };
    let seconds = body.ttl_seconds.unwrap_or(wire::DEFAULT_JOIN_TOKEN_TTL_SECONDS);
    Ok(JoinTokenRequest {
        ttl: Some(std::time::Duration::from_secs(seconds.into())),
        range: body.address_range.as_deref().map(|text| parse(text).ok_or_else(wrong)).transpose()?,
    })
}

/// A join token, the only time that it is shown.
pub(crate) fn new_join_token(made: NewJoinToken, join: &JoinPoint) -> wire::JoinTokenCreated {
    wire::JoinTokenCreated {
        id: made.record.id.to_string(),
        token: made.token,
        expires_at: made.record.expires_at.to_string(),
        address_range: made.record.range.map(range),
        join_url: join.url.clone(),
        ca_fingerprint: join.ca_fingerprint.clone(),
    }
}

/// A replica.
pub(crate) fn replica(record: ReplicaRecord) -> wire::Replica {
    let ReplicaRecord { id, agents_url, seen_at, .. } = record;
    wire::Replica { id: id.to_string(), agents_url, seen_at: seen_at.to_string() }
}

/// The fleet in numbers.
pub(crate) fn fleet(summary: &FleetSummary, room: Room, brake: Option<Brake>) -> wire::Fleet {
    let (all, used) = (summary.capacity, summary.used);
    wire::Fleet {
        nodes: wire::NodeCounts {
            ready: summary.ready_nodes,
            cordoned: summary.cordoned_nodes,
            draining: summary.draining_nodes,
            silent: summary.silent_nodes,
        },
        capacity: capacity(all),
        used: capacity(used),
        packing: wire::Packing {
            cpu_permille: permille(used.cpu_millis, all.cpu_millis),
            memory_permille: permille(used.memory_mib, all.memory_mib),
            instances_permille: permille(used.instances.into(), all.instances.into()),
        },
        gpus: (summary.gpus > 0)
            .then_some(wire::FleetGpus { count: summary.gpus, used_percent: summary.gpus_used_permille / 10 }),
        room: super::room::room(room),
        pending_instances: summary.pending_instances,
        brake: brake.map(|brake| brake.to_string()),
    }
}

/// Rounded down. A node that shrank may have handed out more than it has; it is full, not fuller.
pub(super) fn permille(used: u64, all: u64) -> u32 {
    let part = u128::from(used) * 1_000 / u128::from(all.max(1));
    u32::try_from(part.min(1_000)).unwrap_or(1_000)
}

/// One event.
pub(crate) fn fleet_event(event: FleetEvent) -> wire::FleetEvent {
    let FleetEvent { seq, at, kind, node, message } = event;
    wire::FleetEvent {
        seq,
        at: at.to_string(),
        kind: match kind {
            FleetEventKind::NodeJoined => wire::FleetEventKind::NodeJoined,
            FleetEventKind::NodeChanged => wire::FleetEventKind::NodeChanged,
            FleetEventKind::NodeReady => wire::FleetEventKind::NodeReady,
            FleetEventKind::NodeCordoned => wire::FleetEventKind::NodeCordoned,
            FleetEventKind::NodeDraining => wire::FleetEventKind::NodeDraining,
            FleetEventKind::NodeDrained => wire::FleetEventKind::NodeDrained,
            FleetEventKind::NodeSilent => wire::FleetEventKind::NodeSilent,
            FleetEventKind::NodeFenced => wire::FleetEventKind::NodeFenced,
            FleetEventKind::NodeRemoved => wire::FleetEventKind::NodeRemoved,
            FleetEventKind::BrakeOn => wire::FleetEventKind::BrakeOn,
            FleetEventKind::BrakeOff => wire::FleetEventKind::BrakeOff,
            FleetEventKind::Placed => wire::FleetEventKind::Placed,
            FleetEventKind::Asked => wire::FleetEventKind::Asked,
        },
        node_id: node.map(|node| node.to_string()),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_rounded_down_and_never_above_all() {
        assert_eq!(permille(0, 0), 0);
        assert_eq!(permille(1, 3), 333);
        assert_eq!(permille(4, 3), 1_000);
        assert_eq!(permille(u64::MAX, u64::MAX), 1_000);
    }

    #[test]
    fn ranges_are_addresses_with_a_length() {
        let request = |text: &str| {
            join_token_request(&wire::JoinTokenCreate { ttl_seconds: None, address_range: Some(text.to_owned()) })
        };
        assert_eq!(request("10.128.7.0/24").unwrap().range, Some((Ipv4Addr::new(10, 128, 7, 0), 24)));
        for wrong in ["", "10.128.7.0", "10.128.7/24", "10.128.7.0/+24", "10.128.7.0/2400", "::/8"] {
            assert_eq!(request(wrong).unwrap_err().field, "address_range", "{wrong}");
        }
    }
}
