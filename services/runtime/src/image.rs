//! Images and pulls.

use std::fmt;
use std::time::Duration;

use crate::Labels;

/// Credentials for one pull, as CRI has them.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryAuth {
    /// User name.
    pub username: String,
    /// Password or access token.
    pub password: String,
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RegistryAuth").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What to pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// Full reference with registry host: `host[:port]/repository:tag` or `host[:port]/repository@sha256:…`.
    pub reference: String,
    /// Credentials, `None` for anonymous.
    pub auth: Option<RegistryAuth>,
    /// After this long the pull is given up.
    pub timeout: Duration,
}

/// An image on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// Digest of the image's configuration, `sha256:…`.
    pub id: String,
    /// References by tag.
    pub tags: Vec<String>,
    /// References by digest, `repository@sha256:…`.
    pub digests: Vec<String>,
    /// Compressed size in bytes as the engine counts it.
    pub size_bytes: u64,
    /// Labels of the image's configuration.
    pub labels: Labels,
    /// `USER` of the image's configuration as the engine resolved it: a number or a name.
    pub user: Option<String>,
}

/// A file system with images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageDisk {
    /// Bytes that it has in all.
    pub total_bytes: u64,
    /// Bytes of them that are taken, by images or by anything else.
    pub used_bytes: u64,
}

/// The result of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// Digest of the manifest or index that the reference meant at the time of the pull, `sha256:…`.
    pub digest: String,
    /// `repository@sha256:…`: always means the same bytes, and runs again without asking the registry.
    pub pinned_reference: String,
    /// The image.
    pub image: Image,
}

/// How far a pull is. All zero while nothing is known yet, and where nothing is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Layers that are here.
    pub done_layers: u32,
    /// Layers of the image.
    pub total_layers: u32,
    /// Bytes of layers that are here.
    pub done_bytes: u64,
    /// Bytes of all layers, compressed as they travel.
    pub total_bytes: u64,
}

/// Prefix of image labels by which containerd's restart plugin starts containers on its own, past Wherry's records.
const RESTART_LABEL_PREFIX: &str = "containerd.io/restart.";

/// Why an image with these labels must not run, `None` when it may. Every engine asks this at pull and at create.
pub fn refusal_by_labels(labels: &Labels) -> Option<String> {
    labels.keys().find(|key| key.starts_with(RESTART_LABEL_PREFIX)).map(|key| {
        format!("its label \"{key}\" asks the engine to start it outside of Wherry; build it without that label")
    })
}
