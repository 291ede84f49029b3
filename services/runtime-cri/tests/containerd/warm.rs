//! Sandboxes made in advance: taken whole, hidden until then, right after any kill.

use std::time::Duration;

use wherry_runtime::conformance::{self, Fixture};
use wherry_runtime::{ContainerRuntime as _, ContainerState, DnsConfig, Labels, RegistryAuth, SandboxState};
use wherry_runtime_cri::containerd::{Containerd, OciRuntime, Outcome};

use crate::support::Engine;

/// Waits until this many sandboxes are ready in advance, told by the host names of their first processes.
pub(crate) async fn wait_for_warm(engine: &Engine, count: usize) {
    for _ in 0..500 {
        let shims = engine.containerd.leftovers().processes.values().filter(|line| *line == "/pause").count();
        if shims == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{count} first processes were expected: {:#?}", engine.containerd.leftovers());
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_sandboxes_conform() {
    let engine = Engine::start_warm(OciRuntime::Automatic, 3).await;
    wait_for_warm(&engine, 3).await;
    let fixture = Fixture {
        image: engine.registry.reference("busybox"),
        missing_image: engine.registry.reference("missing"),
        refused_image: engine.registry.reference("restarting"),
        private_image: engine.registry.reference("private"),
        private_auth: RegistryAuth { username: "robot".to_owned(), password: "kept".to_owned() },
        log_root: engine.logs(),
    };
    for round in 0..2 {
        if let Err(failure) = conformance::all(engine.runtime.as_ref(), &fixture).await {
            panic!("round {round}: {failure}: {:?}", std::error::Error::source(&failure).map(ToString::to_string));
        }
    }
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_sandbox_is_what_was_asked_for() {
    let engine = Engine::start_warm(OciRuntime::Automatic, 1).await;
    wait_for_warm(&engine, 1).await;
    assert!(engine.runtime.list_sandboxes(&Labels::new()).await.unwrap().is_empty(), "an unclaimed sandbox is shown");

    let mut config = engine.sandbox_config("claimed");
    config.labels = Labels::from([("who".into(), "me".into())]);
    config.dns = DnsConfig { servers: vec![[10, 9, 8, 7].into()], searches: vec!["p.test".into()], options: vec![] };
    let image = engine.pull("busybox").await;
    let begin = std::time::Instant::now();
    let sandbox = engine.runtime.run_sandbox(&config).await.unwrap();
    eprintln!("claimed in {:?}", begin.elapsed());
    let script = "hostname; cat /etc/hostname /etc/resolv.conf; \
        i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done 2>&1";
    let container = wherry_runtime::ContainerConfig {
        name: "c".into(),
        image: image.pinned_reference,
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: "c.log".into(),
        ..Default::default()
    };
    let id = engine.runtime.create_container(&sandbox, &config, &container).await.unwrap();
    engine.runtime.start_container(&id).await.unwrap();
    engine.wait_for(&id, ContainerState::Exited).await;
    let output = engine.output("c");
    let lines: Vec<&str> = output.lines().take(4).collect();
    assert_eq!(lines, ["claimed", "claimed", "search p.test", "nameserver 10.9.8.7"], "{output}");
    assert!(output.contains("can't fork"), "the process limit does not hold: {output}");

    wait_for_warm(&engine, 2).await;
    let selected = engine.runtime.list_sandboxes(&config.labels).await.unwrap();
    assert_eq!((selected.len(), &selected[0].id, selected[0].name.as_str()), (1, &sandbox, "claimed"));

    // Killed with everything else that Wherry knew; the claim tells who the sandbox is.
    let pid = rustix::process::Pid::from_raw(i32::try_from(engine.containerd.pid().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let second = Containerd::new(engine.options.clone()).unwrap().with_warm_sandboxes(1);
    assert!(matches!(second.ensure_running().await.unwrap(), Outcome::Started(_)));
    let status = second.runtime().sandbox(&sandbox).await.unwrap().unwrap();
    assert_eq!((status.sandbox.name.as_str(), status.sandbox.state), ("claimed", SandboxState::Ready));
    assert_eq!(status.sandbox.labels, config.labels);
    second.runtime().remove_sandbox(&sandbox).await.unwrap();
    assert!(second.runtime().list_sandboxes(&Labels::new()).await.unwrap().is_empty());
    let cgroups = second.leftovers().cgroups;
    assert!(cgroups.iter().all(|folder| !folder.ends_with("i-claimed")), "{cgroups:?}");
    drop(second);
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_was_used_is_never_handed_over_even_without_its_claim() {
    let engine = Engine::start_warm(OciRuntime::Automatic, 1).await;
    wait_for_warm(&engine, 1).await;
    let (used, container) = engine.run("lost", "sleep 1000").await;
    engine.wait_for(&container, ContainerState::Running).await;
    let claim = engine.options.data_dir.join("claims").join(format!("{used}.json"));
    assert!(claim.exists(), "it was not taken from the warm ones, or claims are kept elsewhere");

    let pid = rustix::process::Pid::from_raw(i32::try_from(engine.containerd.pid().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    std::fs::remove_file(claim).unwrap();
    let second = Containerd::new(engine.options.clone()).unwrap().with_warm_sandboxes(2);
    assert!(matches!(second.ensure_running().await.unwrap(), Outcome::Started(_)));
    for round in 0..200 {
        let left = second.runtime().list_containers(&Labels::new()).await.unwrap();
        if left.is_empty() {
            break;
        }
        assert!(round < 199, "it is kept: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let next = second.runtime().run_sandbox(&engine.sandbox_config("next")).await.unwrap();
    assert_ne!(next, used);
    second.runtime().remove_sandbox(&next).await.unwrap();
    drop(second);
    engine.finish().await;
}
