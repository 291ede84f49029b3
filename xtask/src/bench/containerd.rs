//! `ctr run -d` on a containerd of our own: what Wherry is measured against.
//!
//! It runs in a private mount namespace without the cgroup v2 mount of hybrid hosts, because crun refuses them; runc
//! does not mind. No network is set up: that is Wherry's extra work, and its ratio includes it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use wherry_demo_images::OciImage;

use super::first_byte::{self, Subject};
use crate::command::{capture, succeeds};

const IMAGE: &str = "bench.invalid/first-byte:1";
const READY_WITHIN: Duration = Duration::from_secs(20);
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);
const POLL_EVERY: Duration = Duration::from_millis(2);

/// A containerd below a scratch folder, ended when dropped.
pub(super) struct Containerd {
    child: Child,
    scratch: PathBuf,
}

impl Containerd {
    /// Starts it and imports the program's image.
    pub(super) fn start(scratch: &Path, image: &OciImage) -> Result<Self> {
        fs::create_dir_all(scratch).context("cannot create containerd's folder")?;
        let config = scratch.join("config.toml");
        let text = format!(
            "version = 2\nroot = \"{root}\"\nstate = \"{state}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.restart\"]\n\
             [grpc]\naddress = \"{socket}\"\n",
            root = scratch.join("root").display(),
            state = scratch.join("state").display(),
            socket = scratch.join("containerd.sock").display(),
        );
        fs::write(&config, text).context("cannot write containerd's configuration")?;
        let log = File::create(scratch.join("containerd.log")).context("cannot create containerd's log")?;
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec containerd --config \"$0\"";
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "slave", "sh", "-c", script])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start containerd: run `cargo xtask setup`")?;
        let containerd = Self { child, scratch: scratch.to_owned() };
        containerd.wait_ready()?;
        let archive = scratch.join("image.tar");
        image.write_archive(&archive, IMAGE)?;
        capture(containerd.ctr().args(["images", "import"]).arg(&archive)).context("ctr cannot import the image")?;
        Ok(containerd)
    }

    fn wait_ready(&self) -> Result<()> {
        let started = Instant::now();
        while !succeeds(self.ctr().arg("version")) {
            if started.elapsed() > READY_WITHIN {
                bail!("containerd did not start: see {}", self.scratch.join("containerd.log").display());
            }
            std::thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.scratch.join("containerd.sock")).args(["--namespace", "bench"]);
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // What a failed start has left would keep its mounts. The calls below fail only if there is nothing to end.
        let left = capture(self.ctr().args(["tasks", "ls", "--quiet"])).unwrap_or_default();
        for id in left.lines() {
            succeeds(self.ctr().args(["tasks", "rm", "--force", id]));
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// `ctr run -d` with one of the low-level runtimes.
pub(super) struct CtrRun<'a> {
    pub(super) containerd: &'a Containerd,
    /// `runc` or `crun`.
    pub(super) runtime: &'static str,
    pub(super) name: &'static str,
}

impl Subject for CtrRun<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn start_once(&mut self, number: usize) -> Result<Duration> {
        let id = format!("bench-{}-{number}", self.runtime);
        let log = self.containerd.scratch.join(format!("{id}.log"));
        let mut run = self.containerd.ctr();
        run.args(["run", "--detach", "--runc-binary", self.runtime, "--log-uri"])
            .arg(format!("file://{}", log.display()))
            .args([IMAGE, &id]);
        let ordered = first_byte::now();
        let taken = capture(&mut run).and_then(|_| first_byte::since(ordered, &wait_for_line(&log)?));
        let ended = capture(self.containerd.ctr().args(["tasks", "rm", "--force", &id]))
            .and_then(|_| capture(self.containerd.ctr().args(["containers", "rm", &id])));
        let taken = taken?;
        ended.context("ctr cannot remove the container")?;
        fs::remove_file(&log).context("cannot remove the container's log")?;
        Ok(taken)
    }
}

fn wait_for_line(log: &Path) -> Result<String> {
    let started = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        if text.ends_with('\n') {
            return Ok(text);
        }
        if started.elapsed() > WRITTEN_WITHIN {
            bail!("the program wrote nothing to {} within {WRITTEN_WITHIN:?}", log.display());
        }
        std::thread::sleep(POLL_EVERY);
    }
}
