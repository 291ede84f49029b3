//! The record of who entered an instance: written before anything runs for it, ended afterwards, read by its tenant and by the
//! operator.
//!
//! An entry that cannot be stored lets nobody in, and each tenant may make so many within an hour ([`crate::entry_budget`]). Its end is written when all that belongs to it is gone, whoever dropped it and
//! why; a process that is killed in between leaves an entry without an end, which readers are told as `unknown` as soon as
//! that process is known to live no more.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wherry_model::{
    AuditId, ContainerName, Instance, InstanceId, Principal, ProjectId, ProjectName, Scope, SpecError, TenantId,
};
use wherry_store::{AuditEnd, AuditKind, AuditOutcome, AuditQuery, AuditRecord, Cursor};

use crate::{Control, Error, cursor, lock};

/// The most entries of one page.
const MAX_PAGE: u32 = 200;

/// Of a command so much is kept, each word with one byte for its end: who enters often cannot fill the disk.
const MAX_COMMAND_BYTES: usize = 1024;

/// Stands where the rest of a command was left out.
const CUT: &str = "[cut]";

/// How often an end is tried to be written.
const ATTEMPTS: u32 = 5;

/// The pause before the second attempt; doubles with each.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a process that stops waits for the ends of what it held.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What is entered, and how.
#[derive(Debug, Clone)]
pub(crate) struct Way<'a> {
    pub(crate) kind: AuditKind,
    pub(crate) container: Option<&'a ContainerName>,
    pub(crate) command: &'a [String],
    pub(crate) port: Option<u16>,
}

/// An entry that has no end yet. Its end is written when the last owner lets go of it.
pub(crate) struct Entry {
    control: Control,
    id: AuditId,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    outcome: Mutex<Option<(AuditOutcome, Option<i32>)>>,
    _counted: tokio_util::task::task_tracker::TaskTrackerToken,
}

impl Entry {
    pub(crate) fn count_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn count_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Says how it ends. The first word stays; without one the caller left.
    pub(crate) fn settle(&self, outcome: AuditOutcome, exit_code: Option<i32>) {
        lock(&self.outcome).get_or_insert((outcome, exit_code));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let (outcome, exit_code) = lock(&self.outcome).take().unwrap_or((AuditOutcome::Left, None));
        let end = AuditEnd {
            at: self.control.now(),
            outcome,
            exit_code,
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        };
        let (control, id) = (self.control.clone(), self.id);
        // Without a runtime the process is going down, and the end stays unknown.
        if tokio::runtime::Handle::try_current().is_ok() {
            let entries = control.inner.entries.clone();
            entries.spawn(async move { control.write_end(id, &end).await });
        }
    }
}

/// Whether an entry goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryState {
    /// Nobody has left yet.
    Open,
    /// It has ended, and how is known.
    Ended,
    /// The process that held it lives no more and left no word.
    Unknown,
}

/// An entry as it is told.
#[derive(Debug, Clone)]
pub struct EntryView {
    /// What is on record.
    pub record: AuditRecord,
    /// Whether it goes on.
    pub state: EntryState,
}

/// Which entries are wanted.
#[derive(Debug, Clone)]
pub struct EntriesRequest {
    /// Of which instance, by name or id (of the whole service: by id only); of all when absent.
    pub instance: Option<String>,
    /// After the page that gave this cursor.
    pub cursor: Option<String>,
    /// At most this many, 1 to 200.
    pub limit: u32,
}

/// A page of entries.
#[derive(Debug, Clone)]
pub struct EntryPage {
    /// Newest first.
    pub entries: Vec<EntryView>,
    /// Where the next page begins, when there is one.
    pub next: Option<String>,
}

impl Control {
    /// Refuses who entered as often as one may.
    pub(crate) fn may_enter(&self, tenant: TenantId) -> Result<(), Error> {
        let most = self.inner.config.entries_per_hour;
        match lock(&self.inner.entry_budget).wait(tenant, most, self.now()) {
            None => Ok(()),
            Some(after) => Err(Error::TooManyEntries { most, after }),
        }
    }

    /// Puts on record that `principal` enters the instance.
    pub(crate) async fn enter(
        &self,
        principal: &Principal,
        instance: &Instance,
        way: Way<'_>,
    ) -> Result<Arc<Entry>, Error> {
        let most = self.inner.config.entries_per_hour;
        let taken = lock(&self.inner.entry_budget).take(instance.tenant, most, self.now());
        taken.map_err(|after| Error::TooManyEntries { most, after })?;
        let record = AuditRecord {
            id: AuditId::generate(self.inner.clock.as_ref(), self.inner.entropy.as_ref()),
            tenant: instance.tenant,
            project: instance.project,
            instance: instance.id,
            name: instance.name.clone(),
            kind: way.kind,
            container: way.container.cloned(),
            command: on_record(way.command),
            port: way.port,
            actor: principal.subject.to_string(),
            replica: self.replica_id(),
            begun_at: self.now(),
            end: None,
        };
        tracing::info!(actor = record.actor, instance = %instance.id, kind = ?way.kind, entry = %record.id, "an instance is entered");
        self.store().begin_audit(&record).await?;
        Ok(Arc::new(Entry {
            control: self.clone(),
            id: record.id,
            bytes_in: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            outcome: Mutex::default(),
            _counted: self.inner.entries.token(),
        }))
    }

    async fn write_end(&self, id: AuditId, end: &AuditEnd) {
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            match self.store().end_audit(id, end).await {
                Ok(_) => return,
                Err(error) if attempt == ATTEMPTS => {
                    tracing::error!(entry = %id, error = %error, "the end of an entry could not be stored, it stays unknown");
                }
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }

    /// Waits a bounded time until those who are inside have left and their ends are stored.
    pub(crate) async fn end_entries(&self) {
        self.inner.entries.close();
        if tokio::time::timeout(LAST_WORDS, self.inner.entries.wait()).await.is_err() {
            tracing::warn!("somebody is still inside of an instance; how that ends stays unknown");
        }
    }

    /// Who entered instances of a project. Who may enter may know who did.
    pub async fn entries(
        &self,
        principal: &Principal,
        project: &ProjectName,
        request: EntriesRequest,
    ) -> Result<EntryPage, Error> {
        Self::require(principal, Scope::Exec)?;
        let of = self.project_of(principal, project).await?;
        let instance = match &request.instance {
            Some(name_or_id) => Some(self.entered(principal, project, name_or_id).await?),
            None => None,
        };
        self.entries_of(Some((principal.tenant, of.id)), instance, &request).await
    }

    /// Who entered any instance of the service.
    pub async fn all_entries(&self, principal: &Principal, request: EntriesRequest) -> Result<EntryPage, Error> {
        Self::require(principal, Scope::Admin)?;
        let instance = request.instance.as_deref().map(str::parse).transpose();
        let instance = instance.map_err(|_| SpecError::new("instance", "give the id of an instance"))?;
        self.entries_of(None, instance, &request).await
    }

    async fn entries_of(
        &self,
        of: Option<(TenantId, ProjectId)>,
        instance: Option<InstanceId>,
        request: &EntriesRequest,
    ) -> Result<EntryPage, Error> {
        if !(1..=MAX_PAGE).contains(&request.limit) {
            return Err(SpecError::new("limit", format!("give 1 to {MAX_PAGE}")).into());
        }
        let before = request.cursor.as_deref().map(cursor::decode).transpose()?;
        let query = AuditQuery {
            of,
            instance,
            before: before.map(|cursor| AuditId::from_uuid(cursor.id.as_uuid())),
            limit: request.limit + 1,
        };
        let mut records = self.store().audits(&query).await?;
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let has_more = records.len() > limit;
        records.truncate(limit);
        let next = records.last().filter(|_| has_more).map(|last| {
            cursor::encode(Cursor { created_at: last.begun_at, id: InstanceId::from_uuid(last.id.as_uuid()) })
        });
        let live: BTreeSet<_> = self.live_replicas().await?.into_iter().map(|replica| replica.id).collect();
        let view = |record: AuditRecord| {
            let is_held = record.replica == self.replica_id() || live.contains(&record.replica);
            let state = match record.end {
                Some(_) => EntryState::Ended,
                None if is_held => EntryState::Open,
                None => EntryState::Unknown,
            };
            EntryView { record, state }
        };
        Ok(EntryPage { entries: records.into_iter().map(view).collect(), next })
    }

    /// An instance that is asked about by its id may have been forgotten long ago: its entries are not.
    async fn entered(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
    ) -> Result<InstanceId, Error> {
        match name_or_id.parse() {
            Ok(id) => Ok(id),
            Err(_) => Ok(self.instance_of(principal, project, name_or_id).await?.id),
        }
    }
}

/// The command as it is kept: what is too long ends in the middle of a word, or between two, and a mark.
fn on_record(command: &[String]) -> Vec<String> {
    let mut room = MAX_COMMAND_BYTES;
    let mut kept = Vec::new();
    for word in command {
        if let Some(left) = room.checked_sub(word.len() + 1) {
            kept.push(word.clone());
            room = left;
            continue;
        }
        let part = word.get(..word.floor_char_boundary(room)).unwrap_or_default();
        if !part.is_empty() {
            kept.push(part.to_owned());
        }
        kept.push(CUT.to_owned());
        break;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_kept_up_to_its_bound() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let short = words(&["sh", "-c", "", "echo caf\u{e9}"]);
        assert_eq!(on_record(&short), short);
        let fits = words(&["sh", &"x".repeat(MAX_COMMAND_BYTES - 4)]);
        assert_eq!(on_record(&fits), fits);
        let long = words(&["sh", &"\u{e9}".repeat(16 * 1024), "more"]);
        assert_eq!(on_record(&long), words(&["sh", &"\u{e9}".repeat((MAX_COMMAND_BYTES - 3) / 2), CUT]));
        assert_eq!(on_record(&vec![String::new(); 32 * 1024]).len(), MAX_COMMAND_BYTES + 1);
    }
}
