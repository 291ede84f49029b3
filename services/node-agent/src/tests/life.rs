//! Lives without disturbance.

use std::time::Duration;

use wherry_model::lifecycle::{Ask, MeterEdge};
use wherry_model::{EndReason, Fact, InstanceState as S, RestartPolicy};
use wherry_runtime::fake::FakeImage;
use wherry_runtime::{Labels, RuntimeError};

use super::world::{IMAGE, World};
use crate::Phase;

#[tokio::test(start_paused = true)]
async fn from_create_to_delete() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("echo hello; serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    let instance = world.instance(id);
    assert!(world.elapsed() < Duration::from_millis(200), "nothing waits: {:?}", world.elapsed());
    assert!(instance.containers[0].image_digest.is_some());
    let rules = world.firewall.in_force().unwrap();
    assert_eq!(Some(rules.instances[0].1.address), instance.address);
    assert_eq!(rules.instances[0].1.ports.len(), 1);
    let kinds: Vec<_> = world.control.facts(id).iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 4, "pull started, pulled, sandbox ready, container started");
    assert_eq!(agent.status().borrow().count(Phase::Running), 1);

    world.until("a heartbeat", |w| w.control.heartbeats().last().is_some_and(|beat| beat.running.len() == 1)).await;

    world.control.ask(id, Ask::Stop);
    world.until_state(id, S::Stopped).await;
    let exit = world.instance(id).containers[0].latest_run().unwrap().end.clone().unwrap();
    assert_eq!((exit.exit_code, exit.signal, exit.reason), (143, Some(15), EndReason::StoppedByUser));
    assert!(!world.instance(id).holds_resources);
    assert_eq!(world.firewall.in_force().unwrap().instances, []);
    assert!(world.config().logs_of(id).join("main.1.log").exists(), "logs are kept");

    world.control.ask(id, Ask::Start(world.config().machine.node));
    world.until_state(id, S::Running).await;
    assert_eq!(world.instance(id).containers[0].latest_run().unwrap().number, 2);
    assert_eq!(world.runtime.calls("PullImage"), 1, "the digest is pinned and the image is here");

    world.control.ask(id, Ask::Delete);
    world.until_state(id, S::Deleted).await;
    world.until("no trace", |w| agent.status().borrow().instances.is_empty() && !w.config().logs_of(id).exists()).await;
    world.assert_clean().await;
    let edges = world.control.edges(id);
    assert_eq!(edges.iter().filter(|edge| matches!(edge, MeterEdge::Open { .. })).count() * 2, edges.len());
    agent.shut_down(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn restarts_wait_exactly_as_long_as_they_should() {
    let world = World::new();
    let _agent = world.agent().await;
    let id = world.create("sleep 2; exit 3", RestartPolicy::OnFailure);
    world.until_run(id, 8).await;
    let facts = world.control.facts(id);
    let exits = facts.iter().filter_map(|fact| match fact {
        Fact::ContainerExited { exit, restart_at, .. } => Some((exit.finished_at, restart_at.unwrap())),
        _ => None,
    });
    let starts = facts.iter().filter_map(|fact| match fact {
        Fact::ContainerStarted { started_at, .. } => Some(*started_at),
        _ => None,
    });
    let expected = [1_u64, 2, 4, 8, 16, 32, 60];
    let mut seen = 0;
    for (((finished, planned), started), seconds) in exits.zip(starts.skip(1)).zip(expected) {
        let wait = Duration::from_secs(seconds);
        assert!(planned.since(finished) >= wait && planned.since(finished) < wait + Duration::from_millis(50));
        assert!(
            started >= planned && started.since(planned) < Duration::from_millis(50),
            "{:?}",
            started.since(planned)
        );
        seen += 1;
    }
    assert_eq!(seen, 7);
    let status = &world.instance(id).containers[0];
    assert_eq!(status.restart_count, 7);
    assert_eq!(world.containers().await.len(), 1, "old containers are gone");
    let logs = std::fs::read_dir(world.config().logs_of(id)).unwrap().count();
    assert!(logs <= 3, "{logs} logs are kept");
}

#[tokio::test(start_paused = true)]
async fn a_long_run_ends_the_back_off() {
    let world = World::new();
    let _agent = world.agent().await;
    let cases = [("sleep 600; exit 3", [1, 1, 1]), ("sleep 590; exit 3", [1, 2, 4])];
    let cases = cases.map(|(program, waits)| (world.create(program, RestartPolicy::OnFailure), waits));
    tokio::time::sleep(Duration::from_mins(45)).await;
    for (id, expected) in cases {
        let facts = world.control.facts(id);
        let waits = facts.iter().filter_map(|fact| match fact {
            Fact::ContainerExited { exit, restart_at, .. } => {
                Some(restart_at.unwrap().since(exit.finished_at).as_secs())
            }
            _ => None,
        });
        assert_eq!(waits.take(3).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn policies_end_what_they_should() {
    for (program, policy, state, code) in [
        ("exit 0", RestartPolicy::OnFailure, S::Succeeded, 0),
        ("exit 4", RestartPolicy::Never, S::Failed, 4),
        ("sleep 1", RestartPolicy::Never, S::Succeeded, 0),
    ] {
        let world = World::new();
        let _agent = world.agent().await;
        let id = world.create(program, policy);
        world.until_state(id, state).await;
        world.until("resources are back", |w| !w.instance(id).holds_resources).await;
        let instance = world.instance(id);
        assert_eq!(instance.containers[0].latest_run().unwrap().end.as_ref().unwrap().exit_code, code);
        assert!(world.containers().await.is_empty());
        assert!(world.config().logs_of(id).exists(), "logs are kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ignores_the_signal_is_killed_after_its_grace() {
    let world = World::new();
    let _agent = world.agent().await;
    let id = world.create("trap '' TERM; serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    let before = world.elapsed();
    world.control.ask(id, Ask::Delete);
    world.until_state(id, S::Deleted).await;
    let took = world.elapsed().saturating_sub(before);
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(11), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn out_of_memory_is_said_with_the_limit() {
    let world = World::new();
    let _agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::OnFailure);
    world.until_state(id, S::Running).await;
    assert!(world.runtime.kill_out_of_memory(&world.running().await[0]));
    world.until_run(id, 2).await;
    let end = world.instance(id).containers[0].runs[0].end.clone().unwrap();
    assert_eq!((end.reason, end.exit_code), (EndReason::OomKilled, 137));
    assert!(end.message.unwrap().contains("64 MiB"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_start_fails_at_once_and_names_no_path_of_the_machine() {
    let world = World::new();
    let refused = Labels::from([("containerd.io/restart.status".to_owned(), "running".to_owned())]);
    world.runtime.publish("r.example/evil:1", FakeImage { labels: refused, ..FakeImage::default() });
    let _agent = world.agent().await;
    for (image, program, reason) in [
        (IMAGE, "/no/such/program", EndReason::StartFailed),
        ("r.example/missing:1", "serve", EndReason::ImagePullFailed),
        ("r.example/evil:1", "serve", EndReason::ImageRefused),
    ] {
        let id = world.create_from(image, program, RestartPolicy::Always);
        world.until_state(id, S::Failed).await;
        world.until("resources are back", |w| !w.instance(id).holds_resources).await;
        let instance = world.instance(id);
        assert_eq!(instance.reason, Some(reason), "{instance:?}");
        assert!(!instance.message.unwrap().contains(&world.folder.path().display().to_string()));
        world.control.ask(id, Ask::Delete);
        world.until_state(id, S::Deleted).await;
    }
    world.until("no trace", |w| std::fs::read_dir(w.config().logs_folder()).unwrap().count() == 0).await;
    world.assert_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_comes_back_is_waited_for_and_one_that_does_not_is_given_up() {
    let world = World::new();
    let unavailable = || RuntimeError::RegistryUnavailable { reference: IMAGE.into(), message: "refused".into() };
    let flaky = FakeImage { pull_failures: vec![unavailable(), unavailable()], ..FakeImage::default() };
    world.runtime.publish("r.example/flaky:1", flaky);
    let dead = FakeImage { pull_failures: vec![unavailable(); 50], ..FakeImage::default() };
    world.runtime.publish("r.example/dead:1", dead);
    let _agent = world.agent().await;
    let id = world.create_from("r.example/flaky:1", "serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    let retries = world.control.facts(id).iter().filter(|fact| matches!(fact, Fact::PullRetrying { .. })).count();
    assert_eq!(retries, 2);
    assert!(world.elapsed() >= Duration::from_secs(3) && world.elapsed() < Duration::from_secs(4));
    let dead = world.create_from("r.example/dead:1", "serve", RestartPolicy::Always);
    world.until_state(dead, S::Failed).await;
    assert_eq!(world.instance(dead).reason, Some(EndReason::ImagePullFailed));
    assert!(world.elapsed() > Duration::from_mins(3) && world.elapsed() < Duration::from_secs(260));
}

#[tokio::test(start_paused = true)]
async fn a_slow_pull_shows_progress_and_is_left_when_it_is_not_wanted() {
    let world = World::new();
    let slow = FakeImage { size_bytes: 1_000, pull_delay: Duration::from_mins(5), ..FakeImage::default() };
    world.runtime.publish("r.example/slow:1", slow);
    let _agent = world.agent().await;
    let id = world.create_from("r.example/slow:1", "serve", RestartPolicy::Always);
    world.until_state(id, S::Pulling).await;
    world
        .until("progress", |w| {
            let beats = w.control.heartbeats();
            beats.last().is_some_and(|beat| beat.pulls.first().is_some_and(|pull| pull.done_bytes > 50))
        })
        .await;
    let before = world.elapsed();
    world.control.ask(id, Ask::Delete);
    world.until_state(id, S::Deleted).await;
    assert!(world.elapsed().saturating_sub(before) < Duration::from_secs(1));
    world.until("no pull", |w| w.control.heartbeats().last().is_some_and(|beat| beat.pulls.is_empty())).await;
}

#[tokio::test(start_paused = true)]
async fn registries_that_trickle_hold_up_their_own_tenant_only() {
    let world = World::new();
    let _agent = world.agent().await;
    let slow = "r.example/slow:1";
    let trickle = FakeImage { size_bytes: 1, pull_delay: Duration::from_mins(9), ..FakeImage::default() };
    for number in 0..8 {
        let image = format!("{slow}-{number}");
        world.runtime.publish(&image, trickle.clone());
        if number % 2 == 0 {
            world.runtime.preload(&image, trickle.clone());
        }
        world.create_from(&image, "serve", RestartPolicy::Always);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let begun = world.elapsed();
    let cached = world.create_for("cc", IMAGE, "serve", RestartPolicy::Always);
    world.until_state(cached, S::Running).await;
    assert!(world.elapsed().saturating_sub(begun) < Duration::from_secs(1), "{:?}", world.elapsed());
}
