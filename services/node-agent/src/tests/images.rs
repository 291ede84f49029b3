//! Which images leave the machine, and when.

use std::time::Duration;

use wherry_model::lifecycle::Ask;
use wherry_model::{ContainerSpec, InstanceId, InstanceSpec, InstanceState as S, PullPolicy, RestartPolicy};
use wherry_runtime::ContainerRuntime as _;
use wherry_runtime::RuntimeError;
use wherry_runtime::fake::{FakeImage, Fault};

use super::world::{World, program};
use crate::Agent;

/// The disk of images, of which a full one has no room for one more.
const DISK: u64 = 10_000;
const SIZE: u64 = 2_000;

fn reference(name: &str) -> String {
    format!("r.example/{name}:1")
}

/// A machine whose registry has these images.
fn world_with(names: &[&str]) -> World {
    let world = World::new();
    world.runtime.set_image_disk(DISK);
    for name in names {
        world.runtime.publish(&reference(name), FakeImage { size_bytes: SIZE, ..FakeImage::default() });
    }
    world
}

/// Runs a job from the image to its end, and lets some time pass.
async fn job(world: &World, name: &str) -> InstanceId {
    let id = world.create_from(&reference(name), "sleep 1", RestartPolicy::Never);
    world.until_state(id, S::Succeeded).await;
    tokio::time::sleep(Duration::from_mins(3)).await;
    id
}

/// Names of the images that are here.
async fn here(world: &World) -> Vec<String> {
    let images = world.runtime.list_images().await.unwrap();
    let mut names: Vec<String> = images.into_iter().flat_map(|image| image.tags).collect();
    names.sort();
    names.into_iter().map(|tag| tag.trim_start_matches("r.example/").trim_end_matches(":1").to_owned()).collect()
}

fn nothing_to_remove(agent: &Agent) -> bool {
    agent.status().borrow().images.nothing_to_remove
}

#[tokio::test(start_paused = true)]
async fn above_the_high_mark_the_longest_unused_goes_until_the_low_mark() {
    let world = world_with(&["a", "b", "c", "d", "e", "f"]);
    let agent = world.agent().await;
    for name in ["a", "b", "c", "d"] {
        job(&world, name).await;
    }
    assert_eq!(here(&world).await, ["a", "b", "c", "d"], "80 of 100 are not too much");
    // Used once more, also by a run that is over before anybody looks.
    job(&world, "a").await;
    job(&world, "e").await;
    assert_eq!(here(&world).await, ["a", "c", "d", "e"], "100 of 100 are");
    job(&world, "f").await;
    assert_eq!(here(&world).await, ["a", "d", "e", "f"]);
    let shown = agent.status().borrow().images;
    assert_eq!((shown.removed, shown.freed_bytes, shown.present), (2, 2 * SIZE, 4));
    assert_eq!((shown.disk_used_bytes, shown.disk_total_bytes, shown.nothing_to_remove), (4 * SIZE, DISK, false));
    // What was removed is pulled again.
    let pulls = world.runtime.calls("PullImage");
    job(&world, "b").await;
    assert_eq!(world.runtime.calls("PullImage"), pulls + 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_needed_stays_and_what_is_new_stays_for_a_while() {
    let world = world_with(&["run", "again", "new", "stopped"]);
    let slow = FakeImage { size_bytes: SIZE, pull_delay: Duration::from_mins(4), ..FakeImage::default() };
    world.runtime.publish(&reference("slow"), slow);
    let agent = world.agent().await;
    let running = world.create_from(&reference("run"), "serve", RestartPolicy::Always);
    let restarted = world.create_from(&reference("again"), "sleep 1; exit 1", RestartPolicy::Always);
    let stopped = world.create_from(&reference("stopped"), "serve", RestartPolicy::Always);
    world.until_state(stopped, S::Running).await;
    world.control.ask(stopped, Ask::Stop);
    world.until_state(stopped, S::Stopped).await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    job(&world, "new").await;
    assert_eq!(here(&world).await, ["again", "new", "run", "stopped"]);
    // It is pulled for four minutes, and is needed from its first moment.
    let pulled = world.create_from(&reference("slow"), "serve", RestartPolicy::Always);
    tokio::time::sleep(Duration::from_mins(6)).await;
    world.until_state(pulled, S::Running).await;
    assert_eq!(here(&world).await, ["again", "new", "run", "slow"], "one was enough, and nobody needed it for longest");
    // Another is in the way, and then nothing is that is not needed.
    world.runtime.set_image_disk(4 * SIZE);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(here(&world).await, ["again", "run", "slow"]);
    world.runtime.set_image_disk(3 * SIZE);
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(here(&world).await, ["again", "run", "slow"]);
    assert!(nothing_to_remove(&agent));
    for id in [running, restarted, pulled] {
        assert!(!world.instance(id).state.is_settled(), "{:?}", world.instance(id).state);
    }
    // A start finds its image gone, and runs exactly what it ran before.
    let digest = world.instance(stopped).containers[0].image_digest.clone();
    world.control.ask(stopped, Ask::Start(world.config().machine.node));
    world.until_state(stopped, S::Running).await;
    assert_eq!(world.instance(stopped).containers[0].image_digest, digest);
    assert!(here(&world).await.len() == 3, "it came by its digest: {:?}", here(&world).await);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(world.instance(stopped).state, S::Running);
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_removed_does_not_keep_the_others() {
    let world = world_with(&["a", "b", "c"]);
    let agent = world.agent().await;
    for name in ["a", "b", "c"] {
        job(&world, name).await;
    }
    let refusal = RuntimeError::Internal { message: "the image is held".to_owned() };
    world.runtime.inject("RemoveImage", Fault::Fail(refusal), 1);
    world.runtime.set_image_disk(2 * SIZE);
    world.until("one is removed", |w| w.runtime.calls("RemoveImage") >= 2).await;
    // The look that was refused the first has gone on to the second.
    assert!(here(&world).await.contains(&"a".to_owned()), "{:?}", here(&world).await);
    assert!(!here(&world).await.contains(&"b".to_owned()), "{:?}", here(&world).await);
    world.until("what was refused is tried again", |_| agent.status().borrow().images.removed >= 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_was_removed_is_not_present_for_its_project_either() {
    let world = world_with(&["a"]);
    let _agent = world.agent().await;
    let first = job(&world, "a").await;
    world.runtime.set_image_disk(SIZE);
    world.until("it is removed", |w| w.runtime.calls("RemoveImage") == 1).await;
    assert!(world.instance(first).containers[0].image_digest.is_some(), "what it meant is still known");
    let image = reference("a").parse().unwrap();
    let container = ContainerSpec { image, pull: PullPolicy::IfNotPresent, ..program("main", "serve") };
    let pulls = world.runtime.calls("PullImage");
    let id = world.create_spec(InstanceSpec::new(vec![container.clone()]));
    world.until_state(id, S::Running).await;
    assert_eq!(world.runtime.calls("PullImage"), pulls + 1);
    assert_eq!(here(&world).await, ["a"], "it was asked for by its tag, which may mean something else now");
    // And it is present for the next.
    let next = world.create_spec(InstanceSpec::new(vec![container]));
    world.until_state(next, S::Running).await;
    assert_eq!(world.runtime.calls("PullImage"), pulls + 1);
}
