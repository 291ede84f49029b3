//! Volumes: what containers share and keep, and what nobody gets to see through them.

use std::path::PathBuf;

use wherry_api_types::{
    ConfigVolume, EmptyDirVolume, EndReason, Instance, InstanceCreate, InstanceState, Medium, RestartPolicy, Volume,
    VolumeMount,
};

use crate::support::World;

fn empty(name: &str, medium: Option<Medium>, size: Option<&str>) -> Volume {
    let empty = EmptyDirVolume { medium, size: size.map(str::to_owned) };
    Volume { name: name.to_owned(), empty_dir: Some(empty), ..Volume::default() }
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { volume: volume.to_owned(), path: path.to_owned(), ..VolumeMount::default() }
}

fn part(volume: &str, path: &str, sub_path: &str) -> VolumeMount {
    VolumeMount { sub_path: Some(sub_path.to_owned()), ..mount(volume, path) }
}

fn with(mut create: InstanceCreate, volumes: Vec<Volume>, mounts: Vec<VolumeMount>) -> InstanceCreate {
    create.volumes = volumes;
    create.containers[0].volume_mounts = mounts;
    create
}

/// Where they are on the machine.
fn folder(world: &World, instance: &Instance) -> PathBuf {
    let all = std::fs::read_dir(world.wherry.data().join("node")).unwrap().flatten();
    let all = all.map(|entry| entry.path()).find(|path| path.ends_with("volumes"));
    all.expect("there is no folder of volumes where this test looks").join(&instance.id)
}

#[tokio::test]
async fn what_is_written_outlives_the_container_and_the_agent_and_goes_with_the_instance() {
    let mut world = World::start().await;
    // As an ordinary user. Its first run ends by itself.
    let script = "cat /data/runs /fast/runs 2>/dev/null; echo $(id -u) >> /data/runs; echo fast >> /fast/runs; touch /data/part/x; \
                  echo PART $(ls /part); grep -c ' /fast tmpfs' /proc/mounts; \
                  head -c 6000000 /dev/zero > /fast/much && echo BAD size; \
                  touch /read/x && echo BAD read-only; echo x >> /conf/a && echo BAD config; \
                  cat /conf/a /one; ls -l /conf/a; \
                  if [ $(wc -l < /data/runs) = 1 ]; then exit 1; fi; echo DONE; sleep 999 & wait";
    let files = [("a".to_owned(), "content of a\n".to_owned()), ("b".to_owned(), String::new())].into();
    let config = Volume { name: "conf".to_owned(), config: Some(ConfigVolume { files }), ..Volume::default() };
    let volumes = vec![empty("data", None, None), empty("fast", Some(Medium::Memory), Some("4Mi")), config];
    let mounts = vec![
        mount("data", "/data"),
        mount("fast", "/fast"),
        part("data", "/part", "part"),
        VolumeMount { read_only: true, ..mount("data", "/read") },
        mount("conf", "/conf"),
        part("conf", "/one", "a"),
    ];
    let mut keeper = with(world.script("keeper", script), volumes, mounts);
    keeper.restart_policy = Some(RestartPolicy::OnFailure);
    keeper.containers[0].user = Some("1000:1000".to_owned());
    let stranger = with(
        world.script("stranger", "ls -A /data; echo DONE; sleep 999 & wait"),
        vec![empty("data", None, None)],
        vec![mount("data", "/data")],
    );
    let made = world.create(&keeper).await;
    let text = world.logged("keeper", "DONE").await;
    assert!(!text.contains("BAD"), "{text}");
    assert!(text.starts_with("1000\nfast\n"), "what the first run wrote is not there: {text}");
    assert!(text.contains("PART x\n1\n") || text.contains("PART x"), "{text}");
    assert!(text.contains("\n1\n"), "not in memory: {text}");
    assert!(text.contains("content of a\ncontent of a\n") && text.contains("-rw-r--r--"), "{text}");

    world.run(&stranger).await;
    assert_eq!(world.logged("stranger", "DONE").await, "DONE\n", "it sees the volume of another");

    // The agent dies, the container runs on; then it is started anew.
    world.wherry.kill();
    world.wherry.start().await;
    world.reach("keeper", InstanceState::Running).await;
    let folder = folder(&world, &made);
    assert_eq!(std::fs::read_to_string(folder.join("disk/data/runs")).unwrap(), "1000\n1000\n");
    world.client.stop_instance(crate::support::PROJECT, "keeper").await.unwrap();
    world.reach("keeper", InstanceState::Stopped).await;
    world.client.start_instance(crate::support::PROJECT, "keeper").await.unwrap();
    world.reach("keeper", InstanceState::Running).await;
    let text = world.logged("keeper", "DONE").await;
    assert!(text.starts_with("1000\n1000\nPART"), "the disk is kept through a stop, memory is not: {text}");
    world.delete("keeper").await;
    assert!(!folder.exists(), "something is left of its volumes");
    world.finish().await;
}

#[tokio::test]
async fn no_link_in_a_volume_leads_out_of_it() {
    let world = World::start().await;
    // The first run puts a link where the second finds a part of the volume.
    for (name, link, medium) in [("disk", "/", None), ("memory", "/etc", Some(Medium::Memory))] {
        let script = format!("ls /part; rm -rf /data/a; ln -s {link} /data/a; exit 1");
        let mounts = vec![mount("data", "/data"), part("data", "/part", "a/b")];
        let mut create = with(world.script(name, &script), vec![empty("data", medium, None)], mounts);
        create.restart_policy = Some(RestartPolicy::OnFailure);
        let ended = world.run_to_end(&create).await;
        assert_eq!((ended.state, ended.reason), (InstanceState::Failed, Some(EndReason::StartFailed)), "{ended:#?}");
        let said = ended.message.as_deref().unwrap_or_default();
        assert!(said.contains("sub path \"a/b\"") && said.contains("link"), "{said}");
        assert_eq!(ended.containers[0].runs.len(), 1, "{ended:#?}");
    }
    world.finish().await;
}
