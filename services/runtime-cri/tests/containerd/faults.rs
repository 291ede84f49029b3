//! containerd killed, stuck, half-way; a registry that is away or slow. Nothing is lost, nothing is left.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use wherry_runtime::{ContainerRuntime, ContainerState, Labels, PullRequest, RuntimeError, RuntimeEvent, SandboxState};
use wherry_runtime_cri::containerd::{Containerd, OciRuntime, Outcome, Swept};
use wherry_runtime_cri::oci::{Entry, ImageConfig, OciImage};

use crate::support::Engine;

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

async fn kill_containerd(engine: &Engine) {
    send(engine.containerd.pid().expect("containerd runs"), Signal::KILL);
    while engine.containerd.pid().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Shims, network namespace files and leases that are there.
fn traces(engine: &Engine) -> (usize, usize, usize) {
    let count = |folder: std::path::PathBuf| std::fs::read_dir(folder).map_or(0, |entries| entries.flatten().count());
    let shims = engine.containerd.leftovers().processes.len();
    let namespaces = count(engine.options.run_dir.join("state/io.containerd.grpc.v1.cri/netns"));
    let leases = std::fs::read_dir(engine.options.data_dir.join("leases/wherry")).map_or(0, |entries| {
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().parse::<std::net::Ipv4Addr>().is_ok())
            .count()
    });
    (shims, namespaces, leases)
}

/// Waits until containerd alone is left, and so many sandboxes that were made in advance. A process that containerd is about to start looks like it for an instant.
async fn assert_nothing_but_containerd(engine: &Engine, warm: usize, when: &str) {
    for _ in 0..250 {
        if traces(engine) == (1 + 2 * warm, warm, warm) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!(
        "{when}, (processes, network namespaces, leases) are {:?}: {:#?}",
        traces(engine),
        engine.containerd.leftovers()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_a_killed_containerd() {
    let engine = Engine::start().await;
    let (sandbox, id) = engine.run("survivor", "while true; do echo tick; sleep 1; done").await;
    let before = engine.status(&id).await;
    let address = engine.runtime.sandbox(&sandbox).await.unwrap().unwrap().address.unwrap();

    kill_containerd(&engine).await;
    assert!(matches!(engine.runtime.version().await, Err(RuntimeError::Unavailable { .. })));
    let mut events = engine.runtime.events();
    let outcome = engine.containerd.ensure_running().await.unwrap();
    assert!(matches!(outcome, Outcome::Started(ref swept) if *swept == Swept::default()), "{outcome:?}");
    let woken = async { while events.recv().await != Ok(RuntimeEvent::Resynchronise) {} };
    tokio::time::timeout(Duration::from_secs(5), woken)
        .await
        .expect("listeners learn that they may have missed something");

    let after = engine.status(&id).await;
    assert_eq!((after.pid, after.state, after.started_at), (before.pid, ContainerState::Running, before.started_at));
    let lines = engine.output("survivor").lines().count();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(engine.output("survivor").lines().count() >= lines + 2, "the log does not go on");
    // The network namespace is still reachable, from the machine and for new containers.
    let ping =
        std::process::Command::new("busybox").args(["ping", "-c", "1", "-W", "2", &address.to_string()]).output();
    assert!(ping.unwrap().status.success(), "{address} does not answer");

    let second = Containerd::new(engine.options.clone()).unwrap();
    assert_eq!(second.ensure_running().await.unwrap(), Outcome::Running, "a second supervisor adopts it");
    assert_eq!(second.runtime().list_sandboxes(&Labels::new()).await.unwrap().len(), 1);

    engine.runtime.remove_sandbox(&sandbox).await.unwrap();
    assert_nothing_but_containerd(&engine, 0, "after the removal").await;
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_killed_at_once_is_cleaned_up() {
    let engine = Engine::start().await;
    let (sandbox, id) = engine.run("victim", "sleep 1000").await;
    let everyone = engine.containerd.leftovers().processes;
    assert!(everyone.len() >= 4, "containerd, shim, pause and shell: {everyone:?}");
    for pid in everyone.into_keys() {
        send(pid, Signal::KILL);
    }
    while engine.containerd.pid().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    engine.containerd.ensure_running().await.unwrap();
    let status = engine.runtime.sandbox(&sandbox).await.unwrap().expect("its record is left to learn from");
    assert_eq!((status.sandbox.state, status.address), (SandboxState::NotReady, None));
    assert_ne!(engine.status(&id).await.state, ContainerState::Running);
    engine.runtime.remove_sandbox(&sandbox).await.unwrap();
    assert_nothing_but_containerd(&engine, 0, "after the removal").await;
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_half_way_leave_nothing() {
    kill_half_way(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_half_way_leave_nothing_but_warm_sandboxes() {
    kill_half_way(1).await;
}

/// Kills containerd at another moment of starting or removing a sandbox each time. The moments come from a fixed list, so a
/// failure can be run again.
async fn kill_half_way(warm: usize) {
    let engine = Engine::start_warm(OciRuntime::Automatic, u32::try_from(warm).unwrap()).await;
    let image = engine.pull("busybox").await;
    for (round, after_ms) in [3_u64, 9, 16, 24, 33, 43, 54, 66, 80, 95, 110, 130, 150, 180].into_iter().enumerate() {
        let name = format!("half{round}");
        let sandbox_config = engine.sandbox_config(&name);
        let config = wherry_runtime::ContainerConfig {
            name: name.clone(),
            image: image.pinned_reference.clone(),
            command: vec!["/bin/sleep".into(), "1000".into()],
            log_path: format!("{name}.log").into(),
            ..Default::default()
        };
        let runtime = engine.containerd.runtime();
        let life = tokio::spawn(async move {
            let sandbox = runtime.run_sandbox(&sandbox_config).await?;
            let container = runtime.create_container(&sandbox, &sandbox_config, &config).await?;
            runtime.start_container(&container).await?;
            runtime.remove_sandbox(&sandbox).await
        });
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        kill_containerd(&engine).await;
        drop(life.await.unwrap());
        let outcome = engine.containerd.ensure_running().await.unwrap();
        eprintln!("killed after {after_ms} ms: {outcome:?}");
        for sandbox in engine.runtime.list_sandboxes(&Labels::new()).await.unwrap() {
            engine.runtime.remove_sandbox(&sandbox.id).await.unwrap();
        }
        assert_nothing_but_containerd(&engine, warm, &format!("after a kill at {after_ms} ms")).await;
        let cgroups = engine.containerd.leftovers().cgroups;
        assert!(cgroups.iter().all(|folder| !folder.to_string_lossy().contains("half")), "{cgroups:?}");
    }
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_containerd_is_replaced_and_its_containers_live() {
    let engine = Engine::start().await;
    let (_, id) = engine.run("patient", "sleep 1000").await;
    let before = engine.status(&id).await.pid;
    send(engine.containerd.pid().unwrap(), Signal::STOP);
    let stuck = engine.runtime.version().await;
    assert!(matches!(stuck, Err(RuntimeError::Timeout { .. })), "{stuck:?}");
    // As after a restart of Wherry: nothing is known of it, so one failed look is enough.
    let second = Containerd::new(engine.options.clone()).unwrap();
    let outcome = second.ensure_running().await.unwrap();
    assert!(matches!(outcome, Outcome::Started(_)), "{outcome:?}");
    let after = second.runtime().container(&id).await.unwrap().unwrap();
    assert_eq!((after.state, after.pid), (ContainerState::Running, before));
    engine.finish().await;
}

/// 8 MiB.
fn large() -> OciImage {
    OciImage::build(&[Entry::file("large", vec![7; 8 << 20])], &ImageConfig::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_fail_and_crawl_in_the_open() {
    let engine = Engine::start().await;
    let request =
        |reference: String, seconds| PullRequest { reference, auth: None, timeout: Duration::from_secs(seconds) };
    // Port 1 on loopback: nobody listens.
    let away = engine.runtime.pull_image(&request("127.0.0.1:1/busybox:1".into(), 20)).await;
    assert!(matches!(away, Err(RuntimeError::RegistryUnavailable { .. })), "{away:?}");
    assert!(away.unwrap_err().is_retryable());

    // containerd writes a download in pieces of 1 MiB: one in 800 ms.
    engine.registry.publish("large", &large());
    engine.registry.slow_down(Duration::from_millis(50));
    let runtime = engine.containerd.runtime();
    let slow = request(engine.registry.reference("large"), 3);
    let pull = tokio::spawn(async move { runtime.pull_image(&slow).await });
    let reference = [engine.registry.reference("large")];
    let mut most = 0;
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for progress in engine.runtime.pull_progress(&reference).await.unwrap() {
            assert!(progress.done_bytes <= progress.total_bytes, "{progress:?}");
            assert!(progress.done_layers <= progress.total_layers, "{progress:?}");
            most = most.max(progress.done_bytes);
        }
    }
    assert!(most > 0, "no progress was shown");
    let timed_out = pull.await.unwrap();
    assert!(matches!(timed_out, Err(RuntimeError::Timeout { .. })), "{timed_out:?}");
    engine.registry.slow_down(Duration::ZERO);
    engine.pull("large").await;
    let all = engine.runtime.pull_progress(&reference).await.unwrap()[0];
    assert!(all.total_layers > 0 && all.total_bytes > 0, "{all:?}");
    engine.finish().await;
}
