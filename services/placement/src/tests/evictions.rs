//! Who has to go, against every set of every node.

use proptest::collection::vec;
use proptest::prelude::*;
use wherry_model::{Capacity, Demand, InstanceId, Terms};

use super::properties::{any_demand, any_node, any_terms};
use super::scan::{Known, has_room};
use super::{capacity, demand, id, node};
use crate::{Ask, Fleet, FleetChange, NodeSnapshot};

fn instance(number: u128) -> InstanceId {
    id(number).as_uuid().to_string().parse().unwrap()
}

fn spot(cpu: u32, memory: u32) -> Demand {
    Demand { spot: true, ..demand(cpu, memory) }
}

fn place(fleet: &mut Fleet, number: u128, node: u128, demand: Demand) {
    fleet.apply(FleetChange::Reserve { node: id(node), demand }).unwrap();
    fleet.settle(instance(number), id(node), &demand, &Terms::default()).unwrap();
}

#[test]
fn the_fewest_go_and_of_those_the_least() {
    let mut fleet = Fleet::from_iter([node(1, Capacity::default()), node(2, Capacity::default())]);
    for number in 0..4 {
        place(&mut fleet, number, 1, spot(4_000, 16_384));
    }
    place(&mut fleet, 10, 2, demand(8_000, 32_768));
    place(&mut fleet, 11, 2, spot(2_000, 8_192));
    place(&mut fleet, 12, 2, spot(6_000, 24_576));
    let victims = |asked: &Demand| fleet.victims(&Ask::of(asked)).map(|eviction| (eviction.node, eviction.instances));
    assert_eq!(victims(&demand(2_000, 8_192)), Some((id(2), vec![instance(11)])));
    assert_eq!(victims(&demand(3_000, 8_192)), Some((id(1), vec![instance(0)])));
    assert_eq!(victims(&demand(5_000, 8_192)), Some((id(2), vec![instance(12)])));
    assert_eq!(victims(&demand(8_000, 8_192)), Some((id(1), vec![instance(0), instance(1)])));
    assert_eq!(victims(&demand(16_001, 8_192)), None, "no machine is so large");
    assert_eq!(victims(&spot(2_000, 8_192)), None, "spot evicts nobody");
}

#[test]
fn among_many_the_largest_go_first_and_nobody_in_vain() {
    let mut fleet = Fleet::from_iter([node(1, Capacity::default())]);
    for number in 0..15 {
        place(&mut fleet, number, 1, spot(1_000, 4_096));
    }
    place(&mut fleet, 20, 1, spot(999, 4_000));
    let eviction = fleet.victims(&Ask::of(&demand(3_000, 12_288))).unwrap();
    assert_eq!(eviction.instances, [0, 1, 2].map(instance));
}

proptest! {
    #[test]
    fn victims_are_the_cheapest_set(
        nodes in vec(any_node(), 1..6),
        residents in vec((0_u128..24, any_demand(), any_terms()), 0..20),
        asked in any_demand(),
        terms in any_terms(),
    ) {
        let mut known = Known::default();
        for (node, number) in nodes.into_iter().zip(0_u128..) {
            // Small ids, so that residents find them.
            known.nodes.insert(id(number), NodeSnapshot { id: id(number), ..node });
        }
        for (number, (on, demand, terms)) in residents.into_iter().enumerate() {
            let on = id(on % u128::try_from(known.nodes.len()).unwrap());
            // A GPU that is given back must have been taken.
            let demand = Demand { gpu: None, ..demand };
            let used = &mut known.nodes.get_mut(&on).unwrap().used;
            *used = capacity(
                used.cpu_millis + u64::from(demand.cpu.get()),
                used.memory_mib + u64::from(demand.memory.get()),
                used.instances + 1,
            );
            known.settled.insert(instance(u128::try_from(number).unwrap()), (on, demand, terms));
        }
        let asked = Demand { spot: false, ..asked };
        let ask = Ask { demand: &asked, terms: &terms, excluded: &[] };
        let fleet = known.build();
        let rate = fleet.exchange_rate();
        let mut best = None;
        for node in known.nodes.values().filter(|node| known.suits(node, &ask)) {
            let there = known.settled.iter().filter(|(_, (on, demand, _))| *on == node.id && demand.spot).collect::<Vec<_>>();
            prop_assume!(there.len() <= 12);
            for set in 1_u32..1 << there.len() {
                let chosen = there.iter().zip(0..).filter(|(_, bit)| set & (1 << bit) != 0).map(|(one, _)| *one).collect::<Vec<_>>();
                let mut without = *node;
                let mut worth = 0;
                for (_, (_, demand, _)) in &chosen {
                    let (cpu, memory) = (u64::from(demand.cpu.get()), u64::from(demand.memory.get()));
                    without.used = capacity(without.used.cpu_millis - cpu, without.used.memory_mib - memory, without.used.instances - 1);
                    if let Some(disk) = &mut without.offer.disk {
                        disk.used_mib = disk.used_mib.saturating_sub(u64::from(demand.disk.get()));
                    }
                    worth += memory + rate.as_mib(cpu);
                }
                if has_room(&without, &asked) {
                    let ids = chosen.iter().map(|(id, _)| **id).collect::<Vec<_>>();
                    let cost = (ids.len(), worth, node.id, ids);
                    best = Some(best.map_or(cost.clone(), |known: (usize, u64, _, Vec<_>)| known.min(cost)));
                }
            }
        }
        let victims = fleet.victims(&ask).map(|eviction| (eviction.instances.len(), eviction.worth_mib, eviction.node, eviction.instances));
        prop_assert_eq!(victims, best);
    }
}
