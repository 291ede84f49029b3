//! The journal's file, behind a seam through which tests tear writes and fill disks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::durable_file;

/// What the journal asks of its disk.
pub(crate) trait JournalDisk: Send {
    /// Puts `bytes` at `offset`, drops whatever follows, and returns when they survive a power cut.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Replaces the snapshot whole.
    fn replace_snapshot(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A journal in a folder, locked against a second agent.
#[derive(Debug)]
pub(crate) struct JournalFolder {
    lines: File,
    snapshot: PathBuf,
}

/// What the folder held.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) lines: Vec<u8>,
    pub(crate) snapshot: Option<Vec<u8>>,
}

impl JournalFolder {
    /// Opens the journal, which is made if it is not there; fails when another process has it open.
    pub(crate) fn open(folder: &Path) -> io::Result<(Self, Found)> {
        let path = folder.join("journal.log");
        let mut lines = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        lines.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another agent works with this data folder; stop it first")
            }
            TryLockError::Error(error) => error,
        })?;
        let mut found = Found::default();
        lines.read_to_end(&mut found.lines)?;
        let snapshot = folder.join("said.json");
        found.snapshot = durable_file::read(&snapshot)?;
        Ok((Self { lines, snapshot }, found))
    }
}

impl JournalDisk for JournalFolder {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.lines.set_len(offset)?;
        self.lines.seek(SeekFrom::Start(offset))?;
        self.lines.write_all(bytes)?;
        self.lines.sync_data()
    }

    fn replace_snapshot(&mut self, bytes: &[u8]) -> io::Result<()> {
        durable_file::replace(&self.snapshot, bytes)
    }
}
