//! What the engine must hold before a container can see it: folders in memory, and folders inside of volumes.
//!
//! Both are mounts in the engine's own mount namespace, so that neither the machine nor anybody else on it sees them, and
//! they end with the engine and its shims. Removing the folder on the machine, where nothing is mounted, detaches them
//! (the kernel does so since 3.18).
//!
//! A folder inside of a volume is found by walking: each step is taken from the folder that was entered before, and the
//! kernel is asked where that led. So a link that a container puts in the way, at whatever moment, is seen, and what is
//! shown is the folder that was entered and not a path that could mean another by then. Rejected: resolving the path first
//! and handing it to the engine, which resolves it again (CVE-2017-1002101 of Kubernetes).
//!
//! Done by a shell, because a thread can only change its mount namespace by calls that this workspace forbids as unsafe.

use std::borrow::Cow;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Mutex;
use wherry_runtime::{Mount, Result, RuntimeError};

use crate::secret_files;

/// A step of the preparation takes milliseconds; a machine that takes longer is stuck.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a file system in memory for each file that it may hold.
const BYTES_PER_FILE: u64 = 4096;
const FILES_MIN: u64 = 64;

/// The way does not lead on.
const NO_FOLDER: i32 = 41;
/// The way leads elsewhere.
const ELSEWHERE: i32 = 42;

/// `$1` where, `$2` bytes, `$3` files.
const MEMORY: &str = r#"set -eu
mountpoint -q -- "$1" || mount -t tmpfs -o "size=$2,nr_inodes=$3,mode=0777,nosuid,nodev" wherry "$1""#;

/// `$1` the whole, `$2` the way in it, `$3` where the folder is held.
const PART: &str = r#"set -eu
cd -P -- "$1"
here=$(pwd -P)
rest=$2
while [ -n "$rest" ]; do
  next=${rest%%/*}
  case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
  mkdir -m 0777 -- "./$next" 2>/dev/null || true
  cd -P -- "./$next" 2>/dev/null || exit 41
  here=$here/$next
  [ "$(pwd -P)" = "$here" ] || exit 42
done
mkdir -p -- "$3"
if mountpoint -q -- "$3"; then umount -l -- "$3"; fi
exec mount --no-canonicalize --bind . "$3""#;

/// Makes ready what mounts need; one at a time, two containers may share a folder.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    one_at_a_time: Mutex<()>,
}

/// The path that the engine shows.
pub(crate) fn shown(mount: &Mount) -> Cow<'_, Path> {
    let file = mount.secret_files.as_ref().and_then(|files| files.shown.as_ref());
    match (&mount.part, file) {
        (Some(part), _) => Cow::Borrowed(&part.stage),
        (None, Some(file)) => Cow::Owned(mount.host_path.join(file)),
        (None, None) => Cow::Borrowed(&mount.host_path),
    }
}

impl Mounts {
    /// Costs nothing where there is nothing to do.
    pub(crate) async fn prepare(&self, socket: &Path, mounts: &[Mount]) -> Result<()> {
        let needs_help =
            |mount: &&Mount| mount.memory_bytes.is_some() || mount.part.is_some() || mount.secret_files.is_some();
        if !mounts.iter().any(|mount| needs_help(&mount)) {
            return Ok(());
        }
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let engine = engine(socket).await?;
        for mount in mounts.iter().filter(needs_help) {
            if let Some(bytes) = mount.memory_bytes {
                let files = (bytes / BYTES_PER_FILE).max(FILES_MIN);
                let (bytes, files) = (bytes.to_string(), files.to_string());
                let arguments = [mount.host_path.as_ref(), Path::new(&bytes), Path::new(&files)];
                match run(engine, MEMORY, &arguments).await? {
                    (0, _) => {}
                    (code, said) => return Err(failed(code, &said)),
                }
            }
            if let Some(files) = &mount.secret_files {
                let (bytes, count) = secret_files::room(files);
                let (bytes, count) = (bytes.to_string(), count.to_string());
                let arguments = [mount.host_path.as_ref(), Path::new(&bytes), Path::new(&count)];
                match run(engine, secret_files::MOUNT, &arguments).await? {
                    (0, _) => {}
                    (code, said) => return Err(failed(code, &said)),
                }
                let (folder, files) = (mount.host_path.clone(), files.clone());
                let written = tokio::task::spawn_blocking(move || secret_files::write(engine, &folder, &files)).await;
                written.map_err(|_| failed(-1, "the writer of secret files ended"))??;
            }
            if let Some(part) = &mount.part {
                let arguments = [mount.host_path.as_ref(), part.path.as_ref(), part.stage.as_ref()];
                match run(engine, PART, &arguments).await? {
                    (0, _) => {}
                    (NO_FOLDER, _) => return Err(refused(part.path.as_ref(), "is no folder in the volume")),
                    (ELSEWHERE, _) => return Err(refused(part.path.as_ref(), "leads out of its place by a link")),
                    (code, said) => return Err(failed(code, &said)),
                }
            }
        }
        Ok(())
    }
}

fn failed(code: i32, said: &str) -> RuntimeError {
    RuntimeError::Internal { message: format!("a mount could not be made ready ({code}): {said}") }
}

fn refused(part: &Path, why: &str) -> RuntimeError {
    RuntimeError::InvalidArgument { message: format!("sub path {:?} {why}", part.to_string_lossy()) }
}

/// The process that listens at the engine's socket.
async fn engine(socket: &Path) -> Result<i32> {
    let away = |error: std::io::Error| RuntimeError::Unavailable { message: error.to_string() };
    let connected = tokio::net::UnixStream::connect(socket).await.map_err(away)?;
    let listener = connected.peer_cred().map_err(away)?;
    listener.pid().ok_or_else(|| RuntimeError::Unavailable { message: "its socket names no process".to_owned() })
}

async fn run(engine: i32, script: &str, arguments: &[&Path]) -> Result<(i32, String)> {
    let internal = |message: String| RuntimeError::Internal { message };
    let mut command = Command::new("nsenter");
    command.args(["--target", &engine.to_string(), "--mount", "--", "sh", "-c", script, "sh"]).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(LIMIT, command.output()).await;
    let ended = ended.map_err(|_| RuntimeError::Timeout { call: "mount", after: LIMIT })?;
    let output = ended.map_err(|error| internal(format!("nsenter cannot be started: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok((output.status.code().unwrap_or(-1), said))
}
