use std::collections::BTreeMap;
use std::time::Duration;

use wherry_model::{Check, Fact, InstanceSpec, InstanceState, Probe, Seconds};
use wherry_testkit::{Stack, interrupted, sized, spec};

use crate::support::{delete, start, state, stop};

#[tokio::test]
async fn a_name_answers_while_its_instance_runs() {
    let stack = Stack::start().await;
    let (acme, agent, zone) = (stack.acme(), stack.agent(), stack.zone());
    let web = stack.create(acme, "web", spec()).await;
    let fqdn = &web.fqdn;
    let address = "10.200.0.9".parse().unwrap();
    agent.say(web.instance.id, web.instance.generation, Fact::SandboxReady { address });
    agent.report().await.unwrap();
    assert_eq!(zone.lookup(fqdn), None, "it has an address and does not run yet");
    agent.obey().await;
    let running = stack.read(acme, "web").await.instance;
    assert_eq!(zone.lookup(fqdn), running.address);

    agent.exit(running.id, 1, Some(agent.now().plus(Duration::from_secs(10))));
    agent.report().await.unwrap();
    assert_eq!(zone.lookup(fqdn), None, "it waits for its restart");
    agent.start_again(running.id);
    agent.report().await.unwrap();
    assert_eq!(zone.lookup(fqdn), running.address);

    stop(&stack, acme, "web").await.unwrap();
    assert_eq!(zone.lookup(fqdn), None, "who stops it does not want it asked");
    agent.obey().await;
    start(&stack, acme, "web").await.unwrap();
    assert_eq!(zone.lookup(fqdn), None);
    agent.obey().await;
    let again = stack.read(acme, "web").await.instance;
    assert_ne!(again.address, running.address);
    assert_eq!(zone.records(), BTreeMap::from([(fqdn.clone(), again.address.unwrap())]));
    delete(&stack, acme, "web").await.unwrap();
    assert_eq!(zone.records(), BTreeMap::new());
}

#[tokio::test]
async fn tenants_have_domains_of_their_own() {
    let stack = Stack::start().await;
    let ours = stack.create(stack.acme(), "web", spec()).await;
    let theirs = stack.create(stack.blue(), "web", spec()).await;
    stack.agent().obey().await;
    assert_ne!(ours.fqdn, theirs.fqdn);
    assert_eq!(stack.zone().records().len(), 2);
}

#[tokio::test]
async fn serials_grow_over_restarts_and_the_zone_is_the_same() {
    let mut stack = Stack::start().await;
    for number in 0..5 {
        stack.create(stack.acme(), &format!("web-{number}"), spec()).await;
    }
    stack.agent().obey().await;
    stop(&stack, stack.acme(), "web-3").await.unwrap();
    let before = stack.zone().records();
    assert_eq!(before.len(), 4);
    for _ in 0..3 {
        stack.reopen().await;
        assert_eq!(stack.zone().records(), before);
        stack.background().await;
    }
    let serials = stack.zone().serials();
    assert!(serials.windows(2).all(|pair| pair[0] < pair[1]), "{serials:?}");
}

#[tokio::test]
async fn a_start_publishes_the_zone_once() {
    let mut stack = Stack::start().await;
    for number in 0..5 {
        stack.create(stack.acme(), &format!("web-{number}"), spec()).await;
    }
    stack.agent().obey().await;
    let before = stack.zone().serials().len();
    stack.reopen().await;
    assert_eq!(stack.zone().serials().len(), before + 1, "a zone of n names is not copied n times");
}

#[tokio::test]
async fn a_deleted_name_does_not_come_back() {
    let mut stack = Stack::start().await;
    let web = stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    let id = web.instance.id;
    let late =
        stack.agent().say(id, web.instance.generation, Fact::SandboxReady { address: "10.200.0.7".parse().unwrap() });
    delete(&stack, stack.acme(), "web").await.unwrap();
    stack.agent().obey().await;
    assert_eq!(state(&stack, stack.acme(), &id.to_string()).await, InstanceState::Deleted);
    stack.agent().say(id, web.instance.generation, late.fact);
    stack.agent().report().await.unwrap();
    assert_eq!(stack.zone().records(), BTreeMap::new());
    stack.reopen().await;
    assert_eq!(stack.zone().records(), BTreeMap::new());
}

#[tokio::test]
async fn a_name_answers_while_it_is_ready_or_asks_to_be_answered_anyway() {
    let stack = Stack::start().await;
    let check = Check::Tcp { port: 80 };
    let (initial_delay, period, timeout) = (Seconds(0), Seconds(10), Seconds(1));
    let (success_threshold, failure_threshold) = (1, 3);
    let probe = Probe { check, initial_delay, period, timeout, success_threshold, failure_threshold };
    for (name, publish_unready) in [("web", false), ("eager", true)] {
        let mut spec = InstanceSpec { publish_unready, ..sized(10, 4) };
        spec.containers[0].probes.readiness = Some(probe.clone());
        let created = stack.create(stack.acme(), name, spec).await;
        stack.agent().obey().await;
        let answers = || stack.zone().lookup(&created.fqdn).is_some();
        assert_eq!(state(&stack, stack.acme(), name).await, InstanceState::Running);
        assert_eq!(answers(), publish_unready, "{name} has just started");
        let present = stack.read(stack.acme(), name).await.instance;
        let container = present.spec.containers[0].name.clone();
        for ready in [true, false, true] {
            let fact = Fact::Readiness { container: container.clone(), run: 1, ready, message: None };
            stack.agent().say(present.id, present.generation, fact);
            stack.agent().report().await.unwrap();
            assert_eq!(answers(), ready || publish_unready, "{name}, ready: {ready}");
        }
    }
}

#[tokio::test]
async fn a_name_goes_also_when_who_stopped_it_did_not_wait() {
    let stack = Stack::start().await;
    let (mut polls, mut cut_off) = (0, 0);
    loop {
        polls += 1 + polls / 8;
        let name = format!("web-{polls}");
        stack.create(stack.acme(), &name, sized(10, 4)).await;
        stack.agent().obey().await;
        let done = interrupted(polls, stop(&stack, stack.acme(), &name)).await;
        stack.quiet().await;
        let web = stack.read(stack.acme(), &name).await;
        let answers = stack.zone().lookup(&web.fqdn).is_some();
        assert_eq!(
            answers,
            web.instance.state == InstanceState::Running,
            "after {polls} polls: {}",
            web.instance.state
        );
        if done.is_some() {
            assert!(cut_off > 3);
            return;
        }
        cut_off += 1;
    }
}
