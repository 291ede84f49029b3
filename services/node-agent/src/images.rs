//! Gives the disk of images back: removes images that nobody uses once it is fuller than a high mark, until it is not
//! fuller than a low mark. What has not been used for longest goes first.
//!
//! - In use is the image of every container that the engine has, whether it runs or not, and whatever an instance that
//!   is to run here names, by its tag or by the digest that it was found to mean: so also what is pulled now, and what a
//!   restart will need. The engine's own image for sandboxes is not listed by it ([`wherry_runtime::ContainerRuntime::list_images`]).
//! - What was here for less than [`ImageLimits::min_age`], or used within that time, stays: it may be needed again at once.
//! - When an image was used last is known from this agent's start on; before that, everything was seen at its start. No
//!   file remembers it: the worst that can come of that is another pull.
//! - An instance that comes between the last look at what is desired and a removal finds its image gone, and pulls it.
//!
//! Rejected: removing what an ended instance leaves right away (the next run of a job would pull it again), and counting the
//! sizes that the engine tells (layers are shared, and they are compressed sizes): the disk is asked after each removal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wherry_agent_api::NodeHello;
use wherry_model::{Action, ImageKey};
use wherry_runtime::{Image, ImageDisk, Labels, RuntimeError};

use crate::config::ImageLimits;
use crate::node::Node;

/// Most images whose use is remembered between two looks.
const NOTED_MOST: usize = 4096;

/// How long an introduction waits for the engine to say which images it has.
const LIST_WITHIN: Duration = Duration::from_secs(2);

/// References of images that were used since the last look, so that a run between two looks counts.
#[derive(Debug, Default)]
pub(crate) struct ImagesUsed(Mutex<BTreeMap<String, Instant>>);

impl ImagesUsed {
    /// An image is used now, by this reference.
    pub(crate) fn note(&self, reference: &str) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < NOTED_MOST || noted.contains_key(reference) {
            noted.insert(reference.to_owned(), Instant::now());
        }
    }

    fn take(&self) -> BTreeMap<String, Instant> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the agent shows of the images on its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImagesStatus {
    /// Images that are here.
    pub present: usize,
    /// Bytes of the file system that they are on.
    pub disk_total_bytes: u64,
    /// Bytes of it that are taken, by whatever.
    pub disk_used_bytes: u64,
    /// Images that were removed since the agent's start.
    pub removed: u64,
    /// By how many bytes the disk was emptier after that.
    pub freed_bytes: u64,
    /// It is fuller than the high mark, and no image can be removed.
    pub nothing_to_remove: bool,
}

/// What the control plane is told of the images that are here, so that what needs one of them comes here rather. An engine that does
/// not answer has none: this must not keep the agent from introducing itself.
pub(crate) async fn keys(node: &Node) -> Vec<ImageKey> {
    let listed = tokio::time::timeout(LIST_WITHIN, node.runtime.list_images()).await;
    let images = listed.ok().and_then(Result::ok).unwrap_or_default();
    let names = images.iter().flat_map(|image| image.tags.iter().chain(&image.digests));
    names.map(|name| ImageKey::of(name)).take(NodeHello::MAX_IMAGES).collect()
}

/// When an image was seen first and used last.
#[derive(Debug, Clone, Copy)]
struct Known {
    first_seen: Instant,
    last_used: Instant,
}

/// What is remembered from look to look.
#[derive(Debug, Default)]
struct Keeper {
    known: BTreeMap<String, Known>,
    status: ImagesStatus,
}

/// Looks for ever.
pub(crate) async fn keep(node: Arc<Node>) {
    let mut keeper = Keeper::default();
    loop {
        // What the engine does not answer now it is asked at the next look.
        if let Err(error) = keeper.look(&node).await {
            tracing::debug!(%error, "the images of this machine cannot be looked at now");
        }
        node.board.set(|status| &mut status.images, keeper.status);
        tokio::time::sleep(node.config.images.check_every).await;
    }
}

impl Keeper {
    async fn look(&mut self, node: &Node) -> Result<(), RuntimeError> {
        let images = node.runtime.list_images().await?;
        let containers = node.runtime.list_containers(&Labels::new()).await?;
        let of_containers: BTreeSet<String> = containers.into_iter().map(|container| container.image_id).collect();
        self.remember(&images, &of_containers, node);
        self.ask_disk(node).await?;
        self.status.present = images.len();
        let limits = node.config.images;
        self.status.nothing_to_remove = false;
        if !is_above(self.disk(), limits.high_percent) {
            return Ok(());
        }
        for image in self.oldest_first(images, &of_containers, limits, Instant::now()) {
            if !is_above(self.disk(), limits.low_percent) {
                return Ok(());
            }
            // Anew each time: a removal takes a while, and an instance may have come.
            if Wanted::at(node).has(&image) {
                continue;
            }
            // One that cannot be removed must not keep the others.
            if let Err(error) = node.runtime.remove_image(&image.id).await {
                tracing::warn!(image = name(&image), %error, "an image that nobody uses cannot be removed");
                continue;
            }
            self.removed(node, &image).await?;
        }
        self.status.nothing_to_remove = is_above(self.disk(), limits.high_percent);
        if self.status.nothing_to_remove {
            let (used, total) = (self.status.disk_used_bytes, self.status.disk_total_bytes);
            tracing::warn!(used, total, "the disk of images is too full, and no image can be removed; make room on it");
        }
        Ok(())
    }

    /// Brings up to date what is known of each image, and forgets what is gone.
    fn remember(&mut self, images: &[Image], of_containers: &BTreeSet<String>, node: &Node) {
        let now = Instant::now();
        let noted = node.images_used.take();
        let wanted = Wanted::at(node);
        let mut known = BTreeMap::new();
        for image in images {
            let before = self.known.get(&image.id).copied();
            let mut this = before.unwrap_or(Known { first_seen: now, last_used: now });
            if of_containers.contains(&image.id) || wanted.has(image) {
                this.last_used = now;
            }
            let names = image.tags.iter().chain(&image.digests);
            let used = names.filter_map(|name| noted.get(name)).max().copied();
            this.last_used = used.map_or(this.last_used, |used| used.max(this.last_used));
            known.insert(image.id.clone(), this);
        }
        self.known = known;
    }

    /// Those that may be removed, the longest unused one first.
    fn oldest_first(
        &self,
        images: Vec<Image>,
        of_containers: &BTreeSet<String>,
        limits: ImageLimits,
        now: Instant,
    ) -> Vec<Image> {
        let is_old = |at: Instant| now.saturating_duration_since(at) >= limits.min_age;
        let unused = images.into_iter().filter(|image| !of_containers.contains(&image.id));
        let mut old: Vec<(Known, Image)> =
            unused.filter_map(|image| self.known.get(&image.id).map(|known| (*known, image))).collect();
        old.retain(|(known, _)| is_old(known.first_seen) && is_old(known.last_used));
        old.sort_by(|(a, one), (b, other)| {
            (a.last_used, a.first_seen, &one.id).cmp(&(b.last_used, b.first_seen, &other.id))
        });
        old.into_iter().map(|(_, image)| image).collect()
    }

    async fn removed(&mut self, node: &Node, image: &Image) -> Result<(), RuntimeError> {
        let before = self.status.disk_used_bytes;
        self.known.remove(&image.id);
        self.status.removed += 1;
        self.status.present = self.status.present.saturating_sub(1);
        self.ask_disk(node).await?;
        let freed = before.saturating_sub(self.status.disk_used_bytes);
        self.status.freed_bytes = self.status.freed_bytes.saturating_add(freed);
        tracing::info!(
            image = name(image),
            freed,
            "an image that nobody uses was removed, the disk of images is too full"
        );
        Ok(())
    }

    async fn ask_disk(&mut self, node: &Node) -> Result<(), RuntimeError> {
        let disk = node.runtime.image_disk().await?;
        self.status.disk_total_bytes = disk.total_bytes;
        self.status.disk_used_bytes = disk.used_bytes;
        Ok(())
    }

    const fn disk(&self) -> ImageDisk {
        ImageDisk { total_bytes: self.status.disk_total_bytes, used_bytes: self.status.disk_used_bytes }
    }
}

fn is_above(disk: ImageDisk, percent: u8) -> bool {
    u128::from(disk.used_bytes) * 100 > u128::from(disk.total_bytes) * u128::from(percent)
}

/// For people.
fn name(image: &Image) -> &str {
    image.tags.first().or(image.digests.first()).unwrap_or(&image.id)
}

/// The images that instances which are to run here name, or were said to have.
#[derive(Debug, Default)]
struct Wanted {
    tags: BTreeSet<String>,
    digests: BTreeSet<String>,
}

impl Wanted {
    fn at(node: &Node) -> Self {
        let watch = node.desired.watch();
        let known = watch.borrow();
        let mut wanted = Self::default();
        for desired in known.instances.values().filter(|desired| desired.action == Action::Run) {
            let memory = node.journal.memory(desired.id).filter(|memory| memory.generation == desired.generation);
            for container in &desired.containers {
                let spec = &container.spec;
                let said = memory.as_ref().and_then(|memory| {
                    memory.container(&spec.name).digest_of(container.revision).map(ToString::to_string)
                });
                let given = [container.digest.as_ref(), spec.image.digest()];
                wanted.digests.extend(given.into_iter().flatten().map(ToString::to_string).chain(said));
                wanted.tags.insert(spec.image.to_string());
            }
        }
        wanted
    }

    fn has(&self, image: &Image) -> bool {
        let digest = |name: &String| self.digests.contains(name.rsplit('@').next().unwrap_or(name));
        image.tags.iter().any(|tag| self.tags.contains(tag)) || image.digests.iter().any(digest)
    }
}
