//! One real process in a namespace, with a log, that can be killed, frozen and started again.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::namespace::Namespace;

const LOOK_EVERY: Duration = Duration::from_millis(10);
const LINES_SHOWN: usize = 40;

/// A command and, while it runs, its process. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    namespace: Namespace,
    binary: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    /// The file that it finds in place of the kernel's boot id.
    boot: Option<PathBuf>,
    child: Option<Child>,
}

/// Shell: binds its first argument over the boot id, in a mount namespace of its own, and becomes the rest.
const WITH_BOOT_ID: &str = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";

impl Program {
    /// Names it; starts nothing. What it prints is appended to `log`.
    pub fn new(namespace: &Namespace, binary: &Path, log: PathBuf) -> Self {
        let (namespace, binary) = (namespace.clone(), binary.to_owned());
        Self { namespace, binary, arguments: Vec::new(), environment: Vec::new(), log, boot: None, child: None }
    }

    /// Sets an environment variable from the next start on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// What it runs, or will from the next start on.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Another binary from the next start on: an upgrade.
    pub fn set_binary(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    /// From the next start on it finds this file in place of the kernel's boot id: another boot.
    pub fn set_boot(&mut self, boot: PathBuf) {
        self.boot = Some(boot);
    }

    /// Starts it with these arguments.
    pub fn start<A: Into<OsString>>(&mut self, arguments: impl IntoIterator<Item = A>) -> Result<()> {
        self.arguments = arguments.into_iter().map(Into::into).collect();
        self.start_again()
    }

    /// Starts it with the arguments that it had.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(!self.is_alive()?, "{} runs already", self.describe());
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = match &self.boot {
            None => self.namespace.command(&self.binary),
            Some(boot) => {
                let mut command = self.namespace.command("unshare");
                command
                    .args(["--mount", "--propagation", "slave", "sh", "-c", WITH_BOOT_ID])
                    .arg(boot)
                    .arg(&self.binary);
                command
            }
        };
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log)
            .process_group(0);
        self.child = Some(command.spawn().with_context(|| format!("cannot start {}", self.describe()))?);
        Ok(())
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it runs. One that has ended is reaped.
    pub fn is_alive(&mut self) -> Result<bool> {
        let Some(child) = self.child.as_mut() else { return Ok(false) };
        if child.try_wait().context("cannot watch a process")?.is_some() {
            self.child = None;
        }
        Ok(self.child.is_some())
    }

    /// An error with its last words when it has ended.
    pub fn ensure_alive(&mut self) -> Result<()> {
        ensure!(self.is_alive()?, "{} has ended:\n{}", self.describe(), self.last_lines());
        Ok(())
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP: the kernel goes on accepting connections for it, and nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM, and waits for its end; killed after `patience`, which is an error.
    pub async fn stop(&mut self, patience: Duration) -> Result<()> {
        if self.child.is_none() {
            return Ok(());
        }
        self.signal(Signal::TERM)?;
        let status = self.ended(patience).await?;
        ensure!(status.success(), "{} ended with {status}:\n{}", self.describe(), self.last_lines());
        Ok(())
    }

    /// Waits until it ends by itself; killed after `patience`, which is an error.
    pub async fn ended(&mut self, patience: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        let mut child = self.child.take().with_context(|| format!("{} does not run", self.describe()))?;
        loop {
            if let Some(status) = child.try_wait().context("cannot watch a process")? {
                return Ok(status);
            }
            if begun.elapsed() > patience {
                let _ = child.kill();
                let _ = child.wait();
                bail!("{} did not end within {patience:?}:\n{}", self.describe(), self.last_lines());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Everything that it has printed, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of it, without the lines about answered requests.
    pub fn last_lines(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("\"message\":\"answered\"")).collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.describe()))?;
        kill_process(Pid::from_child(child), signal).with_context(|| format!("cannot signal {}", self.describe()))
    }

    fn describe(&self) -> String {
        let name = self.binary.file_name().unwrap_or(self.binary.as_os_str()).to_string_lossy().into_owned();
        let words = self.arguments.iter().map(|word| {
            let word = word.to_string_lossy();
            // A join token is a secret, also in a test's output.
            if word.starts_with("wjt_") { "wjt_…".to_owned() } else { word.into_owned() }
        });
        std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
