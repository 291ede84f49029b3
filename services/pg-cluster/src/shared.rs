//! One server for all test processes, a database for each test.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{geteuid, getpid};

use crate::cluster::{Server, Settings, short_temporary_folder};
use crate::error::ClusterError;
use crate::programs::Programs;

/// How long the server waits for the next user after the last one has gone: between two tests there is a moment of none.
const LINGER_SECONDS: &str = "5";
/// Names that a killed process of the same number may have left behind.
const NAME_ATTEMPTS: u32 = 1_000;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The server that all tests of this machine and user share. It lives as long as somebody holds this, and a few seconds.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Joined>);

#[derive(Debug)]
struct Joined {
    server: Server,
    /// Locked for reading: the keeper waits until nobody does.
    _user: File,
}

/// A database of one test. Dropped, it is gone.
#[derive(Debug)]
pub struct Database {
    shared: Shared,
    name: String,
}

impl Shared {
    /// Joins the shared server, starts it when nobody has.
    pub fn join() -> Result<Self, ClusterError> {
        let programs = Programs::find()?;
        let folder = short_temporary_folder().join(format!("wherry-pg-shared-{}", geteuid().as_raw()));
        let server = Server::new(programs, folder.clone());
        make_private(&server, &folder)?;
        let setup = lock_file(&server, &folder.join("setup"))?;
        setup.lock().map_err(ClusterError::file(folder.join("setup")))?;
        let users = folder.join("users");
        let user = lock_file(&server, &users)?;
        let ready = folder.join("ready");
        if !ready.exists() || !server.is_running() {
            for old in ["ready", "data", "socket", "log", "templates"] {
                remove(&folder.join(old))?;
            }
            server.initialise(&Settings::default())?;
            server.start()?;
            fs::write(&ready, "").map_err(ClusterError::file(&ready))?;
            user.lock_shared().map_err(ClusterError::file(&users))?;
            // It is nobody's child for long: whoever starts it may be the first to go.
            server.keeper(LINGER_SECONDS, Stdio::null())?;
        } else {
            user.lock_shared().map_err(ClusterError::file(&users))?;
        }
        Ok(Self(Arc::new(Joined { server, _user: user })))
    }

    /// A new database, as `template` is after `prepare` has seen it empty (once for all processes: the name of the template
    /// must tell what is in it, for example by a checksum of the migrations).
    pub async fn database<E: std::fmt::Display>(
        &self,
        template: &str,
        prepare: impl AsyncFnOnce(String) -> Result<(), E>,
    ) -> Result<Database, ClusterError> {
        let server = &self.0.server;
        let template = format!("template_{template}");
        let path = server.folder.join("templating");
        let turn = lock_file(server, &path)?;
        turn.lock().map_err(ClusterError::file(&path))?;
        let made = server.psql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{template}'"))?;
        if made.trim().is_empty() {
            let raw = format!("{template}_raw");
            server.psql("postgres", &format!("DROP DATABASE IF EXISTS {raw} WITH (FORCE)"))?;
            server.psql("postgres", &format!("CREATE DATABASE {raw}"))?;
            let prepared = prepare(server.url(&raw)).await;
            prepared
                .map_err(|error| ClusterError::Template { template: template.clone(), message: error.to_string() })?;
            server.psql("postgres", &format!("ALTER DATABASE {raw} RENAME TO {template}"))?;
        }
        drop(turn);
        self.create(&format!("TEMPLATE {template}"))
    }

    /// A new, empty database.
    pub fn empty_database(&self) -> Result<Database, ClusterError> {
        self.create("TEMPLATE template0")
    }

    fn create(&self, from: &str) -> Result<Database, ClusterError> {
        let mut attempt = 1;
        loop {
            let name = format!("test_{}_{}", getpid().as_raw_nonzero(), NUMBER.fetch_add(1, Ordering::Relaxed));
            match self.0.server.psql("postgres", &format!("CREATE DATABASE {name} {from}")) {
                Ok(_) => return Ok(Database { shared: self.clone(), name }),
                Err(ClusterError::Failed { output, .. })
                    if attempt < NAME_ATTEMPTS && output.contains("already exists") =>
                {
                    attempt += 1;
                }
                Err(other) => return Err(other),
            }
        }
    }
}

impl Database {
    /// Its URL.
    pub fn url(&self) -> String {
        self.shared.0.server.url(&self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements as the superuser; what `psql` printed, a row a line, columns apart by `|`.
    pub fn psql(&self, statements: &str) -> Result<String, ClusterError> {
        self.shared.0.server.psql(&self.name, statements)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // What is left goes with the server.
        drop(self.shared.0.server.psql("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)));
    }
}

/// Makes the folder, or finds it as nobody else can have made it.
fn make_private(server: &Server, folder: &Path) -> Result<(), ClusterError> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => {
            other.map_err(ClusterError::file(folder))?;
            server.give(folder)?;
        }
    }
    let found = fs::symlink_metadata(folder).map_err(ClusterError::file(folder))?;
    let owners = [geteuid().as_raw(), server.programs.user().map_or(geteuid().as_raw(), |user| user.uid)];
    if found.is_dir() && owners.contains(&found.uid()) {
        Ok(())
    } else {
        let message = "it belongs to somebody else: remove it";
        Err(ClusterError::File { path: folder.to_owned(), source: std::io::Error::other(message) })
    }
}

fn lock_file(server: &Server, path: &Path) -> Result<File, ClusterError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(ClusterError::file(path))?;
    server.give(path)?;
    Ok(file)
}

fn remove(path: &PathBuf) -> Result<(), ClusterError> {
    let removed = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.map_err(ClusterError::file(path))
}
