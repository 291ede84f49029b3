//! A whole Wherry in a scratch folder, with the registry that its images come from: what the demo shows and the
//! benchmarks measure.
//!
//! Invariants: nothing is shared with an installed Wherry (own folder, ports and addresses); its processes are in
//! groups of their own, so a Ctrl-C reaches us alone and we end them in order; [`LocalService::end`] leaves nothing
//! behind and proves it.

pub(crate) mod dns;
pub(crate) mod rest;

use std::fmt;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use wherry_demo_images::{HostState, Marks, Registry};

use crate::command::{self, cargo};
use crate::repository;
use rest::{ClientFile, Rest};

/// Not the default range, which an installed Wherry may use.
const ADDRESS_RANGE: &str = "10.79.0.0/16";
/// How every address of the range begins, and no other address.
const ADDRESS_MARK: &str = "10.79.";
const DATA: &str = "data";
const READY_WITHIN: Duration = Duration::from_mins(1);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const GONE_WITHIN: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(10);

/// How the binary is built.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Profile {
    /// Compiles soonest, and shares everything with xtask itself and with the tests.
    Dev,
    /// What users run: for numbers that are to be kept.
    Release,
}

impl Profile {
    /// Where cargo puts what it builds so, below its target folder.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Dev => "dev",
            Self::Release => "release",
        })
    }
}

/// Where a service answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) api: SocketAddr,
    pub(crate) operator: SocketAddr,
    pub(crate) dns: SocketAddr,
}

/// The scratch folder and what runs in it.
pub(crate) struct LocalService {
    scratch: TempDir,
    id: String,
    marks: Marks,
    before: HostState,
    binary: PathBuf,
    addresses: Addresses,
    registry: Option<Registry>,
    process: Option<Child>,
    /// From then on there may be more to clean up than a folder.
    was_started: bool,
}

/// Builds `wherry` and answers where it is.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let mut build = cargo();
    match profile {
        // With the features of the whole workspace, as for the tests: with its own, all that it is made of would be compiled once more.
        Profile::Dev => build.args(["build", "--workspace", "--bin", "wherry"]),
        Profile::Release => build.args(["build", "--package", "wherry", "--release"]),
    };
    command::run(&mut build)?;
    Ok(repository::target().join(profile.folder()).join("wherry"))
}

impl LocalService {
    /// Makes the folder and the settings; starts nothing. `prefix` begins the folder's name.
    pub(crate) fn prepare(prefix: &str, binary: PathBuf) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix(prefix).tempdir().context("cannot create a scratch folder")?;
        let folder = scratch.path().to_str().context("the scratch folder's path is not UTF-8")?.to_owned();
        let id = installation_id(&scratch.path().join(DATA));
        let marks = Marks::new([id.clone(), folder, ADDRESS_MARK.to_owned()]);
        let before = HostState::look(&marks)?;
        let addresses = Addresses { api: free_tcp()?, operator: free_tcp()?, dns: free_tcp_and_udp()? };
        let service =
            Self { scratch, id, marks, before, binary, addresses, registry: None, process: None, was_started: false };
        fs::create_dir(service.data()).context("cannot create the data folder")?;
        let settings = format!(
            "[listen]\napi = \"{}\"\noperator = \"{}\"\ndns = \"{}\"\n\n[network]\nrange = \"{ADDRESS_RANGE}\"\n",
            addresses.api, addresses.operator, addresses.dns
        );
        fs::write(service.data().join("wherry.toml"), settings).context("cannot write wherry.toml")?;
        Ok(service)
    }

    /// Adds lines to `wherry.toml`, before the start.
    pub(crate) fn configure(&self, lines: &str) -> Result<()> {
        let path = self.data().join("wherry.toml");
        let old = fs::read_to_string(&path).context("cannot read wherry.toml")?;
        fs::write(path, format!("{old}\n{lines}")).context("cannot write wherry.toml")
    }

    /// Starts the registry and answers it, to push images to.
    pub(crate) async fn start_registry(&mut self) -> Result<&Registry> {
        let registry = Registry::start(&self.scratch.path().join("registry")).await?;
        Ok(self.registry.insert(registry))
    }

    /// Starts `wherry up` and waits until it is ready.
    pub(crate) async fn start(&mut self) -> Result<()> {
        let log = File::create(self.log_path()).context("cannot create the log of `wherry up`")?;
        let child = Command::new(&self.binary)
            .arg("--data")
            .arg(self.data())
            .arg("up")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log of `wherry up`")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.process = Some(child);
        self.was_started = true;
        let ready = format!("http://{}/readyz", self.addresses.operator);
        let client = rest::plain_client()?;
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.as_mut().and_then(|child| child.try_wait().transpose()) {
                let status = status.context("cannot watch `wherry up`")?;
                self.process = None;
                bail!("`wherry up` ended at once ({status}):\n{}", self.last_log_lines());
            }
            let answer = client.get(&ready).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) && self.data().join("client.json").exists() {
                // Else the search for leftovers would search for the wrong name and find none.
                let sockets = Path::new("/run/wherry").join(&self.id);
                ensure!(
                    sockets.exists(),
                    "wherry names its things otherwise than xtask believes: no {}",
                    sockets.display()
                );
                return Ok(());
            }
            ensure!(
                started.elapsed() < READY_WITHIN,
                "`wherry up` is not ready after {READY_WITHIN:?}:\n{}",
                self.last_log_lines()
            );
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Takes a token with the key that `wherry up` made for this machine.
    pub(crate) async fn connect(&self) -> Result<Rest> {
        Rest::connect(&format!("http://{}", self.addresses.api), &self.data().join("client.json")).await
    }

    /// The key that `wherry up` made for this machine.
    pub(crate) fn key(&self) -> Result<ClientFile> {
        ClientFile::read(&self.data().join("client.json"))
    }

    /// The socket of the engine that `wherry up` runs.
    pub(crate) fn engine_socket(&self) -> PathBuf {
        Path::new("/run/wherry").join(&self.id).join("containerd.sock")
    }

    /// Where images are pushed to and pulled from, `127.0.0.1:port`, once it is started.
    pub(crate) fn registry_address(&self) -> Option<String> {
        self.registry.as_ref().map(Registry::address)
    }

    pub(crate) const fn addresses(&self) -> Addresses {
        self.addresses
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Whether `wherry up` runs.
    pub(crate) fn is_alive(&mut self) -> Result<bool> {
        let Some(child) = self.process.as_mut() else { return Ok(false) };
        Ok(child.try_wait().context("cannot watch `wherry up`")?.is_none())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.scratch.path().join(DATA)
    }

    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// The end of what `wherry up` has written, for error messages; the lines about answered requests say nothing new.
    pub(crate) fn last_log_lines(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("\"message\":\"answered\"")).collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Ends everything and removes every trace. An error names what is left.
    pub(crate) async fn end(mut self) -> Result<()> {
        let stopped = self.stop_process().await;
        let cleaned = if self.was_started { self.run_down() } else { Ok(()) };
        drop(self.registry.take());
        let folder = self.scratch.path().to_owned();
        if let Err(error) = cleaned {
            // Mounts may still be in there: deleting would reach through them.
            return Err(error.context(format!("look into {}", self.scratch.keep().display())));
        }
        self.scratch.close().with_context(|| format!("cannot delete {}", folder.display()))?;
        stopped?;
        let left = self.before.left_behind(&self.marks, GONE_WITHIN).await?;
        ensure!(
            left.is_empty(),
            "left behind on this machine, a defect of Wherry, please report it:\n  {}",
            left.join("\n  ")
        );
        Ok(())
    }

    /// Lets everything live on. Answers the lines that a person types to end it.
    pub(crate) fn leave_running(mut self) -> Vec<String> {
        let processes = [self.pid(), self.registry.take().and_then(Registry::leave_running)];
        let [service, registry] = processes.map(|pid| pid.map_or_else(String::new, |pid| pid.to_string()));
        let (binary, data) = (self.binary.display(), self.data());
        let lines = vec![
            format!("kill -INT {service} && tail --pid={service} -f /dev/null"),
            format!(
                "{binary} --data {} down --purge && kill {registry} && rm -r {}",
                data.display(),
                self.scratch.path().display()
            ),
        ];
        self.scratch.disable_cleanup(true);
        lines
    }

    async fn stop_process(&mut self) -> Result<()> {
        let Some(mut child) = self.process.take() else { return Ok(()) };
        // Fails only if it has ended already.
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        let started = Instant::now();
        while child.try_wait().context("cannot watch `wherry up`")?.is_none() {
            if started.elapsed() > STOP_WITHIN {
                let _ = child.kill();
                child.wait().context("cannot wait for `wherry up`")?;
                bail!("`wherry up` did not stop within {STOP_WITHIN:?}:\n{}", self.last_log_lines());
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
        Ok(())
    }

    fn run_down(&self) -> Result<()> {
        let mut down = Command::new(&self.binary);
        down.arg("--data").arg(self.data()).args(["down", "--purge"]).process_group(0);
        command::capture(&mut down).map(drop)
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("wherry.log")
    }
}

/// What Wherry calls its sockets, cgroups and nft tables by: the first four bytes of its data folder's hash.
fn installation_id(data: &Path) -> String {
    let digest = Sha256::digest(data.as_os_str().as_encoded_bytes());
    format!("{:08x}", u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

fn free_tcp() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free TCP port on loopback")?;
    listener.local_addr().context("cannot read the port that the kernel chose")
}

/// DNS listens on the same port of both protocols.
fn free_tcp_and_udp() -> Result<SocketAddr> {
    for _ in 0..20 {
        let address = free_tcp()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port on loopback is free for both TCP and UDP")
}
