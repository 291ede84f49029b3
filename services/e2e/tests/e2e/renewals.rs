//! What is changed about an instance that is there: restarts, another spec, the end of the time that it is kept.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use futures_util::StreamExt as _;
use wherry_api_client::EventOptions;
use wherry_api_types::{
    ContainerSpec, EndReason, EventKind, Instance, InstanceState, MeterKind, Port, Protocol, PullPolicy, Resource,
};
use wherry_demo_images::{FileTree, OciImage, SlowPath, recipes};

use crate::support::{PROJECT, World, eventually};

fn run_of(instance: &Instance, container: &str) -> u32 {
    let found = instance.containers.iter().find(|one| one.name == container).unwrap();
    found.runs.last().map_or(0, |run| run.number)
}

/// Until both run, each for the `runs`th time.
async fn both_run(world: &World, name: &str, runs: [u32; 2]) -> Instance {
    eventually(&format!("{name} has run {runs:?} times"), Duration::from_secs(40), async || {
        let now = world.get(name).await;
        let running = now.containers.iter().all(|one| one.runs.last().is_some_and(|run| run.finished_at.is_none()));
        (running && [run_of(&now, "web"), run_of(&now, "side")] == runs).then_some(now)
    })
    .await
}

/// Until the running time of `web` is billed with these sizes in MiB, one after the other.
async fn billed(world: &World, sizes: &[i64]) {
    eventually(&format!("sizes {sizes:?} are on the bill"), Duration::from_secs(20), async || {
        let usage = world.client.instance_usage(PROJECT, "web").await.unwrap();
        let of_runs =
            usage.lines.iter().filter(|line| line.kind == MeterKind::Run && line.resource == Resource::Memory);
        let covering = of_runs.filter(|line| line.seconds > 0);
        // What is closed and what is open are lines of their own.
        let mut seen: Vec<i64> = covering.map(|line| line.quantity.parse::<i64>().unwrap() / line.seconds).collect();
        seen.dedup();
        (seen == sizes).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_container_or_all_are_restarted_in_place() {
    let world = World::start().await;
    let mut create = world.script("pair", "echo begun; sleep 999 & wait");
    create.containers[0].name = Some("web".to_owned());
    let side = ContainerSpec { name: Some("side".to_owned()), ..create.containers[0].clone() };
    create.containers.push(side);
    world.create(&create).await;
    let first = both_run(&world, "pair", [1, 1]).await;
    let said = world.wherry.cli(&["restart", "pair", "--container", "side"]).await.well();
    assert!(said.contains("side of pair is restarted"), "{said}");
    let one = both_run(&world, "pair", [1, 2]).await;
    assert_eq!((&one.address, one.generation), (&first.address, first.generation));
    let ended = &one.containers.iter().find(|one| one.name == "side").unwrap().runs[0];
    assert_eq!(ended.reason, Some(EndReason::Restarted), "{ended:#?}");
    world.wherry.cli(&["restart", "pair"]).await.well();
    let all = both_run(&world, "pair", [2, 3]).await;
    assert_eq!((&all.address, &all.id), (&first.address, &first.id));
    // Of one that has ended it is a start.
    world.wherry.cli(&["stop", "pair"]).await.well();
    world.wherry.cli(&["restart", "pair", "-c", "web"]).await.badly(6, &["start it"]);
    world.wherry.cli(&["restart", "pair"]).await.well();
    both_run(&world, "pair", [4, 4]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_pull_runs_what_the_tag_means_now() {
    let world = World::start().await;
    let address = world.registry.address();
    let image = recipes::tool().unwrap().push(&address, "demo/moving", "1").await.unwrap();
    let mut create = world.script("web", "sleep 999 & wait");
    create.containers[0].image.clone_from(&image);
    create.containers[0].pull_policy = Some(PullPolicy::IfNotPresent);
    let before = world.run(&create).await.containers[0].image_digest.clone();
    assert!(before.is_some());
    // Another of the project runs it too, which answers a start here and no pull that somebody asks for.
    create.name = Some("twin".to_owned());
    assert_eq!(world.run(&create).await.containers[0].image_digest, before);
    // The same shell, and a page beside it.
    recipes::web().unwrap().push(&address, "demo/moving", "1").await.unwrap();
    world.wherry.cli(&["restart", "web"]).await.well();
    assert_eq!(world.get("web").await.containers[0].image_digest, before, "a restart runs exactly the image of before");
    world.wherry.cli(&["restart", "web", "--pull"]).await.well();
    let after = world.get("web").await;
    assert!(after.containers[0].image_digest.is_some() && after.containers[0].image_digest != before, "{after:#?}");
    assert_eq!(world.get("twin").await.containers[0].image_digest, before, "nobody asked it of the other");
    world.finish().await;
}

/// Whether what listens on port 7007 says back what it is told.
fn answers(instance: &Instance) -> bool {
    let Some(address) = &instance.address else { return false };
    let talk = || -> std::io::Result<bool> {
        let mut line = TcpStream::connect(format!("{address}:7007"))?;
        line.set_read_timeout(Some(Duration::from_secs(10)))?;
        line.write_all(b"hello")?;
        let mut back = [0; 5];
        line.read_exact(&mut back)?;
        Ok(&back == b"hello")
    };
    talk().unwrap_or(false)
}

/// Until the only container of `web` runs for the `number`th time, and answers.
async fn answers_in_run(world: &World, number: u32) -> Instance {
    eventually(&format!("its run {number} answers"), Duration::from_mins(1), async || {
        let now = world.get("web").await;
        let runs = now.state == InstanceState::Running && run_of(&now, "main") == number;
        (runs && answers(&now)).then_some(now)
    })
    .await
}

/// What has happened to `web`, in order.
async fn told(world: &World) -> Vec<EventKind> {
    let options = EventOptions { instance: Some("web".to_owned()), past_only: true, ..EventOptions::default() };
    let stream = world.client.events(PROJECT, &options).await.unwrap();
    stream.map(|event| event.unwrap().kind).collect().await
}

/// The same since its spec was changed last.
async fn told_since_update(world: &World) -> Vec<EventKind> {
    let mut kinds = told(world).await;
    let update = kinds.iter().rposition(|kind| *kind == EventKind::Updated).unwrap();
    kinds.split_off(update + 1)
}

#[tokio::test]
async fn another_image_is_fetched_before_what_runs_is_ended_and_one_that_cannot_be_had_ends_nothing() {
    let mut world = World::start().await;
    let mut create = world.script("web", "nc -ll -p 7007 -e cat & wait");
    create.containers[0].ports = vec![Port::new(7007, Protocol::Tcp)];
    let tool = create.containers[0].image.clone();
    world.run(&create).await;
    answers_in_run(&world, 1).await;

    let absent = format!("{}/demo/absent:1", world.registry.address());
    let said = world.wherry.cli(&["update", "web", "--image", &absent]).await.well();
    assert!(said.contains("restarts main because of image"), "{said}");
    let left = eventually("its owner is told why", Duration::from_secs(30), async || {
        let now = world.get("web").await;
        now.message.as_ref().is_some_and(|message| message.contains("runs on")).then_some(now)
    })
    .await;
    assert!(left.message.as_ref().unwrap().contains(&absent), "{left:#?}");
    assert_eq!((left.state, left.reason, run_of(&left, "main")), (InstanceState::Running, None, 1));
    assert!(answers(&left), "{left:#?}");
    assert!(told_since_update(&world).await.contains(&EventKind::PullRetrying));
    let said = world.wherry.cli(&["describe", "web"]).await.well();
    assert!(said.contains("runs on"), "{said}");

    // Several seconds of pull, in which the image of before answers.
    let line = SlowPath::start(&world.registry.address(), 400 * 1024).await.unwrap();
    let noise: Vec<u8> = (0_u32..300_000)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).rotate_left(number % 31).to_le_bytes())
        .collect();
    let tree = FileTree::new()
        .host_program(std::path::Path::new("/bin/busybox"))
        .unwrap()
        .symlink("/bin/sh", "busybox")
        .symlink("/bin/nc", "busybox")
        .symlink("/bin/cat", "busybox")
        .file("/noise", 0o644, noise);
    let next = OciImage::builder().layer(tree).env("PATH", "/bin").build().unwrap();
    next.push(&world.registry.address(), "demo/next", "1").await.unwrap();
    let next = format!("{}/demo/next:1", line.address());
    world.wherry.cli(&["update", "web", "--image", &next]).await.well();
    let during = eventually("it is being pulled", Duration::from_secs(30), async || {
        let has_begun = told_since_update(&world).await.contains(&EventKind::PullStarted);
        if has_begun { Some(world.get("web").await) } else { None }
    })
    .await;
    assert_eq!((during.state, run_of(&during, "main")), (InstanceState::Running, 1), "{during:#?}");
    assert!(answers(&during), "{during:#?}");
    let now = answers_in_run(&world, 2).await;
    assert_eq!((&now.address, &now.message), (&during.address, &None), "{now:#?}");
    assert_eq!(now.containers[0].runs[0].reason, Some(EndReason::Restarted));
    let expected = [EventKind::PullStarted, EventKind::Pulled, EventKind::ContainerExited, EventKind::ContainerStarted];
    assert_eq!(told_since_update(&world).await, expected);

    // A registry that is away ends nothing either, and is asked again until it is back.
    world.registry.stop();
    let said = world.wherry.cli(&["restart", "web", "--pull", "--timeout", "3s"]).await;
    said.badly(1, &["running", "could not be pulled"]);
    let waits = world.get("web").await;
    assert!(run_of(&waits, "main") == 2 && answers(&waits), "{waits:#?}");
    world.registry.resume().await.unwrap();
    answers_in_run(&world, 3).await;
    // And back to where it began.
    world.wherry.cli(&["update", "web", "--image", &tool]).await.well();
    answers_in_run(&world, 4).await;
    billed(&world, &[32]).await;
    world.finish().await;
}

#[tokio::test]
async fn an_update_restarts_only_what_must() {
    let world = World::start().await;
    let made = world.run(&world.script("web", "echo mode=$MODE; sleep 999 & wait")).await;
    billed(&world, &[32]).await;
    let said = world.wherry.cli(&["update", "web", "--env", "MODE=fast", "--dry-run"]).await.well();
    assert!(said.contains("restarts main because of env"), "{said}");
    assert_eq!(world.get("web").await.generation, made.generation, "a dry run changes nothing");
    let said = world.wherry.cli(&["update", "web", "--label", "team=net", "--ttl", "10m"]).await.well();
    assert!(said.contains("nothing is restarted"), "{said}");
    world.wherry.cli(&["update", "web", "--env", "MODE=fast", "--memory", "48Mi"]).await.well();
    world.logged("web", "mode=fast").await;
    let now = eventually("its second run is on record", Duration::from_secs(20), async || {
        let now = world.get("web").await;
        (now.state == InstanceState::Running && run_of(&now, "main") == 2).then_some(now)
    })
    .await;
    assert_eq!((&now.id, &now.address), (&made.id, &made.address), "{now:#?}");
    assert_eq!((now.generation, now.spec.containers[0].memory.as_deref()), (made.generation + 2, Some("48Mi")));
    // Time of before is billed with the size of before.
    billed(&world, &[32, 48]).await;
    let refused = world.wherry.cli(&["update", "web", "--memory", "900Gi"]).await;
    assert_ne!(refused.code, Some(0), "{refused:#?}");
    assert_eq!(world.get("web").await.generation, now.generation);
    world.finish().await;
}

#[tokio::test]
async fn what_ended_is_deleted_after_its_time_also_when_the_service_was_killed() {
    let mut world = World::start().await;
    let mut create = world.script("job", "exit 0");
    create.ttl_seconds = Some(4);
    let done = world.run_to_end(&create).await;
    assert!(done.expires_at.is_some(), "{done:#?}");
    world.wherry.kill();
    world.wherry.start().await;
    let gone = eventually("its time is over", Duration::from_secs(40), async || {
        let now = world.get(&done.id).await;
        (now.state == InstanceState::Deleted).then_some(now)
    })
    .await;
    let time = |text: Option<&String>| text.unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time(gone.deleted_at.as_ref()) >= time(done.expires_at.as_ref()), "it was deleted before its time");
    world.finish().await;
}
