//! What a node keeps of itself, in one folder that only its user can read.
//!
//! `identity.json` is replaced whole: a certificate and another key can never stand beside each other. `join.key` is made once
//! and never changes, because a token is bound to it. `endpoints.json` is apart, because it changes when the control plane
//! does and is of no harm when it is lost.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use wherry_agent_api::Enrolled;
use wherry_model::Entropy;

use super::IdentityError;
use crate::durable;

const IDENTITY_FILE: &str = "identity.json";
const JOIN_KEY_FILE: &str = "join.key";
const ENDPOINTS_FILE: &str = "endpoints.json";
/// How the names of their unfinished versions begin.
const IDENTITY_STEM: &str = "identity.";
const ENDPOINTS_STEM: &str = "endpoints.";
/// End of the name of a file that is being written.
const UNFINISHED: &str = "new";

/// `identity.json`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) enrolled: Enrolled,
    pub(super) name: String,
    /// SHA-256 of the token that it joined with, in hexadecimal digits.
    pub(super) token: String,
    /// Where it joined.
    pub(super) endpoint: String,
    /// PEM, with the chain above it.
    pub(super) certificate: String,
    /// PKCS #8 PEM.
    pub(super) key: String,
    /// PEM.
    pub(super) ca: String,
}

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn identity_path(&self) -> PathBuf {
        self.0.join(IDENTITY_FILE)
    }

    /// Makes the folder if need be and clears away what a killed process left half written. Only for the process that
    /// writes here.
    pub(super) fn prepare(&self) -> Result<(), IdentityError> {
        let prepared = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
            self.clear("")?;
            if let Some(parent) = self.0.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::File::open(parent)?.sync_all()?;
            }
            Ok(())
        };
        prepared().map_err(failed(&self.0))
    }

    /// Clears away what was left half written of the identity. Only for the task that renews it.
    pub(super) fn clear_unfinished(&self) -> Result<(), IdentityError> {
        self.clear(IDENTITY_STEM).map_err(failed(&self.0))
    }

    fn clear(&self, stem: &str) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem));
            if named && path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    pub(super) fn read(&self) -> Result<Option<Record>, IdentityError> {
        let path = self.identity_path();
        let Some(text) = durable::read_secret(&path).map_err(failed(&path))? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|source| IdentityError::Form { path, source })
    }

    pub(super) fn write(&self, record: &Record, entropy: &dyn Entropy) -> Result<(), IdentityError> {
        let path = self.identity_path();
        let text = serde_json::to_vec_pretty(record);
        let text = text.map_err(|source| IdentityError::Form { path: path.clone(), source })?;
        durable::replace(&path, &text, 0o600, entropy).map_err(failed(&path))
    }

    /// The key that tokens are bound to; on the disk before anybody sees it used.
    pub(super) fn join_key(&self, entropy: &dyn Entropy) -> Result<KeyPair, IdentityError> {
        let path = self.0.join(JOIN_KEY_FILE);
        if durable::read_secret(&path).map_err(failed(&path))?.is_none() {
            let made = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            durable::create_once(&path, made.serialize_pem().as_bytes(), 0o600, entropy).map_err(failed(&path))?;
        }
        let text = durable::read_secret(&path).map_err(failed(&path))?;
        Ok(KeyPair::from_pem(&text.unwrap_or_default())?)
    }

    /// The replicas that the control plane named last, best first; none when that is not known.
    pub(super) fn endpoints(&self) -> Vec<String> {
        let path = self.0.join(ENDPOINTS_FILE);
        match durable::read(&path) {
            Ok(Some(text)) => serde_json::from_str(&text).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the control plane's replicas are not known from before");
                Vec::new()
            }),
            Ok(None) => Vec::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the control plane's replicas are not known from before");
                Vec::new()
            }
        }
    }

    pub(super) fn keep_endpoints(&self, endpoints: &[String], entropy: &dyn Entropy) -> io::Result<()> {
        self.clear(ENDPOINTS_STEM)?;
        durable::replace(&self.0.join(ENDPOINTS_FILE), &serde_json::to_vec(endpoints)?, 0o600, entropy)
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::File { path, source }
}
