//! Where PostgreSQL's programs are, and as whom they run.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use crate::error::ClusterError;

/// The oldest version that Wherry supports.
const OLDEST: u32 = 14;

/// PostgreSQL's programs, and the user that they run as.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    folder: PathBuf,
    user: Option<User>,
}

/// Somebody who is not root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Programs {
    pub(crate) fn find() -> Result<Self, ClusterError> {
        let folder = newest().ok_or(ClusterError::NotInstalled)?;
        let user = if geteuid().is_root() { Some(server_user()?) } else { None };
        Ok(Self { folder, user })
    }

    /// Who must own the server's files, if it is not us.
    pub(crate) const fn user(&self) -> Option<User> {
        self.user
    }

    /// A command of PostgreSQL that reads nothing from our environment and is in no process group of ours.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.as_user(self.folder.join(program))
    }

    /// The shell, as the server's user.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = self.as_user("/bin/sh");
        command.args(["-c", script, "wherry-pg-keeper"]);
        command
    }

    fn as_user(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.stdin(Stdio::null()).current_dir("/").process_group(0);
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }
}

/// Runs a command to its end; what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String, ClusterError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|source| ClusterError::Program { program: program.clone(), source })?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(ClusterError::Failed { program, output: format!("{}{}", said, complaint.trim()) })
}

/// Debian keeps them out of the path, by version; others have them in it.
fn newest() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(|entry| {
        let entry = entry.ok()?;
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        (version >= OLDEST && has_server(&folder)).then_some((version, folder))
    });
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| has_server(folder) && is_new_enough(folder))
    };
    versions.max().map(|(_, folder)| folder).or_else(on_path)
}

fn has_server(folder: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres", "psql"].iter().all(|program| folder.join(program).is_file())
}

fn is_new_enough(folder: &Path) -> bool {
    // "postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)"
    let said = run(Command::new(folder.join("postgres")).arg("--version")).unwrap_or_default();
    let version = said.split_whitespace().nth(2).and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    version.is_some_and(|version| version >= OLDEST)
}

fn server_user() -> Result<User, ClusterError> {
    let users = fs::read_to_string("/etc/passwd").map_err(ClusterError::file("/etc/passwd"))?;
    let find = |wanted: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (name == wanted).then_some(User { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        })
    };
    find("postgres").or_else(|| find("nobody")).ok_or(ClusterError::NoUser)
}
