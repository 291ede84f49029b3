//! The one task that writes the journal: whatever was said meanwhile goes to disk with one fsync.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;

use super::{Journal, JournalDisk, Written, encode, line};

/// The log is emptied when it is at least so long, and …
const EMPTY_AT_BYTES: u64 = 64 * 1024;
/// … no more facts than this are not acknowledged; they go into the snapshot.
const MOST_CARRIED_OVER: usize = 64;
/// It is also emptied when everything was acknowledged and for so long nothing was said: a start says several facts, one
/// soon after the other, and does not wait for a snapshot between them.
pub(super) const QUIET: Duration = Duration::from_secs(5);
/// A disk that refused is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Journal {
    /// Writes until `stopping`, and then what is left.
    pub(crate) async fn write_out<D: JournalDisk + 'static>(self: Arc<Self>, mut disk: D, stopping: CancellationToken) {
        let mut is_quiet = false;
        loop {
            let stop = stopping.is_cancelled();
            let outcome;
            (disk, outcome) = self.clone().write_once(disk, stop || is_quiet).await;
            is_quiet = false;
            let failed = outcome.is_err();
            self.publish(outcome);
            match (stop, failed) {
                (true, _) => return,
                (false, true) => drop(tokio::time::timeout(RETRY_AFTER, stopping.cancelled()).await),
                (false, false) => tokio::select! {
                    biased;
                    () = self.to_write.notified() => {}
                    () = stopping.cancelled() => {}
                    () = tokio::time::sleep(QUIET), if self.state().is_tidy_due() => is_quiet = true,
                },
            }
        }
    }

    async fn write_once<D: JournalDisk + 'static>(self: Arc<Self>, disk: D, tidy: bool) -> (D, io::Result<u64>) {
        let mut disk = disk;
        blocking(move || {
            let outcome = self.write_queued(&mut disk).and_then(|through| {
                self.empty_if_due(&mut disk, tidy)?;
                Ok(through)
            });
            (disk, outcome)
        })
        .await
    }

    /// Writes what is not on disk. After a failure everything that was not acknowledged by the disk is written again from
    /// the last good place, because the state of the pages behind a failed fsync is unknown.
    fn write_queued<D: JournalDisk>(&self, disk: &mut D) -> io::Result<u64> {
        let written = self.written.borrow().through;
        let (bytes, offset, through) = {
            let state = self.state();
            let queued = state.facts.iter().filter(|fact| fact.seq > written);
            (queued.flat_map(line::encode).collect::<Vec<u8>>(), state.file_bytes, state.last_said)
        };
        if bytes.is_empty() {
            return Ok(written);
        }
        disk.write_at(offset, &bytes)?;
        self.state().file_bytes = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.written.send_modify(|now| now.through = through);
        Ok(through)
    }

    fn empty_if_due<D: JournalDisk>(&self, disk: &mut D, tidy: bool) -> io::Result<()> {
        let (snapshot, wanted) = {
            let state = self.state();
            let is_long = state.file_bytes >= EMPTY_AT_BYTES && state.facts.len() <= MOST_CARRIED_OVER;
            let is_due = is_long || (tidy && state.is_tidy_due());
            if !is_due && state.snapshots_wanted == *self.snapshots_made.borrow() {
                return Ok(());
            }
            (state.snapshot(), state.snapshots_wanted)
        };
        disk.replace_snapshot(&encode(&snapshot))?;
        // What was said meanwhile has higher numbers and is still queued.
        self.written.send_modify(|now| now.through = snapshot.through);
        disk.write_at(0, &[])?;
        {
            let mut state = self.state();
            (state.file_bytes, state.has_foreign) = (0, false);
            state.carries_facts = !snapshot.facts.is_empty();
        }
        self.snapshots_made.send_replace(wanted);
        Ok(())
    }

    fn publish(&self, outcome: io::Result<u64>) {
        let failure = outcome.err().map(|error| error.to_string());
        self.written.send_if_modified(|now| {
            if now.failure == failure {
                return false;
            }
            if let Some(failure) = &failure {
                tracing::error!(failure, "the journal cannot be written; nothing new is done until it can");
            } else {
                tracing::info!("the journal can be written again");
            }
            *now = Written { through: now.through, failure };
            true
        });
    }
}
