//! Random lives, and what must hold whatever they were.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use wherry_model::{CpuMillis, Demand, Departure, InstanceId, MemoryMib, NodeId};

use super::{Basis, Learner, Lifetimes, Traits};

#[derive(Debug, Clone)]
enum Step {
    Began { instance: u128, node: u128, traits: Traits },
    Ended { instance: u128 },
    Left { instance: u128 },
    Later { seconds: u64 },
}

fn instance(number: u128) -> InstanceId {
    InstanceId::from_uuid(uuid::Uuid::from_u128(number))
}

fn node(number: u128) -> NodeId {
    NodeId::from_uuid(uuid::Uuid::from_u128(number))
}

fn any_traits() -> impl Strategy<Value = Traits> {
    (0_u64..3, 0_u64..4, 0_u64..4, 0_u64..6).prop_map(|(tenant, image, shape, batch)| Traits {
        tenant,
        image,
        shape,
        batch,
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u128..40, 0_u128..6, any_traits()).prop_map(|(instance, node, traits)| Step::Began { instance, node, traits }),
        3 => (0_u128..40).prop_map(|instance| Step::Ended { instance }),
        1 => (0_u128..40).prop_map(|instance| Step::Left { instance }),
        3 => (0_u64..40_000).prop_map(|seconds| Step::Later { seconds }),
    ]
}

/// Plays the steps; what was answered, and the class of each node as its changes tell it.
fn play(lifetimes: &mut Lifetimes, steps: &[Step]) -> (Vec<String>, BTreeMap<NodeId, u8>, u64) {
    let (mut now, mut answers, mut classes) = (0, Vec::new(), BTreeMap::new());
    for step in steps {
        let changes = match step {
            Step::Began { instance: number, node: on, traits } => {
                answers.push(format!("{:?}", lifetimes.expect(traits, now)));
                lifetimes.began(instance(*number), node(*on), traits, now).into_iter().collect()
            }
            Step::Ended { instance: number } => lifetimes.ended(instance(*number), now).into_iter().collect(),
            Step::Left { instance: number } => lifetimes.left(instance(*number), now).into_iter().collect(),
            Step::Later { seconds } => {
                now += seconds;
                lifetimes.advance(now)
            }
        };
        for (node, class) in changes {
            assert!(usize::from(class) < Departure::CLASSES);
            if class == 0 {
                classes.remove(&node)
            } else {
                classes.insert(node, class)
            };
        }
    }
    (answers, classes, now)
}

proptest! {
    #[test]
    fn the_same_story_gives_the_same_answers_and_what_is_kept_goes_on_the_same(
        steps in vec(any_step(), 1..200),
        more in vec(any_traits(), 1..20),
    ) {
        let (mut one, mut other) = (Lifetimes::default(), Lifetimes::default());
        let (answers, classes, now) = play(&mut one, &steps);
        prop_assert_eq!(&(answers, classes, now), &play(&mut other, &steps));
        let kept = serde_json::to_string(one.learner()).unwrap();
        let mut restored = Lifetimes::with(serde_json::from_str::<Learner>(&kept).unwrap());
        prop_assert_eq!(serde_json::to_string(restored.learner()).unwrap(), kept);
        // Reckoned anew by both.
        let later = now + 600;
        for traits in &more {
            prop_assert_eq!(restored.expect(traits, later), one.expect(traits, later));
        }
    }

    #[test]
    fn a_node_has_a_class_while_somebody_is_on_it_and_nothing_is_left_of_who_ended(steps in vec(any_step(), 1..200)) {
        let mut lifetimes = Lifetimes::default();
        let (_, mut classes, now) = play(&mut lifetimes, &steps);
        // Whom the last one has left for another node is told with the time.
        for (node, class) in lifetimes.advance(now) {
            if class == 0 {
                classes.remove(&node)
            } else {
                classes.insert(node, class)
            };
        }
        let occupied = lifetimes.running.values().filter_map(|running| running.node).collect::<std::collections::BTreeSet<_>>();
        prop_assert_eq!(classes.keys().copied().collect::<std::collections::BTreeSet<_>>(), occupied);
        for number in 0..40 {
            lifetimes.ended(instance(number), now);
        }
        prop_assert_eq!(lifetimes.running(), 0);
        prop_assert!(lifetimes.nodes.is_empty());
        prop_assert!(lifetimes.due.is_empty(), "{:?}", lifetimes.due);
    }

    #[test]
    fn who_begins_in_the_same_second_is_learnt_the_same_in_any_order(mut lives in vec((0_u64..4, 1_u64..100_000), 1..40)) {
        let story = |lives: &[(u64, u64)]| {
            let mut lifetimes = Lifetimes::default();
            for (number, (shape, _)) in (0..).zip(lives) {
                lifetimes.began(instance(number), node(number), &Traits { shape: *shape, ..Traits::default() }, 0);
            }
            let mut ends = (0..).zip(lives).map(|(number, (_, life))| (*life, number)).collect::<Vec<_>>();
            ends.sort_unstable();
            for (at, number) in ends {
                lifetimes.advance(at);
                lifetimes.ended(instance(number), at);
            }
            (0..4).map(|shape| lifetimes.expect(&Traits { shape, ..Traits::default() }, 200_000)).collect::<Vec<_>>()
        };
        let before = story(&lives);
        lives.sort_unstable();
        prop_assert_eq!(before, story(&lives));
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let mut lifetimes = Lifetimes::default();
    for number in 0..20_000_u64 {
        let traits = Traits { tenant: number + 1, image: number + 1, shape: number % 7 + 1, batch: number + 1 };
        lifetimes.began(instance(u128::from(number)), node(1), &traits, number);
        lifetimes.ended(instance(u128::from(number)), number + 20);
    }
    let kept = serde_json::to_value(lifetimes.learner()).unwrap();
    assert!(kept["curves"].as_object().unwrap().len() <= Learner::CURVES);
    assert!(kept["batches"].as_object().unwrap().len() <= Learner::BATCHES);
    // What is known of all outlives what is known of each.
    assert_eq!(lifetimes.expect(&Traits::default(), 20_000).learnt_from, 20_000);
}

#[test]
fn it_learns_who_is_short_and_who_is_long_and_says_from_whom() {
    let mut lifetimes = Lifetimes::default();
    let short = Traits { image: 1, ..Traits::default() };
    let long = Traits { image: 2, ..Traits::default() };
    for number in 0..200_u128 {
        let now = u64::try_from(number).unwrap() * 600;
        lifetimes.advance(now);
        lifetimes.began(instance(number * 2), node(1), &short, now);
        lifetimes.began(instance(number * 2 + 1), node(2), &long, now);
        lifetimes.advance(now + 100);
        lifetimes.ended(instance(number * 2), now + 100);
        if let Some(oldest) = number.checked_sub(60) {
            lifetimes.ended(instance(oldest * 2 + 1), now + 100);
        }
    }
    let now = 200 * 600;
    let (brief, lasting) = (lifetimes.expect(&short, now), lifetimes.expect(&long, now));
    assert!(brief.remaining_s < 1_800, "{brief}");
    assert!(lasting.remaining_s > 5 * 3_600, "{lasting}");
    assert_eq!((brief.learnt_from, brief.basis), (200, Basis::Image));
    assert!(lasting.to_string().ends_with("more: learnt from 200 of the same image"), "{lasting}");
    // A short one goes anywhere; a long one rather not where all end soon.
    assert!(brief.departs.gap(1) == 0 && lasting.departs.gap(1) > lasting.departs.gap(12), "{lasting:?}");
    // What has run long runs longer.
    let mut fresh = Lifetimes::default();
    fresh.began(instance(1), node(1), &Traits::default(), 0);
    let young = fresh.expect_running(instance(1), 0).unwrap().remaining_s;
    fresh.advance(40_000);
    assert!(fresh.expect_running(instance(1), 40_000).unwrap().remaining_s > young * 3);
}

#[test]
fn after_a_restart_the_running_are_not_counted_again_and_are_as_old_as_they_are() {
    let mut lifetimes = Lifetimes::default();
    let traits = Traits { shape: 3, ..Traits::default() };
    lifetimes.began(instance(1), node(1), &traits, 0);
    lifetimes.advance(7_300);
    let expected = lifetimes.expect_running(instance(1), 7_300);
    let mut restored = Lifetimes::with(lifetimes.learner().clone());
    assert!(restored.resumed(instance(1), node(1), &traits, 0, 7_300).is_some());
    assert_eq!(restored.expect_running(instance(1), 7_300), expected);
    restored.advance(20_000);
    restored.ended(instance(1), 20_000);
    lifetimes.advance(20_000);
    lifetimes.ended(instance(1), 20_000);
    let kept = |lifetimes: &Lifetimes| serde_json::to_value(lifetimes.learner()).unwrap();
    assert_eq!(kept(&restored)["curves"], kept(&lifetimes)["curves"]);
}

#[test]
fn sizes_are_few() {
    let shape = |cpu, memory| Traits::shape_of(&Demand::new(CpuMillis::new(cpu), MemoryMib::new(memory)));
    assert_eq!(shape(1_000, 1_792), shape(1_020, 2_000));
    assert_ne!(shape(1_000, 1_792), shape(2_000, 1_792));
    assert_ne!(shape(1_000, 1_792), shape(1_000, 2_048));
    let all = (1..5_000).map(|cpu| shape(cpu, 512)).collect::<std::collections::BTreeSet<_>>();
    assert!(all.len() <= 26, "{}", all.len());
}
