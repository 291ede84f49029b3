//! Runs that begin by the clock. One minute of it is waited for, no more.

use std::time::Duration;

use wherry_api_types::{EndReason, Instance, InstanceCreate, InstanceState, Schedule};

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

#[tokio::test]
async fn a_run_begins_by_itself_at_its_time_and_nothing_is_held_before() {
    let world = World::start().await;
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
