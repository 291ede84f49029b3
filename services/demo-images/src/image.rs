//! One OCI image (image-spec 1.0: config, gzip layers, manifest) held in memory, and its OCI layout archive.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::FileTree;

pub(crate) const MANIFEST_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_MEDIA_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Bytes with the digest they are addressed by.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    media_type: &'static str,
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self { media_type, digest: digest_of(&bytes), bytes }
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// A finished image.
#[derive(Debug, Clone)]
pub struct OciImage {
    pub(crate) layers: Vec<Blob>,
    pub(crate) config: Blob,
    pub(crate) manifest: Blob,
}

impl OciImage {
    /// Starts an image without layers.
    pub fn builder() -> OciImageBuilder {
        OciImageBuilder::default()
    }

    /// The manifest's digest, `sha256:…`: what a pull by digest names.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// Bytes that a pull downloads: layers, config and manifest.
    pub fn size_bytes(&self) -> usize {
        self.blobs().map(|blob| blob.bytes.len()).sum()
    }

    /// Writes an OCI layout tar for `ctr images import`, which will name the image `reference`
    /// (in full, such as `registry.example/demo/web:1`).
    pub fn write_archive(&self, path: &Path, reference: &str) -> Result<()> {
        let mut index_entry = self.manifest.descriptor();
        index_entry["annotations"] = json!({
            "io.containerd.image.name": reference,
            "org.opencontainers.image.ref.name": reference,
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [index_entry],
        });
        let mut tree = FileTree::new().file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#).file(
            "index.json",
            0o644,
            index.to_string(),
        );
        for blob in self.blobs() {
            let hash = blob.digest.trim_start_matches("sha256:");
            tree = tree.file(&format!("blobs/sha256/{hash}"), 0o644, blob.bytes.clone());
        }
        std::fs::write(path, tree.to_tar()?)
            .with_context(|| format!("cannot write the image archive {}", path.display()))
    }

    fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config, &self.manifest])
    }
}

/// Collects layers and the run-time defaults of an [`OciImage`].
#[derive(Debug, Clone, Default)]
pub struct OciImageBuilder {
    layers: Vec<FileTree>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    environment: Vec<String>,
    labels: BTreeMap<String, String>,
    user: String,
    working_directory: String,
    stop_signal: Option<String>,
    exposed_ports: Vec<u16>,
}

impl OciImageBuilder {
    /// Adds a layer on top.
    pub fn layer(mut self, tree: FileTree) -> Self {
        self.layers.push(tree);
        self
    }

    /// What is always run.
    pub fn entrypoint(mut self, arguments: &[&str]) -> Self {
        self.entrypoint = owned(arguments);
        self
    }

    /// Arguments that the person who runs the image may replace.
    pub fn command(mut self, arguments: &[&str]) -> Self {
        self.command = owned(arguments);
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// Adds a label to the image's config.
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// User, `name` or `uid:gid`; root when never called.
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Folder that the process starts in.
    pub fn working_directory(mut self, path: &str) -> Self {
        path.clone_into(&mut self.working_directory);
        self
    }

    /// Signal that asks the process to end, such as `SIGQUIT`; SIGTERM when never called.
    pub fn stop_signal(mut self, signal: &str) -> Self {
        self.stop_signal = Some(signal.to_owned());
        self
    }

    /// Declares a TCP port that the process listens on.
    pub fn exposed_port(mut self, port: u16) -> Self {
        self.exposed_ports.push(port);
        self
    }

    /// Compresses the layers and addresses everything by digest, for this machine's architecture.
    pub fn build(self) -> Result<OciImage> {
        let mut diff_ids = Vec::new();
        let mut layers = Vec::new();
        for tree in &self.layers {
            let tar = tree.to_tar()?;
            diff_ids.push(digest_of(&tar));
            layers.push(Blob::new(LAYER_MEDIA_TYPE, gzip(&tar)?));
        }
        let ports: BTreeMap<String, Value> =
            self.exposed_ports.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
        let mut run = json!({
            "Env": self.environment,
            "Entrypoint": self.entrypoint,
            "Cmd": self.command,
            "Labels": self.labels,
            "User": self.user,
            "WorkingDir": self.working_directory,
            "ExposedPorts": ports,
        });
        if let Some(signal) = &self.stop_signal {
            run["StopSignal"] = json!(signal);
        }
        let config = json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": architecture()?,
            "os": "linux",
            "config": run,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = Blob::new(CONFIG_MEDIA_TYPE, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(MANIFEST_MEDIA_TYPE, manifest.to_string().into_bytes());
        Ok(OciImage { layers, config, manifest })
    }
}

/// The image-spec's (Go's) name of this machine's architecture.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no OCI name is known here for the architecture {other}: add it to {}", file!()),
    }
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).context("cannot compress a layer")
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(bytes)))
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn sample() -> OciImage {
        let tree = FileTree::new().file("/hello", 0o644, "hello");
        OciImage::builder().layer(tree).entrypoint(&["/hello"]).label("a", "b").build().unwrap()
    }

    #[test]
    fn the_same_input_has_the_same_digest() {
        assert_eq!(sample().digest(), sample().digest());
        let other = OciImage::builder().layer(FileTree::new().file("/hello", 0o644, "bye")).build().unwrap();
        assert_ne!(sample().digest(), other.digest());
    }

    #[test]
    fn diff_id_is_the_digest_of_the_uncompressed_layer() {
        let image = sample();
        let config: Value = serde_json::from_slice(&image.config.bytes).unwrap();
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(image.layers[0].bytes.as_slice()).read_to_end(&mut tar).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest_of(&tar));
        assert_eq!(config["config"]["Labels"]["a"], "b");
    }

    #[test]
    fn archive_holds_every_blob_under_its_digest() {
        let image = sample();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        image.write_archive(&path, "registry.test/hello:1").unwrap();
        let mut archive = tar::Archive::new(std::fs::File::open(&path).unwrap());
        let mut blobs = 0;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if let Some(hash) = name.strip_prefix("blobs/sha256/")
                && !hash.is_empty()
            {
                assert_eq!(digest_of(&bytes), format!("sha256:{hash}"));
                blobs += 1;
            }
        }
        assert_eq!(blobs, 3);
    }
}
