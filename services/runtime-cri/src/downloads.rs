//! How far pulls are, from containerd's content store: CRI itself says nothing until a pull has ended.
//!
//! The manifest of an image is there before its layers, with labels that say from which repository it came. It lists layers
//! and sizes; a layer is here when its blob is, and on its way when an ingest of it is open. Which manifest a tag means is
//! not said anywhere before the pull has ended: of those of the repository the latest whose layers are on their way, else the one
//! that was seen on its way for this reference before. A layer that another image has unpacked is not fetched and counts as
//! missing until the pull has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tonic::codec::Streaming;
use wherry_runtime::{PullProgress, Result, RuntimeError};

use crate::connection::{Connection, READ_LIMIT, answered, namespaced};
use crate::failure::{About, runtime_error};
use crate::generated::containerd::services::content::v1::{
    Info, ListContentRequest, ListStatusesRequest, ReadContentRequest,
};

/// The label of a manifest that names its configuration, and those of an index that name its manifests. Those for layers are
/// not there: their blobs are discarded once they are unpacked.
const CONFIG_LABEL: &str = "containerd.io/gc.ref.content.config";
const MANIFEST_LABEL: &str = "containerd.io/gc.ref.content.m.";
/// What a blob's label for the registry that it came from begins with; its value lists repositories.
const SOURCE_LABEL: &str = "containerd.io/distribution.source.";
/// A manifest is no longer than this, as registries have it.
const MAX_MANIFEST_BYTES: usize = 4 << 20;
/// Manifests of one repository that are looked at, the latest first.
const MANIFESTS_LOOKED_AT: usize = 32;
/// Manifests that are remembered: what a digest means never changes.
const MANIFESTS_MOST: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Layer {
    digest: String,
    size: u64,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

/// Bytes of open ingests by the digest of what they fetch.
type Ingests = BTreeMap<String, u64>;

/// Watches the content store.
#[derive(Debug)]
pub(crate) struct Downloads {
    connection: Connection,
    manifests: Mutex<BTreeMap<String, Arc<Vec<Layer>>>>,
    /// By reference, the manifest whose layers were seen to be fetched for it last.
    fetched: Mutex<BTreeMap<String, String>>,
}

impl Downloads {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, manifests: Mutex::default(), fetched: Mutex::default() }
    }

    /// In the order of the references.
    pub(crate) async fn progress(&self, references: &[String]) -> Result<Vec<PullProgress>> {
        let ingests = self.ingests().await?;
        let mut all = Vec::with_capacity(references.len());
        for reference in references {
            all.push(self.of(reference, &ingests).await?);
        }
        Ok(all)
    }

    async fn ingests(&self) -> Result<Ingests> {
        let mut client = self.connection.content();
        let answer = client.list_statuses(namespaced(ListStatusesRequest::default()));
        let statuses = answered("ListStatuses", About::Engine, READ_LIMIT, answer).await?.statuses;
        // `layer-sha256:…`
        let digest = |reference: &str| reference.find("sha256:").and_then(|at| reference.get(at..)).map(str::to_owned);
        let known = statuses.into_iter().filter_map(|status| Some((digest(&status.r#ref)?, unsigned(status.offset))));
        Ok(known.collect())
    }

    async fn of(&self, reference: &str, ingests: &Ingests) -> Result<PullProgress> {
        let Some((host, repository)) = source(reference) else { return Ok(PullProgress::default()) };
        let blobs = self.blobs(host, repository).await?;
        let sizes: BTreeMap<&str, u64> = blobs.iter().map(|blob| (blob.digest.as_str(), unsigned(blob.size))).collect();
        let asked = reference.split_once('@').map(|(_, digest)| meanings(digest, &blobs));
        let mut manifests: Vec<&Info> = blobs
            .iter()
            .filter(|blob| blob.labels.contains_key(CONFIG_LABEL))
            .filter(|blob| asked.as_ref().is_none_or(|asked| asked.contains(blob.digest.as_str())))
            .collect();
        let at = |blob: &Info| blob.updated_at.as_ref().map(|at| (at.seconds, at.nanos));
        manifests.sort_by_key(|blob| std::cmp::Reverse((at(blob), blob.digest.clone())));
        let known = self.fetched_for(reference);
        let mut seen = None;
        for manifest in manifests.into_iter().take(MANIFESTS_LOOKED_AT) {
            let layers = self.layers(&manifest.digest).await?;
            if layers.iter().any(|layer| ingests.contains_key(&layer.digest)) {
                self.note(reference, &manifest.digest);
                return Ok(count(&layers, &sizes, ingests));
            }
            if known.as_ref() == Some(&manifest.digest) {
                seen = Some(layers);
            }
        }
        Ok(seen.map(|layers| count(&layers, &sizes, ingests)).unwrap_or_default())
    }

    /// What is here of a repository.
    async fn blobs(&self, host: &str, repository: &str) -> Result<Vec<Info>> {
        let label = format!("{SOURCE_LABEL}{host}");
        let filters = vec![format!("labels.\"{label}\"~=\"{repository}\"")];
        let mut client = self.connection.content();
        let answer = client.list(namespaced(ListContentRequest { filters }));
        let mut stream = answered("ListContent", About::Engine, READ_LIMIT, answer).await?;
        let mut blobs = Vec::new();
        while let Some(page) = next("ListContent", &mut stream).await? {
            blobs.extend(page.info);
        }
        // The filter finds parts of names too.
        let is_of =
            |blob: &Info| blob.labels.get(&label).is_some_and(|all| all.split(',').any(|one| one == repository));
        blobs.retain(is_of);
        Ok(blobs)
    }

    async fn layers(&self, digest: &str) -> Result<Arc<Vec<Layer>>> {
        if let Some(known) = self.known().get(digest) {
            return Ok(Arc::clone(known));
        }
        let mut client = self.connection.content();
        let message = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let answer = client.read(namespaced(message));
        let mut stream = answered("ReadContent", About::Engine, READ_LIMIT, answer).await?;
        let mut text = Vec::new();
        while let Some(piece) = next("ReadContent", &mut stream).await? {
            if text.len().saturating_add(piece.data.len()) > MAX_MANIFEST_BYTES {
                return Err(RuntimeError::Internal { message: format!("the manifest {digest} is too long") });
            }
            text.extend_from_slice(&piece.data);
        }
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| RuntimeError::Internal { message: format!("the manifest {digest}: {error}") })?;
        let layers = Arc::new(manifest.layers);
        let mut known = self.known();
        if known.len() >= MANIFESTS_MOST {
            known.clear();
        }
        known.insert(digest.to_owned(), Arc::clone(&layers));
        Ok(layers)
    }

    fn fetched_for(&self, reference: &str) -> Option<String> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned()
    }

    fn note(&self, reference: &str, manifest: &str) {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if fetched.len() >= MANIFESTS_MOST {
            fetched.clear();
        }
        fetched.insert(reference.to_owned(), manifest.to_owned());
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Vec<Layer>>>> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn next<T>(call: &'static str, stream: &mut Streaming<T>) -> Result<Option<T>> {
    match tokio::time::timeout(READ_LIMIT, stream.message()).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(status)) => Err(runtime_error(call, About::Engine, READ_LIMIT, &status)),
        Err(_) => Err(RuntimeError::Timeout { call, after: READ_LIMIT }),
    }
}

/// Registry and repository as containerd's labels have them: without the port.
fn source(reference: &str) -> Option<(&str, &str)> {
    let name = reference.split('@').next()?;
    let (host, rest) = name.split_once('/')?;
    let repository = match rest.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => rest,
    };
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte));
    let host = host.split(':').next().unwrap_or(host);
    (is_plain(host) && is_plain(repository)).then_some((host, repository))
}

/// The digests of manifests that a pinned digest can mean.
fn meanings<'a>(digest: &'a str, blobs: &'a [Info]) -> BTreeSet<&'a str> {
    let index = blobs.iter().find(|blob| blob.digest == digest);
    std::iter::once(digest).chain(index.into_iter().flat_map(|index| refers(index, MANIFEST_LABEL))).collect()
}

fn refers<'a>(blob: &'a Info, label: &'a str) -> impl Iterator<Item = &'a str> {
    blob.labels.iter().filter(move |(key, _)| key.starts_with(label)).map(|(_, digest)| digest.as_str())
}

fn count(layers: &[Layer], here: &BTreeMap<&str, u64>, ingests: &Ingests) -> PullProgress {
    // An image may have the same layer twice, which is fetched once.
    let layers: BTreeMap<&str, u64> = layers.iter().map(|layer| (layer.digest.as_str(), layer.size)).collect();
    let mut progress = PullProgress::default();
    for (digest, size) in layers {
        let is_here = here.contains_key(digest);
        let done = if is_here { size } else { ingests.get(digest).copied().unwrap_or(0).min(size) };
        progress.total_layers = progress.total_layers.saturating_add(1);
        progress.done_layers = progress.done_layers.saturating_add(u32::from(is_here));
        progress.total_bytes = progress.total_bytes.saturating_add(size);
        progress.done_bytes = progress.done_bytes.saturating_add(done);
    }
    progress
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_what_containerd_labels() {
        for (reference, expected) in [
            ("registry.example/team/web:1", Some(("registry.example", "team/web"))),
            ("127.0.0.1:5000/busybox:1.36", Some(("127.0.0.1", "busybox"))),
            ("r.example:443/a/b@sha256:00", Some(("r.example", "a/b"))),
            ("r.example/a:1@sha256:00", Some(("r.example", "a"))),
            ("busybox", None),
            ("r.example/a\"b", None),
        ] {
            assert_eq!(source(reference), expected, "{reference}");
        }
    }

    #[test]
    fn layers_are_counted_once_by_what_is_here_and_what_is_on_its_way() {
        let layer = |digest: &str, size| Layer { digest: digest.into(), size };
        let layers = [layer("a", 100), layer("b", 50), layer("c", 10), layer("a", 100)];
        let ingests = Ingests::from([("b".to_owned(), 20)]);
        let progress = count(&layers, &BTreeMap::from([("a", 100)]), &ingests);
        assert_eq!(progress, PullProgress { done_layers: 1, total_layers: 3, done_bytes: 120, total_bytes: 160 });
    }

    #[test]
    fn a_pinned_index_means_its_manifests() {
        let labels = BTreeMap::from([(format!("{MANIFEST_LABEL}0"), "sha256:m".to_owned())]);
        let index = Info { digest: "sha256:i".into(), labels, ..Info::default() };
        assert_eq!(meanings("sha256:i", &[index]), BTreeSet::from(["sha256:i", "sha256:m"]));
    }
}
