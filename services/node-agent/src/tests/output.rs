//! The output of containers, through the agent.

use std::time::Duration;

use futures_util::StreamExt as _;
use wherry_agent_api::{LogQuery, NodeError, NodeServices as _};
use wherry_model::lifecycle::Ask;
use wherry_model::{InstanceId, InstanceState as S, RestartPolicy};

use super::world::{World, container};
use crate::{Agent, LogLimits};

fn query(instance: InstanceId, follow: bool) -> LogQuery {
    LogQuery { instance, container: container(), run: None, tail: None, follow, timestamps: false }
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
    world.until("it is known", |_| agent.status().borrow().instances.contains_key(&id)).await;
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
    config.logs = LogLimits { file_bytes: 4_000, ..LogLimits::default() };
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
    assert!(sizes.len() <= 3 && sizes.iter().all(|size| *size < 5_000), "{sizes:?}");
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
