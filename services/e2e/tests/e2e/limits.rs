//! What an instance is held to beside processor and memory of its containers: what it writes to the disk, how many processes it
//! has, and its memory as a whole.

use wherry_api_types::{
    EmptyDirVolume, EndReason, InstanceCreate, InstanceState, Medium, RestartPolicy, Volume, VolumeMount,
};

use crate::support::World;

fn with_volume(mut create: InstanceCreate, medium: Medium, size: &str) -> InstanceCreate {
    let empty = EmptyDirVolume { medium: Some(medium), size: Some(size.to_owned()) };
    create.volumes = vec![Volume { name: "data".to_owned(), empty_dir: Some(empty), ..Volume::default() }];
    create.containers[0].volume_mounts =
        vec![VolumeMount { volume: "data".to_owned(), path: "/data".to_owned(), ..VolumeMount::default() }];
    create
}

#[tokio::test]
async fn who_writes_more_to_the_disk_than_it_may_is_ended_and_told_so() {
    let world = World::start().await;
    let script = "i=0; while [ $i -lt 100 ]; do mkdir d; cd d; i=$((i+1)); done; cd /; \
                  head -c 20000000 /dev/zero > PLACE/much; sync; sleep 999 & wait";
    let in_layer = InstanceCreate {
        ephemeral_disk: Some("10Mi".to_owned()),
        ..world.script("layer", &script.replace("PLACE", "/tmp"))
    };
    let in_volume = with_volume(world.script("volume", &script.replace("PLACE", "/data")), Medium::Disk, "8Mi");
    let mut policy = with_volume(world.script("within", &script.replace("PLACE", "/data")), Medium::Disk, "64Mi");
    // A policy does not bring back what would write again.
    policy.restart_policy = Some(RestartPolicy::Always);
    let mut always = in_volume.clone();
    always.restart_policy = Some(RestartPolicy::Always);
    world.run(&policy).await;
    let (in_layer, in_volume) = tokio::join!(world.run_to_end(&in_layer), world.run_to_end(&always));
    for (ended, words) in [
        (&in_layer, ["in the containers' own file systems", "10Mi (10485760 bytes)"]),
        (&in_volume, ["volume data holds", "8Mi (8388608 bytes)"]),
    ] {
        assert_eq!((ended.state, ended.reason), (InstanceState::Failed, Some(EndReason::DiskExceeded)), "{ended:#?}");
        let said = ended.message.as_deref().unwrap_or_default();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert_eq!(ended.containers[0].runs.len(), 1, "{ended:#?}");
    }
    assert_eq!(world.get("within").await.state, InstanceState::Running);
    world.delete("volume").await;
    world.finish().await;
}

#[tokio::test]
async fn a_fork_bomb_ends_with_its_own_instance() {
    let world = World::start().await;
    world.run(&world.script("beside", "while :; do echo ALIVE; sleep 1; done")).await;
    let mut bomb = world.script("bomb", "f() { sleep 600 | f & }; while :; do f; sleep 600 & done; wait");
    bomb.pids = Some(32);
    bomb.restart_policy = Some(RestartPolicy::Never);
    world.create(&bomb).await;
    world.logged("bomb", "can't fork").await;
    // Nobody else notices: another begins and is entered.
    world.run(&world.script("later", "echo DONE; sleep 999 & wait")).await;
    world.logged("later", "DONE").await;
    assert_eq!(world.get("beside").await.state, InstanceState::Running);
    world.delete("bomb").await;
    world.finish().await;
}

#[tokio::test]
async fn what_is_held_in_memory_counts_after_the_end_of_who_wrote_it() {
    let world = World::start().await;
    // The first run leaves 40 MiB. The second takes 45 of the 64 MiB that it may alone, which with those are more than 82.
    let script = "if [ -f /data/much ]; then dd if=/dev/zero of=/dev/null bs=45M count=1 && echo BAD; exit 7; fi; \
                  head -c 41943040 /dev/zero > /data/much; exit 1";
    let mut holder = with_volume(world.script("holder", script), Medium::Memory, "48Mi");
    holder.containers[0].memory = Some("64Mi".to_owned());
    holder.restart_policy = Some(RestartPolicy::OnFailure);
    holder.max_restarts = Some(1);
    let ended = world.run_to_end(&holder).await;
    let logs = world.logs("holder", None).await;
    assert!(!logs.contains("BAD"), "it had more than it paid for: {logs} {ended:#?}");
    assert_eq!(ended.state, InstanceState::Failed, "{ended:#?} {logs}");
    assert_eq!(ended.containers[0].runs.len(), 2, "{ended:#?} {logs}");
    assert_eq!(ended.reason, Some(EndReason::OomKilled), "{ended:#?} {logs}");
    world.finish().await;
}
