//! OCI images from a list of files: one uncompressed layer, a configuration, a manifest, and all of it as an archive that
//! `ctr images import` takes, or blob by blob for a registry.
//!
//! Deterministic: the same input gives the same digests (no times, no owners but root). By hand, because a tar header is
//! 512 bytes and a JSON document is a JSON document; a tar crate would be the only reason for another dependency.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Media type of the image manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// What cannot be put into an image.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The tar format of 1988 splits a path at a slash into at most 155 + 100 bytes.
    #[error("path \"{0}\" is too long for an image layer")]
    PathTooLong(String),
    /// Sizes are octal numbers of eleven digits.
    #[error("file \"{0}\" is too large for an image layer: 8 GiB is the most")]
    FileTooLarge(String),
}

/// One thing in the image's file system, at a path without a leading slash.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A folder.
    Folder {
        /// Path.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// A file.
    File {
        /// Path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Content.
        bytes: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Path.
        path: String,
        /// What it points to.
        target: String,
    },
}

impl Entry {
    /// A file with mode 0755.
    pub fn executable(path: &str, bytes: Vec<u8>) -> Self {
        Self::File { path: path.to_owned(), mode: 0o755, bytes }
    }

    /// A file with mode 0644.
    pub fn file(path: &str, bytes: Vec<u8>) -> Self {
        Self::File { path: path.to_owned(), mode: 0o644, bytes }
    }

    /// A folder with mode 0755.
    pub fn folder(path: &str) -> Self {
        Self::Folder { path: path.to_owned(), mode: 0o755 }
    }

    /// A symbolic link.
    pub fn symlink(path: &str, target: &str) -> Self {
        Self::Symlink { path: path.to_owned(), target: target.to_owned() }
    }
}

/// The part of the image's configuration that Wherry's own images use.
#[derive(Debug, Clone, Default)]
pub struct ImageConfig {
    /// Entry point.
    pub entrypoint: Vec<String>,
    /// Arguments.
    pub command: Vec<String>,
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// User.
    pub user: String,
}

/// Bytes with their digest.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `sha256:…`.
    pub digest: String,
    /// Content.
    pub bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let mut digest = "sha256:".to_owned();
        for byte in Sha256::digest(&bytes) {
            // Writing to a String cannot fail.
            let _ = write!(digest, "{byte:02x}");
        }
        Self { digest, bytes }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// An image in memory.
#[derive(Debug, Clone)]
pub struct OciImage {
    /// The manifest; its digest is the image's.
    pub manifest: Blob,
    /// The configuration.
    pub config: Blob,
    /// The one layer.
    pub layer: Blob,
}

impl OciImage {
    /// Builds an image for this machine's architecture.
    pub fn build(entries: &[Entry], config: &ImageConfig) -> Result<Self, OciError> {
        let layer = Blob::new(tar(entries)?);
        let document = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": config.entrypoint,
                "Cmd": config.command,
                "Env": config.env,
                "Labels": config.labels,
                "User": config.user,
            },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        });
        let config = Blob::new(document.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.descriptor(CONFIG_TYPE),
            "layers": [layer.descriptor(LAYER_TYPE)],
        });
        Ok(Self { manifest: Blob::new(manifest.to_string().into_bytes()), config, layer })
    }

    /// The image as an OCI archive; on import it gets the full reference `name`.
    pub fn archive(&self, name: &str) -> Result<Vec<u8>, OciError> {
        let mut descriptor = self.manifest.descriptor(MANIFEST_TYPE);
        descriptor["annotations"] =
            json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name });
        descriptor["platform"] = json!({ "architecture": architecture(), "os": "linux" });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor] });
        let mut entries = vec![
            Entry::file("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes()),
            Entry::file("index.json", index.to_string().into_bytes()),
            Entry::folder("blobs"),
            Entry::folder("blobs/sha256"),
        ];
        for blob in [&self.manifest, &self.config, &self.layer] {
            entries.push(Entry::file(&format!("blobs/{}", blob.digest.replace(':', "/")), blob.bytes.clone()));
        }
        tar(&entries)
    }
}

/// This machine's architecture in OCI's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn tar(entries: &[Entry]) -> Result<Vec<u8>, OciError> {
    let mut archive = Vec::new();
    for entry in entries {
        let (path, mode, kind, target, bytes): (_, _, _, _, &[u8]) = match entry {
            Entry::Folder { path, mode } => (path, *mode, b'5', "", &[]),
            Entry::File { path, mode, bytes } => (path, *mode, b'0', "", bytes),
            Entry::Symlink { path, target } => (path, 0o777, b'2', target.as_str(), &[]),
        };
        archive.extend_from_slice(&header(path, mode, kind, target, bytes.len())?);
        archive.extend_from_slice(bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    Ok(archive)
}

/// A ustar header (POSIX.1-1988).
fn header(path: &str, mode: u32, kind: u8, target: &str, size: usize) -> Result<[u8; 512], OciError> {
    let too_long = || OciError::PathTooLong(path.to_owned());
    let (prefix, name) = split(path).ok_or_else(too_long)?;
    if target.len() > 100 {
        return Err(too_long());
    }
    let size = format!("{size:011o}");
    if size.len() > 11 {
        return Err(OciError::FileTooLarge(path.to_owned()));
    }
    let mut block = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, size.as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// Prefix and name of a path, as short as the header wants them.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= 100 {
        return Some(("", path));
    }
    let slashes = path.char_indices().filter(|&(_, letter)| letter == '/').map(|(at, _)| at);
    slashes.map(|at| (&path[..at], &path[at + 1..])).find(|(prefix, name)| prefix.len() <= 155 && name.len() <= 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_a_function_of_the_input() {
        let entries = [Entry::folder("bin"), Entry::executable("bin/a", b"x".to_vec())];
        let build = || OciImage::build(&entries, &ImageConfig::default()).unwrap().manifest.digest;
        assert_eq!(build(), build());
        let other = OciImage::build(&entries[..1], &ImageConfig::default()).unwrap();
        assert_ne!(build(), other.manifest.digest);
    }

    #[test]
    fn long_paths_are_split_or_refused() {
        let long = format!("{}/{}", "a".repeat(120), "b".repeat(90));
        assert_eq!(split(&long).map(|(prefix, name)| (prefix.len(), name.len())), Some((120, 90)));
        assert_eq!(split(&"c".repeat(101)), None);
    }

    #[test]
    fn tar_reads_it() {
        use std::io::Write as _;
        let image = OciImage::build(&[Entry::symlink("a", "b")], &ImageConfig::default()).unwrap();
        let mut tar = std::process::Command::new("tar")
            .arg("-tf-")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("the test needs tar");
        tar.stdin.take().unwrap().write_all(&image.archive("r.test/a:1").unwrap()).unwrap();
        let listed = String::from_utf8(tar.wait_with_output().unwrap().stdout).unwrap();
        assert!(listed.starts_with("oci-layout\nindex.json\nblobs\nblobs/sha256\nblobs/sha256/"), "{listed}");
    }
}
