use std::net::Ipv4Addr;
use std::time::Duration;

use wherry_agent_api::{ControlError, ControlPlane, NodeHello, PullProgress, Report};
use wherry_model::{
    Architecture, BootId, Capacity, Clock, ContainerExit, EndReason, Fact, Generation, InstanceState, JournalId,
    NodeId, Observation,
};
use wherry_testkit::{Node, Stack, digest, main_container, spec};

use crate::support::{delete, start, state, stop};

fn started(stack: &Stack, run: u32) -> Fact {
    Fact::ContainerStarted { container: main_container(), run, started_at: stack.agent().now() }
}

fn exited(stack: &Stack, run: u32) -> Fact {
    let now = stack.agent().now();
    let exit = ContainerExit { finished_at: now, exit_code: 0, signal: None, reason: EndReason::Exited, message: None };
    Fact::ContainerExited { container: main_container(), run, started_at: now, exit, restart_at: None }
}

#[tokio::test]
async fn a_batch_that_comes_again_changes_nothing() {
    let stack = Stack::start().await;
    let (acme, agent) = (stack.acme(), stack.agent());
    let web = stack.create(acme, "web", spec()).await.instance;
    let first = agent.say(web.id, web.generation, started(&stack, 1));
    assert_eq!(agent.deliver(vec![first.clone()]).await.unwrap().through, 1);
    let after = stack.read(acme, "web").await;
    stack.advance(Duration::from_secs(5));
    for _ in 0..3 {
        assert_eq!(agent.deliver(vec![first.clone()]).await.unwrap().through, 1);
        assert_eq!(stack.read(acme, "web").await, after);
    }
    // Overlapping: the first is known, the others are new.
    let second = agent.say(web.id, web.generation, exited(&stack, 1));
    let third = agent.say(web.id, web.generation, Fact::SandboxStopped);
    assert_eq!(agent.deliver(vec![first.clone(), second.clone()]).await.unwrap().through, 2);
    assert_eq!(agent.deliver(vec![first, second, third]).await.unwrap().through, 3);
    let ended = stack.read(acme, "web").await.instance;
    assert_eq!(
        (ended.state, ended.holds_resources, ended.containers[0].runs.len()),
        (InstanceState::Succeeded, false, 1)
    );
    assert_eq!(agent.deliver(Vec::new()).await.unwrap().through, 3);
}

#[tokio::test]
async fn a_lost_answer_and_a_crash_do_not_double_anything() {
    let mut stack = Stack::start().await;
    let web = stack.create(stack.acme(), "web", spec()).await.instance;
    stack.line().lose_answers(1);
    assert!(stack.agent().try_obey().await.is_err());
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Running, "it arrived all the same");
    let events = crate::events::of(&stack, stack.acme(), Some("web"), 0).await;
    stack.reopen().await;
    stack.greet().await;
    assert!(!stack.agent().unacknowledged(10).is_empty());
    stack.agent().report().await.unwrap();
    assert!(stack.agent().unacknowledged(10).is_empty());
    assert_eq!(crate::events::of(&stack, stack.acme(), Some("web"), 0).await, events);
    assert_eq!(stack.read(stack.acme(), "web").await.instance.containers[0].runs.len(), 1);
    assert!(stack.agent().runs(web.id));
}

#[tokio::test]
async fn facts_of_an_older_generation_lose() {
    let stack = Stack::start().await;
    let (acme, agent) = (stack.acme(), stack.agent());
    let web = stack.create(acme, "web", spec()).await.instance;
    agent.obey().await;
    stop(&stack, acme, "web").await.unwrap();
    agent.obey().await;
    start(&stack, acme, "web").await.unwrap();
    let before = stack.read(acme, "web").await;
    for fact in [started(&stack, 2), exited(&stack, 1), Fact::SandboxStopped, Fact::Removed] {
        agent.say(web.id, Generation(1), fact);
    }
    agent.say(web.id, Generation(9), started(&stack, 2));
    agent.report().await.unwrap();
    assert_eq!(stack.read(acme, "web").await, before);
    assert!(agent.unacknowledged(1).is_empty(), "what is ignored is acknowledged all the same");
}

#[tokio::test]
async fn a_node_speaks_of_its_own_instances_only() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024), Node::sized(1_000, 1_024)]).start().await;
    let web = stack.create(stack.acme(), "web", spec()).await.instance;
    let stranger = stack.agents().iter().find(|agent| Some(agent.node()) != web.node).unwrap();
    for fact in
        [started(&stack, 1), exited(&stack, 1), Fact::Failed { reason: EndReason::StartFailed, message: "x".into() }]
    {
        stranger.say(web.id, web.generation, fact);
    }
    let unknown = "0190f8a0-0000-7000-8000-000000000001".parse().unwrap();
    stranger.say(unknown, Generation(1), started(&stack, 1));
    stranger.report().await.unwrap();
    assert_eq!(stack.read(stack.acme(), "web").await.instance, web);
    assert!(stranger.desired().await.unwrap().instances.is_empty());
}

#[tokio::test]
async fn a_new_journal_begins_at_its_own_first_number() {
    let stack = Stack::start().await;
    let (acme, agent) = (stack.acme(), stack.agent());
    let web = stack.create(acme, "web", spec()).await.instance;
    agent.say(web.id, web.generation, Fact::PullStarted { container: main_container() });
    agent.report().await.unwrap();
    agent.lose_journal();
    let first = agent.say(web.id, web.generation, started(&stack, 1));
    assert_eq!(first.seq, 1);
    agent.report().await.unwrap();
    assert_eq!(state(&stack, acme, "web").await, InstanceState::Running);
}

#[tokio::test]
async fn what_breaks_the_contract_is_refused_whole() {
    let stack = Stack::start().await;
    let agent = stack.agent();
    let web = stack.create(stack.acme(), "web", spec()).await.instance;
    let one = agent.say(web.id, web.generation, Fact::PullStarted { container: main_container() });
    let two = agent.say(web.id, web.generation, started(&stack, 1));
    for wrong in [vec![two.clone(), one.clone()], vec![one.clone(), one.clone()], vec![one.clone(); 257]] {
        assert!(matches!(agent.deliver(wrong).await, Err(ControlError::Refused(_))));
        assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Scheduled);
    }
    agent.deliver(vec![one, two]).await.unwrap();
}

#[tokio::test]
async fn a_node_that_never_said_hello_is_told_so() {
    let stack = Stack::start().await;
    let web = stack.create(stack.acme(), "web", spec()).await.instance;
    let entropy = stack.entropy().as_ref();
    let node = NodeId::generate(stack.clock().as_ref(), entropy);
    let journal = JournalId::generate(stack.clock().as_ref(), entropy);
    let fact = Observation {
        seq: 1,
        instance: web.id,
        generation: web.generation,
        revision: 0,
        at: stack.agent().now(),
        fact: started(&stack, 1),
    };
    let control = stack.control();
    let report = Report { node, journal, observations: vec![fact] };
    assert_eq!(control.report(report).await, Err(ControlError::UnknownNode));
    assert_eq!(control.desired(node, None).await, Err(ControlError::UnknownNode));
}

#[tokio::test]
async fn an_address_of_another_range_is_not_taken_also_where_the_node_was_not_seen_yet() {
    let stack = Stack::builder().nodes([]).start().await;
    let unaware = stack.replica().await;
    let (clock, entropy) = (stack.clock().as_ref(), stack.entropy().as_ref());
    let (node, journal) = (NodeId::generate(clock, entropy), JournalId::generate(clock, entropy));
    let hello = NodeHello {
        node,
        name: "late".to_owned(),
        architecture: Architecture::Amd64,
        capacity: Capacity { cpu_millis: 1_000, memory_mib: 1_024, instances: 10 },
        range: (Ipv4Addr::new(10, 200, 7, 0), 24),
        boot: BootId::generate(clock, entropy),
        journal,
        desired_revision: None,
        underlay: None,
        isolation: wherry_model::IsolationSet::default(),
        zone: None,
        disk_mib: None,
        gpus: wherry_model::GpuOffer::default(),
        images: Vec::new(),
        protocol: wherry_agent_api::PROTOCOL,
    };
    stack.control().hello(hello).await.unwrap();
    let web = stack.create(stack.acme(), "web", spec()).await.instance;
    assert_eq!(web.node, Some(node));
    let own = Ipv4Addr::new(10, 200, 7, 9);
    for (seq, address, taken) in [(1, Ipv4Addr::new(10, 200, 0, 9), None), (2, own, Some(own))] {
        let fact = Fact::SandboxReady { address };
        let at = stack.clock().now();
        let said = Observation { seq, instance: web.id, generation: web.generation, revision: 0, at, fact };
        let ack = unaware.report(Report { node, journal, observations: vec![said] }).await.unwrap();
        assert_eq!(ack.through, seq);
        assert_eq!(stack.read(stack.acme(), "web").await.instance.address, taken);
    }
}

#[tokio::test]
async fn desired_state_comes_at_once_when_it_is_newer() {
    let stack = Stack::start().await;
    let agent = stack.agent();
    let empty = agent.desired().await.unwrap();
    let control = stack.control().clone();
    let node = agent.node();
    let waiting = tokio::spawn(async move { control.desired(node, Some(empty.revision)).await });
    let web = stack.create(stack.acme(), "web", spec()).await.instance;
    let news = waiting.await.unwrap().unwrap().expect("a change is told");
    assert!(news.revision > empty.revision);
    assert_eq!(news.instances.iter().map(|instance| instance.id).collect::<Vec<_>>(), [web.id]);
    assert_eq!(news.instances[0].containers[0].digest, None);
    agent.obey().await;
    assert_eq!(agent.desired().await.unwrap().instances[0].containers[0].digest, Some(digest()));
}

#[tokio::test]
async fn progress_is_shown_while_an_image_is_pulled_and_not_longer() {
    let stack = Stack::start().await;
    let (acme, agent) = (stack.acme(), stack.agent());
    let web = stack.create(acme, "web", spec()).await.instance;
    agent.say(web.id, web.generation, Fact::PullStarted { container: main_container() });
    agent.report().await.unwrap();
    let pulls = |done_bytes| {
        vec![PullProgress { instance: web.id, done_bytes, total_bytes: 100, done_layers: 1, total_layers: 3 }]
    };
    for done in [10, 60] {
        agent.heartbeat_with(Vec::new(), pulls(done)).await.unwrap();
        assert_eq!(
            stack.read(acme, "web").await.progress.map(|progress| (progress.done_bytes, progress.total_layers)),
            Some((done, 3))
        );
    }
    agent.say(web.id, web.generation, Fact::Pulled { container: main_container(), digest: digest(), cached: false });
    agent.say(web.id, web.generation, started(&stack, 1));
    agent.report().await.unwrap();
    assert_eq!(stack.read(acme, "web").await.progress, None);
    // A heartbeat that was composed before the pull had ended.
    agent.heartbeat_with(Vec::new(), pulls(90)).await.unwrap();
    assert_eq!(stack.read(acme, "web").await.progress, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_and_asks_that_race_are_both_done() {
    let stack = Stack::start().await;
    let (acme, agent) = (stack.acme(), stack.agent());
    for round in 0..20 {
        let name = format!("web-{round}");
        let web = stack.create(acme, &name, spec()).await.instance;
        agent.say(web.id, web.generation, Fact::PullStarted { container: main_container() });
        agent.say(web.id, web.generation, started(&stack, 1));
        let reporter = agent.clone();
        let reporting = tokio::spawn(async move { reporter.report().await.unwrap() });
        let stopping = stop(&stack, acme, &name).await.unwrap();
        assert_eq!(stopping.instance.state, InstanceState::Stopping);
        reporting.await.unwrap();
        let both = stack.read(acme, &name).await.instance;
        assert_eq!((both.state, both.containers[0].runs.len()), (InstanceState::Stopping, 1), "{name}");
        delete(&stack, acme, &name).await.unwrap();
        agent.say(web.id, web.generation, Fact::Removed);
        agent.report().await.unwrap();
    }
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
}
