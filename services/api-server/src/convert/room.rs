//! Where there is room, and why there is none, for operators.

use wherry_api_types as wire;
use wherry_control::{Candidate, Explanation, Forecast, Move, NewNodes, RefusedBy, Room, ShapeRoom, WhatIf};
use wherry_model as model;
use wherry_model::SpecError;

use super::fleet::{capacity, permille};
use super::spec::parse;

/// A decision, explained.
pub(crate) fn explanation(explained: Explanation) -> wire::Explanation {
    let Explanation { demand, nodes, fits, refused, best, told, lifetime, instance } = explained;
    let (state, place) = instance.map_or((None, None), |(state, place)| (Some(state), place));
    let refused = refused.into_iter().map(|RefusedBy { rule, nodes, message }| wire::RefusedBy {
        rule: rule.to_owned(),
        nodes,
        message,
    });
    wire::Explanation {
        demand: self::demand(&demand),
        nodes,
        fits,
        refused: refused.collect(),
        best: best.into_iter().map(candidate).collect(),
        told,
        lifetime: lifetime.map(|expected| wire::ExpectedLife {
            remaining_seconds: expected.remaining_s,
            learnt_from: expected.learnt_from,
            message: expected.to_string(),
        }),
        state: state.map(super::instance::state),
        placed_on: place.map(|(id, node)| wire::PlacedOn { node_id: id.to_string(), node }),
    }
}

fn candidate(candidate: Candidate) -> wire::Candidate {
    let Candidate { node, name, score } = candidate;
    let part = |(name, value): (&str, u64)| wire::ScorePart { name: name.to_owned(), value };
    wire::Candidate { node_id: node.to_string(), node: name, score: score.into_iter().map(part).collect() }
}

fn demand(demand: &model::Demand) -> wire::NodeCapacity {
    capacity(model::Capacity {
        cpu_millis: demand.cpu.get().into(),
        memory_mib: demand.memory.get().into(),
        instances: 1,
    })
}

/// What room there is.
pub(crate) fn room(room: Room) -> wire::Room {
    let Room { used_nodes, capacity, used, stranded_cpu_millis, stranded_memory_mib, shapes, sampled_nodes } = room;
    let shape = |ShapeRoom { cpu, memory, instances, fits, fits_by_totals }| wire::ShapeRoom {
        cpu_millis: cpu.get().into(),
        memory_mib: memory.get().into(),
        instances,
        fits,
        fits_by_totals,
    };
    wire::Room {
        used_nodes,
        packing: wire::Packing {
            cpu_permille: permille(used.cpu_millis, capacity.cpu_millis),
            memory_permille: permille(used.memory_mib, capacity.memory_mib),
            instances_permille: permille(used.instances.into(), capacity.instances.into()),
        },
        stranded_cpu_millis,
        stranded_memory_mib,
        shapes: shapes.into_iter().map(shape).collect(),
        sampled_nodes,
    }
}

/// A change to think through.
pub(crate) fn what_if(asked: wire::WhatIf) -> Result<WhatIf, SpecError> {
    let wire::WhatIf { drain, add } = asked;
    let add = add.map(|add| {
        let like = match (add.like, add.cpu, add.memory) {
            (Some(like), None, None) => NewNodes::Like(like),
            (None, Some(cpu), Some(memory)) => NewNodes::Sized(parse("add.cpu", &cpu)?, parse("add.memory", &memory)?),
            _ => return Err(SpecError::new("add", "give like, or cpu and memory")),
        };
        Ok((add.count, like))
    });
    Ok(WhatIf { drain, add: add.transpose()? })
}

/// What would become of the fleet.
pub(crate) fn forecast(forecast: Forecast) -> wire::WhatIfAnswer {
    let Forecast { before, after, moves, moved, stuck, waiting, waiting_placed } = forecast;
    wire::WhatIfAnswer {
        before: room(before),
        after: room(after),
        moves: moves.into_iter().map(one_move).collect(),
        moved,
        stuck,
        waiting,
        waiting_placed,
    }
}

fn one_move(one: Move) -> wire::Move {
    let Move { instance, name, tenant, demand, from, to } = one;
    let (to, why_not) = match to {
        Ok(node) => (Some(node), None),
        Err(why) => (None, Some(why)),
    };
    wire::Move {
        instance_id: instance.to_string(),
        instance: name.to_string(),
        tenant_id: tenant.to_string(),
        demand: self::demand(&demand),
        from,
        to,
        why_not,
    }
}
