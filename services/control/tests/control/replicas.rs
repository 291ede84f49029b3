//! Two processes on one store are one service.

use std::collections::BTreeSet;
use std::sync::Arc;

use wherry_agent_api::ControlPlane;
use wherry_control::{Background, Control, Error, ReplicaRecord};
use wherry_model::{Clock, EventKind, Instance, InstanceSpec, InstanceState, ReplicaId, Timestamp};
use wherry_testkit::{Node, RecordingZone, Stack, eventually, sized, spec};

use crate::support::{asked, create, delete, seconds, start, state, stop};

/// Whether nobody holds the lease on background work.
async fn lease_is_free(stack: &Stack) -> bool {
    let probe = ReplicaId::generate(stack.clock().as_ref(), stack.entropy().as_ref());
    let got = stack.store().hold_lease("background", probe, stack.clock().now(), seconds(60)).await.unwrap();
    stack.store().release_leases(probe).await.unwrap();
    got
}

async fn leads(stack: &Stack, control: &Control) -> bool {
    Stack::background_of(control).await;
    let holder = stack.store().hold_lease("background", control.replica_id(), stack.clock().now(), seconds(5)).await;
    holder.unwrap()
}

#[tokio::test]
async fn the_work_of_a_replica_that_died_is_taken_over_within_the_lease_time() {
    let stack = Stack::start().await;
    let other = stack.replica().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    stack.background().await;
    Stack::background_of(&other).await;
    stack.let_pass(seconds(4)).await;
    Stack::background_of(&other).await;
    assert!(!leads(&stack, &other).await, "the lease of the first is not over");
    // The first says nothing any more, and neither does the node.
    stack.let_pass(seconds(2)).await;
    assert!(leads(&stack, &other).await);
    stack.let_pass(seconds(12)).await;
    Stack::background_of(&other).await;
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Unknown);
    // The first was only slow. It finds that it is not its work any more, and nothing is done twice.
    stack.background().await;
    assert!(!leads(&stack, stack.control()).await);
    let events = crate::events::of(&stack, stack.acme(), Some("web"), 0).await;
    assert_eq!(events.iter().filter(|stored| stored.event.kind == EventKind::Unknown).count(), 1);
}

#[tokio::test]
async fn who_leaves_in_order_leaves_the_work_at_once() {
    let stack = Stack::builder().configure(|config| config.agents_url = Some("https://a:1".to_owned())).start().await;
    let other = stack.replica_with(&Arc::default(), |config| config.agents_url = Some("https://b:1".to_owned())).await;
    stack.background().await;
    assert!(!lease_is_free(&stack).await);
    let endpoints = stack.agent().hello().await.unwrap().endpoints;
    assert_eq!(endpoints, ["https://a:1", "https://b:1"], "the one that answers comes first");
    other.close().await.unwrap();
    assert!(!lease_is_free(&stack).await, "it was not the other's");
    assert_eq!(stack.agent().hello().await.unwrap().endpoints, ["https://a:1"]);
    stack.control().close().await.unwrap();
    assert!(lease_is_free(&stack).await);
}

#[tokio::test]
async fn a_replica_that_died_is_not_named_to_agents() {
    let stack = Stack::builder().configure(|config| config.agents_url = Some("https://a:1".to_owned())).start().await;
    let other = stack.replica_with(&Arc::default(), |config| config.agents_url = Some("https://b:1".to_owned())).await;
    let welcome = other.hello(stack.agent().introduction().clone()).await.unwrap();
    assert_eq!(welcome.endpoints, ["https://b:1", "https://a:1"]);
    stack.let_pass(seconds(11)).await;
    Stack::background_of(&other).await;
    let welcome = other.hello(stack.agent().introduction().clone()).await.unwrap();
    assert_eq!(welcome.endpoints, ["https://b:1"]);
    assert_eq!(other.replicas(stack.operator()).await.unwrap().len(), 1);
}

/// While a replica of the release before is there, what it would drop or could not read is not taken: neither what is new in a spec,
/// nor an update in place, nor a restart. All else goes on, and so does this once it is gone.
#[tokio::test]
async fn beside_a_replica_of_the_release_before_nothing_is_taken_that_it_would_drop() {
    let stack = Stack::start().await;
    let (control, acme) = (stack.control(), stack.acme());
    stack.create(acme, "web", spec()).await;
    stack.agent().obey().await;
    let id = ReplicaId::generate(stack.clock().as_ref(), stack.entropy().as_ref());
    let form = ReplicaRecord::FIRST_FORM;
    let older = ReplicaRecord { id, agents_url: None, seen_at: stack.clock().now(), form };
    stack.store().note_replica(&older, Timestamp::default()).await.unwrap();
    stack.background().await;

    let lasting = InstanceSpec { ttl_seconds: Some(60), ..spec() };
    let refused = create(control, acme, asked(Some("new"), lasting.clone())).await.unwrap_err();
    assert_eq!(refused.code(), "upgrade_under_way", "{refused}");
    let labelled = |found: &Instance| {
        let mut spec = found.spec.clone();
        spec.labels.insert("a".to_owned(), "b".to_owned());
        Ok::<_, Error>(spec)
    };
    let update = async || control.update_instance(&acme.principal, &acme.project, "web", None, labelled).await;
    assert_eq!(update().await.unwrap_err().code(), "upgrade_under_way");
    let restart = async || control.restart_instance(&acme.principal, &acme.project, "web", false).await;
    assert_eq!(restart().await.unwrap_err().code(), "upgrade_under_way");
    stack.create(acme, "plain", spec()).await;
    stop(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;
    start(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;

    stack.store().forget_replica(id).await.unwrap();
    stack.background().await;
    create(control, acme, asked(Some("new"), lasting)).await.unwrap();
    update().await.unwrap();
    restart().await.unwrap();
}

#[tokio::test]
async fn silence_is_judged_once_whoever_is_heard_by_whom() {
    let stack = Stack::builder().nodes([Node::sized(300, 1_024), Node::sized(300, 1_024)]).start().await;
    let acme = stack.acme();
    for name in ["one", "two"] {
        stack.create(acme, name, spec()).await;
    }
    for agent in stack.agents() {
        agent.obey().await;
    }
    // Both replicas work at the same time, and the second node speaks to the other replica only.
    let other = stack.replica().await;
    let work = [Background::start(stack.control()), Background::start(&other)];
    let (far, silent) = (&stack.agents()[1], stack.agents()[0].node());
    eventually("the silent node is judged", || async {
        stack.let_pass(seconds(1)).await;
        far.heartbeat_to(&other).await.unwrap();
        stack.quiet().await;
        let mut unknown = 0;
        for name in ["one", "two"] {
            let instance = stack.read(acme, name).await.instance;
            assert!(instance.state == InstanceState::Running || instance.node == Some(silent), "{name}");
            unknown += u32::from(instance.state == InstanceState::Unknown);
        }
        (unknown == 1).then_some(())
    })
    .await;
    for background in work {
        background.stop().await;
    }
    let events = crate::events::of(&stack, acme, None, 0).await;
    assert_eq!(events.iter().filter(|stored| stored.event.kind == EventKind::Unknown).count(), 1);
}

#[tokio::test]
async fn a_replica_that_hears_the_node_resolves_the_doubt_of_another() {
    let stack = Stack::start().await;
    let other = stack.replica().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    stack.let_pass(seconds(16)).await;
    stack.background().await;
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Unknown);
    stack.agent().heartbeat_to(&other).await.unwrap();
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Running);
    create(&other, stack.acme(), asked(None, spec())).await.expect("the node takes new instances again");
}

#[tokio::test]
async fn a_replica_that_has_just_started_judges_nobody() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    stack.let_pass(seconds(600)).await;
    let fresh = stack.replica().await;
    for _ in 0..3 {
        Stack::background_of(&fresh).await;
        assert!(leads(&stack, &fresh).await);
        stack.let_pass(seconds(4)).await;
    }
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Running);
    stack.let_pass(seconds(4)).await;
    Stack::background_of(&fresh).await;
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Unknown);
}

/// Equals among machines are proposed by each replica from its own share, so that those that decide at the same time do not all
/// want the same one; who is left over has all of them.
#[tokio::test]
async fn replicas_that_live_prefer_machines_of_different_shares() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024); 24]).start().await;
    let others = [stack.replica().await, stack.replica().await, stack.replica().await];
    stack.background().await;
    for other in &others {
        Stack::background_of(other).await;
    }
    let place = async |control: &Control, name: &str| {
        let created = create(control, stack.acme(), asked(Some(name), sized(10, 16))).await.unwrap();
        created.view.instance.node.unwrap()
    };
    let mut nodes = BTreeSet::from([place(stack.control(), "web").await]);
    for (number, other) in others.iter().enumerate() {
        nodes.insert(place(other, &format!("web-{number}")).await);
        assert_eq!(other.proposal_counts().refused, 0);
    }
    assert_eq!(nodes.len(), 4, "none of them knew where the others place");
    for other in &others {
        other.close().await.unwrap();
    }
    stack.background().await;
    let next = place(stack.control(), "next").await;
    assert!(nodes.contains(&next), "an empty one is left for later");
}

#[tokio::test]
async fn every_replica_answers_the_names_of_what_any_of_them_wrote() {
    let stack = Stack::start().await;
    let zone = Arc::new(RecordingZone::default());
    let other = stack.replica_with(&zone, |_| {}).await;
    let background = Background::start(&other);
    let (acme, agent) = (stack.acme(), stack.agent());
    for round in 0..5 {
        let name = format!("web-{round}");
        stack.create(acme, &name, sized(10, 4)).await;
        agent.obey().await;
        let view = stack.read(acme, &name).await;
        eventually("the other answers it", || async {
            (zone.lookup(&view.fqdn) == view.instance.address).then_some(())
        })
        .await;
    }
    stop(&stack, acme, "web-0").await.unwrap();
    delete(&stack, acme, "web-1").await.unwrap();
    agent.obey().await;
    eventually("both answer the same", || async { (zone.records() == stack.zone().records()).then_some(()) }).await;
    assert_eq!(zone.records().len(), 3);
    let serials = zone.serials();
    assert!(serials.windows(2).all(|pair| pair[0] < pair[1]), "{serials:?}");
    background.stop().await;
}

#[tokio::test]
async fn what_is_written_between_the_reading_of_a_new_replica_is_not_missed() {
    // Written after the replica read the store and before its background work begins.
    let stack = Stack::start().await;
    let zone = Arc::new(RecordingZone::default());
    let other = stack.replica_with(&zone, |_| {}).await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    assert!(zone.records().is_empty());
    let background = Background::start(&other);
    eventually("it catches up", || async { (zone.records() == stack.zone().records()).then_some(()) }).await;
    background.stop().await;
}

#[tokio::test]
async fn news_reach_an_agent_at_whichever_replica_it_waits() {
    let stack = Stack::start().await;
    let other = stack.replica().await;
    let (node, have) = (stack.agent().node(), stack.agent().desired().await.unwrap().revision);
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { other.desired(node, Some(have)).await }
    });
    let web = stack.create(stack.acme(), "web", spec()).await.instance;
    let news = waiting.await.unwrap().unwrap().expect("a change is told");
    assert_eq!(news.instances.iter().map(|instance| instance.id).collect::<Vec<_>>(), [web.id]);
}

#[tokio::test]
async fn all_replicas_mean_the_same_by_the_end_of_a_lease() {
    let stack = Stack::start().await;
    let mut config = stack.control().config().clone();
    config.fence_after_seconds = 60;
    let publisher = Arc::new(RecordingZone::default());
    let (clock, entropy) = (Arc::clone(stack.clock()), Arc::clone(stack.entropy()));
    let refused = Control::open(stack.store(), clock, entropy, publisher, config).await.err().unwrap();
    assert_eq!(refused.field(), Some("fence_after_seconds"));
    assert!(refused.to_string().contains("300"), "{refused}");
}

#[tokio::test]
async fn all_replicas_answer_the_same_names() {
    let stack = Stack::start().await;
    for (region, zone) in [("elsewhere", "wherry.internal"), ("local", "other.internal")] {
        let mut config = stack.control().config().clone();
        (config.region, config.zone) = (region.to_owned(), zone.to_owned());
        let (own, publisher) = (config.apex(), Arc::new(RecordingZone::default()));
        let (clock, entropy) = (Arc::clone(stack.clock()), Arc::clone(stack.entropy()));
        let refused = Control::open(stack.store(), clock, entropy, publisher, config).await.err().unwrap();
        assert_eq!(refused.field(), Some("names"));
        let sentence = refused.to_string();
        assert!(sentence.contains("in local.wherry.internal,") && sentence.contains(&own), "{sentence}");
    }
}

#[tokio::test]
async fn two_placers_place_once() {
    let mut stack = Stack::builder().nodes([Node::sized(4_000, 4_096), Node::sized(4_000, 4_096)]).start().await;
    let names = crate::loss::displaced(&mut stack, 6).await;
    let other = stack.replica().await;
    // As if each believed that it holds the lease: the lease spares work, the rows decide.
    let (mine, theirs) = (stack.control().clone(), other.clone());
    let both = [mine, theirs].map(|control| {
        tokio::spawn(async move {
            for _ in 0..20 {
                control.close().await.unwrap();
                Stack::background_of(&control).await;
            }
        })
    });
    for one in both {
        one.await.unwrap();
    }
    for name in names {
        let instance = stack.read(stack.acme(), &name).await.instance;
        assert_eq!((instance.state, instance.generation.0), (InstanceState::Scheduled, 2), "{name}");
    }
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}
