//! Keeps log files within their bounds while containers write them, and says which are complete.
//!
//! Each look: files that are full, or that grow faster than a container may print, are put aside and the engine is told to
//! begin another; what the engine has closed is counted and named complete; what is too much is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wherry_model::{ContainerName, InstanceId};
use wherry_runtime::ContainerId;

use super::bounds::{self, Running};
use super::complete::complete;
use super::cut::Cut;
use super::files::{self, Place, RunFiles};
use super::flow::Flow;
use super::{CLOSED_AFTER, deleted};
use crate::blocking::blocking;
use crate::node::Node;
use crate::observer::Snapshot;

/// A file whose run goes on so long after it was closed was opened again: by an engine that was restarted.
const OPENED_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// A file that is put aside is not worth it below this, however small the bounds.
const LEAST_FILE_BYTES: u64 = 4 * 1024;

type Run = (InstanceId, ContainerName, u32);

/// A file that was put aside and is not complete.
struct Aside {
    since: Instant,
    is_closed: bool,
    cut: Option<Cut>,
}

/// The last file of a run that seems to be over.
struct Last {
    since: Instant,
    is_closed: bool,
}

struct Keeper {
    node: Arc<Node>,
    flows: BTreeMap<Run, Flow>,
    asides: BTreeMap<(Run, u32), Aside>,
    lasts: BTreeMap<Run, Last>,
    /// What was left by the agent before this one was looked at.
    has_looked_around: bool,
    deleted_looked_at: Option<Instant>,
}

/// Looks for ever.
pub(crate) async fn keep(node: Arc<Node>) {
    let mut keeper = Keeper {
        node,
        flows: BTreeMap::new(),
        asides: BTreeMap::new(),
        lasts: BTreeMap::new(),
        has_looked_around: false,
        deleted_looked_at: None,
    };
    loop {
        tokio::time::sleep(keeper.node.config.logs.check_every).await;
        let now = Instant::now();
        if let Some(snapshot) = keeper.node.observer.latest() {
            keeper.look(&snapshot, now).await;
        }
        if keeper.deleted_looked_at.is_none_or(|last| now.duration_since(last) >= deleted::LOOK_EVERY) {
            keeper.deleted_looked_at = Some(now);
            keeper.prune_deleted().await;
        }
    }
}

impl Keeper {
    async fn look(&mut self, snapshot: &Snapshot, now: Instant) {
        let running = running_in(snapshot);
        if !self.has_looked_around {
            self.has_looked_around = true;
            self.look_around(&running, now).await;
        }
        for run in self.flows.keys().filter(|run| !running.contains_key(*run)) {
            self.lasts.entry(run.clone()).or_insert(Last { since: now, is_closed: false });
        }
        self.flows.retain(|run, _| running.contains_key(run));
        self.take_closings(now);
        let mut touched = BTreeSet::new();
        for (run, id) in &running {
            let alike = running.keys().filter(|other| other.0 == run.0).count();
            match self.bound(run, id, alike, now).await {
                Ok(true) => drop(touched.insert(run.0)),
                Ok(false) => {}
                Err(error) => complain(run, &error),
            }
        }
        self.end_runs(&running, now, &mut touched).await;
        self.complete_asides(now, &mut touched).await;
        for instance in touched {
            let mut of_it = Running::new();
            of_it.extend(running.keys().filter(|run| run.0 == instance).map(|(_, name, run)| (name.clone(), *run)));
            let (folder, limits) = (self.node.config.logs_of(instance), self.node.config.logs);
            if let Err(error) = blocking(move || bounds::hold(&folder, &of_it, &limits)).await {
                tracing::warn!(%instance, %error, "logs that are too much could not be removed; it is tried again");
            }
        }
    }

    fn files(&self, (instance, container, run): &Run) -> RunFiles {
        RunFiles::new(&self.node.config.logs_of(*instance), container, *run)
    }

    /// Files that the last agent left behind: nobody will tell when they are closed, or it was long ago.
    async fn look_around(&mut self, running: &BTreeMap<Run, ContainerId>, now: Instant) {
        let folder = self.node.config.logs_folder();
        let found = blocking(move || {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            entries.flat_map(|entry| runs_in(&entry.path())).collect::<Vec<(PathBuf, Run, Place)>>()
        });
        for (folder, run, place) in found.await {
            self.node.closings.watch(&folder);
            match place {
                Place::Aside { number, lines: None } => {
                    self.asides.insert((run, number), Aside { since: now, is_closed: false, cut: None });
                }
                Place::Written if !running.contains_key(&run) => {
                    self.lasts.insert(run, Last { since: now, is_closed: false });
                }
                Place::Aside { .. } | Place::Former(_) | Place::Written => {}
            }
        }
    }

    fn take_closings(&mut self, now: Instant) {
        for path in self.node.closings.take() {
            let Some((run, place)) = run_of(&path) else { continue };
            match place {
                Place::Aside { number, lines: None } => {
                    if let Some(aside) = self.asides.get_mut(&(run, number)) {
                        aside.is_closed = true;
                    }
                }
                Place::Written => drop(self.lasts.insert(run, Last { since: now, is_closed: true })),
                Place::Aside { .. } | Place::Former(_) => {}
            }
        }
    }

    /// Puts the file of a running container aside if it must be. Says whether it did.
    async fn bound(&mut self, run: &Run, id: &ContainerId, alike: usize, now: Instant) -> io::Result<bool> {
        let (files, limits) = (self.files(run), self.node.config.logs);
        self.node.closings.watch(&self.node.config.logs_of(run.0));
        let flow = self.flows.entry(run.clone()).or_insert_with(|| Flow::new(now, &limits));
        let written = files.written();
        let length = match blocking(move || std::fs::metadata(written)).await {
            Ok(found) => found.len(),
            // Put aside before, but the engine was not told, or did not hear.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let looked = files.clone();
                let was_put_aside = blocking(move || looked.list()).await?;
                if !was_put_aside.is_empty() {
                    flow.begin_anew(0);
                    self.reopen(id).await?;
                }
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let excess = flow.grow(length, now, &limits);
        let share = limits.instance_bytes / 4 / u64::try_from(alike.max(1)).unwrap_or(u64::MAX);
        let most = limits.file_bytes.min(limits.container_bytes / 4).min(share).max(LEAST_FILE_BYTES);
        if length <= most && excess.is_none() {
            return Ok(false);
        }
        let renamed = files.clone();
        let Some(number) = blocking(move || renamed.put_aside()).await? else { return Ok(false) };
        let dropped = excess.unwrap_or(0).min(length);
        flow.begin_anew(dropped);
        let keep_bytes = length.saturating_sub(dropped);
        let cut = excess.map(|_| Cut { keep_bytes, rate_bytes: limits.rate_bytes });
        self.asides.insert((run.clone(), number), Aside { since: now, is_closed: false, cut });
        self.reopen(id).await?;
        Ok(true)
    }

    async fn reopen(&self, id: &ContainerId) -> io::Result<()> {
        self.node.runtime.reopen_log(id).await.map_err(|error| io::Error::other(error.to_string()))
    }

    /// Puts the last file of each run that is over aside, once it is closed.
    async fn end_runs(
        &mut self,
        running: &BTreeMap<Run, ContainerId>,
        now: Instant,
        touched: &mut BTreeSet<InstanceId>,
    ) {
        for (run, last) in std::mem::take(&mut self.lasts) {
            let age = now.duration_since(last.since);
            if running.contains_key(&run) {
                if age < OPENED_AGAIN_AFTER {
                    self.lasts.insert(run, last);
                }
            } else if last.is_closed || age >= CLOSED_AFTER {
                let files = self.files(&run);
                match blocking(move || files.put_aside()).await {
                    Ok(Some(number)) => {
                        touched.insert(run.0);
                        self.asides.insert((run, number), Aside { since: now, is_closed: true, cut: None });
                    }
                    Ok(None) => {}
                    Err(error) => complain(&run, &error),
                }
            } else {
                self.lasts.insert(run, last);
            }
        }
    }

    /// In the order of numbers, because each counts on from the one before.
    async fn complete_asides(&mut self, now: Instant, touched: &mut BTreeSet<InstanceId>) {
        let mut waiting: Option<Run> = None;
        for ((run, number), aside) in std::mem::take(&mut self.asides) {
            let is_due = aside.is_closed || now.duration_since(aside.since) >= CLOSED_AFTER;
            if !is_due || waiting.as_ref() == Some(&run) {
                waiting = Some(run.clone());
                self.asides.insert((run, number), aside);
                continue;
            }
            let files = self.files(&run);
            let cut = aside.cut;
            match blocking(move || complete(&files, number, cut)).await {
                Ok(()) => drop(touched.insert(run.0)),
                // A disk that is full: nothing is cut, and it is tried again with less to write.
                Err(error) => {
                    complain(&run, &error);
                    waiting = Some(run.clone());
                    self.asides.insert((run, number), Aside { since: now, is_closed: aside.is_closed, cut: None });
                }
            }
        }
    }

    async fn prune_deleted(&self) {
        let (folder, limits, now) =
            (self.node.config.deleted_logs_folder(), self.node.config.logs, self.node.clock.now());
        if let Err(error) = blocking(move || deleted::prune(&folder, &limits, now)).await {
            tracing::warn!(%error, "logs of deleted instances could not be removed; it is tried again");
        }
    }
}

fn running_in(snapshot: &Snapshot) -> BTreeMap<Run, ContainerId> {
    let running = snapshot.running();
    running.map(|(instance, c)| ((instance, c.name.clone(), c.run), c.id.clone())).collect()
}

fn runs_in(folder: &Path) -> Vec<(PathBuf, Run, Place)> {
    let files = files::list(folder).unwrap_or_default();
    files
        .into_iter()
        .filter_map(|file| run_of(&file.path).map(|(run, place)| (folder.to_owned(), run, place)))
        .collect()
}

/// Whose file it is.
fn run_of(path: &Path) -> Option<(Run, Place)> {
    let instance = path.parent()?.file_name()?.to_str()?.parse().ok()?;
    let (container, run, place) = files::parse(path.file_name()?.to_str()?)?;
    Some(((instance, ContainerName::new(container).ok()?, run), place))
}

fn complain((instance, container, run): &Run, error: &io::Error) {
    tracing::warn!(%instance, %container, run, %error, "a log file could not be put aside; it is tried again");
}
