//! Which Wherry a command talks to, with which key.
//!
//! A key is only ever sent to the server that it was made for, or to one that is named together with it: `--server`
//! alone does not carry this machine's key elsewhere.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cli::ConnectionArgs;

/// Where a Wherry on this machine answers unless told otherwise.
const LOCAL_SERVER: &str = "http://127.0.0.1:7070";
const DEFAULT_PROJECT: &str = "default";

/// A server and a key for it: `client.json`, which `wherry up` writes, and what `wherry key create --save` writes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientFile {
    /// Base URL of the API.
    pub(crate) server: String,
    /// Public part of the key.
    pub(crate) key_id: String,
    /// Secret part of the key.
    pub(crate) key_secret: String,
    /// The project that commands mean unless they name one.
    #[serde(default = "default_project")]
    pub(crate) project: String,
}

fn default_project() -> String {
    DEFAULT_PROJECT.to_owned()
}

impl std::fmt::Debug for ClientFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientFile").field("server", &self.server).field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Why there is no connection to make.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    /// Nothing says where a server is.
    #[error(
        "there is no Wherry here: {} does not exist. Is `wherry up` running, with this data folder? For a Wherry \
         elsewhere give --key FILE, or set WHERRY_SERVER, WHERRY_KEY_ID and WHERRY_KEY_SECRET",
        .0.display()
    )]
    Absent(PathBuf),
    /// The file that was named is not there.
    #[error("there is no file {}: `wherry key create NAME --save FILE` makes one", .0.display())]
    NoKeyFile(PathBuf),
    /// It belongs to somebody else.
    #[error(
        "{} may not be read by you, it is root's: run this as root, or let root make you a key with `wherry key create \
         NAME --save FILE` and give it with --key FILE",
        .0.display()
    )]
    NotAllowed(PathBuf),
    /// It cannot be read for another reason.
    #[error("{} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// It is not what it should be.
    #[error("{} is damaged: delete it and start `wherry up` again, or give another file with --key", .0.display())]
    Damaged(PathBuf, #[source] serde_json::Error),
    /// One half of a key is missing.
    #[error("{0} is not set: WHERRY_KEY_ID and WHERRY_KEY_SECRET belong together")]
    HalfAKey(&'static str),
    /// Which key to use for that server is not known.
    #[error(
        "there is no key for {server}, the one of this machine is for {own}: give --key FILE, or set WHERRY_KEY_ID and \
         WHERRY_KEY_SECRET"
    )]
    OtherServer {
        /// The server that was named.
        server: String,
        /// The server that the key at hand is for.
        own: String,
    },
}

impl ClientFile {
    /// Reads such a file.
    pub(crate) fn read(path: &Path) -> Result<Self, ConnectionError> {
        let text = fs::read(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => ConnectionError::Absent(path.to_owned()),
            ErrorKind::PermissionDenied => ConnectionError::NotAllowed(path.to_owned()),
            _ => ConnectionError::Unreadable(path.to_owned(), error),
        })?;
        serde_json::from_slice(&text).map_err(|error| ConnectionError::Damaged(path.to_owned(), error))
    }

    /// The content of such a file.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Where the server listens, if its URL names an address and a port.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.server.strip_prefix("http://")?.trim_end_matches('/').parse().ok()
    }
}

/// A key from the environment.
#[derive(Default)]
pub(crate) struct Environment {
    pub(crate) key_id: Option<String>,
    pub(crate) key_secret: Option<String>,
}

impl Environment {
    /// What is set in the environment of this process.
    pub(crate) fn read() -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self { key_id: set("WHERRY_KEY_ID"), key_secret: set("WHERRY_KEY_SECRET") }
    }
}

/// Decides: a key file that is named, else a key of the environment, else what `wherry up` left in the data folder.
pub(crate) fn resolve(
    args: &ConnectionArgs,
    environment: Environment,
    data: &Path,
) -> Result<ClientFile, ConnectionError> {
    let server = args.server.as_deref().map(|server| server.trim_end_matches('/').to_owned());
    let mut found = if let Some(path) = &args.key {
        let file = ClientFile::read(path).map_err(|error| match error {
            ConnectionError::Absent(path) => ConnectionError::NoKeyFile(path),
            other => other,
        })?;
        ClientFile { server: server.unwrap_or(file.server), ..file }
    } else {
        match (environment.key_id, environment.key_secret) {
            (Some(key_id), Some(key_secret)) => {
                let server = server.unwrap_or_else(|| LOCAL_SERVER.to_owned());
                ClientFile { server, key_id, key_secret, project: default_project() }
            }
            (Some(_), None) => return Err(ConnectionError::HalfAKey("WHERRY_KEY_SECRET")),
            (None, Some(_)) => return Err(ConnectionError::HalfAKey("WHERRY_KEY_ID")),
            (None, None) => {
                let file = ClientFile::read(&data.join("client.json"))?;
                match server {
                    Some(server) if server != file.server => {
                        return Err(ConnectionError::OtherServer { server, own: file.server });
                    }
                    _ => file,
                }
            }
        }
    };
    if let Some(project) = &args.project {
        found.project.clone_from(project);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ARGS: ConnectionArgs = ConnectionArgs { server: None, key: None, project: None };

    fn file(server: &str) -> ClientFile {
        ClientFile {
            server: server.to_owned(),
            key_id: "id".to_owned(),
            key_secret: "secret".to_owned(),
            project: "default".to_owned(),
        }
    }

    fn both() -> Environment {
        Environment { key_id: Some("env-id".into()), key_secret: Some("env-secret".into()) }
    }

    #[test]
    fn what_up_left_is_found() {
        let data = tempfile::tempdir().unwrap();
        let left = file("http://127.0.0.1:7070");
        fs::write(data.path().join("client.json"), left.to_json().unwrap()).unwrap();
        assert_eq!(resolve(&NO_ARGS, Environment::default(), data.path()).unwrap(), left);
        assert_eq!(left.address(), Some("127.0.0.1:7070".parse().unwrap()));

        let args = ConnectionArgs { project: Some("team".into()), ..NO_ARGS };
        assert_eq!(resolve(&args, Environment::default(), data.path()).unwrap().project, "team");
    }

    #[test]
    fn a_named_file_comes_before_the_environment_and_that_before_the_data_folder() {
        let data = tempfile::tempdir().unwrap();
        let named = data.path().join("key.json");
        fs::write(&named, file("https://there.example").to_json().unwrap()).unwrap();
        fs::write(data.path().join("client.json"), file("http://127.0.0.1:7070").to_json().unwrap()).unwrap();

        let args = ConnectionArgs { key: Some(named), ..NO_ARGS };
        assert_eq!(resolve(&args, both(), data.path()).unwrap(), file("https://there.example"));
        let args = ConnectionArgs { server: Some("https://other.example/".into()), ..args };
        assert_eq!(resolve(&args, both(), data.path()).unwrap().server, "https://other.example");
        assert_eq!(resolve(&NO_ARGS, both(), data.path()).unwrap().key_id, "env-id");
    }

    #[test]
    fn this_machines_key_goes_to_no_other_server() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("client.json"), file("http://127.0.0.1:7070").to_json().unwrap()).unwrap();
        let args = ConnectionArgs { server: Some("http://192.0.2.1:7070".into()), ..NO_ARGS };
        let error = resolve(&args, Environment::default(), data.path()).unwrap_err().to_string();
        assert!(error.contains("no key for http://192.0.2.1:7070") && error.contains("--key"), "{error}");
        let args = ConnectionArgs { server: Some("http://127.0.0.1:7070/".into()), ..NO_ARGS };
        assert!(resolve(&args, Environment::default(), data.path()).is_ok());
    }

    #[test]
    fn each_obstacle_has_its_sentence() {
        let data = tempfile::tempdir().unwrap();
        let error = |environment| resolve(&NO_ARGS, environment, data.path()).unwrap_err().to_string();
        assert!(error(Environment::default()).contains("`wherry up` running"));
        let half = Environment { key_id: Some("id".into()), key_secret: None };
        assert!(error(half).contains("WHERRY_KEY_SECRET is not set"));
        let named = ConnectionArgs { key: Some(data.path().join("absent")), ..NO_ARGS };
        assert!(resolve(&named, both(), data.path()).unwrap_err().to_string().contains("there is no file"));
        fs::write(data.path().join("client.json"), "{").unwrap();
        assert!(error(Environment::default()).contains("damaged"));
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        assert!(!format!("{:?}", file("http://x")).contains("secret\""));
    }
}
