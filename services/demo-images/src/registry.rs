//! Debian's `docker-registry` on a free loopback port, with its storage in a scratch folder.
//!
//! Invariants: it is our own child in its own process group (a Ctrl-C on the terminal does not reach it, its owner
//! decides when it ends), it is ended by pid when dropped, and what it stored outlives [`Registry::stop`], so tests can
//! take it away and bring it back at the same address.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::push::plain_client;

const PROGRAM: &str = "docker-registry";
const READY_WITHIN: Duration = Duration::from_secs(15);
const POLL_EVERY: Duration = Duration::from_millis(20);
/// A free port may be taken by somebody else between our look and the registry's bind.
const PORT_ATTEMPTS: usize = 5;

/// Who may pull from a registry that wants a name: user and password.
const LOGIN: (&str, &str) = ("robot", "kept-by-nobody-7Qx");
/// As the registry wants to know that: bcrypt of the password.
const LOGIN_LINE: &str = "robot:$2y$05$WherryDemoRegistrySaleDIFGOU3yDF1MLP/Bnatm1WaQCsLE712\n";

/// A running (or deliberately stopped) registry.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    scratch: PathBuf,
    child: Option<Child>,
    wants_login: bool,
}

impl Registry {
    /// Starts a registry that keeps everything under `scratch`, and waits until it answers.
    pub async fn start(scratch: &Path) -> Result<Self> {
        std::fs::create_dir_all(scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
        let mut last_error = None;
        for _ in 0..PORT_ATTEMPTS {
            let address = free_address()?;
            let mut registry = Self { address, scratch: scratch.to_owned(), child: None, wants_login: false };
            match registry.resume().await {
                Ok(()) => return Ok(registry),
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error.unwrap_or_else(|| anyhow::anyhow!("the registry was never started")))
    }

    /// From now on nobody is served without a name and a password (basic authentication). Answers both. What was pushed stays;
    /// pushes of ours have no name, so they come first.
    pub async fn demand_login(&mut self) -> Result<(&'static str, &'static str)> {
        self.stop();
        self.wants_login = true;
        self.resume().await?;
        Ok(LOGIN)
    }

    /// `127.0.0.1:port`: the first part of image references.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends the process; the stored images stay.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It keeps no state that an end in the middle could harm; both calls fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again at the same address after [`Registry::stop`]; does nothing while it runs.
    pub async fn resume(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        self.child = Some(spawn(&self.scratch, self.address, self.wants_login)?);
        let ready = self.wait_ready().await;
        if ready.is_err() {
            self.stop();
        }
        ready
    }

    /// Lets the process live on without us and answers its id: whoever wants its end sends it a signal.
    pub fn leave_running(mut self) -> Option<u32> {
        self.child.take().map(|child| child.id())
    }

    /// Freezes the process: connections are accepted by the kernel and never answered. [`Registry::thaw`] undoes it.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen registry go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("the registry is stopped: resume it first")?;
        kill_process(Pid::from_child(child), signal).context("cannot signal the registry")
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let client = plain_client()?;
        let url = format!("http://{}/v2/", self.address);
        let started = Instant::now();
        loop {
            if let Some(child) = self.child.as_mut()
                && let Some(status) = child.try_wait().context("cannot watch the registry")?
            {
                bail!("{PROGRAM} ended at once ({status}): {}", last_lines(&self.log_path()));
            }
            let answer = client.get(&url).timeout(Duration::from_secs(2)).send().await;
            let expected = if self.wants_login { 401 } else { 200 };
            if answer.is_ok_and(|answer| answer.status().as_u16() == expected) {
                return Ok(());
            }
            if started.elapsed() > READY_WITHIN {
                bail!("{PROGRAM} did not answer at {url} within {READY_WITHIN:?}: {}", last_lines(&self.log_path()));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    fn log_path(&self) -> PathBuf {
        log_path(&self.scratch)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(scratch: &Path, address: SocketAddr, wants_login: bool) -> Result<Child> {
    let storage = scratch.join("storage");
    let config_path = scratch.join("config.yml");
    // JSON is YAML: quoting is then somebody else's solved problem.
    let mut config = serde_json::json!({
        "version": "0.1",
        "log": { "level": "warn", "accesslog": { "disabled": true } },
        "storage": { "filesystem": { "rootdirectory": storage }, "delete": { "enabled": true } },
        "http": { "addr": address.to_string() },
    });
    if wants_login {
        let users = scratch.join("users");
        std::fs::write(&users, LOGIN_LINE).with_context(|| format!("cannot write {}", users.display()))?;
        config["auth"] = serde_json::json!({ "htpasswd": { "realm": "demo", "path": users } });
    }
    std::fs::write(&config_path, config.to_string())
        .with_context(|| format!("cannot write {}", config_path.display()))?;
    let log = File::create(log_path(scratch)).context("cannot create the registry's log")?;
    Command::new(PROGRAM)
        .arg("serve")
        .arg(&config_path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the registry's log")?)
        .stderr(log)
        .env("OTEL_TRACES_EXPORTER", "none")
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {PROGRAM}: run `cargo xtask setup`, which installs it"))
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free TCP port on loopback")?;
    listener.local_addr().context("cannot read the port that the kernel chose")
}

fn log_path(scratch: &Path) -> PathBuf {
    scratch.join("registry.log")
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}
