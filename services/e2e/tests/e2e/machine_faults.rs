//! The machine below Wherry gives way: containerd killed or stuck, the disk full, no room left. What runs goes on, what is asked
//! is answered, and all is well again without a person.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use wherry_api_types::{ContainerSpec, InstanceState};

use crate::support::{PROJECT, Wherry, World, dns, eventually, output_of, plain_client};

const TICKING: &str = "n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.3; done";

/// Main process of the instance's container.
fn pid_of(world: &World, id: &str) -> u32 {
    let found = world.wherry.engine().into_iter().find(|thing| thing.is_container() && thing.instance() == Some(id));
    found.unwrap_or_else(|| panic!("{id} has no container")).pid.unwrap()
}

fn runs(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

async fn ready_again(world: &World, within: Duration) {
    eventually("/readyz is well again", within, async || (world.wherry.readiness().await.0 == 200).then_some(())).await;
}

#[tokio::test]
async fn a_killed_containerd_is_started_again_and_containers_do_not_notice() {
    let world = World::start().await;
    let ticking = world.run(&world.script("ticking", TICKING)).await;
    world.logged("ticking", "tick 2").await;
    let pid = pid_of(&world, &ticking.id);

    let containerd = world.wherry.containerd_pid().unwrap();
    kill_process(containerd, Signal::KILL).unwrap();
    eventually("/readyz says that it is away", Duration::from_secs(3), async || {
        let (status, text) = world.wherry.readiness().await;
        (status == 503 && text.contains("containerd")).then_some(())
    })
    .await;
    // The API goes on, and takes new work.
    assert_eq!(world.get("ticking").await.name, "ticking");
    let meanwhile = world.create(&world.script("meanwhile", "sleep 999 & wait")).await;
    ready_again(&world, Duration::from_secs(15)).await;
    assert_ne!(world.wherry.containerd_pid().unwrap(), containerd);
    world.reach(&meanwhile.id, InstanceState::Running).await;

    let now = world.reach("ticking", InstanceState::Running).await;
    assert_eq!((now.containers[0].restart_count, now.containers[0].runs.len()), (0, 1), "{now:#?}");
    assert_eq!(pid_of(&world, &ticking.id), pid, "it is another process");
    assert_eq!(dns::over_udp(world.wherry.dns, &now.fqdn).addresses.len(), 1);
    let ticks = world.logs("ticking", None).await.lines().count();
    eventually("what it prints is kept again", Duration::from_secs(10), async || {
        (world.logs("ticking", None).await.lines().count() > ticks + 2).then_some(())
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn a_stuck_containerd_is_told_and_waited_for() {
    let world = World::start().await;
    let steady = world.run(&world.script("steady", "sleep 999 & wait")).await;
    let pid = pid_of(&world, &steady.id);
    let containerd = world.wherry.containerd_pid().unwrap();

    kill_process(containerd, Signal::STOP).unwrap();
    let begun = Instant::now();
    let (status, text) = world.wherry.readiness().await;
    assert!(status == 503 && text.contains("containerd"), "{status}: {text}");
    assert!(begun.elapsed() < Duration::from_secs(5), "/readyz took {:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(world.get("steady").await.id, steady.id);
    assert_eq!(dns::over_udp(world.wherry.dns, &steady.fqdn).addresses.len(), 1);
    let made = world.create(&world.script("meanwhile", "sleep 999 & wait")).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "the API hangs with containerd: {:?}", begun.elapsed());
    assert!(runs(pid));

    kill_process(containerd, Signal::CONT).unwrap();
    ready_again(&world, Duration::from_secs(15)).await;
    world.reach(&made.id, InstanceState::Running).await;
    let now = world.reach("steady", InstanceState::Running).await;
    assert_eq!((pid_of(&world, &steady.id), now.containers[0].runs.len()), (pid, 1));
    world.finish().await;
}

#[tokio::test]
async fn without_room_a_create_is_refused_with_a_time_to_come_back() {
    let world = World::start_with("[node]\ncpu_millis = 100\n").await;
    world.run(&world.script("first", "sleep 999 & wait")).await;
    world.run(&world.script("second", "sleep 999 & wait")).await;
    let body = serde_json::to_vec(&world.script("third", "sleep 999 & wait")).unwrap();
    let request = plain_client().post(world.wherry.url("/v1/projects/default/instances")).body(body);
    let request = request.header("content-type", "application/json").bearer_auth(world.wherry.token().await);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 503);
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=300).contains(&wait), "{wait}");
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "capacity_unavailable", "{problem}");
    let run = ["run", &world.tool, "--name", "third", "--cpu", "50m", "--memory", "32Mi"];
    world.wherry.cli(&run).await.badly(4, &["no capacity"]);
    world.wherry.cli(&["inspect", "third"]).await.badly(3, &["third"]);

    // A name that was refused is free, and so is the room of what is deleted.
    world.delete("first").await;
    world.run(&world.script("third", "sleep 999 & wait")).await;
    world.finish().await;
}

/// A small file system of its own, unmounted whatever happens.
struct SmallDisk {
    point: PathBuf,
}

impl SmallDisk {
    fn mount(scratch: &Path, mebibytes: u64) -> Self {
        let (file, point) = (scratch.join("disk.img"), scratch.join("disk"));
        fs::create_dir(&point).unwrap();
        fs::File::create(&file).unwrap().set_len(mebibytes << 20).unwrap();
        let file = file.to_str().unwrap();
        output_of("mkfs.ext4", &["-q", "-m", "0", file]);
        output_of("mount", &["-o", "loop", file, point.to_str().unwrap()]);
        Self { point }
    }

    /// Leaves not a block.
    fn fill(&self) {
        let mut file = fs::File::create(self.filler()).unwrap();
        let chunk = vec![1_u8; 64 << 10];
        for size in [64 << 10, 4 << 10, 512] {
            while std::io::Write::write_all(&mut file, &chunk[..size]).is_ok() {}
        }
        file.sync_all().ok();
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.point.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["--lazy"]).arg(&self.point).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_new_work_and_keeps_what_runs() {
    let scratch = tempfile::Builder::new().prefix("we-disk-").tempdir().unwrap();
    let disk = SmallDisk::mount(scratch.path(), 192);
    let own = tempfile::Builder::new().prefix("we-").tempdir().unwrap();
    let world = World::start_in(Wherry::prepare_in(own, disk.point.join("data"), "")).await;
    let image = world.web_image().await;
    let mut create = world.script("web", "");
    create.containers = vec![ContainerSpec { command: Vec::new(), image, ..create.containers[0].clone() }];
    let web = world.run(&create).await;
    let pid = pid_of(&world, &web.id);

    disk.fill();
    // The database has a little room in its files; after that each write is refused, not lost.
    let mut kept = Vec::new();
    let refusal = loop {
        let name = format!("project-{}", kept.len());
        match world.client.create_project(&name).await {
            Ok(_) => kept.push(name),
            Err(error) => break error,
        }
        assert!(kept.len() < 20_000, "the disk is not full");
    };
    println!("{} projects fitted in", kept.len());
    assert_eq!((refusal.status(), refusal.code()), (Some(503), Some("unavailable")), "{refusal}");
    let error = world
        .client
        .create_instance(PROJECT, &world.script("new", "sleep 999 & wait"), Some("key-new"))
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(503));
    assert!(error.to_string().contains("disk is full"), "{error}");
    // What runs goes on, and is answered for.
    assert!(runs(pid));
    assert_eq!(world.get("web").await.state, InstanceState::Running);
    let address = dns::over_udp(world.wherry.dns, &web.fqdn).addresses[0];
    let page = plain_client().get(format!("http://{address}/")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Hello"), "{page}");

    disk.free();
    let made =
        world.client.create_instance(PROJECT, &world.script("new", "sleep 999 & wait"), Some("key-new")).await.unwrap();
    world.reach(&made.id, InstanceState::Running).await;
    let now = world.get("web").await;
    assert_eq!((now.state, now.containers[0].runs.len(), pid_of(&world, &web.id)), (InstanceState::Running, 1, pid));
    let projects = world.client.projects().await.unwrap();
    assert_eq!(projects.items.len(), kept.len() + 1, "acknowledged and lost");
    world.finish().await;
}
