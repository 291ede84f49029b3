use std::time::Duration;

use wherry_model::{Capacity, EndReason, EventKind, Generation, InstanceState, Intent, RestartPolicy};
use wherry_testkit::{Node, Stack, eventually, main_container, sized, spec};

use crate::support::{delete, start, state, stop, used};

#[tokio::test]
async fn the_usual_life() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    stack.create(acme, "web", spec()).await;
    stack.agent().obey().await;
    let running = stack.read(acme, "web").await;
    assert_eq!(running.instance.state, InstanceState::Running);
    assert_eq!(stack.zone().lookup(&running.fqdn), running.instance.address);

    stack.advance(Duration::from_secs(10));
    stack.agent().heartbeat().await.unwrap();
    assert_eq!(stack.read(acme, "web").await.cost.so_far.0, 10 * (250 * 10_000 + 64 * 1_000));

    let stopping = stop(&stack, acme, "web").await.unwrap();
    assert_eq!((stopping.instance.state, stopping.instance.intent), (InstanceState::Stopping, Intent::Stop));
    stack.agent().obey().await;
    let stopped = stack.read(acme, "web").await;
    assert_eq!(
        (stopped.instance.state, stopped.instance.reason),
        (InstanceState::Stopped, Some(EndReason::StoppedByUser))
    );
    assert_eq!(used(&stack, stack.agent().node()).await, Capacity::default());

    let again = start(&stack, acme, "web").await.unwrap();
    assert_eq!((again.instance.state, again.instance.generation), (InstanceState::Scheduled, Generation(2)));
    stack.agent().obey().await;
    let running = stack.read(acme, "web").await;
    assert_eq!(running.instance.state, InstanceState::Running);
    assert_eq!(running.fqdn, stopped.fqdn);
    let runs = &running.instance.container(&main_container()).unwrap().runs;
    assert_eq!(runs.iter().map(|run| run.number).collect::<Vec<_>>(), [1, 2]);

    delete(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;
    assert_eq!(state(&stack, acme, &running.instance.id.to_string()).await, InstanceState::Deleted);
    assert_eq!(used(&stack, stack.agent().node()).await, Capacity::default());
    assert!(stack.agent().desired().await.unwrap().instances.is_empty());
}

#[tokio::test]
async fn asking_again_changes_nothing() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    stack.create(acme, "web", spec()).await;
    stack.agent().obey().await;
    let before = stack.read(acme, "web").await;
    assert_eq!(start(&stack, acme, "web").await.unwrap(), before, "it runs already");

    let first = stop(&stack, acme, "web").await.unwrap();
    assert_eq!(stop(&stack, acme, "web").await.unwrap(), first);
    stack.agent().obey().await;
    let stopped = stack.read(acme, "web").await;
    assert_eq!(stop(&stack, acme, "web").await.unwrap(), stopped);

    let first = delete(&stack, acme, "web").await.unwrap();
    assert_eq!(delete(&stack, acme, "web").await.unwrap(), first);
    assert_eq!(stop(&stack, acme, "web").await.unwrap_err().code(), "not_found");
    assert_eq!(start(&stack, acme, "web").await.unwrap_err().code(), "not_found");
    stack.agent().obey().await;
    let id = first.instance.id.to_string();
    assert_eq!(delete(&stack, acme, &id).await.unwrap().instance.state, InstanceState::Deleted);
    assert_eq!(delete(&stack, acme, "web").await.unwrap_err().code(), "not_found");
}

#[tokio::test]
async fn start_waits_for_the_stop_that_is_under_way() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    stop(&stack, stack.acme(), "web").await.unwrap();
    let (control, acme) = (stack.control().clone(), stack.acme().clone());
    let starting = tokio::spawn(async move { control.start_instance(&acme.principal, &acme.project, "web").await });
    stack.agent().obey().await;
    let started = starting.await.unwrap().unwrap();
    assert_eq!((started.instance.state, started.instance.generation), (InstanceState::Scheduled, Generation(2)));
}

#[tokio::test]
async fn a_stop_that_does_not_end_makes_start_give_up() {
    let stack = Stack::builder().configure(|config| config.settle_wait = Duration::from_millis(30)).start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stop(&stack, stack.acme(), "web").await.unwrap();
    let busy = start(&stack, stack.acme(), "web").await.unwrap_err();
    assert_eq!(busy.code(), "instance_busy");
    assert_eq!(state(&stack, stack.acme(), "web").await, InstanceState::Stopping);
}

#[tokio::test]
async fn a_start_without_room_leaves_it_stopped() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024)]).start().await;
    let acme = stack.acme();
    stack.create(acme, "web", sized(600, 64)).await;
    stop(&stack, acme, "web").await.unwrap();
    stack.agent().obey().await;
    stack.create(acme, "other", sized(600, 64)).await;
    let full = start(&stack, acme, "web").await.unwrap_err();
    assert_eq!(full.code(), "capacity_unavailable");
    let web = stack.read(acme, "web").await.instance;
    assert_eq!((web.state, web.generation, web.holds_resources), (InstanceState::Stopped, Generation(1), false));
    delete(&stack, acme, "other").await.unwrap();
    stack.agent().obey().await;
    start(&stack, acme, "web").await.unwrap();
}

#[tokio::test]
async fn a_start_whose_proposal_is_refused_goes_elsewhere() {
    let stack = Stack::builder().nodes([Node::sized(1_000, 1_024), Node::sized(1_000, 1_024)]).start().await;
    let acme = stack.acme();
    let web = stack.create(acme, "web", sized(1_000, 1_024)).await;
    stop(&stack, acme, "web").await.unwrap();
    for agent in stack.agents() {
        agent.obey().await;
    }
    let behind = stack.replica().await;
    let other = stack.create(acme, "other", sized(1_000, 1_024)).await;
    assert_eq!(other.instance.node, web.instance.node);
    let started = behind.start_instance(&acme.principal, &acme.project, "web").await.unwrap();
    assert_ne!(started.instance.node, web.instance.node);
    for agent in stack.agents() {
        agent.obey().await;
    }
    assert_eq!(state(&stack, acme, "web").await, InstanceState::Running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_starts_start_once() {
    let stack = Stack::builder().nodes([Node::sized(4_000, 1_024), Node::sized(4_000, 1_024)]).start().await;
    let acme = stack.acme();
    stack.create(acme, "web", sized(600, 64)).await;
    stop(&stack, acme, "web").await.unwrap();
    for agent in stack.agents() {
        agent.obey().await;
    }
    let replicas = [stack.control().clone(), stack.replica().await];
    let racing: Vec<_> = (0..8)
        .map(|number| {
            let (control, acme) = (replicas[number % 2].clone(), acme.clone());
            tokio::spawn(async move { control.start_instance(&acme.principal, &acme.project, "web").await.unwrap() })
        })
        .collect();
    for racer in racing {
        assert_eq!(racer.await.unwrap().instance.generation, Generation(2));
    }
    let mut total = 0;
    for agent in stack.agents() {
        total += used(&stack, agent.node()).await.instances;
    }
    assert_eq!(total, 1);
    // The places that were proposed in vain are free again in the picture.
    for (name, cpu_millis) in [("second", 4_000), ("third", 3_400)] {
        stack.create(acme, name, sized(cpu_millis, 64)).await;
    }
}

#[tokio::test]
async fn an_end_by_itself_settles_and_gives_back() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    for (name, code, wanted) in [("good", 0, InstanceState::Succeeded), ("bad", 3, InstanceState::Failed)] {
        let mut spec = spec();
        spec.restart_policy = RestartPolicy::Never;
        let made = stack.create(acme, name, spec).await;
        stack.agent().obey().await;
        stack.agent().exit(made.instance.id, code, None);
        stack.agent().obey().await;
        let ended = stack.read(acme, name).await.instance;
        assert_eq!((ended.state, ended.reason), (wanted, Some(EndReason::Exited)));
        assert!(!ended.holds_resources && ended.address.is_none());
        let run = ended.containers[0].latest_run().unwrap().end.clone().unwrap();
        assert_eq!(run.exit_code, code);
        start(&stack, acme, name).await.unwrap();
        stack.agent().obey().await;
        assert_eq!(state(&stack, acme, name).await, InstanceState::Running);
    }
}

#[tokio::test]
async fn nothing_of_a_life_is_lost_in_a_restart() {
    let mut stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    let agent = stack.agent().clone();
    let _obedience = agent.keep_obeying();
    stack.reopen().await;
    eventually("the instance runs", || async {
        (state(&stack, stack.acme(), "web").await == InstanceState::Running).then_some(())
    })
    .await;
    stop(&stack, stack.acme(), "web").await.unwrap();
    stack.reopen().await;
    eventually("the instance is stopped", || async {
        (state(&stack, stack.acme(), "web").await == InstanceState::Stopped).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_asked_stands_in_the_events() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    stack.create(acme, "web", spec()).await;
    stop(&stack, acme, "web").await.unwrap();
    let events = crate::events::of(&stack, acme, Some("web"), 0).await;
    for event in events.iter().map(|stored| &stored.event) {
        assert_eq!(event.actor, Some(acme.principal.subject.to_string()), "{:?}", event.kind);
    }
    let kinds: Vec<EventKind> = events.iter().map(|stored| stored.event.kind).collect();
    assert_eq!(kinds, [EventKind::Created, EventKind::StopRequested]);
}

#[tokio::test]
async fn waits_for_a_stop_are_few_and_the_rest_is_told_at_once() {
    // Long enough that none of them gives up by itself.
    let stack = Stack::builder().configure(|config| config.settle_wait = Duration::from_mins(10)).start().await;
    let acme = stack.acme();
    let mut starting = Vec::new();
    for number in 0..7 {
        let name = format!("web-{number}");
        stack.create(acme, &name, sized(10, 4)).await;
        stop(&stack, acme, &name).await.unwrap();
        let (control, acme) = (stack.control().clone(), acme.clone());
        starting.push(tokio::spawn(async move { control.start_instance(&acme.principal, &acme.project, &name).await }));
    }
    eventually("three of seven are told", || async {
        (starting.iter().filter(|one| one.is_finished()).count() == 3).then_some(())
    })
    .await;
    stack.create(stack.blue(), "web", sized(10, 4)).await;
    stop(&stack, stack.blue(), "web").await.unwrap();
    let (control, blue) = (stack.control().clone(), stack.blue().clone());
    let theirs = tokio::spawn(async move { control.start_instance(&blue.principal, &blue.project, "web").await });
    stack.agent().obey().await;
    let (mut started, mut busy) = (0, 0);
    for one in starting {
        match one.await.unwrap() {
            Ok(_) => started += 1,
            Err(error) => busy += u32::from(error.code() == "instance_busy"),
        }
    }
    assert_eq!((started, busy), (4, 3));
    theirs.await.unwrap().expect("another tenant's waits are its own");
}
