//! Learns that the engine has closed a log file, and with that written all of it.
//!
//! An engine that is told to open its file again, or whose container has ended, may write its last lines a moment later.
//! One inotify instance for the whole agent watches the folders of instances. It is only a hint that comes soon: without it, or when
//! its queue ran over, files are taken for complete when they have waited long enough.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Closings that are taken at once; more wait in the kernel.
const MOST_AT_ONCE: usize = 4_096;

/// Watches folders.
pub(crate) struct Closings {
    inotify: Option<OwnedFd>,
    folders: Mutex<BTreeMap<i32, PathBuf>>,
}

impl Default for Closings {
    fn default() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        if let Err(error) = &inotify {
            tracing::warn!(%error, "log files cannot be watched; whoever follows one waits some seconds at its end");
        }
        Self { inotify: inotify.ok(), folders: Mutex::default() }
    }
}

impl Closings {
    /// Watches a folder as long as it is there. Idempotent.
    pub(crate) fn watch(&self, folder: &Path) {
        let Some(inotify) = &self.inotify else { return };
        match inotify::add_watch(inotify, folder, WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR) {
            Ok(watch) => drop(self.folders().insert(watch, folder.to_owned())),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => tracing::debug!(%error, "a folder of logs cannot be watched"),
        }
    }

    /// Files that were closed by somebody who could write them, since they were asked for last.
    pub(crate) fn take(&self) -> Vec<PathBuf> {
        let Some(inotify) = &self.inotify else { return Vec::new() };
        let mut buffer = [const { MaybeUninit::uninit() }; 16 * 1024];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        let mut closed = Vec::new();
        while closed.len() < MOST_AT_ONCE || !reader.is_buffer_empty() {
            let Ok(event) = reader.next() else { break };
            let mut folders = self.folders();
            if event.events().contains(ReadFlags::IGNORED) {
                folders.remove(&event.wd());
            } else if let (Some(folder), Some(name)) = (folders.get(&event.wd()), event.file_name()) {
                closed.push(folder.join(OsStr::from_bytes(name.to_bytes())));
            }
        }
        closed
    }

    fn folders(&self) -> MutexGuard<'_, BTreeMap<i32, PathBuf>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn a_file_is_told_under_its_present_name_when_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let closings = Closings::default();
        closings.watch(&folder.path().join("absent"));
        closings.watch(folder.path());
        closings.watch(folder.path());
        let (before, after) = (folder.path().join("a"), folder.path().join("b"));
        let file = File::create(&before).unwrap();
        fs::rename(&before, &after).unwrap();
        assert!(closings.take().is_empty());
        drop(file);
        assert_eq!(closings.take(), [after]);
        assert!(closings.take().is_empty());
        folder.close().unwrap();
        closings.take();
        assert!(closings.folders().is_empty());
    }
}
