//! Images that nobody uses give their disk back.

use std::time::Duration;

use wherry_api_types::InstanceState;

use crate::several::SOON;
use crate::support::{PROJECT, World, eventually, output_of, plain_client};

/// Any disk is fuller than one hundredth, and none is ever empty: what may go, goes.
const ALWAYS: &str = "[images]\nhigh_percent = 1\nlow_percent = 0\nmin_age_seconds = 0\ncheck_seconds = 1\n";

/// Repositories of the images that the engine has.
fn here(world: &World) -> Vec<String> {
    let socket = world.wherry.run_folder().join("containerd.sock");
    let list = ["--address", socket.to_str().unwrap(), "--namespace", "k8s.io", "images", "list", "-q"];
    let names = output_of("ctr", &list);
    let mut names: Vec<String> = names
        .lines()
        .filter(|name| !name.starts_with("sha256:"))
        .map(|name| {
            let name = name.split('@').next().unwrap().rsplit_once('/').unwrap().1;
            name.split(':').next().unwrap().to_owned()
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The number that `/metrics` shows, 0 before there is one.
async fn metric(world: &World, name: &str) -> u64 {
    let request = plain_client().get(format!("http://{}/metrics", world.wherry.operator));
    let text = request.send().await.unwrap().text().await.unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn what_nobody_uses_is_removed_when_the_disk_is_too_full_and_pulled_when_needed() {
    let world = World::start_with(ALWAYS).await;
    let web = world.web_image().await;
    world.run(&world.script("keeper", "sleep 999 & wait")).await;
    let mut create = world.script("web", "echo begun; sleep 999 & wait");
    create.containers[0].image.clone_from(&web);
    let first = world.run(&create).await;
    assert_eq!(here(&world), ["pause", "tool", "web"]);
    world.client.stop_instance(PROJECT, "web").await.unwrap();
    world.reach("web", InstanceState::Stopped).await;
    eventually("the image of what is stopped is removed", SOON, async || {
        (here(&world) == ["pause", "tool"]).then_some(())
    })
    .await;
    eventually("the metrics say so", SOON, async || {
        (metric(&world, "wherry_node_images{what=\"removed\"}").await > 0).then_some(())
    })
    .await;
    assert!(world.wherry.log().contains("an image that nobody uses was removed"));
    // The start finds it gone, and runs exactly what ran before; the other one has run on.
    world.client.start_instance(PROJECT, "web").await.unwrap();
    world.reach("web", InstanceState::Running).await;
    let again = world.get("web").await;
    assert_eq!(again.containers[0].image_digest, first.containers[0].image_digest);
    // New images come and stay while they are needed, look after look.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(here(&world), ["pause", "tool", "web"]);
    assert_eq!(world.get("keeper").await.containers[0].runs.len(), 1);
    world.finish().await;
}
