//! Notes of which containers were ended because the lease was over: empty files, named by the container, written before it is
//! ended. Whoever tells the end, the agent that ended it, its successor, or one that the guard stood in for, says so by them;
//! without, the end would look like the program's own, and an instance that is not restarted would be over for good.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use wherry_runtime::ContainerId;

fn folder(data: &Path) -> PathBuf {
    data.join("fenced")
}

/// The note's place; none for an id that is no file name, which engines do not give.
fn path(data: &Path, id: &ContainerId) -> Option<PathBuf> {
    let is_plain = id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    (is_plain && !id.as_str().is_empty()).then(|| folder(data).join(id.as_str()))
}

/// Leaves notes. A power cut ends the containers too, so nothing is synced.
pub(crate) fn leave(data: &Path, ids: &BTreeSet<ContainerId>) -> io::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(folder(data))?;
    ids.iter().filter_map(|id| path(data, id)).try_for_each(|path| std::fs::write(path, b""))
}

/// Whether there is one.
pub(crate) fn is_left(data: &Path, id: &ContainerId) -> bool {
    path(data, id).is_some_and(|path| path.exists())
}

/// Removes the note of a container that is removed, if there is one.
pub(crate) fn remove(data: &Path, id: &ContainerId) {
    if let Some(path) = path(data, id) {
        drop(std::fs::remove_file(path));
    }
}

/// Removes the notes of containers that are not there any more.
pub(crate) fn keep_only(data: &Path, there: &BTreeSet<ContainerId>) {
    let entries = std::fs::read_dir(folder(data)).into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| Some(ContainerId::new(entry.file_name().to_str()?)));
    ids.filter(|id| !there.contains(id)).for_each(|id| remove(data, &id));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_left_found_and_cleared_away() {
        let data = tempfile::tempdir().unwrap();
        let id = |text: &str| ContainerId::new(text);
        leave(data.path(), &BTreeSet::from([id("a1"), id("b2"), id("../up")])).unwrap();
        assert!(is_left(data.path(), &id("a1")) && is_left(data.path(), &id("b2")));
        assert!(!is_left(data.path(), &id("../up")) && !data.path().join("up").exists());
        keep_only(data.path(), &BTreeSet::from([id("b2")]));
        assert!(!is_left(data.path(), &id("a1")) && is_left(data.path(), &id("b2")));
        remove(data.path(), &id("b2"));
        remove(data.path(), &id("b2"));
        assert!(!is_left(data.path(), &id("b2")));
    }
}
