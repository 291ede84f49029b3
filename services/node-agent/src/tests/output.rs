//! The output of containers, through the agent.

use std::time::Duration;

use futures_util::StreamExt as _;
use wherry_agent_api::{LogQuery, NodeError, NodeServices as _};
use wherry_model::lifecycle::Ask;
use wherry_model::{InstanceId, InstanceState as S, RestartPolicy, Timestamp};

use super::world::{World, container};
use crate::{Agent, LogLimits};

fn query(instance: InstanceId, follow: bool) -> LogQuery {
    LogQuery { instance, container: container(), run: None, tail: None, follow, timestamps: false, since: None }
}

async fn read(agent: &Agent, query: LogQuery) -> String {
    let chunks: Vec<_> = agent.logs(query).await.unwrap().collect().await;
    let bytes: Vec<u8> = chunks.into_iter().flat_map(Result::unwrap).collect();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn runs_tails_and_times() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("echo one; echo two; echo three; sleep 1; exit 1", RestartPolicy::Always);
    world.until_run(id, 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(read(&agent, query(id, false)).await, "one\ntwo\nthree\n");
    assert_eq!(read(&agent, LogQuery { tail: Some(2), ..query(id, false) }).await, "two\nthree\n");
    let timed = read(&agent, LogQuery { tail: Some(1), timestamps: true, run: Some(1), ..query(id, false) }).await;
    assert!(timed.starts_with("2023-11-14T22:13:20.") && timed.ends_with("Z three\n"), "{timed}");
    let none = agent.logs(LogQuery { run: Some(77), ..query(id, false) }).await;
    assert!(matches!(none, Err(NodeError::NotFound(_))));
    let other = agent.logs(query("ee".repeat(16).parse().unwrap(), false)).await;
    assert!(matches!(other, Err(NodeError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn following_goes_through_restarts_until_the_instance_is_settled() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("echo begin; sleep 2; echo end; exit 1", RestartPolicy::Always);
    let following = agent.logs(query(id, true)).await.unwrap();
    let reading = tokio::spawn(following.map(Result::unwrap).concat());
    let first_only = agent.logs(LogQuery { run: Some(1), ..query(id, true) }).await.unwrap();
    let first = String::from_utf8(first_only.map(Result::unwrap).concat().await).unwrap();
    assert_eq!(first, "begin\nend\n");
    world.until_run(id, 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.control.ask(id, Ask::Stop);
    world.until_state(id, S::Stopped).await;
    let all = String::from_utf8(reading.await.unwrap()).unwrap();
    assert_eq!(all, "begin\nend\nbegin\nend\nbegin\n");
    assert_eq!(read(&agent, query(id, true)).await, "begin\n", "what is settled is read to its end");
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_bounded_and_a_follower_loses_nothing_of_it() {
    let world = World::new();
    let mut config = world.config();
    config.logs = LogLimits { file_bytes: 4_000, container_bytes: 16_000, ..LogLimits::default() };
    let agent = world.agent_with(config).await;
    let program: Vec<String> = (0..200).map(|line| format!("echo {line:0>100}; echo {line}; sleep 1")).collect();
    let id = world.create(&program.join(";"), RestartPolicy::Never);
    world.until_state(id, S::Running).await;
    let following = agent.logs(query(id, true)).await.unwrap();
    let text = String::from_utf8(following.map(Result::unwrap).concat().await).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 400);
    assert!((0..200).all(|line| lines[line * 2 + 1] == line.to_string()));
    let sizes: Vec<u64> = std::fs::read_dir(world.config().logs_of(id))
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_name().to_string_lossy().contains(".log"))
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    assert!(sizes.iter().all(|size| *size < 5_000) && sizes.iter().sum::<u64>() < 21_000, "{sizes:?}");
    let late = read(&agent, query(id, false)).await;
    assert!(late.starts_with("[wherry] ") && late.ends_with("\n199\n"), "{late}");
}

#[tokio::test(start_paused = true)]
async fn a_time_begins_in_the_run_that_it_was_in() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("echo one; sleep 60; echo two; exit 1", RestartPolicy::Always);
    world.until_run(id, 3).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let since =
        |seconds: i64| LogQuery { since: Some(Timestamp::from_seconds(1_700_000_000 + seconds)), ..query(id, false) };
    assert_eq!(read(&agent, since(0)).await, "one\ntwo\none\ntwo\none\n");
    assert_eq!(read(&agent, since(30)).await, "two\none\ntwo\none\n");
    assert_eq!(read(&agent, since(90)).await, "two\none\n");
    assert_eq!(read(&agent, LogQuery { run: Some(2), ..since(30) }).await, "one\ntwo\n");
    assert_eq!(read(&agent, LogQuery { tail: Some(5), ..since(30) }).await, "one\n");
    assert_eq!(read(&agent, since(90_000)).await, "");
}

#[tokio::test(start_paused = true)]
async fn what_was_printed_is_kept_for_a_time_after_its_instance_is_deleted() {
    let world = World::new();
    let mut config = world.config();
    config.logs = LogLimits { keep_deleted: Duration::from_mins(1), ..LogLimits::default() };
    let agent = world.agent_with(config.clone()).await;
    let id = world.create("echo one; sleep 2; echo two; exit 1", RestartPolicy::Always);
    world.until_run(id, 2).await;
    let followed = agent.logs(LogQuery { run: Some(1), ..query(id, true) }).await.unwrap();
    let mut begun = agent.logs(LogQuery { run: Some(1), ..query(id, true) }).await.unwrap();
    assert_eq!(begun.next().await.unwrap().unwrap(), b"one\ntwo\n");
    world.control.ask(id, Ask::Delete);
    world.until("it is gone", |_| !agent.status().borrow().instances.contains_key(&id)).await;
    assert!(!world.config().logs_of(id).exists());
    assert_eq!(String::from_utf8(followed.map(Result::unwrap).concat().await).unwrap(), "one\ntwo\n");
    assert!(begun.next().await.is_none());
    assert_eq!(read(&agent, LogQuery { run: Some(1), ..query(id, true) }).await, "one\ntwo\n");
    agent.shut_down(Duration::from_secs(5)).await;
    let agent = world.agent_with(config).await;
    assert_eq!(read(&agent, LogQuery { run: Some(1), ..query(id, false) }).await, "one\ntwo\n");
    tokio::time::sleep(Duration::from_secs(80)).await;
    assert!(matches!(agent.logs(query(id, false)).await, Err(NodeError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn a_follower_is_told_when_the_agent_stops() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("echo one; serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    let mut following = agent.logs(query(id, true)).await.unwrap();
    assert_eq!(following.next().await.unwrap().unwrap(), b"one\n");
    agent.shut_down(Duration::from_secs(5)).await;
    assert!(matches!(following.next().await, Some(Err(NodeError::Unavailable(_)))));
    assert!(following.next().await.is_none());
}
