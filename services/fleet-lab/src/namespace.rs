//! One network namespace: a machine, as far as the network is concerned.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where iproute2 keeps names.
const FOLDER: &str = "/run/netns";

/// A namespace that goes when its last clone is dropped; what still runs in it keeps its network until it ends.
#[derive(Debug, Clone)]
pub struct Namespace {
    inner: Arc<Named>,
}

#[derive(Debug)]
struct Named {
    name: String,
    is_removed: AtomicBool,
}

impl Named {
    fn remove(&self) {
        if !self.is_removed.swap(true, Ordering::Relaxed) {
            // Fails only when somebody else removed it.
            let _ = ip(&["netns", "delete", &self.name]);
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Namespace {
    /// Makes it, with nothing but loopback in it.
    pub fn create(name: &str) -> Result<Self> {
        ip(&["netns", "add", name])?;
        let namespace = Self { inner: Arc::new(Named { name: name.to_owned(), is_removed: AtomicBool::new(false) }) };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Removes it now, whoever still has a clone.
    pub(crate) fn remove(&self) {
        self.inner.remove();
    }

    /// `program` in this namespace. By `nsenter`, because `ip netns exec` hides the cgroups.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// `ip` with these arguments in this namespace.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        ip(&[&["-netns", self.name()], arguments].concat())
    }

    /// Does `work` on a thread of its own in this namespace: sockets that it makes belong to it for ever.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            match thread.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread into it, and every thread that it begins from then on.
    pub(crate) fn enter(&self) -> Result<()> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter the network namespace {}: are you root?", self.name()))
    }

    /// Ids of the processes that have this network.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let text = ip(&["netns", "pids", self.name()])?;
        Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(FOLDER).join(self.name())
    }
}

/// Runs iproute2's `ip`.
pub(crate) fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run ip: run `cargo xtask setup`, which installs iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
