//! How long a container takes to start, call by call, for crun and runc, beside `ctr run -d` on the same containerd.
//!
//! As root, with busybox-static installed: `cargo run --release -p wherry-runtime-cri --example start_latency -- [ROUNDS]`

#![expect(clippy::unwrap_used, reason = "a measurement that fails may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use wherry_runtime::{ContainerConfig, ContainerRuntime as _, RuntimeError, SandboxConfig};
use wherry_runtime_cri::containerd::{Containerd, ContainerdOptions, OciRuntime};
use wherry_runtime_cri::oci::{Entry, ImageConfig, OciImage};

const IMAGE: &str = "wherry.local/busybox:1";

#[tokio::main]
async fn main() {
    let rounds: u32 = std::env::args().nth(1).map_or(20, |text| text.parse().unwrap());
    let cases = [
        ("crun warm", OciRuntime::Crun, 2),
        ("crun cold", OciRuntime::Crun, 0),
        ("runc warm", OciRuntime::Runc, 2),
        ("runc cold", OciRuntime::Runc, 0),
    ];
    for (name, oci_runtime, warm) in cases {
        let scratch = std::env::temp_dir().join(format!("wherry-latency-{}", std::process::id()));
        std::fs::create_dir_all(scratch.join("logs")).unwrap();
        let containerd = Containerd::new(ContainerdOptions {
            data_dir: scratch.join("data"),
            run_dir: format!("/run/wherry-latency-{}", std::process::id()).into(),
            address_range: "10.99.0.0/16".into(),
            cgroup_root: format!("/wherry-latency-{}", std::process::id()),
            oci_runtime,
            handlers: std::collections::BTreeMap::new(),
        })
        .unwrap()
        .with_warm_sandboxes(warm);
        let started = Instant::now();
        containerd.ensure_running().await.unwrap();
        println!("{name}: containerd ready after {} ms", started.elapsed().as_millis());
        let again = Instant::now();
        containerd.ensure_running().await.unwrap();
        println!("{name}: adopted in {} us", again.elapsed().as_micros());
        let measured = measure(&containerd, &scratch, rounds).await;
        for (call, mut times) in measured {
            times.sort();
            let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1000.0;
            println!("{name}: {call:16} p50 {:7.1} ms  p90 {:7.1} ms  max {:7.1} ms", at(50), at(90), at(100));
        }
        let leftovers = containerd.destroy().await.unwrap();
        assert!(leftovers.is_empty(), "{leftovers:?}");
        std::fs::remove_dir_all(&scratch).unwrap();
    }
}

async fn measure(containerd: &Containerd, scratch: &Path, rounds: u32) -> BTreeMap<&'static str, Vec<Duration>> {
    let program = std::fs::read("/bin/busybox").unwrap();
    let entries =
        [Entry::folder("bin"), Entry::executable("bin/busybox", program), Entry::symlink("bin/sh", "busybox")];
    let image = OciImage::build(&entries, &ImageConfig::default()).unwrap();
    containerd.import_image(&image.archive(IMAGE).unwrap()).await.unwrap();
    let runtime = containerd.runtime();
    while runtime.image(IMAGE).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut times: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
    for round in 0..rounds {
        // A warm sandbox is made between two starts, as in life.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let name = format!("l{round}");
        let sandbox_config = SandboxConfig {
            name: name.clone(),
            uid: name.clone(),
            namespace: "latency".into(),
            log_directory: scratch.join("logs"),
            cgroup_name: name.clone(),
            pids_max: 100,
            ..SandboxConfig::default()
        };
        let config = ContainerConfig {
            name: name.clone(),
            image: IMAGE.into(),
            command: ["/bin/sh", "-c", "echo x; read x < /dev/full; sleep 1000"].map(str::to_owned).to_vec(),
            log_path: format!("{name}.log").into(),
            cpu_millis: 1000,
            memory_bytes: 64 << 20,
            ..ContainerConfig::default()
        };
        let begin = Instant::now();
        let sandbox = runtime.run_sandbox(&sandbox_config).await.unwrap();
        let after_sandbox = Instant::now();
        let id = runtime.create_container(&sandbox, &sandbox_config, &config).await.unwrap();
        let after_create = Instant::now();
        runtime.start_container(&id).await.unwrap();
        let after_start = Instant::now();
        while std::fs::metadata(scratch.join(format!("logs/{name}.log"))).map_or(0, |data| data.len()) == 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let after_byte = Instant::now();
        runtime.remove_sandbox(&sandbox).await.unwrap();
        let after_remove = Instant::now();
        let mut note = |call, time| times.entry(call).or_default().push(time);
        note("1 RunPodSandbox", after_sandbox - begin);
        note("2 CreateContainer", after_create - after_sandbox);
        note("3 StartContainer", after_start - after_create);
        note("4 to first byte", after_byte - begin);
        note("5 remove all", after_remove - after_byte);
        note("6 ctr run -d", ctr_run(containerd, &name).await.unwrap());
    }
    times
}

/// `ctr run -d` of the same image on the same containerd, with the same limits; removed again outside of the time.
async fn ctr_run(containerd: &Containerd, name: &str) -> Result<Duration, RuntimeError> {
    let ctr = || {
        let mut command = tokio::process::Command::new("ctr");
        command.arg("--address").arg(containerd.socket()).args(["--namespace", "k8s.io"]);
        command
    };
    let cgroup = format!("/wherry-latency-{}/ctr-{name}", std::process::id());
    let begin = Instant::now();
    let run = ctr()
        .args(["run", "-d", "--fifo-dir"])
        .arg(containerd.socket().with_file_name("fifo"))
        .args(["--cgroup", &cgroup, "--memory-limit", "67108864", "--runc-binary"])
        .arg(if containerd.uses_crun() { "crun" } else { "runc" })
        .args([IMAGE, &format!("ctr-{name}"), "/bin/sh", "-c", "sleep 1000"])
        .output()
        .await
        .unwrap();
    let time = begin.elapsed();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for arguments in [["task", "kill", "-s", "9"].as_slice(), &["task", "delete", "-f"], &["container", "delete"]] {
        ctr().args(arguments).arg(format!("ctr-{name}")).output().await.unwrap();
    }
    Ok(time)
}
