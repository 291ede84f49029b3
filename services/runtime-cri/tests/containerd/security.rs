//! The profile, as seen from inside a container and from the machine.

use std::path::Path;
use std::time::Duration;

use wherry_runtime::{ContainerConfig, ContainerRuntime as _, ContainerState, RuntimeError, RuntimeEvent};

use crate::support::Engine;

/// CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, KILL 5, SETGID 6, SETUID 7, NET_BIND_SERVICE 10.
const CAPABILITY_MASK: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10;

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_confined() {
    let engine = Engine::start().await;
    let script = "cat /proc/self/status; \
        (echo 1 > /proc/sys/kernel/panic) 2>&1 | tail -1; \
        echo kcore $(head -c 1 /proc/kcore | wc -c); \
        mount -t tmpfs none /tmp 2>&1 | tail -1; \
        echo ipv6 $(cat /proc/sys/net/ipv6/conf/all/disable_ipv6); \
        echo ping $(cat /proc/sys/net/ipv4/ping_group_range); \
        echo devices $(ls /dev | tr '\\n' ' '); \
        echo done";
    let (_, id) = engine.run("confined", script).await;
    engine.wait_for(&id, ContainerState::Exited).await;
    let output = engine.output("confined");
    for set in ["CapBnd:", "CapPrm:", "CapEff:"] {
        let mask = u64::from_str_radix(field(&output, set), 16).unwrap();
        assert_eq!(mask, CAPABILITY_MASK, "{set} {mask:#x}");
    }
    assert_eq!(field(&output, "CapAmb:"), "0000000000000000");
    assert_eq!(field(&output, "NoNewPrivs:"), "1");
    assert_eq!(field(&output, "Seccomp:"), "2");
    assert!(output.contains("Read-only file system"), "{output}");
    assert_eq!(field(&output, "kcore"), "0");
    assert!(output.contains("permission denied") || output.contains("Operation not permitted"), "{output}");
    assert_eq!(field(&output, "ipv6"), "1");
    assert_eq!(field(&output, "ping").split_whitespace().collect::<Vec<_>>(), ["0", "2147483647"]);
    let devices = field(&output, "devices");
    assert!(devices.contains("null") && !devices.contains("vda") && !devices.contains("kmsg"), "{devices}");
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_namespace_is_the_machines() {
    let engine = Engine::start().await;
    let (_, id) = engine.run("spaces", "sleep 1000").await;
    let pid = engine.status(&id).await.pid.unwrap();
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let inside = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        // cgroup v1 has no namespace of its own in the default profile of OCI runtimes.
        if kind != "cgroup" || Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            assert_ne!(inside, outside, "{kind}");
        }
    }
    let adjusted = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(adjusted.trim(), "500");
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_and_memory_are_bounded() {
    let engine = Engine::start().await;
    let fork = "i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done 2>&1; echo all";
    engine.run("forks", fork).await;
    for _ in 0..200 {
        if engine.output("forks").contains("can't fork") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(engine.output("forks").contains("can't fork"), "{}", engine.output("forks"));

    let (_, id) = engine.run("limits", "sleep 1000").await;
    let pid = engine.status(&id).await.pid.unwrap();
    // Limits that the kernel holds for the container, in cgroup v1 or v2.
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let memory = cgroups.lines().find_map(|line| {
        let mut words = line.splitn(3, ':');
        let (_, controllers, path) = (words.next()?, words.next()?, words.next()?);
        match controllers {
            "memory" => Some(format!("/sys/fs/cgroup/memory{path}")),
            "" if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => Some(format!("/sys/fs/cgroup{path}")),
            _ => None,
        }
    });
    let memory = memory.unwrap();
    let read = |name: &str| std::fs::read_to_string(Path::new(&memory).join(name)).ok();
    let limit = read("memory.limit_in_bytes").or_else(|| read("memory.max")).unwrap();
    assert_eq!(limit.trim(), (32 << 20).to_string());
    if let Some(both) = read("memory.memsw.limit_in_bytes") {
        assert_eq!(both.trim(), (32 << 20).to_string(), "memory and swap together");
    }
    if let Some(swap) = read("memory.swap.max") {
        assert_eq!(swap.trim(), "0");
    }
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_memory_ends_as_oom_killed() {
    let engine = Engine::start().await;
    let mut events = engine.runtime.events();
    // A wake-up may be lost, and is while the subscription does not stand yet: one of several must come.
    let mut told = false;
    for name in ["hungry", "hungrier", "hungriest"] {
        let (_, id) = engine.run(name, "exec dd if=/dev/zero of=/dev/null bs=128M count=1").await;
        let ended = engine.wait_for(&id, ContainerState::Exited).await;
        assert_eq!((ended.reason.as_str(), ended.exit_code), ("OOMKilled", Some(137)), "{ended:?}");
        let of_it = async {
            while let Ok(event) = events.recv().await {
                if event == (RuntimeEvent::OutOfMemory { id: id.to_string() }) {
                    return;
                }
            }
        };
        told = tokio::time::timeout(Duration::from_secs(5), of_it).await.is_ok();
        if told {
            break;
        }
    }
    assert!(told, "no kill was told");
    engine.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_resolved_in_the_image() {
    let engine = Engine::start().await;
    let image = engine.pull("busybox").await;
    let sandbox_config = engine.sandbox_config("users");
    let sandbox = engine.runtime.run_sandbox(&sandbox_config).await.unwrap();
    for (name, user, expected) in [("number", "7:8", "7 8"), ("word", "web", "33 33"), ("nobody", "ghost", "")] {
        let config = ContainerConfig {
            name: name.into(),
            image: image.pinned_reference.clone(),
            command: ["/bin/sh", "-c", "echo $(id -u) $(id -g)"].map(str::to_owned).to_vec(),
            user: Some(user.into()),
            log_path: format!("{name}.log").into(),
            ..ContainerConfig::default()
        };
        let created = engine.runtime.create_container(&sandbox, &sandbox_config, &config).await;
        if expected.is_empty() {
            assert!(matches!(created, Err(RuntimeError::CannotStart { .. })), "{created:?}");
            continue;
        }
        let id = created.unwrap();
        engine.runtime.start_container(&id).await.unwrap();
        engine.wait_for(&id, ContainerState::Exited).await;
        assert_eq!(engine.output(name).trim(), expected);
    }
    engine.finish().await;
}
