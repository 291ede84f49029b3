//! Images and the registry that they come from: missing, away, slow, changed, refused.

use std::time::{Duration, Instant};

use wherry_api_types::{EndReason, InstanceState};
use wherry_demo_images::{FileTree, OciImage, SlowPath, recipes};

use crate::support::{PROJECT, World, eventually, shell};

#[tokio::test]
async fn an_image_that_does_not_exist_fails_with_its_name() {
    let world = World::start().await;
    let absent = format!("{}/demo/absent:1", world.registry.address());
    let said = world.wherry.cli(&["run", &absent, "--name", "absent", "--cpu", "50m", "--memory", "32Mi"]).await;
    let complaint = said.badly(1, &["absent failed", "image pull failed", &absent]);
    assert_eq!(complaint.lines().filter(|line| line.starts_with("wherry")).count(), 1, "{complaint}");
    let failed = world.get("absent").await;
    assert_eq!((failed.state, failed.reason), (InstanceState::Failed, Some(EndReason::ImagePullFailed)));
    assert_eq!(failed.cost.so_far.trim_matches(['0', '.']), "", "nothing ran: {}", failed.cost.so_far);
    // The tag appears, and a start is enough.
    recipes::web().unwrap().push(&world.registry.address(), "demo/absent", "1").await.unwrap();
    world.wherry.cli(&["start", "absent"]).await.well();
    assert_eq!(world.get("absent").await.state, InstanceState::Running);
    world.finish().await;
}

#[tokio::test]
async fn a_registry_that_is_away_is_asked_again_until_it_is_back() {
    let mut world = World::start().await;
    world.registry.stop();
    let create = world.script("patient", "sleep 999 & wait");
    let made = world.create(&create).await;
    let waiting = eventually("the message names the registry", Duration::from_secs(10), async || {
        let now = world.get(&made.id).await;
        now.message.as_ref().is_some_and(|message| message.contains(&world.registry.address())).then_some(now)
    })
    .await;
    assert!(!waiting.state.is_settled(), "it gave up at once: {waiting:#?}");
    world.registry.resume().await.unwrap();
    let running = world.reach(&made.id, InstanceState::Running).await;
    assert!(running.containers[0].image_digest.is_some());
    world.finish().await;
}

#[tokio::test]
async fn a_slow_registry_shows_progress_and_holds_nobody_else_up() {
    let world = World::start().await;
    world.run(&world.script("first", "sleep 999 & wait")).await;
    let line = SlowPath::start(&world.registry.address(), 400 * 1024).await.unwrap();
    // 2 MB that do not compress: five seconds on this line.
    let noise: Vec<u8> = (0_u32..500_000)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).rotate_left(number % 31).to_le_bytes())
        .collect();
    let tree = FileTree::new().file("/noise", 0o644, noise);
    let big = OciImage::builder().layer(tree).command(&["/noise"]).build().unwrap();
    big.push(&world.registry.address(), "demo/big", "1").await.unwrap();
    let made = world.create(&shell("slow", &format!("{}/demo/big:1", line.address()), "true")).await;

    let seen = eventually("progress is shown", Duration::from_secs(10), async || {
        let now = world.get(&made.id).await;
        now.progress.filter(|progress| progress.done_bytes > 0 && progress.done_bytes < progress.total_bytes)
    })
    .await;
    let begun = Instant::now();
    world.run(&world.script("second", "sleep 999 & wait")).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "a slow pull held another instance up for {took:?}");
    let later = eventually("progress grows", Duration::from_secs(10), async || {
        let now = world.get(&made.id).await;
        match now.progress {
            Some(progress) => (progress.done_bytes > seen.done_bytes).then_some(progress.done_bytes),
            None => Some(u64::MAX),
        }
    })
    .await;
    assert!(later > seen.done_bytes);
    // A delete does not wait for the line either.
    let begun = Instant::now();
    world.delete(&made.id).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "the delete took {:?}", begun.elapsed());
    world.finish().await;
}

#[tokio::test]
async fn every_start_runs_what_the_tag_meant_at_first() {
    let world = World::start().await;
    let push = async |text: &str| {
        let tree = FileTree::new()
            .host_program(std::path::Path::new("/bin/busybox"))
            .unwrap()
            .symlink("/bin/sh", "busybox")
            .file("/text", 0o644, format!("{text}\n"));
        let image = OciImage::builder().layer(tree).env("PATH", "/bin").build().unwrap();
        image.push(&world.registry.address(), "demo/moving", "latest").await.unwrap()
    };
    let reference = push("the first content").await;
    let create = |name: &str| shell(name, &reference, "busybox cat /text; busybox sleep 999 & wait");
    let first = world.run(&create("pinned")).await;
    world.logged("pinned", "the first content").await;

    push("another content").await;
    world.client.stop_instance(PROJECT, "pinned").await.unwrap();
    world.reach("pinned", InstanceState::Stopped).await;
    world.client.start_instance(PROJECT, "pinned").await.unwrap();
    let again = world.reach("pinned", InstanceState::Running).await;
    assert_eq!(again.containers[0].image_digest, first.containers[0].image_digest);
    world.logged("pinned", "the first content").await;
    assert!(!world.logs("pinned", None).await.contains("another"));

    let other = world.run(&create("newer")).await;
    assert_ne!(other.containers[0].image_digest, first.containers[0].image_digest);
    world.logged("newer", "another content").await;
    world.finish().await;
}

#[tokio::test]
async fn an_image_that_asks_containerd_to_restart_it_is_refused() {
    let world = World::start().await;
    let tree = FileTree::new().host_program(std::path::Path::new("/bin/busybox")).unwrap();
    let image = OciImage::builder().layer(tree).command(&["/bin/busybox", "sleep", "999"]);
    let image = image.label("containerd.io/restart.status", "running").build().unwrap();
    let reference = image.push(&world.registry.address(), "demo/restarting", "1").await.unwrap();
    let said = world.wherry.cli(&["run", &reference, "--name", "refused", "--restart", "never"]).await;
    said.badly(1, &["image refused", "containerd.io/restart.status"]);
    assert_eq!(world.get("refused").await.reason, Some(EndReason::ImageRefused));
    assert!(world.wherry.engine().iter().all(|thing| !thing.is_container()));
    world.finish().await;
}
