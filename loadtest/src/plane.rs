//! A Wherry of one's own for a run: `wherry control` on SQLite in a folder, on free ports of loopback. Ended when dropped.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use wherry_api_client::{Client, Credentials};

const READY_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LINES_SHOWN: usize = 20;
const CLIENT_FILE: &str = "client.json";

/// What a control plane leaves for the clients on its machine.
#[derive(Deserialize)]
struct ClientFile {
    server: String,
    key_id: String,
    key_secret: String,
}

/// A client with the key in the file.
pub(crate) fn client(file: &Path) -> Result<Client> {
    let text = fs::read_to_string(file).with_context(|| {
        format!("{} cannot be read: it is client.json in the data folder of Wherry", file.display())
    })?;
    let key: ClientFile = serde_json::from_str(&text).with_context(|| format!("{} is no key", file.display()))?;
    let credentials = Credentials { key_id: key.key_id, key_secret: key.key_secret };
    Ok(Client::new(&key.server, credentials)?)
}

/// The process.
pub(crate) struct Plane {
    child: Child,
    log: PathBuf,
    data: PathBuf,
}

impl Plane {
    /// Starts it with its data in `folder` and waits until it answers.
    pub(crate) async fn start(binary: &Path, folder: &Path) -> Result<(Self, Client)> {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
        let data = folder.join("control");
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&data)?;
        let settings = data.join("wherry.toml");
        write_new_settings(&settings)?;
        let log = folder.join("control.log");
        let output = File::options().create(true).append(true).open(&log).context("no log")?;
        let mut command = Command::new(binary);
        command.arg("--data").arg(&data).arg("control").process_group(0).stdin(Stdio::null());
        // One line for each request is more than a figure should pay for.
        command.env("WHERRY_LOG", "warn").stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("{} cannot be started", binary.display()))?;
        let mut plane = Self { child, log, data };
        let client = plane.ready().await?;
        Ok((plane, client))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn ready(&mut self) -> Result<Client> {
        let begun = Instant::now();
        loop {
            ensure!(self.child.try_wait()?.is_none(), "`wherry control` has ended:\n{}", self.last_lines());
            if let Ok(client) = client(&self.data.join(CLIENT_FILE))
                && client.projects().await.is_ok()
            {
                return Ok(client);
            }
            ensure!(begun.elapsed() < READY_WITHIN, "`wherry control` is not ready:\n{}", self.last_lines());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kept when they are there: nodes know the agents' port.
fn write_new_settings(path: &Path) -> Result<()> {
    let (api, operator, agents, dns) = (free_tcp()?, free_tcp()?, free_tcp()?, free_tcp_and_udp()?);
    let text = format!(
        "[listen]\napi = \"{api}\"\noperator = \"{operator}\"\ndns = \"{dns}\"\n\
         [agents]\nlisten = \"{agents}\"\nadvertise = \"https://{agents}\"\n\
         [fleet]\nrange = \"10.0.0.0/8\"\nnode_prefix = 24\n"
    );
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => io::Write::write_all(&mut file, text.as_bytes()).context("the settings cannot be written"),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).context("the settings cannot be written"),
    }
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
