//! The harness on small traces that are drawn.

use anyhow::Result;
use wherry_trace::{Row, Trace, synthetic};

use crate::density::{self, SUBJECTS};
use crate::nodes::{Nodes, Shape};
use crate::plot;
use crate::policies::{Engine, Oracle, Policy, Rule, Scan};
use crate::replay::{Outcome, replay};
use crate::report;
use crate::workload::{Arrival, Sizes, Workload};

const NODE: Shape = Shape::new(96, 256);

/// Looks at where a policy puts things, and believes nothing.
struct Watched {
    policy: Box<dyn Policy>,
    free: Vec<(u64, u64)>,
}

impl Policy for Watched {
    fn place(&mut self, nodes: &Nodes, arrival: &Arrival) -> Result<Option<usize>> {
        let node = self.policy.place(nodes, arrival)?;
        if let Some((cpu, memory)) = node.map(|node| &mut self.free[node]) {
            *cpu = cpu.checked_sub(u64::from(arrival.cpu_millis)).expect("CPU is overfilled");
            *memory = memory.checked_sub(u64::from(arrival.memory_mib)).expect("memory is overfilled");
        }
        Ok(node)
    }

    fn ended(&mut self, arrival: &Arrival, node: usize, now_ms: u64) -> Result<()> {
        self.free[node].0 += u64::from(arrival.cpu_millis);
        self.free[node].1 += u64::from(arrival.memory_mib);
        self.policy.ended(arrival, node, now_ms)
    }
}

fn policies(workload: &Workload, count: usize) -> Vec<Box<dyn Policy>> {
    let mut policies: Vec<Box<dyn Policy>> =
        [Rule::FirstFit, Rule::KubeMostAllocated, Rule::BestFit, Rule::BestFitBalanced]
            .map(|rule| Box::new(Scan::new(rule)) as Box<dyn Policy>)
            .into_iter()
            .collect();
    policies.push(Box::new(Engine::new(&[NODE], count, false)));
    policies.push(Box::new(Engine::new(&[NODE], count, true)));
    for outlived_per_hour in [0.0, 0.03] {
        policies.push(Box::new(Oracle::new(workload.lives.clone(), workload.ends_ms, outlived_per_hour)));
    }
    policies
}

fn played(workload: &Workload, count: usize, policy: &mut dyn Policy) -> Outcome {
    replay((&[NODE], count), (&workload.arrivals, &workload.lives, workload.ends_ms), policy).unwrap()
}

#[test]
fn no_policy_overfills_a_node_and_each_rejects_exactly_below_its_smallest_fleet() {
    let workload = Workload::of(&synthetic::draw(400, 1, 5), Sizes::Machines, None).unwrap();
    for number in 0..policies(&workload, 1).len() {
        let play = |count: usize| {
            let policy = policies(&workload, count).swap_remove(number);
            let free = vec![(NODE.cpu_millis, NODE.memory_mib); count];
            played(&workload, count, &mut Watched { policy, free })
        };
        let roomy = play(60);
        assert_eq!(roomy.rejected, 0, "policy {number}");
        assert!(roomy.ratio >= 1.0, "policy {number}: {}", roomy.ratio);
        let smallest = usize::try_from(roomy.most_open).unwrap();
        assert_eq!(play(smallest).rejected, 0, "policy {number}");
        assert!(play(smallest - 1).rejected > 0, "policy {number}");
        // By bisection, as if nothing was known.
        let (mut too_few, mut enough) = (0, 60);
        while too_few + 1 < enough {
            let middle = usize::midpoint(too_few, enough);
            if play(middle).rejected > 0 { too_few = middle } else { enough = middle }
        }
        assert_eq!(enough, smallest, "policy {number}");
    }
}

#[test]
fn node_hours_and_their_bound_are_counted_by_hand() {
    let row = |arrive_s, cores: u64, gib: u64, life_s| Row {
        arrive_s,
        batch: Some(0),
        cpu_millis: cores * 1_000,
        mem_mib: gib * 1_024,
        life_s: Some(life_s),
    };
    // Two that do not fit together, from 0 to 3,600 s and to 1,800 s; the bin of the third ends the replay at 7,200 s.
    let rows = [row(0, 64, 64, 3_600), row(0, 64, 64, 1_650), row(6_900, 1, 1, 9_999)];
    let workload = Workload::of(&rows, Sizes::Machines, None).unwrap();
    let outcome = played(&workload, 4, &mut Scan::new(Rule::FirstFit));
    // The first for an hour, the second from 150 s to 1,800 s, the third from 6,900 s.
    let hours = (3_600.0 + 1_650.0 + 300.0) / 3_600.0;
    assert!((outcome.node_hours - hours).abs() < 1e-9, "{}", outcome.node_hours);
    // 128 cores are two machines' volume.
    assert!((outcome.bound_hours - hours).abs() < 1e-9, "{}", outcome.bound_hours);
    assert_eq!((outcome.most_open, outcome.rejected), (2, 0));
    // The middle is at 3,600 s: all but the third is before it.
    assert!((outcome.ratio_of_halves[0] - 1.0).abs() < 1e-9 && (outcome.ratio_of_halves[1] - 1.0).abs() < 1e-9);
}

#[test]
fn the_same_trace_gives_the_same_figures() {
    let trace = Trace { segment: None, rows: synthetic::draw(150, 1, 9) };
    let once = || density::run("drawn", true, &trace, &|_| {}).unwrap();
    let (first, second) = (once(), once());
    assert_eq!(first, second);
    let json = report::density(&first).json;
    assert_eq!(json, report::density(&second).json);
    for key in ["blind", "labelled", "best_fit"] {
        assert!(json[key].as_f64().is_some_and(|ratio| ratio >= 1.0), "{key}: {}", json[key]);
    }
    assert!(SUBJECTS.iter().all(|subject| json["smallest_fleet"][subject.key].is_u64()));
    assert!(first.against_reference().is_empty());
    let plots = plot::density(&first);
    assert_eq!(plots, plot::density(&second));
    assert!(plots.iter().all(|(_, svg)| svg.ends_with("</svg>\n") && !svg.contains("NaN")));
}
