//! `wherry up` as a child process with everything of its own, and its command line.
//!
//! Invariant: whatever happens to a test, the process, its containerd and its containers end with it; only a clean-up that
//! fails leaves the scratch folder, and says so.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use wherry_api_client::{Client, Credentials};
use wherry_pg_cluster::Database;

use super::engine::{self, EngineContainer};
use super::store;
use super::traces::Marks;

/// A start on a busy machine; how long it may take when it matters is a test's own business.
const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const COMMAND_WITHIN: Duration = Duration::from_mins(1);
const GONE_WITHIN: Duration = Duration::from_secs(10);
const LOG_LINES_SHOWN: usize = 40;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What a command said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl Said {
    /// Its output, if it succeeded.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }

    /// Its complaint, which must hold all of `words`, if it failed with `code`.
    #[track_caller]
    pub(crate) fn badly(self, code: i32, words: &[&str]) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is missing: {self:#?}");
        }
        self.err
    }
}

/// One installation.
pub(crate) struct Wherry {
    scratch: TempDir,
    data: PathBuf,
    marks: Marks,
    pub(crate) api: SocketAddr,
    pub(crate) operator: SocketAddr,
    pub(crate) dns: SocketAddr,
    process: Option<Child>,
    finished: bool,
    /// Gone after the process.
    database: Option<Database>,
}

impl Wherry {
    /// Makes folder and settings; `more` is added to `wherry.toml`. Starts nothing.
    pub(crate) fn prepare(more: &str) -> Self {
        let scratch = tempfile::Builder::new().prefix("we-").tempdir().unwrap();
        let data = scratch.path().join("data");
        Self::prepare_in(scratch, data, more)
    }

    /// The same with the data folder at a place that is there already.
    pub(crate) fn prepare_in(scratch: TempDir, data: PathBuf, more: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests start containers: run them as root");
        let number = std::process::id() * 7 + NEXT.fetch_add(1, Ordering::Relaxed);
        let address_prefix = format!("10.{}.{}.", 200 + number % 50, number / 50 % 250);
        let digest = Sha256::digest(data.as_os_str().as_encoded_bytes());
        let short_id = data_encoding::HEXLOWER.encode(&digest[..4]);
        let marks = Marks { scratch: scratch.path().to_owned(), short_id, address_prefix };
        fs::create_dir_all(&data).unwrap();
        let wherry = Self {
            scratch,
            data,
            marks,
            api: free_tcp(),
            operator: free_tcp(),
            dns: free_tcp_and_udp(),
            process: None,
            finished: false,
            database: store::database(),
        };
        wherry.write_settings(more);
        if wherry.database.is_some() {
            let migrated = wherry.command(&["migrate"]).stdin(Stdio::null()).output().unwrap();
            assert!(migrated.status.success(), "{migrated:?}");
        }
        wherry
    }

    pub(crate) fn write_settings(&self, more: &str) {
        let Self { api, operator, dns, .. } = self;
        let listen = format!("[listen]\napi = \"{api}\"\noperator = \"{operator}\"\ndns = \"{dns}\"\n");
        let network = format!("[network]\nrange = \"{}\"\n", self.range());
        let store = self.database.as_ref().map(|database| format!("[store]\nurl = \"{}\"\n", database.url()));
        let store = store.unwrap_or_default();
        fs::write(self.data.join("wherry.toml"), format!("{listen}{network}{store}{more}")).unwrap();
    }

    pub(crate) const fn is_on_postgres(&self) -> bool {
        self.database.is_some()
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn run_folder(&self) -> PathBuf {
        self.marks.run_folder()
    }

    pub(crate) fn range(&self) -> String {
        format!("{}0/24", self.marks.address_prefix)
    }

    /// Where instances find this machine.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        format!("{}1", self.marks.address_prefix).parse().unwrap()
    }

    pub(crate) fn nft_table(&self) -> String {
        super::traces::output_of("nft", &["list", "table", "ip", &format!("wherry_{}", self.marks.short_id)])
    }

    /// How many addresses the packet filter takes for instances.
    pub(crate) fn admitted(&self) -> usize {
        let table = self.nft_table();
        let set = table.split("set instances {").nth(1).unwrap().split("set ").next().unwrap();
        set.matches(&self.marks.address_prefix).count()
    }

    /// Addresses that are handed out.
    pub(crate) fn leases(&self) -> Vec<String> {
        let files = fs::read_dir(self.data.join("containerd/leases/wherry")).into_iter().flatten().flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(&self.marks.address_prefix)).collect()
    }

    /// What is on the machine because of this installation.
    pub(crate) fn traces(&self) -> Vec<String> {
        self.marks.look()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.process.as_ref().unwrap()), signal).unwrap();
    }

    /// Starts `wherry up` and waits until it is ready. Answers how long it took.
    pub(crate) async fn start(&mut self) -> Duration {
        let begun = Instant::now();
        self.launch();
        let ready = format!("http://{}/readyz", self.operator);
        let client = plain_client();
        loop {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                self.process = None;
                panic!("`wherry up` ended at once ({status})");
            }
            let answer = client.get(&ready).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < READY_WITHIN, "`wherry up` is not ready after {READY_WITHIN:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts `wherry up` and waits for nothing.
    pub(crate) fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let child = self
            .command(&["up"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        self.process = Some(child);
    }

    /// Ctrl-C, and waits for the end.
    pub(crate) async fn interrupt(&mut self) -> ExitStatus {
        self.signal(Signal::INT);
        let mut child = self.process.take().unwrap();
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > STOP_WITHIN {
                self.process = Some(child);
                panic!("`wherry up` did not stop within {STOP_WITHIN:?} of Ctrl-C");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("--data")
            .arg(&self.data)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        command
    }

    /// Runs a command of the CLI to its end, as a person on this machine would.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments)).await
    }

    /// The same for a command that does not end by itself: Ctrl-C after `time`.
    pub(crate) async fn cli_until_interrupted(&self, arguments: &[&str], time: Duration) -> Said {
        let mut command = Command::new("timeout");
        command.args(["--signal=INT", &format!("{}", time.as_secs_f64())]).arg(binary());
        command.arg("--data").arg(&self.data).args(arguments);
        said(command).await
    }

    /// The key that `wherry up` made for this machine.
    pub(crate) fn key(&self) -> Credentials {
        let text = fs::read_to_string(self.data.join("client.json")).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let of = |name: &str| file[name].as_str().unwrap().to_owned();
        Credentials { key_id: of("key_id"), key_secret: of("key_secret") }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.api)
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(self.key())
    }

    pub(crate) fn client_with(&self, key: Credentials) -> Client {
        Client::new(&self.url(""), key).unwrap()
    }

    /// An access token, for requests that the typed client does not make.
    pub(crate) async fn token(&self) -> String {
        let key = self.key();
        let request = plain_client().post(self.url("/oauth2/token")).basic_auth(&key.key_id, Some(&key.key_secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body("grant_type=client_credentials").send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// `/readyz` on the operator port: status and text.
    pub(crate) async fn readiness(&self) -> (u16, String) {
        let request = plain_client().get(format!("http://{}/readyz", self.operator)).timeout(Duration::from_secs(20));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What containerd itself has.
    pub(crate) fn engine(&self) -> Vec<EngineContainer> {
        engine::containers(&self.marks.run_folder())
    }

    /// Mounts in the private mount namespace of this installation's containerd, below the run folder.
    pub(crate) fn engine_mounts(&self) -> Vec<String> {
        let pid = self.containerd_pid().unwrap().as_raw_pid();
        let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let run = format!("{}/", self.marks.run_folder().display());
        text.lines().filter(|line| line.contains(&run)).map(str::to_owned).collect()
    }

    /// Process id of this installation's containerd.
    pub(crate) fn containerd_pid(&self) -> Option<Pid> {
        let config = format!("{}/containerd.toml", self.marks.run_folder().display());
        let is_ours = |line: &&String| line.contains("containerd --config") && line.contains(&config);
        let lines = self.traces();
        let line = lines.iter().find(is_ours)?;
        Pid::from_raw(line.split(' ').nth(1)?.parse().ok()?)
    }

    /// Everything that `wherry up` has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("wherry.log")
    }

    /// Ends everything with `wherry down --purge` and fails when a trace is left.
    pub(crate) async fn finish(mut self) {
        if self.process.is_some() {
            let status = self.interrupt().await;
            assert!(status.success(), "`wherry up` ended with {status}");
        }
        self.cli(&["down", "--purge"]).await.well();
        self.assert_nothing_left().await;
        assert!(!self.data.join("wherry.db").exists(), "the data folder is still there");
        self.finished = true;
    }

    pub(crate) async fn assert_nothing_left(&self) {
        let begun = Instant::now();
        loop {
            let traces = self.traces();
            if traces.is_empty() {
                return;
            }
            assert!(begun.elapsed() < GONE_WITHIN, "left behind:\n  {}", traces.join("\n  "));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn show_logs(&self) {
        for path in [self.log_path(), self.data.join("containerd/containerd.log")] {
            let text = fs::read_to_string(&path).unwrap_or_default();
            // One line for each answered request says little here.
            let lines: Vec<&str> = text.lines().filter(|line| !line.contains("\"answered\"")).collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- the end of {} ---\n{}", path.display(), last.join("\n"));
        }
    }
}

impl Drop for Wherry {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if std::thread::panicking() {
            self.show_logs();
        }
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let down = self.command(&["down", "--purge"]).stdin(Stdio::null()).output();
        let is_clean = down.as_ref().is_ok_and(|down| down.status.success());
        if !is_clean && self.marks.run_folder().exists() {
            // Mounts may still be below: deleting would reach through them.
            self.scratch.disable_cleanup(true);
            eprintln!("{} stays, it could not be cleaned up: {down:?}", self.scratch.path().display());
        }
    }
}

/// Runs to the end, within bounds.
pub(crate) async fn said(command: Command) -> Said {
    let begun = Instant::now();
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let shown = format!("{:?}", command.as_std());
    let ended = tokio::time::timeout(COMMAND_WITHIN, command.output()).await;
    let output = ended.unwrap_or_else(|_| panic!("{shown} did not end within {COMMAND_WITHIN:?}")).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr), took: begun.elapsed() }
}

/// The binary beside these tests.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WHERRY_E2E_BINARY") {
        return PathBuf::from(path);
    }
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("wherry");
    assert!(path.exists(), "{} is missing: run `cargo build --package wherry` first", path.display());
    path
}

pub(crate) fn plain_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn free_tcp() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn free_tcp_and_udp() -> SocketAddr {
    (0..20).map(|_| free_tcp()).find(|address| UdpSocket::bind(address).is_ok()).unwrap()
}
