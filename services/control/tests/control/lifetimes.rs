//! What is learnt of how long instances run.

use std::sync::Arc;

use wherry_control::{Control, ExplainInstance};
use wherry_testkit::{Stack, spec};

use crate::support::{delete, seconds};

/// From how many of its kind it is learnt how long an instance of `spec()` runs, and how many seconds that is expected to be.
async fn expected(stack: &Stack, control: &Control) -> Option<(u32, u64)> {
    let explained = control.explain_spec(stack.operator(), Some("acme"), &spec()).await.unwrap();
    explained.lifetime.map(|expected| (expected.learnt_from, expected.remaining_s))
}

/// `count` instances run for a minute each, one after the other, and `other` follows.
async fn lives_seen_by(other: &Control, stack: &Stack, count: usize) {
    for number in 0..count {
        let name = format!("brief-{number}");
        stack.create(stack.acme(), &name, spec()).await;
        stack.agent().obey().await;
        Stack::background_of(other).await;
        stack.advance(seconds(60));
        delete(stack, stack.acme(), &name).await.unwrap();
        stack.agent().obey().await;
        Stack::background_of(other).await;
        stack.advance(seconds(600));
        stack.greet().await;
    }
}

async fn lives(stack: &Stack, count: usize) {
    lives_seen_by(stack.control(), stack, count).await;
}

#[tokio::test]
async fn lifetimes_are_learnt_and_a_decision_says_what_is_expected_and_why() {
    let stack = Stack::start().await;
    let (nothing, long) = expected(&stack, stack.control()).await.unwrap();
    assert_eq!(nothing, 0);
    lives(&stack, 20).await;
    let (learnt_from, brief) = expected(&stack, stack.control()).await.unwrap();
    assert_eq!(learnt_from, 20);
    assert!(brief * 3 < long, "{brief} s, at first {long} s");

    // One that runs is judged by its age: it is none of the brief ones.
    stack.create(stack.acme(), "lasting", spec()).await;
    stack.agent().obey().await;
    let request = ExplainInstance {
        tenant: Some("acme".to_owned()),
        project: stack.acme().project.clone(),
        instance: "lasting".to_owned(),
    };
    let young = stack.control().explain_instance(stack.operator(), &request).await.unwrap().lifetime.unwrap();
    stack.let_pass(seconds(4 * 3_600)).await;
    stack.background().await;
    let old = stack.control().explain_instance(stack.operator(), &request).await.unwrap().lifetime.unwrap();
    assert!(old.remaining_s > young.remaining_s * 2, "{young}; later: {old}");
    assert!(old.to_string().contains("learnt from 21 of"), "{old}");
}

#[tokio::test]
async fn what_is_learnt_outlives_the_process_and_what_cannot_be_read_is_learnt_anew() {
    let mut stack = Stack::start().await;
    lives(&stack, 12).await;
    let before = expected(&stack, stack.control()).await;
    assert_eq!(before.unwrap().0, 12);
    stack.background().await;
    stack.reopen().await;
    assert_eq!(expected(&stack, stack.control()).await, before);

    stack.greet().await;
    lives(&stack, 15).await;
    stack.control().close().await.unwrap();
    stack.reopen().await;
    assert_eq!(expected(&stack, stack.control()).await.unwrap().0, 27, "who leaves in order keeps it");

    for unreadable in ["", "{\"form\":1,\"learner\":{\"curves\":{\"0\":{}}}}", "{\"form\":2,\"learner\":{}}"] {
        stack.store().keep_learnt("lifetimes", unreadable).await.unwrap();
        stack.reopen().await;
        assert_eq!(expected(&stack, stack.control()).await.unwrap().0, 0, "{unreadable}");
    }
}

#[tokio::test]
async fn every_replica_learns_from_what_any_of_them_writes() {
    let stack = Stack::start().await;
    let other = stack.replica().await;
    lives_seen_by(&other, &stack, 11).await;
    assert_eq!(expected(&stack, &other).await.unwrap().0, 11);
    assert_eq!(expected(&stack, &other).await, expected(&stack, stack.control()).await);
}

#[tokio::test]
async fn switched_off_nothing_is_learnt_expected_or_kept() {
    let stack = Stack::builder().configure(|config| config.learn_lifetimes = false).start().await;
    lives(&stack, 3).await;
    stack.background().await;
    assert_eq!(expected(&stack, stack.control()).await, None);
    stack.control().close().await.unwrap();
    assert_eq!(stack.store().learnt("lifetimes").await.unwrap(), None);
    let on = stack.replica_with(&Arc::default(), |config| config.learn_lifetimes = true).await;
    assert_eq!(expected(&stack, &on).await.unwrap().0, 0);
}
