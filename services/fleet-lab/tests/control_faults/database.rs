//! F07 and F08: the database restarts, and freezes, under replicas that are in use.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use wherry_api_client::{Client, ClientError};
use wherry_api_types::InstanceState;
use wherry_fleet_lab::PROJECT;
use wherry_pg_cluster::Stop;

use crate::support::{Crowd, Lab, PATIENCE, is_retryable, number, reach, run_servers, seed, server, told, until};

/// F07. Errors while it is away, then all is as before; nothing acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f07_a_database_that_restarts_loses_nothing_acknowledged() {
    let lab = Lab::start(2, 1).await;
    let mut crowd = Crowd::start(&lab, 3, seed());
    for how in [Stop::Immediate, Stop::Fast, Stop::Immediate] {
        crowd.more(6).await;
        let cluster = lab.fleet.postgres.as_ref().unwrap();
        tokio::task::block_in_place(|| {
            cluster.stop(how).unwrap();
            cluster.start_again().unwrap();
        });
        let back = Instant::now();
        crowd.more(1).await;
        println!("F07: {how:?}, the first answer {:?} after the server was back", back.elapsed());
    }
    crowd.more(6).await;
    crowd.leave().await;
    lab.finish().await;
}

/// For how long the database is frozen, in seconds: longer than a call waits for it, and than nodes may be silent here.
const FROZEN_SECONDS: u64 = 8;
const SETTINGS: &str = "[fleet]\ndetection_seconds = 5\nfence_after_seconds = 60\n";
/// Callers of each replica while nothing is answered.
const CALLERS: usize = 30;
/// Connections of one replica: the pool of the default size and the one that listens.
const MOST_SESSIONS: usize = 17;

/// F08. Calls end in time and say that trying again is right; nothing piles up; containers do not notice; no machine is
/// judged by a time in which nobody could have heard it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_a_database_that_freezes_is_waited_for_in_time_and_used_again() {
    let mut lab = Lab::start_with(2, 1, SETTINGS).await;
    let clients = lab.clients();
    let ids = run_servers(&lab, 3, |_| {}).await;
    let before = processes(&lab);
    assert_eq!(before.len(), ids.len());
    let freeze = Duration::from_secs(number("WHERRY_FAULT_FREEZE_SECONDS").unwrap_or(FROZEN_SECONDS));
    lab.fleet.postgres.as_ref().unwrap().freeze();
    let frozen = Instant::now();
    let mut calls = JoinSet::new();
    for number in 0..CALLERS * clients.len() {
        let (client, id, body) = (clients[number % clients.len()].clone(), ids[number % 3].clone(), {
            server(&lab.image, &format!("frozen-{number}"))
        });
        let (history, plan) = (lab.history.clone(), lab.history.plan(body));
        calls.spawn(async move {
            let begun = Instant::now();
            let outcome = match number % 3 {
                0 => client.instance(PROJECT, &id).await.map(drop),
                1 => client.nodes().await.map(drop),
                _ => history.create(&client, &plan).await.map(drop),
            };
            (outcome, begun.elapsed())
        });
    }
    // For its time at least, and until every replica has told somebody to come again: no call waits for the end of it.
    let before_it = refusals(&lab);
    tokio::time::sleep(freeze.saturating_sub(frozen.elapsed())).await;
    until("callers are told while it is frozen", async || {
        let now = refusals(&lab);
        now.iter().zip(&before_it).all(|(now, before)| now > before).then_some(())
    })
    .await;
    assert_eq!(processes(&lab), before, "containers do not need the database");
    lab.fleet.postgres.as_ref().unwrap().thaw();
    let thawed = Instant::now();
    let outcomes: Vec<(Result<(), ClientError>, Duration)> =
        tokio::time::timeout(PATIENCE, calls.join_all()).await.expect("every call ends");
    let refused = outcomes.iter().filter_map(|(outcome, _)| outcome.as_ref().err());
    for error in refused.clone() {
        assert!(is_retryable(error), "{error:?}");
    }
    let longest = outcomes.iter().map(|(_, time)| *time).max().unwrap_or_default();
    println!(
        "F08: frozen for {:?}; of {} callers {} were refused, the last one was told after {longest:?}",
        thawed.duration_since(frozen),
        outcomes.len(),
        refused.count()
    );
    let answered = first_answer(&clients).await;
    println!("F08: used again {:?} after it went on", answered.duration_since(thawed));
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'wherry'";
    until("the pools have no more connections than they may", async || {
        let sessions: usize = lab.stored(sessions).parse().unwrap();
        (sessions <= MOST_SESSIONS * clients.len()).then_some(())
    })
    .await;
    // A heartbeat after the freeze, or whoever judges would not have had the time to judge wrongly.
    let heartbeats = || lab.stored("SELECT min(heartbeats) FROM nodes").parse::<u64>().unwrap();
    let seen = heartbeats();
    until("the machine is heard again", async || (heartbeats() >= seen + 4).then_some(())).await;
    assert_eq!(lab.stored("SELECT sum(doubt) FROM nodes"), "0", "no machine was doubted");
    assert_eq!(lab.stored("SELECT count(*) FROM events WHERE kind = 'unknown'"), "0");
    for id in &ids {
        reach(&clients, id, InstanceState::Running).await;
        assert_eq!(processes(&lab).get(id), before.get(id), "it is the same process");
    }
    lab.ready().await;
    lab.finish().await;
}

/// How many answers of each replica were 503.
fn refusals(lab: &Lab) -> Vec<usize> {
    let refused = |log: String| log.lines().filter(|line| line.contains("\"status\":503")).count();
    lab.fleet.replicas.iter().map(|replica| refused(replica.program.log())).collect()
}

/// Main processes of the first machine's containers, by instance.
pub(crate) fn processes(lab: &Lab) -> BTreeMap<String, Option<u32>> {
    let engine = lab.fleet.machines[0].engine().unwrap();
    let containers = engine.iter().filter(|thing| thing.is_container());
    containers.filter_map(|container| Some((container.instance()?.to_owned(), container.pid))).collect()
}

async fn first_answer(clients: &[Client]) -> Instant {
    for client in clients {
        told(std::slice::from_ref(client), 0, async |client| client.nodes().await).await;
    }
    Instant::now()
}
