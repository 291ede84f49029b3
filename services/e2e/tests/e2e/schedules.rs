//! Runs that begin by the clock. One minute of it is waited for, by two installations at once: one that is there at its end, and one
//! that is not.

use std::time::Duration;

use futures_util::StreamExt as _;
use wherry_api_client::EventOptions;
use wherry_api_types::{EndReason, Event, EventKind, Instance, InstanceCreate, InstanceState, OnOverlap, Schedule};

use crate::protocol::now;
use crate::support::{PROJECT, World, eventually};

/// Half an hour beside UTC, and without a summer time.
const ZONE: &str = "Asia/Kolkata";

fn every_minute(create: InstanceCreate, suspended: bool) -> InstanceCreate {
    let (cron, time_zone) = ("* * * * *".to_owned(), Some(ZONE.to_owned()));
    InstanceCreate { schedule: Some(Schedule { cron, time_zone, suspended, ..Schedule::default() }), ..create }
}

fn seconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{time}: {error}")).as_second()
}

/// Five whole minutes, one after the other.
fn are_the_next_minutes(times: &[String]) -> bool {
    let times: Vec<i64> = times.iter().map(|time| seconds(time)).collect();
    times.len() == 5 && times[0] % 60 == 0 && times.windows(2).all(|pair| pair[1] - pair[0] == 60)
}

fn assert_holds_nothing(world: &World, instance: &Instance) {
    assert_eq!((instance.state, instance.ready, instance.address.as_deref()), (InstanceState::Stopped, false, None));
    assert_eq!(instance.cost.so_far.trim_matches(['0', '.']), "", "it costs something");
    assert!(world.wherry.engine().iter().all(|thing| thing.instance() != Some(&instance.id)), "the engine has it");
}

/// What has happened to an instance.
async fn events(world: &World, name: &str) -> Vec<Event> {
    let options = EventOptions { instance: Some(name.to_owned()), past_only: true, ..EventOptions::default() };
    let stream = world.client.events(PROJECT, &options).await.unwrap();
    stream.map(Result::unwrap).collect().await
}

async fn told(world: &World, name: &str, kind: EventKind) -> Event {
    eventually(&format!("{kind:?} of {name}"), Duration::from_mins(3), async || {
        events(world, name).await.into_iter().find(|event| event.kind == kind)
    })
    .await
}

#[tokio::test]
async fn a_run_begins_by_itself_at_its_time_and_nothing_is_held_before() {
    tokio::join!(Box::pin(when_its_time_comes()), Box::pin(when_nobody_is_there()));
}

/// What was due while the service was away is caught up with, or not any more, by what its schedule says.
async fn when_nobody_is_there() {
    let mut world = World::start().await;
    // So much of a minute must be left to be gone before its end.
    while now() % 60 > 40 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let waits = |name: &str, seconds: Option<u32>| {
        let mut create = every_minute(world.script(name, "echo RAN"), false);
        create.schedule.as_mut().unwrap().starting_deadline_seconds = seconds;
        create
    };
    let late = world.create(&waits("late", Some(10))).await;
    let caught = world.create(&waits("caught", None)).await;
    let due = seconds(&caught.next_runs[0]);
    assert_eq!(seconds(&late.next_runs[0]), due, "both wait for the same minute");
    world.wherry.kill();
    assert!(now() < due, "this machine is so busy that the minute was over before the service was gone");
    while now() <= due + 10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.wherry.start().await;
    let missed = told(&world, "late", EventKind::RunMissed).await;
    assert!(missed.message.contains("the service was away"), "{missed:#?}");
    let ran = eventually("what can be caught up with has run", Duration::from_mins(3), async || {
        Some(world.get("caught").await).filter(|one| one.last_run.is_some())
    })
    .await;
    let run = ran.last_run.unwrap();
    assert!(run.state == InstanceState::Succeeded && seconds(run.due.as_deref().unwrap()) >= due, "{run:#?}");
    let began_for = world.get("late").await.last_run.and_then(|run| run.due).map(|time| seconds(&time));
    assert_ne!(began_for, Some(due), "it was too late for that");
    world.finish().await;
}

/// They still run when their time comes.
async fn overlapping(world: &World) {
    for (name, on_overlap) in [("stays", OnOverlap::Skip), ("fresh", OnOverlap::Replace)] {
        let mut create = every_minute(world.script(name, "sleep 999 & wait"), true);
        create.schedule.as_mut().unwrap().on_overlap = Some(on_overlap);
        world.create(&create).await;
        world.client.start_instance(PROJECT, name).await.unwrap();
        world.reach(name, InstanceState::Running).await;
        world.wherry.cli(&["update", name, "--resume"]).await.well();
    }
}

async fn assert_overlapped(world: &World) {
    let skipped = told(world, "stays", EventKind::RunSkipped).await;
    assert!(skipped.message.contains("the one before still goes on"), "{skipped:#?}");
    let stays = world.get("stays").await;
    assert_eq!((stays.state, stays.containers[0].runs.len()), (InstanceState::Running, 1), "{stays:#?}");
    let begun = eventually("its run was replaced", Duration::from_mins(3), async || {
        events(world, "fresh").await.into_iter().filter(|event| event.actor.as_deref() == Some("schedule")).nth(1)
    })
    .await;
    assert!(begun.kind == EventKind::StartRequested && begun.message.contains("started for its time"), "{begun:#?}");
    let fresh = world.reach("fresh", InstanceState::Running).await;
    let before = &fresh.containers[0].runs[0];
    assert_eq!(before.reason, Some(EndReason::StoppedByUser), "{fresh:#?}");
    let all = events(world, "fresh").await;
    let stop = all.iter().find(|event| event.kind == EventKind::StopRequested).unwrap();
    assert!(stop.actor.as_deref() == Some("schedule") && stop.message.contains("stopped for its run of"), "{stop:#?}");
}

async fn when_its_time_comes() {
    let world = World::start().await;
    overlapping(&world).await;
    let script = world.script("job", "echo RAN; exit 3");
    let told = world.client.dry_run(PROJECT, &every_minute(script.clone(), false)).await.unwrap();
    assert!(told.fits && are_the_next_minutes(&told.next_runs), "{told:#?}");

    // Suspended: no minute can begin it while it is looked at.
    let made = world.create(&every_minute(script, true)).await;
    assert_holds_nothing(&world, &made);
    assert_eq!((made.next_runs.len(), made.last_run.as_ref()), (0, None));
    let said = world.wherry.cli(&["describe", "job"]).await.well();
    assert!(said.contains("* * * * * (Asia/Kolkata), suspended") && !said.contains("Next run"), "{said}");
    world.wherry.cli(&["update", "job", "--resume"]).await.well();
    let resumed = world.get("job").await;
    assert!(are_the_next_minutes(&resumed.next_runs), "{resumed:#?}");

    // Beside it one with a time that is far away, asked for by a person, who can start it now as well.
    let yearly = ["--schedule", "30 4 1 1 *", "--time-zone", ZONE, "--cpu", "50m", "--memory", "32Mi"];
    let run = |more: &[&'static str]| {
        let words =
            [&["run", &world.tool, "--name", "yearly"], &yearly[..], more, &["--", "/bin/sh", "-c", "echo NOW"]];
        words.concat().into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    let said = async |words: Vec<String>| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        world.wherry.cli(&words).await.well()
    };
    let asked = said(run(&["--dry-run"])).await;
    assert_eq!(asked.matches("-12-31 23:00:00").count(), 5, "{asked}");
    let waits = said(run(&[])).await;
    assert!(waits.contains("waits for its schedule") && waits.contains("-12-31 23:00:00"), "{waits}");
    let described = said(vec!["describe".to_owned(), "yearly".to_owned()]).await;
    assert!(described.contains("30 4 1 1 * (Asia/Kolkata)") && described.contains("-12-31 23:00:00"), "{described}");
    assert_holds_nothing(&world, &world.get("yearly").await);
    world.client.start_instance(PROJECT, "yearly").await.unwrap();
    let now = world.reach("yearly", InstanceState::Succeeded).await;
    assert_eq!(now.last_run.map(|run| (run.state, run.due)), Some((InstanceState::Succeeded, None)));
    assert_eq!(world.logged("yearly", "NOW").await, "NOW\n");

    let ended = eventually("its minute comes and it runs to its end", Duration::from_mins(4), async || {
        let failed = [InstanceState::Failed];
        let wait = world.client.wait_instance(PROJECT, "job", &failed, Duration::from_secs(30));
        wait.await.unwrap().reached.then_some(())?;
        Some(world.get("job").await).filter(|job| job.last_run.is_some())
    });
    let ended = ended.await;
    assert_eq!((&ended.id, &ended.fqdn), (&made.id, &made.fqdn), "its name is another one");
    let (last, container) = (ended.last_run.as_ref().unwrap(), &ended.containers[0]);
    assert_eq!((last.state, last.reason), (InstanceState::Failed, Some(EndReason::Exited)), "{ended:#?}");
    assert_eq!(container.runs.last().and_then(|run| run.exit_code), Some(3), "{ended:#?}");
    let (due, begun) = (last.due.as_deref().unwrap(), last.started_at.as_deref().unwrap());
    assert!(seconds(due) % 60 == 0 && seconds(begun) >= seconds(due), "{last:#?}");
    assert_eq!(world.logged("job", "RAN").await, "RAN\n");

    assert_overlapped(&world).await;

    world.wherry.cli(&["update", "job", "--suspend"]).await.well();
    let suspended = world.get("job").await;
    assert!(suspended.next_runs.is_empty() && suspended.last_run.is_some(), "{suspended:#?}");
    let said = world.wherry.cli(&["describe", "job"]).await.well();
    for words in ["suspended", "Last run", "failed (exited)", "started for its time", "by schedule"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    eventually("nothing of it is held any more", Duration::from_mins(1), async || {
        world.wherry.engine().iter().all(|thing| thing.instance() != Some(&made.id)).then_some(())
    })
    .await;
    world.finish().await;
}
