//! One process of the control plane with a host of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use wherry_api_client::{Client, Credentials};

use crate::gate::Gate;
use crate::network::Host;
use crate::program::Program;

const API_PORT: u16 = 7070;
const OPERATOR_PORT: u16 = 7071;
const DNS_PORT: u16 = 7053;
const AGENTS_PORT: u16 = 7443;
const READY_WITHIN: Duration = Duration::from_mins(1);
const STOP_WITHIN: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const COMMAND_WITHIN: Duration = Duration::from_mins(1);

/// One process of the control plane.
#[derive(Debug)]
pub struct Replica {
    /// Where it is on the network.
    pub host: Host,
    /// Its process.
    pub program: Program,
    data: PathBuf,
    api: Gate,
    operator: Gate,
    database: Option<Gate>,
}

/// What a control plane leaves for the clients on its machine.
#[derive(Deserialize)]
struct ClientFile {
    key_id: String,
    key_secret: String,
}

impl Replica {
    /// Makes its data folder and settings; starts nothing. `database` is the port and the address of PostgreSQL on the
    /// machine's loopback, and `settings` is added to its settings.
    pub(crate) fn prepare(
        host: Host,
        folder: &Path,
        binary: &Path,
        database: Option<(&str, SocketAddr)>,
        settings: &str,
    ) -> Result<Self> {
        let data = folder.join(&host.name);
        fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (api, operator, dns) = (local(API_PORT), local(OPERATOR_PORT), local(DNS_PORT));
        let agents = SocketAddr::from((host.address, AGENTS_PORT));
        let store = database.map_or_else(String::new, |(url, _)| format!("[store]\nurl = \"{url}\"\n"));
        let text = format!(
            "[listen]\napi = \"{api}\"\noperator = \"{operator}\"\ndns = \"{dns}\"\n\
             {store}[agents]\nlisten = \"{agents}\"\nadvertise = \"https://{agents}\"\n{settings}"
        );
        write_settings(&data, &text)?;
        let program = Program::new(&host.namespace, binary, folder.join(format!("{}.log", host.name)));
        let database =
            database.map(|(_, address)| Gate::out_of(&host.namespace, address.port(), address)).transpose()?;
        let (api, operator) = (Gate::into(&host.namespace, api)?, Gate::into(&host.namespace, operator)?);
        Ok(Self { host, program, data, api, operator, database })
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self) -> Result<()> {
        self.begin()?;
        self.ready().await
    }

    /// Starts it.
    pub fn begin(&mut self) -> Result<()> {
        let data = self.data.as_os_str().to_owned();
        self.program.start(["--data".into(), data, "control".into()])
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().context("no HTTP client")?;
        let url = self.operator_url("/readyz");
        let begun = Instant::now();
        loop {
            self.program.ensure_alive()?;
            let answer = client.get(&url).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) && self.client_file().exists() {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < READY_WITHIN,
                "{} is not ready after {READY_WITHIN:?}:\n{}",
                self.host.name,
                self.program.last_lines()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(&mut self) -> Result<()> {
        self.program.stop(STOP_WITHIN).await
    }

    /// Ends it, starts this binary in its place, and waits until that is ready.
    pub async fn upgrade(&mut self, binary: &Path) -> Result<()> {
        self.stop().await?;
        self.program.set_binary(binary);
        self.start().await
    }

    /// SIGKILL. It stays dead until it is started.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// A client with the key that this replica made, talking to this replica.
    pub fn client(&self) -> Result<Client> {
        let path = self.client_file();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: ClientFile =
            serde_json::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))?;
        let key = Credentials { key_id: file.key_id, key_secret: file.key_secret };
        Client::new(&self.url(""), key).context("no client")
    }

    /// Its public API with this path, from the machine.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.api.address())
    }

    /// Its operator port with this path, from the machine.
    pub fn operator_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.operator.address())
    }

    /// Where it answers names, inside its namespace: ask with [`crate::dns::ask_in`].
    pub const fn dns(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), DNS_PORT)
    }

    /// Where machines join.
    pub fn join_url(&self) -> String {
        format!("https://{}:{AGENTS_PORT}", self.host.address)
    }

    /// The line to the database: [`Gate::shut`] cuts this replica off from it. None on SQLite.
    pub const fn database(&self) -> Option<&Gate> {
        self.database.as_ref()
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its keys: other replicas start with a copy.
    pub fn keys(&self) -> PathBuf {
        self.data.join("keys")
    }

    /// Adds lines to its settings, from the next start on.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let path = self.data.join("wherry.toml");
        let old = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        write_settings(&self.data, &format!("{old}\n{lines}"))
    }

    /// Runs the command line beside this replica, with its key. Answers what it printed; a failure is an error.
    pub async fn cli(&self, binary: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::from(self.host.namespace.command(binary));
        command.arg("--data").arg(&self.data).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let shown = arguments.join(" ");
        let output = tokio::time::timeout(COMMAND_WITHIN, command.output())
            .await
            .with_context(|| format!("`wherry {shown}` did not end within {COMMAND_WITHIN:?}"))?
            .with_context(|| format!("cannot run `wherry {shown}`"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`wherry {shown}` failed ({}): {}", output.status, said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn client_file(&self) -> PathBuf {
        self.data.join("client.json")
    }
}

/// Writes `wherry.toml`. It may hold the password of a database.
pub(crate) fn write_settings(data: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = data.join("wherry.toml");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).context("cannot make the settings private")
}
