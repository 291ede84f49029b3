use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

use super::*;
use crate::fact::{ContainerExit, Fact, Observation};
use crate::id::{InstanceId, NodeId, ProjectId, TenantId};
use crate::instance::EndReason;
use crate::name::ContainerName;
use crate::quantity::{CpuMillis, MemoryMib};
use crate::spec::ContainerSpec;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn name(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

/// Placed, of these containers, none of which has run.
fn born(names: &[&str]) -> Instance {
    let container = |text: &&str| {
        let image = "r.example/web:1".parse().unwrap();
        ContainerSpec::new(name(text), image, CpuMillis::new(100), MemoryMib::new(64))
    };
    let birth = Birth {
        id: InstanceId::from_uuid(Uuid::from_u128(1)),
        tenant: TenantId::from_uuid(Uuid::from_u128(2)),
        project: ProjectId::from_uuid(Uuid::from_u128(3)),
        project_name: ProjectName::default_project(),
        name: InstanceName::new("web").unwrap(),
        spec: InstanceSpec::new(names.iter().map(container).collect()),
        node: Some(NodeId::from_uuid(Uuid::from_u128(9))),
        actor: "key:1".into(),
    };
    create(birth, at(0)).after
}

fn started(container: &str, run: u32, from: i64) -> Fact {
    Fact::ContainerStarted { container: name(container), run, started_at: at(from) }
}

fn ended(container: &str, run: u32, from: i64, to: i64, again: Option<i64>) -> Fact {
    let exit =
        ContainerExit { finished_at: at(to), exit_code: 0, signal: None, reason: EndReason::Exited, message: None };
    Fact::ContainerExited { container: name(container), run, started_at: at(from), exit, restart_at: again.map(at) }
}

fn told(instance: &Instance, seconds: i64, fact: Fact) -> Change {
    let (generation, at) = (instance.generation, at(seconds));
    observe(instance, &Observation { seq: 1, instance: instance.id, generation, revision: 0, at, fact }, at).unwrap()
}

const fn open(seconds: i64, late: bool) -> MeterEdge {
    MeterEdge::Open { kind: MeterKind::Run, at: Timestamp::from_seconds(seconds), late }
}

const fn close(seconds: i64) -> MeterEdge {
    MeterEdge::Close { kind: MeterKind::Run, at: Timestamp::from_seconds(seconds) }
}

/// Both run, `main` since 5 and `side` since 8.
fn both() -> Instance {
    let instance = told(&born(&["main", "side"]), 5, started("main", 1, 5)).after;
    told(&instance, 8, started("side", 1, 8)).after
}

#[test]
fn the_meter_ends_with_the_last_end_and_not_with_the_one_that_is_told_last() {
    let one = told(&both(), 60, ended("main", 1, 5, 50, None));
    assert_eq!(one.meter, []);
    let two = told(&one.after, 60, ended("side", 1, 8, 30, None));
    assert_eq!(two.meter, [close(50)]);
}

#[test]
fn what_ran_on_in_silence_is_billed_to_its_last_end_in_whatever_order_the_ends_are_told() {
    for deleted in [false, true] {
        let mut unknown = silence(&both(), at(20), at(35)).unwrap().after;
        if deleted {
            unknown = intend(&unknown, Ask::Delete, "key:1", at(40)).unwrap().unwrap().after;
        }
        let one = told(&unknown, 60, ended("main", 1, 5, 50, None));
        let two = told(&one.after, 60, ended("side", 1, 8, 30, None));
        assert_eq!((one.meter, two.meter), (vec![], vec![open(20, true), close(50)]));
        let one = told(&unknown, 60, ended("side", 1, 8, 30, None));
        let two = told(&one.after, 60, ended("main", 1, 5, 50, None));
        assert_eq!((one.meter, two.meter), (vec![], vec![open(20, true), close(50)]));
    }
}

#[test]
fn a_start_that_is_told_after_silence_does_not_prove_that_the_others_run_on() {
    let unknown = silence(&both(), at(20), at(35)).unwrap().after;
    let ended = told(&unknown, 60, ended("side", 1, 8, 30, Some(31))).after;
    let again = told(&ended, 60, started("side", 2, 31));
    assert_eq!((again.after.state, &again.meter), (InstanceState::Unknown, &vec![]));
    let back = recover(&again.after, &[(name("main"), 1), (name("side"), 2)], at(62)).unwrap();
    assert_eq!((back.after.state, back.meter), (InstanceState::Running, vec![open(20, true)]));
}

/// The containers of the worlds below.
const NAMES: [&str; 3] = ["main", "side", "third"];

/// A run of a container: `(container, number, from, to, the start that follows)`.
type Run = (usize, u32, i64, i64, Option<i64>);

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let container = (0_i64..25, prop::collection::vec((1_i64..30, 0_i64..12), 1..4));
    prop::collection::vec(container, NAMES.len()).prop_map(|containers| {
        let mut runs = Vec::new();
        for (index, (first, lasting)) in containers.into_iter().enumerate() {
            let (mut from, mut number, count) = (first, 0, lasting.len());
            for (length, pause) in lasting {
                number += 1;
                let (to, next) = (from + length, from + length + pause);
                runs.push((index, number, from, to, (usize::try_from(number) != Ok(count)).then_some(next)));
                from = next;
            }
        }
        runs
    })
}

/// What the agent tells, each with the time from which on it knows it. It looks what has ended before it starts anything, but
/// for a first run that was under way when it was stopped, and at `looks`; what it then sees at once it tells in any order.
fn journal(runs: &[Run], looks: &BTreeSet<i64>, shuffle: &[Index]) -> Vec<(i64, Fact)> {
    let mut moments: BTreeSet<i64> = looks.clone();
    moments.extend(runs.iter().map(|run| run.2));
    moments.insert(i64::from(u16::MAX));
    let (mut journal, mut before, mut draws) = (Vec::new(), i64::MIN, shuffle.iter().cycle());
    for moment in moments {
        let was_stopped = draws.next().unwrap().index(3) == 0;
        let is_early = |run: &&Run| was_stopped && run.1 == 1;
        for (container, number, from, ..) in runs.iter().filter(|run| run.2 == moment).filter(is_early) {
            journal.push((moment, started(NAMES[*container], *number, *from)));
        }
        let mut seen: Vec<&Run> = runs.iter().filter(|run| before < run.3 && run.3 <= moment).collect();
        while !seen.is_empty() {
            let mut drawn = draws.next().unwrap().index(seen.len());
            // The runs of one container are told in their order.
            drawn = seen.iter().position(|run| run.0 == seen[drawn].0).unwrap();
            let (container, number, from, to, next) = *seen.remove(drawn);
            journal.push((moment, ended(NAMES[container], number, from, to, next)));
        }
        for (container, number, from, ..) in runs.iter().filter(|run| run.2 == moment && !is_early(run)) {
            journal.push((moment, started(NAMES[*container], *number, *from)));
        }
        before = moment;
    }
    journal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_second_in_which_a_container_ran_is_metered_once_whatever_silence_hides(
        runs in runs(),
        mut looks in prop::collection::btree_set(0_i64..150, 0..12),
        shuffle in prop::collection::vec(any::<Index>(), 1..12),
        (proof, hidden) in (0_i64..120, 0_i64..120),
        (beats, deleted_at) in (prop::collection::btree_set(0_i64..150, 0..6), prop::option::of(0_usize..30)),
    ) {
        // The agent proves its life after it has looked.
        looks.insert(proof);
        let mut instance = born(&NAMES);
        let mut edges = Vec::new();
        let (mut silent, mut doubted) = (false, false);
        for (index, (known_at, fact)) in journal(&runs, &looks, &shuffle).into_iter().enumerate() {
            let now = 1_000 + i64::try_from(index).unwrap();
            let mut changes = Vec::new();
            if !silent && known_at > proof {
                silent = true;
                changes.extend(silence(&instance, at(proof), at(now)));
                doubted = !changes.is_empty();
            }
            instance = changes.last().map_or(instance, |change: &Change| change.after.clone());
            if deleted_at == Some(index) {
                let deleting = intend(&instance, Ask::Delete, "key:1", at(now)).unwrap();
                instance = deleting.map_or(instance, |change| change.after);
            }
            // Each proof reaches the control plane somewhere between what is told.
            for beat in beats.iter().filter(|beat| doubted && **beat > proof && **beat + hidden <= known_at + 60) {
                let shown: Vec<_> = runs
                    .iter()
                    .filter(|run| run.2 <= *beat && *beat < run.3)
                    .map(|run| (name(NAMES[run.0]), run.1))
                    .collect();
                if let Some(change) = recover(&instance, &shown, at(now)) {
                    instance = change.after.clone();
                    changes.push(change);
                }
            }
            let change = told(&instance, now, fact);
            instance = change.after.clone();
            changes.push(change);
            edges.extend(changes.into_iter().flat_map(|change| change.meter));
            if instance.state == InstanceState::Running {
                prop_assert!(instance.run_meter.open_since.is_some(), "it runs, and its meter does not");
            }
        }
        let mut metered = BTreeSet::new();
        let mut since = None;
        for edge in edges {
            match edge {
                MeterEdge::Open { at, .. } => since = Some(at.grid_second()),
                MeterEdge::Close { at, .. } => {
                    for second in since.take().unwrap()..at.grid_second() {
                        prop_assert!(metered.insert(second), "second {} is metered twice", second);
                    }
                }
            }
        }
        prop_assert_eq!(since, None, "the meter goes on although everything has ended");
        let ran: BTreeSet<i64> = runs.iter().flat_map(|run| run.2..run.3).collect();
        prop_assert_eq!(metered, ran);
    }
}
