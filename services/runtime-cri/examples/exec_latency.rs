//! How long a program in a container takes from the order to its exit code, beside `ctr task exec` in the same container, in turn.
//!
//! As root, with busybox-static installed: `cargo run --release -p wherry-runtime-cri --example exec_latency -- [ROUNDS]`

#![expect(clippy::unwrap_used, reason = "a measurement that fails may panic")]

use std::path::Path;
use std::time::{Duration, Instant};

use wherry_runtime::{ContainerConfig, ContainerId, ContainerRuntime, ExecRequest, SandboxConfig};
use wherry_runtime_cri::containerd::{Containerd, ContainerdOptions, OciRuntime};
use wherry_runtime_cri::oci::{Entry, ImageConfig, OciImage};

const IMAGE: &str = "wherry.local/busybox:1";
const WARM_UP: usize = 5;

#[tokio::main]
async fn main() {
    let rounds: usize = std::env::args().nth(1).map_or(200, |text| text.parse().unwrap());
    for (name, oci_runtime) in [("crun", OciRuntime::Crun), ("runc", OciRuntime::Runc)] {
        let scratch = std::env::temp_dir().join(format!("wherry-exec-{}", std::process::id()));
        std::fs::create_dir_all(scratch.join("logs")).unwrap();
        let containerd = Containerd::new(ContainerdOptions {
            data_dir: scratch.join("data"),
            run_dir: format!("/run/wherry-exec-{}", std::process::id()).into(),
            address_range: "10.98.0.0/16".into(),
            cgroup_root: format!("/wherry-exec-{}", std::process::id()),
            oci_runtime,
            handlers: std::collections::BTreeMap::new(),
        })
        .unwrap();
        containerd.ensure_running().await.unwrap();
        let id = host(&containerd, &scratch).await;
        let mut taken = [Vec::new(), Vec::new()];
        for round in 0..WARM_UP + rounds {
            let both =
                [by_ctr(containerd.socket(), &scratch, &id, round), by_wherry(&*containerd.runtime(), &id).await];
            if round >= WARM_UP {
                for (all, one) in taken.iter_mut().zip(both) {
                    all.push(one);
                }
            }
        }
        for (subject, mut times) in ["ctr task exec", "wherry"].into_iter().zip(taken) {
            times.sort();
            let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1000.0;
            println!("| {subject}, {name} | {} | {:.1} | {:.1} |", times.len(), at(50), at(99));
        }
        let leftovers = containerd.destroy().await.unwrap();
        assert!(leftovers.is_empty(), "{leftovers:?}");
        std::fs::remove_dir_all(&scratch).unwrap();
    }
}

async fn host(containerd: &Containerd, scratch: &Path) -> ContainerId {
    let program = std::fs::read("/bin/busybox").unwrap();
    let entries = [
        Entry::folder("bin"),
        Entry::executable("bin/busybox", program),
        Entry::symlink("bin/sleep", "busybox"),
        Entry::symlink("bin/true", "busybox"),
    ];
    let config = ImageConfig { env: vec!["PATH=/bin".into()], ..ImageConfig::default() };
    let image = OciImage::build(&entries, &config).unwrap();
    containerd.import_image(&image.archive(IMAGE).unwrap()).await.unwrap();
    let runtime = containerd.runtime();
    while runtime.image(IMAGE).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sandbox_config = SandboxConfig {
        name: "host".into(),
        uid: "host".into(),
        namespace: "bench".into(),
        log_directory: scratch.join("logs"),
        cgroup_name: "i-host".into(),
        pids_max: 50,
        ..SandboxConfig::default()
    };
    let sandbox = runtime.run_sandbox(&sandbox_config).await.unwrap();
    let config = ContainerConfig {
        name: "host".into(),
        image: IMAGE.into(),
        command: vec!["sleep".into(), "100000".into()],
        log_path: "host.log".into(),
        ..ContainerConfig::default()
    };
    let id = runtime.create_container(&sandbox, &sandbox_config, &config).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    id
}

fn by_ctr(socket: &Path, scratch: &Path, id: &ContainerId, round: usize) -> Duration {
    let mut command = std::process::Command::new("ctr");
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io", "tasks", "exec", "--exec-id"]);
    // The usual folder is another one for this containerd, which has a mount namespace of its own.
    command.arg(format!("ctr-{round}")).arg("--fifo-dir").arg(scratch.join("fifo")).args([id.as_str(), "true"]);
    let started = Instant::now();
    assert!(command.status().unwrap().success());
    started.elapsed()
}

async fn by_wherry(runtime: &dyn ContainerRuntime, id: &ContainerId) -> Duration {
    let request =
        ExecRequest { command: vec!["true".into()], timeout: Duration::from_mins(1), max_output_bytes: 1 << 20 };
    let started = Instant::now();
    assert_eq!(runtime.exec(id, &request).await.unwrap().exit_code, 0);
    started.elapsed()
}
