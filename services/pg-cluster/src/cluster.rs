//! One server of one's own.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::error::ClusterError;
use crate::process;
use crate::programs::{Programs, run};

/// The superuser of the cluster.
const USER: &str = "wherry";
/// Not a secret: it opens a server that lives as long as its test.
const PASSWORD: &str = "throw-away";
/// Names the socket; no TCP port unless one is asked for.
const SOCKET_PORT: u16 = 5432;
/// A port that was free may be taken before the server has it.
const PORT_ATTEMPTS: u32 = 5;
const KEEPER: &str = include_str!("keeper.sh");

/// How a cluster is made.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where it listens for TCP besides its socket, with a password. A port that is free is chosen.
    pub listen: Option<Ipv4Addr>,
    /// Whether commits reach the disk: for measurements.
    pub durable: bool,
    /// Further parameters of `postgresql.conf`.
    pub parameters: Vec<(String, String)>,
}

/// How a server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Clients are cut off, transactions are rolled back, then a checkpoint is written.
    Fast,
    /// As a crash: the next start recovers from the log.
    Immediate,
}

/// A server of one's own. Dropped, it is gone with all its files.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    keeper: Option<Child>,
    folder: Option<TempDir>,
    databases: AtomicU32,
}

/// The files and programs of a server, whoever keeps it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) programs: Programs,
    pub(crate) folder: PathBuf,
    listen: Option<(Ipv4Addr, u16)>,
}

impl Cluster {
    /// Makes a cluster and starts its server.
    pub fn start(settings: &Settings) -> Result<Self, ClusterError> {
        let programs = Programs::find()?;
        let folder = tempfile::Builder::new()
            .prefix("wherry-pg-")
            .tempdir_in(short_temporary_folder())
            .map_err(ClusterError::file(short_temporary_folder()))?;
        let server = Server { programs, folder: folder.path().to_owned(), listen: None };
        server.give(folder.path())?;
        server.initialise(settings)?;
        let keeper = server.keeper("pipe", Stdio::piped())?;
        // From here on, dropping stops the server.
        let mut cluster = Self { server, keeper: Some(keeper), folder: Some(folder), databases: AtomicU32::new(0) };
        cluster.first_start(settings.listen)?;
        Ok(cluster)
    }

    fn first_start(&mut self, listen: Option<Ipv4Addr>) -> Result<(), ClusterError> {
        let Some(address) = listen else { return self.server.start() };
        let mut attempt = 1;
        loop {
            let port = free_port(address).map_err(ClusterError::file(format!("port of {address}")))?;
            self.server.listen = Some((address, port));
            match self.server.start() {
                Err(_) if attempt < PORT_ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }

    /// The URL of a database over the server's socket.
    pub fn url(&self, database: &str) -> String {
        self.server.url(database)
    }

    /// The URL of a database over TCP; none when the cluster was made without [`Settings::listen`].
    pub fn tcp_url(&self, database: &str) -> Option<String> {
        let (address, port) = self.server.listen?;
        Some(format!("postgres://{USER}:{PASSWORD}@{address}:{port}/{database}"))
    }

    /// The file of the server's socket.
    pub fn socket(&self) -> PathBuf {
        self.server.socket_folder().join(format!(".s.PGSQL.{}", self.server.port()))
    }

    /// Where the server writes its log.
    pub fn log(&self) -> PathBuf {
        self.server.folder.join("log")
    }

    /// Makes an empty database with a name that is new in this cluster; its name.
    pub fn create_database(&self) -> Result<String, ClusterError> {
        let name = format!("database_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(name)
    }

    /// Runs statements as the superuser; what `psql` printed, a row a line, columns apart by `|`.
    pub fn psql(&self, database: &str, statements: &str) -> Result<String, ClusterError> {
        self.server.psql(database, statements)
    }

    /// Stops the server.
    pub fn stop(&self, how: Stop) -> Result<(), ClusterError> {
        self.server.stop(how)
    }

    /// Starts it again, on the same socket and port.
    pub fn start_again(&self) -> Result<(), ClusterError> {
        self.server.start()
    }

    /// Freezes the postmaster and everything that it has started.
    pub fn freeze(&self) {
        if let Some(postmaster) = process::postmaster(&self.server.data()) {
            // First the one that makes new ones.
            process::signal(postmaster, Signal::STOP);
            for backend in process::children(postmaster) {
                process::signal(backend, Signal::STOP);
            }
        }
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        if let Some(postmaster) = process::postmaster(&self.server.data()) {
            for backend in process::children(postmaster) {
                process::signal(backend, Signal::CONT);
            }
            process::signal(postmaster, Signal::CONT);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            drop(keeper.wait());
        }
        drop(self.folder.take());
    }
}

impl Server {
    pub(crate) fn new(programs: Programs, folder: PathBuf) -> Self {
        Self { programs, folder, listen: None }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn socket_folder(&self) -> PathBuf {
        self.folder.join("socket")
    }

    fn port(&self) -> u16 {
        self.listen.map_or(SOCKET_PORT, |(_, port)| port)
    }

    pub(crate) fn is_running(&self) -> bool {
        process::postmaster(&self.data()).is_some()
    }

    /// Gives a file to the server's user.
    pub(crate) fn give(&self, path: &Path) -> Result<(), ClusterError> {
        match self.programs.user() {
            Some(user) => chown(path, Some(user.uid), Some(user.gid)).map_err(ClusterError::file(path)),
            None => Ok(()),
        }
    }

    pub(crate) fn initialise(&self, settings: &Settings) -> Result<(), ClusterError> {
        let password = self.folder.join("password");
        fs::write(&password, PASSWORD).map_err(ClusterError::file(&password))?;
        self.give(&password)?;
        let mut initdb = self.programs.command("initdb");
        initdb.arg("--pgdata").arg(self.data()).arg("--pwfile").arg(&password);
        initdb.args(["--username", USER, "--auth-local=trust", "--auth-host=scram-sha-256"]);
        initdb.args(["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions", "--wal-segsize=4"]);
        run(&mut initdb)?;
        fs::remove_file(&password).map_err(ClusterError::file(&password))?;
        // Beyond loopback for a demo whose hosts are network namespaces.
        self.append("pg_hba.conf", "host all all all scram-sha-256\n")?;
        // The socket lets everybody in as superuser: nobody else may reach it.
        let sockets = self.socket_folder();
        fs::create_dir(&sockets).map_err(ClusterError::file(&sockets))?;
        fs::set_permissions(&sockets, fs::Permissions::from_mode(0o700)).map_err(ClusterError::file(&sockets))?;
        self.give(&sockets)?;
        let mut parameters = String::from(
            "max_connections = 200\nshared_buffers = '32MB'\nmax_wal_size = '256MB'\nautovacuum_naptime = '10min'\n\
             log_checkpoints = off\njit = off\n",
        );
        if !settings.durable {
            parameters.push_str("fsync = off\nfull_page_writes = off\n");
        }
        for (name, value) in &settings.parameters {
            parameters.extend([name, " = '", value, "'\n"]);
        }
        self.append("postgresql.conf", &parameters)
    }

    fn append(&self, file: &str, text: &str) -> Result<(), ClusterError> {
        let path = self.data().join(file);
        let before = fs::read_to_string(&path).map_err(ClusterError::file(&path))?;
        fs::write(&path, before + text).map_err(ClusterError::file(&path))
    }

    /// Starts whatever stops the server when nobody needs it any more.
    pub(crate) fn keeper(&self, waiting: &str, stdin: Stdio) -> Result<Child, ClusterError> {
        let pg_ctl = self.programs.command("pg_ctl").get_program().to_owned();
        let mut keeper = self.programs.shell(KEEPER);
        keeper.arg(pg_ctl).arg(&self.folder).arg(waiting);
        keeper.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
        keeper.spawn().map_err(|source| ClusterError::Program { program: "/bin/sh".to_owned(), source })
    }

    pub(crate) fn start(&self) -> Result<(), ClusterError> {
        let listen = self.listen.map_or_else(String::new, |(address, _)| address.to_string());
        let options =
            format!("-c listen_addresses='{listen}' -p {} -k {}", self.port(), self.socket_folder().display());
        let mut start = self.programs.command("pg_ctl");
        start.arg("--pgdata").arg(self.data()).arg("--log").arg(self.folder.join("log"));
        start.args(["--silent", "--wait", "--timeout=120", "--options", &options, "start"]);
        run(&mut start).map(drop).map_err(|error| match error {
            ClusterError::Failed { program, output } => {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let newest: Vec<&str> = log.lines().rev().take(5).collect();
                let newest: Vec<&str> = newest.into_iter().rev().collect();
                ClusterError::Failed { program, output: format!("{output}\n{}", newest.join("\n")) }
            }
            other => other,
        })
    }

    fn stop(&self, how: Stop) -> Result<(), ClusterError> {
        let mode = match how {
            Stop::Fast => "--mode=fast",
            Stop::Immediate => "--mode=immediate",
        };
        let mut stop = self.programs.command("pg_ctl");
        stop.arg("--pgdata").arg(self.data()).args(["--silent", "--wait", "--timeout=120", mode, "stop"]);
        run(&mut stop).map(drop)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let sockets = self.socket_folder();
        format!("postgres://{USER}@localhost:{}/{database}?host={}", self.port(), sockets.display())
    }

    pub(crate) fn psql(&self, database: &str, statements: &str) -> Result<String, ClusterError> {
        let mut psql = self.programs.command("psql");
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
        psql.arg("--host").arg(self.socket_folder()).args(["--port", &self.port().to_string(), "--username", USER]);
        psql.args(["--dbname", database, "--command", statements]);
        run(&mut psql)
    }
}

/// A socket's path has 107 bytes at most, and the server's user must be able to go there.
pub(crate) fn short_temporary_folder() -> PathBuf {
    let ours = std::env::temp_dir();
    let open = fs::metadata(&ours).is_ok_and(|folder| folder.permissions().mode() & 0o1 != 0);
    if open && ours.as_os_str().len() < 40 { ours } else { PathBuf::from("/tmp") }
}

fn free_port(address: Ipv4Addr) -> io::Result<u16> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
}
