//! A real containerd in a scratch folder, an image of the machine's static busybox, and a registry to pull it from.

mod registry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wherry_runtime::{
    ContainerConfig, ContainerId, ContainerRuntime, ContainerState, ContainerStatus, PullRequest, PulledImage,
    SandboxConfig, SandboxId,
};
use wherry_runtime_cri::CriRuntime;
use wherry_runtime_cri::containerd::{Containerd, ContainerdOptions, Handler, OciRuntime};
use wherry_runtime_cri::oci::{Entry, ImageConfig, OciImage};

pub(crate) use registry::Registry;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The engine and where it lives. Call [`Engine::finish`] at the end; a failed test cleans up on drop as far as it can.
pub(crate) struct Engine {
    pub(crate) containerd: Containerd,
    pub(crate) runtime: Arc<CriRuntime>,
    pub(crate) registry: Registry,
    pub(crate) options: ContainerdOptions,
    scratch: tempfile::TempDir,
    finished: bool,
}

pub(crate) fn options(scratch: &Path, oci_runtime: OciRuntime) -> ContainerdOptions {
    // Tests run at the same time, in processes of their own.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("wherry-test-{}-{number}", std::process::id());
    ContainerdOptions {
        data_dir: scratch.join("data"),
        run_dir: Path::new("/run").join(&name),
        address_range: format!(
            "10.{}.{}.0/24",
            100 + (std::process::id() + number) % 100,
            std::process::id() / 100 % 250
        ),
        cgroup_root: format!("/{name}"),
        oci_runtime,
        // The other one than the usual, so that it can be told apart.
        handlers: BTreeMap::from([("sandboxed".to_owned(), other_than(oci_runtime))]),
    }
}

const fn other_than(oci_runtime: OciRuntime) -> Handler {
    match oci_runtime {
        OciRuntime::Automatic | OciRuntime::Crun => Handler::Runc,
        OciRuntime::Runc => Handler::Crun,
    }
}

impl Engine {
    pub(crate) async fn start() -> Self {
        Self::start_with(OciRuntime::Automatic).await
    }

    pub(crate) async fn start_with(oci_runtime: OciRuntime) -> Self {
        Self::start_warm(oci_runtime, 0).await
    }

    pub(crate) async fn start_warm(oci_runtime: OciRuntime, warm_sandboxes: u32) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests start containers: run them as root");
        let scratch = tempfile::tempdir().unwrap();
        let options = options(scratch.path(), oci_runtime);
        let containerd = Containerd::new(options.clone())
            .unwrap_or_else(|error| panic!("{error}; `cargo xtask test` installs what the tests need"))
            .with_warm_sandboxes(warm_sandboxes);
        let registry = Registry::serve().await;
        registry.publish("busybox", &busybox(BTreeMap::new()));
        let labels = BTreeMap::from([("containerd.io/restart.status".to_owned(), "running".to_owned())]);
        registry.publish("restarting", &busybox(labels));
        // As base64 of what `private_auth` says.
        registry.publish_private(
            "private",
            &busybox(BTreeMap::from([("private".to_owned(), "yes".to_owned())])),
            "Basic cm9ib3Q6a2VwdA==",
        );
        std::fs::create_dir_all(scratch.path().join("logs")).unwrap();
        if let Err(error) = containerd.ensure_running().await {
            let log = std::fs::read_to_string(containerd.log_path()).unwrap_or_default();
            containerd.destroy().await.unwrap();
            panic!("{error}: {:?}\n{log}", std::error::Error::source(&error).map(ToString::to_string));
        }
        let runtime = containerd.runtime();
        Self { containerd, runtime, registry, options, scratch, finished: false }
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.scratch.path().join("logs")
    }

    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(self.containerd.log_path()).unwrap_or_default()
    }

    pub(crate) async fn pull(&self, name: &str) -> PulledImage {
        let reference = self.registry.reference(name);
        let request = PullRequest { reference, auth: None, timeout: Duration::from_secs(30) };
        self.runtime.pull_image(&request).await.unwrap()
    }

    pub(crate) fn sandbox_config(&self, name: &str) -> SandboxConfig {
        SandboxConfig {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "test".into(),
            hostname: name.to_owned(),
            log_directory: self.logs(),
            cgroup_name: format!("i-{name}"),
            pids_max: 50,
            ..SandboxConfig::default()
        }
    }

    /// Starts one container that runs this shell text, in a sandbox of its own.
    pub(crate) async fn run(&self, name: &str, shell: &str) -> (SandboxId, ContainerId) {
        let image = self.pull("busybox").await;
        let sandbox_config = self.sandbox_config(name);
        let sandbox = self.runtime.run_sandbox(&sandbox_config).await.unwrap();
        let config = ContainerConfig {
            name: name.to_owned(),
            image: image.pinned_reference,
            command: ["/bin/sh", "-c", shell].map(str::to_owned).to_vec(),
            log_path: format!("{name}.log").into(),
            cpu_millis: 250,
            memory_bytes: 32 << 20,
            ..ContainerConfig::default()
        };
        let id = self.runtime.create_container(&sandbox, &sandbox_config, &config).await.unwrap();
        self.runtime.start_container(&id).await.unwrap();
        (sandbox, id)
    }

    pub(crate) async fn status(&self, id: &ContainerId) -> ContainerStatus {
        self.runtime.container(id).await.unwrap().expect("the container is known")
    }

    pub(crate) async fn wait_for(&self, id: &ContainerId, state: ContainerState) -> ContainerStatus {
        for _ in 0..1000 {
            let status = self.status(id).await;
            if status.state == state {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("container is not {state:?}: {:?}", self.status(id).await);
    }

    /// What the container has written so far, without the log format's time and stream.
    pub(crate) fn output(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.logs().join(format!("{name}.log"))).unwrap_or_default();
        text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).fold(String::new(), |all, line| all + line + "\n")
    }

    /// Removes everything, and fails when a trace is left.
    pub(crate) async fn finish(mut self) {
        self.finished = true;
        let leftovers = self.containerd.destroy().await.unwrap();
        assert!(leftovers.is_empty(), "left behind: {leftovers:#?}");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        eprintln!("containerd's log:\n{}", self.log_text());
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                if let Err(error) = self.containerd.destroy().await {
                    eprintln!("cannot clean up: {error}");
                }
            });
        });
    }
}

/// Debian's static busybox with the few names that tests call.
pub(crate) fn busybox(labels: BTreeMap<String, String>) -> OciImage {
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
    let program = program.expect("busybox is missing: apt-get install busybox-static, or run `cargo xtask test`");
    let mut entries = vec![
        Entry::folder("bin"),
        Entry::folder("tmp"),
        Entry::folder("etc"),
        Entry::file("etc/passwd", b"root:x:0:0::/:/bin/sh\nweb:x:33:33::/:/bin/sh\n".to_vec()),
        Entry::executable("bin/busybox", program),
    ];
    for name in [
        "sh", "echo", "sleep", "cat", "true", "ping", "id", "ip", "dd", "head", "tail", "ls", "mount", "wget", "tr",
        "wc",
    ] {
        entries.push(Entry::symlink(&format!("bin/{name}"), "busybox"));
    }
    let config = ImageConfig { env: vec!["PATH=/bin".into()], labels, ..ImageConfig::default() };
    OciImage::build(&entries, &config).unwrap()
}
