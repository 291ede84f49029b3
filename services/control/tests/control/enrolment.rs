//! Who may be a node.

use std::net::Ipv4Addr;

use wherry_agent_api::{Applicant, ControlError, ControlPlane, Enrolled, Enrolment, NodeHello};
use wherry_control::{Control, JoinTokenRequest};
use wherry_model::Clock;
use wherry_testkit::{Stack, eventually};

use crate::support::seconds;

async fn token(stack: &Stack, request: JoinTokenRequest) -> String {
    stack.control().create_join_token(stack.operator(), request).await.unwrap().token
}

async fn enrol(control: &Control, token: &str, key: u8, name: &str) -> Result<Enrolled, ControlError> {
    control.enrol(Applicant { token: token.to_owned(), public_key: [key; 32], name: name.to_owned() }).await
}

fn forbidden<T: std::fmt::Debug>(answer: Result<T, ControlError>) -> String {
    match answer {
        Err(ControlError::Forbidden(sentence)) => sentence,
        other => panic!("not forbidden: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_makes_one_node() {
    let stack = Stack::start().await;
    let control = stack.control();
    let made = token(&stack, JoinTokenRequest::default()).await;
    assert!(made.starts_with("wjt_"));
    let first = enrol(control, &made, 1, "alpha").await.unwrap();
    assert_eq!((first.range, first.apex.as_str()), ((Ipv4Addr::new(10, 128, 0, 0), 24), "local.wherry.internal"));
    assert_eq!(enrol(control, &made, 1, "alpha").await.unwrap(), first, "the answer was lost");
    let other = stack.replica().await;
    assert_eq!(enrol(&other, &made, 1, "alpha").await.unwrap(), first);
    assert!(control.is_enrolled(first.node).await.unwrap());
    let refused = forbidden(enrol(control, &made, 2, "beta").await);
    assert!(refused.contains("make a new one"), "{refused}");
}

#[tokio::test]
async fn what_is_no_good_token_is_told_nothing() {
    let stack = Stack::start().await;
    let control = stack.control();
    let good = token(&stack, JoinTokenRequest::default()).await;
    let (head, _) = good.rsplit_once('_').unwrap();
    let other = token(&stack, JoinTokenRequest::default()).await;
    let (_, foreign_secret) = other.split_at(other.len() - 43);
    let mut sentences = Vec::new();
    for wrong in [
        String::new(),
        "wjt_".to_owned(),
        "wjt__".to_owned(),
        head.to_owned(),
        format!("{head}_"),
        format!("{good}x"),
        good[..good.len() - 1].to_owned(),
        good.replace("wjt_", "wsk_"),
        format!("{}{foreign_secret}", &good[..good.len() - 43]),
        format!("wjt_0190f8a0-0000-7000-8000-000000000001_{foreign_secret}"),
        "wjt_ä_ö".to_owned(),
    ] {
        sentences.push(forbidden(enrol(control, &wrong, 1, "alpha").await));
    }
    sentences.dedup();
    assert_eq!(sentences.len(), 1, "one sentence for all: {sentences:?}");
    enrol(control, &good, 1, "alpha").await.expect("the good one was not used up");
}

#[tokio::test]
async fn a_token_ends() {
    let stack = Stack::start().await;
    let control = stack.control();
    let unused = token(&stack, JoinTokenRequest::default()).await;
    let short = JoinTokenRequest { ttl: Some(seconds(60)), ..JoinTokenRequest::default() };
    let short = token(&stack, short).await;
    stack.advance(seconds(61));
    forbidden(enrol(control, &short, 1, "alpha").await);
    stack.advance(seconds(3_600));
    forbidden(enrol(control, &unused, 1, "alpha").await);
    for ttl in [0, 59, 7 * 24 * 3_600 + 1] {
        let request = JoinTokenRequest { ttl: Some(seconds(ttl)), ..JoinTokenRequest::default() };
        let refused = control.create_join_token(stack.operator(), request).await.unwrap_err();
        assert_eq!(refused.field(), Some("ttl_seconds"));
    }
}

#[tokio::test]
async fn every_node_has_a_range_of_its_own() {
    let stack = Stack::builder()
        .configure(|config| {
            config.fleet_range = (Ipv4Addr::new(10, 128, 0, 0), 22);
        })
        .start()
        .await;
    let control = stack.control();
    let range = |third| (Ipv4Addr::new(10, 128, third, 0), 24);
    let wanted = token(&stack, JoinTokenRequest { range: Some(range(1)), ..JoinTokenRequest::default() }).await;
    assert_eq!(enrol(control, &wanted, 1, "chosen").await.unwrap().range, range(1));
    let mut ranges = Vec::new();
    let mut last = None;
    for number in 2..5 {
        let made = token(&stack, JoinTokenRequest::default()).await;
        let enrolled = enrol(control, &made, number, &format!("node-{number}")).await.unwrap();
        ranges.push(enrolled.range);
        last = Some(enrolled);
    }
    assert_eq!(ranges, [range(0), range(2), range(3)]);
    let one_more = token(&stack, JoinTokenRequest::default()).await;
    let full = enrol(control, &one_more, 9, "more").await.unwrap_err();
    assert!(matches!(&full, ControlError::Refused(sentence) if sentence.contains("10.128.0.0/22")), "{full:?}");
    let taken = JoinTokenRequest { range: Some((Ipv4Addr::new(10, 128, 2, 128), 25)), ..JoinTokenRequest::default() };
    let refused = control.create_join_token(stack.operator(), taken).await.unwrap_err();
    assert_eq!(refused.field(), Some("address_range"));
    let crooked = JoinTokenRequest { range: Some((Ipv4Addr::new(10, 128, 2, 1), 24)), ..JoinTokenRequest::default() };
    assert_eq!(control.create_join_token(stack.operator(), crooked).await.unwrap_err().field(), Some("address_range"));
    // A removed node's range is free again.
    let gone = last.unwrap();
    control.hello(introduction(&stack, &gone, "node-4")).await.unwrap();
    control.remove_node(stack.operator(), &gone.node.to_string()).await.unwrap();
    assert_eq!(enrol(control, &one_more, 9, "more").await.unwrap().range, gone.range);
}

fn introduction(stack: &Stack, enrolled: &Enrolled, name: &str) -> NodeHello {
    NodeHello {
        node: enrolled.node,
        range: enrolled.range,
        name: name.to_owned(),
        ..stack.agent().introduction().clone()
    }
}

#[tokio::test]
async fn names_are_unique_and_right() {
    let stack = Stack::start().await;
    let control = stack.control();
    let made = token(&stack, JoinTokenRequest::default()).await;
    for wrong in ["", "-a", "a-", "A", "a b", "ä", &"a".repeat(64)] {
        let refused = enrol(control, &made, 1, wrong).await.unwrap_err();
        assert!(matches!(refused, ControlError::Refused(_)), "{wrong:?}");
    }
    enrol(control, &made, 1, "alpha").await.unwrap();
    let second = token(&stack, JoinTokenRequest::default()).await;
    let taken = enrol(control, &second, 2, "alpha").await.unwrap_err();
    assert!(matches!(&taken, ControlError::Refused(sentence) if sentence.contains("alpha")), "{taken:?}");
    enrol(control, &second, 2, "alpha.example").await.expect("a refused name does not use the token up");
}

#[tokio::test]
async fn a_machine_that_never_came_can_be_removed_and_its_name_is_free() {
    let stack = Stack::start().await;
    let control = stack.control();
    let made = token(&stack, JoinTokenRequest::default()).await;
    let enrolled = enrol(control, &made, 1, "alpha").await.unwrap();
    control.remove_node(stack.operator(), "alpha").await.unwrap();
    assert!(!control.is_enrolled(enrolled.node).await.unwrap());
    forbidden(control.hello(introduction(&stack, &enrolled, "alpha")).await);
    let again = control.remove_node(stack.operator(), "alpha").await.unwrap_err();
    assert_eq!(again.code(), "not_found");
    let second = token(&stack, JoinTokenRequest::default()).await;
    assert_eq!(enrol(control, &second, 2, "alpha").await.unwrap().range, enrolled.range);
}

#[tokio::test]
async fn a_removed_node_is_nobody() {
    let stack = Stack::start().await;
    let control = stack.control();
    let other = stack.replica().await;
    let made = token(&stack, JoinTokenRequest::default()).await;
    let enrolled = enrol(control, &made, 1, "alpha").await.unwrap();
    let hello = introduction(&stack, &enrolled, "alpha");
    control.hello(hello.clone()).await.unwrap();
    assert!(other.is_enrolled(enrolled.node).await.unwrap());
    assert!(control.is_enrolled(enrolled.node).await.unwrap());
    control.remove_node(stack.operator(), "alpha").await.unwrap();
    assert!(!control.is_enrolled(enrolled.node).await.unwrap(), "at once where it was removed");
    stack.let_pass(seconds(3)).await;
    assert!(!other.is_enrolled(enrolled.node).await.unwrap(), "within seconds elsewhere");
    for replica in [control, &other] {
        forbidden(replica.hello(hello.clone()).await);
        forbidden(enrol(replica, &made, 1, "alpha").await);
        assert_eq!(replica.desired(enrolled.node, None).await, Err(ControlError::UnknownNode));
    }
}

#[tokio::test]
async fn a_node_is_what_its_enrolment_says() {
    let stack = Stack::start().await;
    let control = stack.control();
    let made = token(&stack, JoinTokenRequest::default()).await;
    let enrolled = enrol(control, &made, 1, "alpha").await.unwrap();
    let mut greedy = introduction(&stack, &enrolled, "alpha");
    greedy.range = (Ipv4Addr::new(10, 128, 0, 0), 16);
    let refused = forbidden(control.hello(greedy).await);
    assert!(refused.contains("10.128.0.0/24"), "{refused}");
    let mut disguised = introduction(&stack, &enrolled, "node-0");
    disguised.name = "node-0".to_owned();
    control.hello(disguised).await.unwrap();
    assert_eq!(stack.store().node(enrolled.node).await.unwrap().unwrap().name, "alpha", "names are given once");
    let stranger = "0190f8a0-0000-7000-8000-000000000001".parse().unwrap();
    assert!(!control.is_enrolled(stranger).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_that_join_at_once_get_different_ranges() {
    let stack = Stack::start().await;
    let replicas = [stack.control().clone(), stack.replica().await];
    let mut joining = Vec::new();
    for number in 0..12_u8 {
        let (control, made) =
            (replicas[usize::from(number % 2)].clone(), token(&stack, JoinTokenRequest::default()).await);
        joining.push(tokio::spawn(async move {
            enrol(&control, &made, number, &format!("node-{number}")).await.unwrap().range
        }));
    }
    let mut ranges = std::collections::BTreeSet::new();
    for one in joining {
        ranges.insert(one.await.unwrap());
    }
    assert_eq!(ranges.len(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_used_by_two_at_once_makes_one_of_them_a_node() {
    let stack = Stack::start().await;
    let replicas = [stack.control().clone(), stack.replica().await];
    for round in 0..5_u8 {
        let made = token(&stack, JoinTokenRequest::default()).await;
        let racing = [0_u8, 1].map(|number| {
            let (control, made) = (replicas[usize::from(number)].clone(), made.clone());
            tokio::spawn(
                async move { enrol(&control, &made, 1 + number, &format!("node-{round}-{number}")).await.is_ok() },
            )
        });
        let mut enrolled = 0;
        for racer in racing {
            enrolled += u32::from(racer.await.unwrap());
        }
        assert_eq!(enrolled, 1);
    }
    assert_eq!(stack.store().enrolments().await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_secret_is_shown_once_and_stored_nowhere() {
    let stack = Stack::start().await;
    let made = stack.control().create_join_token(stack.operator(), JoinTokenRequest::default()).await.unwrap();
    let secret = made.token.rsplit('_').next().unwrap().to_owned();
    assert!(!format!("{made:?}").contains(&secret));
    let stored = stack.store().join_token(made.record.id).await.unwrap().unwrap();
    assert_eq!(stored, made.record);
    assert!(!format!("{stored:?}").contains(&secret));
    assert!(stored.expires_at > stack.clock().now());
    eventually("the ask is in the fleet's events", || async {
        let events = stack.control().fleet_events(stack.operator(), 0, 100).unwrap();
        events.iter().find(|event| event.message.contains(&made.record.id.to_string())).map(|event| {
            assert!(!event.message.contains(&secret));
        })
    })
    .await;
}
