//! A control plane of real processes on loopback, over SQLite or over a PostgreSQL of its own that flushes every commit.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use wherry_pg_cluster::{Cluster, Settings};

use crate::api;

const READY_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LINES_SHOWN: usize = 20;

/// What the facts are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Sqlite,
    Postgres,
}

/// All processes of it. Killed and removed when dropped.
pub(crate) struct Plane {
    pub(crate) replicas: Vec<Replica>,
    /// Dropped after the replicas.
    _cluster: Option<Cluster>,
    scratch: TempDir,
}

/// One process.
pub(crate) struct Replica {
    binary: PathBuf,
    data: PathBuf,
    log: PathBuf,
    api: SocketAddr,
    operator: SocketAddr,
    child: Option<Child>,
}

impl Plane {
    /// Starts it and waits until all of it is ready.
    pub(crate) async fn start(binary: &Path, store: Store, replicas: usize) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("wherry-bench-").tempdir().context("no scratch folder")?;
        let (cluster, database) = match store {
            Store::Sqlite => (None, None),
            Store::Postgres => {
                let started = tokio::task::spawn_blocking(start_postgres).await.context("no database")??;
                (Some(started.0), Some(started.1))
            }
        };
        let mut plane = Self { replicas: Vec::new(), _cluster: cluster, scratch };
        for number in 0..replicas {
            let mut replica = Replica::prepare(binary, plane.scratch.path(), number, database.as_deref())?;
            match plane.replicas.first() {
                Some(first) => copy_folder(&first.data.join("keys"), &replica.data.join("keys"))?,
                None if store == Store::Postgres => replica.migrate()?,
                None => {}
            }
            replica.begin()?;
            replica.ready().await?;
            plane.replicas.push(replica);
        }
        Ok(plane)
    }

    /// A folder for whoever else belongs to it.
    pub(crate) fn folder(&self) -> &Path {
        self.scratch.path()
    }
}

impl Replica {
    fn prepare(binary: &Path, scratch: &Path, number: usize, database: Option<&str>) -> Result<Self> {
        let data = scratch.join(format!("control-{number}"));
        fs::DirBuilder::new().mode(0o700).create(&data).context("cannot make a data folder")?;
        let (api, operator, agents) = (free_tcp()?, free_tcp()?, free_tcp()?);
        let dns = free_tcp_and_udp()?;
        let store = database.map_or_else(String::new, |url| format!("[store]\nurl = \"{url}\"\n"));
        let text = format!(
            "[listen]\napi = \"{api}\"\noperator = \"{operator}\"\ndns = \"{dns}\"\n\
             [agents]\nlisten = \"{agents}\"\nadvertise = \"https://{agents}\"\n{store}"
        );
        let settings = data.join("wherry.toml");
        fs::write(&settings, text).context("cannot write the settings")?;
        fs::set_permissions(&settings, fs::Permissions::from_mode(0o600)).context("cannot write the settings")?;
        let log = scratch.join(format!("control-{number}.log"));
        Ok(Self { binary: binary.to_owned(), data, log, api, operator, child: None })
    }

    fn command(&self, role: &str) -> Result<Command> {
        let log = File::options().create(true).append(true).open(&self.log).context("no log")?;
        let mut command = Command::new(&self.binary);
        command.arg("--data").arg(&self.data).arg(role).process_group(0).stdin(Stdio::null());
        // One line for each request is more than a figure should pay for.
        command.env("WHERRY_LOG", "warn").stdout(log.try_clone().context("no log")?).stderr(log);
        Ok(command)
    }

    fn migrate(&self) -> Result<()> {
        let status = self.command("migrate")?.status().context("cannot run `wherry migrate`")?;
        ensure!(status.success(), "`wherry migrate` failed:\n{}", self.last_lines());
        Ok(())
    }

    /// Starts the process.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.child = Some(self.command("control")?.spawn().context("cannot start `wherry control`")?);
        Ok(())
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let (http, url) = (api::http()?, format!("http://{}/readyz", self.operator));
        let begun = Instant::now();
        loop {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().transpose());
            ensure!(ended.is_none(), "`wherry control` has ended:\n{}", self.last_lines());
            let answer = http.get(&url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) && self.client_file().exists() {
                return Ok(());
            }
            ensure!(begun.elapsed() < READY_WITHIN, "`wherry control` is not ready:\n{}", self.last_lines());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// SIGKILL; answers when it is dead.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn client_file(&self) -> PathBuf {
        self.data.join("client.json")
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.api)
    }

    fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start_postgres() -> Result<(Cluster, String)> {
    let cluster = Cluster::start(&Settings { durable: true, ..Settings::default() })?;
    let database = cluster.create_database()?;
    let url = cluster.url(&database);
    Ok((cluster, url))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::DirBuilder::new().mode(0o700).create(to).context("cannot make a folder of keys")?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry.context("cannot read a folder of keys")?;
        fs::copy(entry.path(), to.join(entry.file_name())).context("cannot copy a key")?;
    }
    Ok(())
}

fn free_tcp() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free TCP port on loopback")?;
    listener.local_addr().context("cannot read the port that the kernel chose")
}

fn free_tcp_and_udp() -> Result<SocketAddr> {
    for _ in 0..20 {
        let address = free_tcp()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port on loopback is free for both TCP and UDP")
}
