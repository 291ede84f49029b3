//! Faults are planted one by one into evidence in which there is none; the auditor must name each, and nothing else.

use wherry_model::{Clock as _, Generation};

use super::*;
use crate::system::{KernelEntropy, WallClock};

const NOW: i64 = 1_000;

fn id() -> InstanceId {
    InstanceId::generate(&WallClock, &KernelEntropy)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(second)
}

fn run(instance: InstanceId, from: i64, to: Option<i64>) -> Run {
    Run {
        instance,
        generation: Generation(1),
        cpu_millis: 600,
        memory_mib: 100,
        from: at(from).plus(std::time::Duration::from_millis(300)),
        to: to.map(|to| at(to).plus(std::time::Duration::from_millis(700))),
    }
}

fn node(name: &str, runs: Vec<Run>) -> NodeFacts {
    NodeFacts {
        name: name.to_owned(),
        capacity: Capacity { cpu_millis: 1_000, memory_mib: 1_000, instances: 2 },
        taken: Some(Capacity { cpu_millis: 1_000, memory_mib: 1_000, instances: 2 }),
        died: false,
        proved: Some(at(NOW)),
        runs,
    }
}

/// Two instances one after the other on one node, one that runs on on another; all metered.
fn sound() -> (Evidence, [InstanceId; 3]) {
    let ids = [id(), id(), id()];
    let entry = Acknowledged {
        project: "load-0".to_owned(),
        cpu_millis: 600,
        memory_mib: 100,
        delete_asked: false,
        deleted: false,
    };
    let evidence = Evidence {
        acknowledged: ids.iter().map(|id| (*id, entry.clone())).collect(),
        repeated: Vec::new(),
        stored: ids.into_iter().collect(),
        nodes: vec![
            node("one", vec![run(ids[0], 100, Some(200)), run(ids[1], 201, Some(300))]),
            node("two", vec![run(ids[2], 900, None)]),
        ],
        metered: BTreeMap::from([
            (ids[0], vec![Metered { from: 100, to: 200, open: false }]),
            (ids[1], vec![Metered { from: 201, to: 300, open: false }]),
            (ids[2], vec![Metered { from: 900, to: 998, open: true }]),
        ]),
    };
    (evidence, ids)
}

fn kinds(evidence: &Evidence) -> Vec<&'static str> {
    judge(evidence, at(NOW)).findings.iter().map(Finding::kind).collect()
}

#[test]
fn what_is_sound_is_left_alone() {
    let (evidence, _) = sound();
    let verdict = judge(&evidence, at(NOW));
    assert_eq!(verdict.findings, []);
    assert_eq!((verdict.creates, verdict.runs, verdict.metered_seconds), (3, 3, 100 + 99 + 98));
    assert!(WallClock.now() > at(NOW));
}

#[test]
fn more_on_a_node_than_it_has_is_found_for_each_resource() {
    for plant in [
        |run: &mut Run| run.cpu_millis = 1_001,
        |run: &mut Run| run.memory_mib = 1_001,
        // Both of the node's run at once: 1.2 cores.
        |run: &mut Run| run.to = Some(at(250)),
    ] {
        let (mut evidence, ids) = sound();
        plant(&mut evidence.nodes[0].runs[0]);
        // Billed as it ran, so that nothing else is wrong.
        if evidence.nodes[0].runs[0].to == Some(at(250)) {
            evidence.metered.insert(ids[0], vec![Metered { from: 100, to: 250, open: false }]);
        }
        assert_eq!(kinds(&evidence), ["oversubscription"]);
    }
    let (mut evidence, ids) = sound();
    for number in 0..3 {
        let extra = id();
        evidence.nodes[1].runs.push(Run { cpu_millis: 1, memory_mib: 1, ..run(extra, 901, Some(902 + number)) });
        evidence.metered.insert(extra, vec![Metered { from: 901, to: 902 + number, open: false }]);
    }
    assert_eq!(kinds(&evidence), ["oversubscription"], "too many instances, {ids:?}");
}

#[test]
fn a_row_that_gave_more_than_there_is_is_found() {
    let (mut evidence, _) = sound();
    evidence.nodes[1].taken = Some(Capacity { cpu_millis: 1_001, memory_mib: 1, instances: 1 });
    assert_eq!(kinds(&evidence), ["oversubscription"]);
}

#[test]
fn an_instance_in_two_places_is_found() {
    let (mut evidence, ids) = sound();
    // On another node while it runs on; in another generation too: it is about the moment.
    evidence.nodes[0].runs.push(Run { generation: Generation(2), ..run(ids[2], 950, Some(960)) });
    assert_eq!(kinds(&evidence), ["double placement"]);
    // One after the other is a move.
    let (mut evidence, ids) = sound();
    evidence.nodes[1].runs.push(Run { generation: Generation(2), ..run(ids[0], 201, Some(210)) });
    evidence
        .metered
        .insert(ids[0], vec![Metered { from: 100, to: 200, open: false }, Metered { from: 201, to: 210, open: false }]);
    assert_eq!(kinds(&evidence), [""; 0]);
    // A short one beside the end of a long one, hidden behind a third.
    let (mut evidence, ids) = sound();
    evidence.nodes[1].runs.push(run(ids[0], 120, Some(130)));
    evidence.nodes[1].runs.push(run(ids[0], 150, Some(160)));
    assert_eq!(kinds(&evidence), ["double placement"]);
}

#[test]
fn an_acknowledged_create_that_is_not_there_is_found() {
    let (mut evidence, ids) = sound();
    evidence.stored.remove(&ids[1]);
    assert_eq!(kinds(&evidence), ["lost create"]);
    // Unless somebody asked for that.
    if let Some(entry) = evidence.acknowledged.get_mut(&ids[1]) {
        entry.delete_asked = true;
    }
    assert_eq!(kinds(&evidence), [""; 0]);
    evidence.repeated.push(ids[0]);
    assert_eq!(kinds(&evidence), ["lost create"]);
}

#[test]
fn seconds_that_ran_unmetered_are_found_at_the_begin_in_the_middle_and_at_the_end() {
    let closed = |from, to| Metered { from, to, open: false };
    for metered in [vec![], vec![closed(101, 200)], vec![closed(100, 150), closed(151, 200)], vec![closed(100, 199)]] {
        let (mut evidence, ids) = sound();
        evidence.metered.insert(ids[0], metered.clone());
        assert_eq!(kinds(&evidence), ["billing gap"], "{metered:?}");
    }
    let (mut evidence, ids) = sound();
    evidence.metered.insert(ids[2], vec![Metered { from: 900, to: 990, open: true }]);
    assert_eq!(kinds(&evidence), ["billing gap"], "an open meter that has stopped");
}

#[test]
fn seconds_that_are_metered_twice_or_did_not_run_are_found() {
    let closed = |from, to| Metered { from, to, open: false };
    for metered in [
        vec![closed(100, 200), closed(150, 160)],
        vec![closed(99, 200)],
        vec![closed(100, 201)],
        vec![closed(100, 200), closed(500, 501)],
    ] {
        let (mut evidence, ids) = sound();
        evidence.metered.insert(ids[0], metered.clone());
        assert_eq!(kinds(&evidence), ["billing gap"], "{metered:?}");
    }
    let (mut evidence, _) = sound();
    evidence.metered.insert(id(), vec![closed(1, 2)]);
    assert_eq!(kinds(&evidence), ["billing gap"], "of an instance that never ran");
}

#[test]
fn a_node_that_died_is_billed_to_its_last_proof_of_life() {
    let (mut evidence, ids) = sound();
    evidence.nodes[0].died = true;
    evidence.nodes[0].proved = Some(at(280));
    evidence.metered.insert(ids[1], vec![Metered { from: 201, to: 279, open: false }]);
    assert_eq!(kinds(&evidence), [""; 0]);
    evidence.metered.insert(ids[1], vec![Metered { from: 201, to: 270, open: false }]);
    assert_eq!(kinds(&evidence), ["billing gap"], "it proved more than that");
}
