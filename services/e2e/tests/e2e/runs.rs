//! How programs end, start again, and what is kept of what they print.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use wherry_api_types::{ContainerRun, EndReason, InstanceState, RestartPolicy};

use crate::support::{World, eventually};

#[tokio::test]
async fn every_end_has_its_code_and_reason() {
    let world = World::start().await;
    let mut hungry = world.script("hungry", "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done");
    hungry.containers[0].memory = Some("16Mi".to_owned());
    let mut absent = world.script("absent", "");
    absent.containers[0].command = vec!["/no/such/program".to_owned()];
    let (well, three, killed) =
        (world.script("well", "exit 0"), world.script("three", "exit 3"), world.script("killed", "sleep 999 & wait"));
    let shot = async {
        let running = world.run(&killed).await;
        let engine = world.wherry.engine();
        let main = engine.iter().find(|thing| thing.is_container() && thing.instance() == Some(&running.id)).unwrap();
        kill_process(Pid::from_raw(main.pid.unwrap().cast_signed()).unwrap(), Signal::KILL).unwrap();
        world.reach("killed", InstanceState::Failed).await
    };
    let (well, three, hungry, absent, killed) = tokio::join!(
        world.run_to_end(&well),
        world.run_to_end(&three),
        world.run_to_end(&hungry),
        world.run_to_end(&absent),
        shot
    );
    let last = |instance: &wherry_api_types::Instance| -> ContainerRun {
        instance.containers[0].runs.last().unwrap_or_else(|| panic!("no run: {instance:#?}")).clone()
    };
    assert_eq!((well.state, last(&well).exit_code), (InstanceState::Succeeded, Some(0)));
    assert_eq!((three.state, three.reason), (InstanceState::Failed, Some(EndReason::Exited)));
    assert_eq!((last(&three).exit_code, last(&three).signal), (Some(3), None));
    assert_eq!((killed.reason, last(&killed).exit_code), (Some(EndReason::Exited), Some(137)), "{killed:#?}");
    assert_eq!(hungry.reason, Some(EndReason::OomKilled), "{hungry:#?}");
    assert!(hungry.message.as_deref().or(last(&hungry).message.as_deref()).unwrap().contains("16 MiB"), "{hungry:#?}");
    assert_eq!(absent.reason, Some(EndReason::StartFailed), "{absent:#?}");
    assert!(absent.message.as_deref().unwrap().contains("/no/such/program"), "{absent:#?}");
    assert_eq!(absent.cost.so_far.trim_matches(['0', '.']), "", "it never ran");
    // Each is told by the command line too.
    let said = world.wherry.cli(&["ps", "-a"]).await.well();
    assert!(said.contains("failed (oom_killed)") && said.contains("failed (start_failed)"), "{said}");
    world.finish().await;
}

#[tokio::test]
async fn restarts_follow_the_policy_and_back_off() {
    let world = World::start().await;
    let policy = |name: &str, policy: RestartPolicy, code: u8| {
        let script = format!("echo begun $(cat /proc/uptime); sleep 0.2; exit {code}");
        let mut create = world.script(name, &script);
        create.restart_policy = Some(policy);
        create
    };
    world.create(&policy("always", RestartPolicy::Always, 0)).await;
    world.create(&policy("failing", RestartPolicy::OnFailure, 1)).await;
    let followed = world.wherry.cli_until_interrupted(&["logs", "-f", "failing"], Duration::from_secs(6));
    let never = policy("never", RestartPolicy::Never, 1);
    let fine = policy("fine", RestartPolicy::OnFailure, 0);
    let (never, fine, followed) = tokio::join!(world.run_to_end(&never), world.run_to_end(&fine), followed);
    assert_eq!((never.state, never.containers[0].restart_count), (InstanceState::Failed, 0));
    assert_eq!((fine.state, fine.containers[0].restart_count), (InstanceState::Succeeded, 0));
    for name in ["always", "failing"] {
        let now = eventually("three runs", Duration::from_secs(15), async || {
            let now = world.get(name).await;
            (now.containers[0].runs.len() >= 3 && !now.state.is_settled()).then_some(now)
        })
        .await;
        let container = &now.containers[0];
        assert!(container.restart_count >= 2, "{container:#?}");
        let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let pauses: Vec<i64> = (container.runs.windows(2))
            .map(|pair| time(&pair[1].started_at) - time(pair[0].finished_at.as_deref().unwrap()))
            .collect();
        for (number, pause) in pauses.iter().enumerate() {
            let least = 1_000 << number;
            assert!((least..least + 1_500).contains(pause), "{name} waited {pauses:?} ms");
        }
    }
    assert!(followed.out.matches("begun").count() >= 2, "follow ended with the first run: {followed:#?}");
    let [first, latest, before] = [
        world.logs("failing", Some(1)).await,
        world.logs("failing", None).await,
        world.logs("failing", Some(-1)).await,
    ];
    assert!(first.contains("begun") && before.contains("begun") && before != latest, "{first} {before} {latest}");
    let said = world.wherry.cli(&["logs", "--run", "1", "failing"]).await.well();
    assert_eq!(said, first);
    world.finish().await;
}

/// 60 MB are printed, and no more than the cap is kept; the last line is among it.
#[tokio::test]
async fn a_chatty_container_cannot_fill_the_disk() {
    let world = World::start().await;
    let line = "0123456789abcdef".repeat(8);
    let script =
        format!("for i in 1 2 3 4 5; do yes {line} | head -n 93000; sleep 1.2; done; echo the end; sleep 999 & wait");
    let mut chatty = world.script("chatty", &script);
    chatty.containers[0].cpu = Some("1".to_owned());
    world.create(&chatty).await;
    let tail = ["logs", "--tail", "1", "chatty"];
    eventually("it has printed everything", Duration::from_secs(30), async || {
        world.wherry.cli(&tail).await.out.contains("the end").then_some(())
    })
    .await;
    let kept = eventually("the cap holds", Duration::from_secs(5), async || {
        let kept = size_of(&world.wherry.data().join("node"));
        (kept < 50 << 20).then_some(kept)
    })
    .await;
    assert!(kept > 1 << 20, "its log is not where this test looks: {kept}");
    assert_eq!(world.wherry.cli(&tail).await.well(), "the end\n");
    world.finish().await;
}

fn size_of(folder: &std::path::Path) -> u64 {
    let sizes = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
