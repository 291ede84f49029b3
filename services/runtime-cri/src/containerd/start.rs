//! Starting containerd.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use wherry_runtime::{ContainerRuntime as _, Readiness};

use super::config::Layout;
use super::{ContainerdError, Watch};
use crate::adapter::CriRuntime;
use crate::oci::OciImage;
use crate::pause;

/// Longest time that it may take to answer; recovering hundreds of containers takes seconds.
const START_LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(10);
const IMPORT_LIMIT: Duration = Duration::from_secs(30);

/// Lines of the log that are shown when it does not come up.
const LOG_LINES_SHOWN: usize = 5;

/// Moves the fixed paths of containerd and CNI into our folders, and takes the v2 tree out of a hybrid cgroup layout, which
/// crun refuses. `$1` config file, `$2` shim sockets, `$3` CNI cache, `$4` containerd.
const IN_NEW_NAMESPACE: &str = r#"set -e
mkdir -p /run/containerd /var/lib/cni
mount --bind "$2" /run/containerd
mount --bind "$3" /var/lib/cni
if [ -f /sys/fs/cgroup/unified/cgroup.procs ]; then umount /sys/fs/cgroup/unified; fi
exec "$4" --config "$1""#;

/// The namespace of a living shim has all that already.
const IN_OLD_NAMESPACE: &str = r#"exec "$4" --config "$1""#;

/// Starts it in its own session, in a mount namespace of its own or in the one of a shim that survived the last.
pub(super) fn spawn(layout: &Layout, survivor: Option<u32>, sandbox_image: &str) -> Result<Child, ContainerdError> {
    layout.prepare(sandbox_image)?;
    let log = layout.open_log()?;
    let mut command = Command::new("setsid");
    let script = match survivor {
        None => {
            command.args(["unshare", "--mount", "--propagation", "slave", "--"]);
            IN_NEW_NAMESPACE
        }
        Some(shim) => {
            command.args(["nsenter", "--target", &shim.to_string(), "--mount", "--"]);
            IN_OLD_NAMESPACE
        }
    };
    command
        .args(["sh", "-c", script, "sh"])
        .args([&layout.config_file, &layout.shim_sockets, &layout.cni_cache, &layout.containerd])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    keep_only_useful_environment(&mut command);
    command.env("TMPDIR", &layout.temporary);
    // A socket that nobody listens on would make the first calls fail in another way.
    drop(std::fs::remove_file(&layout.socket));
    command.spawn().map_err(|source| ContainerdError::Spawn { program: "setsid unshare containerd".into(), source })
}

/// What is in Wherry's environment may be secret, and shims and hooks inherit it.
fn keep_only_useful_environment(command: &mut Command) {
    const KEPT: &[&str] = &[
        "PATH",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "LANG",
    ];
    command.env_clear();
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
}

/// Waits until engine and network say that they are ready.
pub(super) async fn wait_until_ready(
    layout: &Layout,
    runtime: &CriRuntime,
    watch: &mut Watch,
) -> Result<(), ContainerdError> {
    let started = Instant::now();
    let mut last = "it did not answer".to_owned();
    while started.elapsed() < START_LIMIT {
        if let Some(child) = &mut watch.child
            && let Ok(Some(status)) = child.try_wait()
        {
            let reason = format!("it ended with {status}, saying:\n{}", last_lines(&layout.log));
            return Err(ContainerdError::NotReady { reason, log: layout.log.clone() });
        }
        if layout.socket.exists() {
            match runtime.status().await {
                Ok(Readiness::Ready) => return Ok(()),
                Ok(Readiness::NotReady { reason }) => last = reason,
                // Its CRI plugin failed to load, which it never tries again.
                Err(error) if error.to_string().contains("unknown service") => {
                    let reason = format!("it has no CRI service, saying:\n{}", last_lines(&layout.log));
                    return Err(ContainerdError::NotReady { reason, log: layout.log.clone() });
                }
                Err(error) => last = error.to_string(),
            }
        }
        tokio::time::sleep(POLL).await;
    }
    let reason = format!("after {} s: {last}\n{}", START_LIMIT.as_secs(), last_lines(&layout.log));
    Err(ContainerdError::NotReady { reason, log: layout.log.clone() })
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

/// Imports the sandbox image unless it is there, and waits until the CRI plugin has seen it.
pub(super) async fn import_pause(
    layout: &Layout,
    runtime: &CriRuntime,
    image: &OciImage,
) -> Result<(), ContainerdError> {
    let reference = pause::reference(image);
    if runtime.image(&reference).await?.is_some() {
        return Ok(());
    }
    import(layout, &image.archive(&reference)?).await?;
    let started = Instant::now();
    while runtime.image(&reference).await?.is_none() {
        if started.elapsed() > IMPORT_LIMIT {
            return Err(ContainerdError::SandboxImage("it was imported but CRI does not show it".into()));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Imports an OCI archive into the images that CRI sees.
pub(super) async fn import(layout: &Layout, archive: &[u8]) -> Result<(), ContainerdError> {
    let failed = |text: String| ContainerdError::SandboxImage(text);
    let mut child = tokio::process::Command::new(&layout.ctr)
        .arg("--address")
        .arg(&layout.socket)
        .args(["--namespace", "k8s.io", "images", "import", "--snapshotter", "overlayfs", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| ContainerdError::Spawn { program: "ctr".into(), source })?;
    let mut stdin = child.stdin.take().ok_or_else(|| failed("ctr has no input".into()))?;
    let fed = async {
        // When ctr gives up early, its own words are better than "broken pipe".
        drop(stdin.write_all(archive).await);
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(IMPORT_LIMIT, fed)
        .await
        .map_err(|_elapsed| failed(format!("ctr did not finish within {} s", IMPORT_LIMIT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
