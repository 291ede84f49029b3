//! Why the agent ends a container: a small file, named by the container, written before it is ended. Whoever tells the end,
//! this agent or its successor, says so by it; without, the end would look like the program's own.
//!
//! A power cut ends the containers too, so nothing is synced. Files are removed with their containers.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wherry_model::EndReason;
use wherry_runtime::ContainerId;

/// Why a container, or a whole instance, is ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) reason: EndReason,
    /// What a person should know.
    pub(crate) message: Option<String>,
}

impl Verdict {
    pub(crate) fn new(reason: EndReason, message: impl Into<String>) -> Self {
        Self { reason, message: Some(message.into()) }
    }
}

fn folder(data: &Path) -> PathBuf {
    data.join("verdicts")
}

/// The file's place; none for an id that is no file name, which engines do not give.
fn path(data: &Path, id: &ContainerId) -> Option<PathBuf> {
    let is_plain = id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    (is_plain && !id.as_str().is_empty()).then(|| folder(data).join(id.as_str()))
}

/// Notes why these are ended. The first word stands: who is being ended for one reason does not end for another.
pub(crate) fn note(data: &Path, ids: &[ContainerId], verdict: &Verdict) -> io::Result<()> {
    std::fs::create_dir_all(folder(data))?;
    let text = serde_json::to_vec(verdict)?;
    let paths = ids.iter().filter_map(|id| path(data, id));
    paths.filter(|path| !path.exists()).try_for_each(|path| std::fs::write(path, &text))
}

/// What was noted, if anything was.
pub(crate) fn of(data: &Path, id: &ContainerId) -> Option<Verdict> {
    serde_json::from_slice(&std::fs::read(path(data, id)?).ok()?).ok()
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
    fn the_first_word_stands_until_the_container_goes() {
        let data = tempfile::tempdir().unwrap();
        let id = |text: &str| ContainerId::new(text);
        let (first, second) = (Verdict::new(EndReason::ProbeFailed, "no"), Verdict::new(EndReason::Restarted, "yes"));
        note(data.path(), &[id("a1"), id("../up")], &first).unwrap();
        note(data.path(), &[id("a1"), id("b2")], &second).unwrap();
        assert_eq!(of(data.path(), &id("a1")), Some(first));
        assert_eq!(of(data.path(), &id("b2")), Some(second));
        assert_eq!(of(data.path(), &id("../up")), None);
        keep_only(data.path(), &BTreeSet::from([id("b2")]));
        remove(data.path(), &id("b2"));
        assert_eq!((of(data.path(), &id("a1")), of(data.path(), &id("b2"))), (None, None));
    }
}
