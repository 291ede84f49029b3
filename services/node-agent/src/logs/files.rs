//! Where the files of a run are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wherry_model::ContainerName;

use super::file_name;

/// More files of one run than this are never looked for.
const MOST_FILES: u32 = 16;

/// The files of one run: number 0 is being written, 1 was put aside last, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunFiles {
    folder: PathBuf,
    name: String,
}

impl RunFiles {
    pub(crate) fn new(folder: &Path, container: &ContainerName, run: u32) -> Self {
        Self { folder: folder.to_owned(), name: file_name(container, run) }
    }

    pub(crate) fn path(&self, number: u32) -> PathBuf {
        match number {
            0 => self.folder.join(&self.name),
            number => self.folder.join(format!("{}.{number}", self.name)),
        }
    }

    /// Numbers of the files that exist, oldest file first.
    pub(crate) fn oldest_first(&self) -> Vec<u32> {
        (0..MOST_FILES).rev().filter(|number| self.path(*number).exists()).collect()
    }

    /// Puts the file that is being written aside; of all files at most `keep` remain, the coming one included.
    pub(crate) fn put_aside(&self, keep: u32) -> io::Result<()> {
        let last = keep.clamp(2, MOST_FILES) - 1;
        for number in last..MOST_FILES {
            remove_file(&self.path(number))?;
        }
        for number in (0..last).rev() {
            match fs::rename(self.path(number), self.path(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        (0..MOST_FILES).try_for_each(|number| remove_file(&self.path(number)))
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Numbers of the runs of a container that have files, in order.
pub(crate) fn runs(folder: &Path, container: &ContainerName) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut runs = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(container.as_str())?.strip_prefix('.'));
        let Some((run, kind)) = rest.and_then(|rest| rest.split_once('.')) else { continue };
        if kind == "log" || kind.starts_with("log.") {
            runs.extend(run.parse::<u32>().ok());
        }
    }
    runs.sort_unstable();
    runs.dedup();
    Ok(runs)
}

/// Removes the files of all but the latest `keep` runs.
pub(crate) fn prune_runs(folder: &Path, container: &ContainerName, keep: u32) -> io::Result<()> {
    let runs = runs(folder, container)?;
    let superfluous = runs.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    runs.iter().take(superfluous).try_for_each(|run| RunFiles::new(folder, container, *run).remove())
}

/// Removes an instance's folder. Idempotent.
pub(crate) fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_put_aside_up_to_a_number_and_old_runs_go() {
        let folder = tempfile::tempdir().unwrap();
        let name = ContainerName::new("main").unwrap();
        let files = RunFiles::new(folder.path(), &name, 2);
        for text in ["one", "two", "three", "four"] {
            fs::write(files.path(0), text).unwrap();
            files.put_aside(3).unwrap();
        }
        assert_eq!(files.oldest_first(), [2, 1]);
        assert_eq!(fs::read_to_string(files.path(1)).unwrap(), "four");
        for run in [3, 10, 11] {
            fs::write(RunFiles::new(folder.path(), &name, run).path(0), "").unwrap();
        }
        fs::write(folder.path().join("main.x.log"), "").unwrap();
        assert_eq!(runs(folder.path(), &name).unwrap(), [2, 3, 10, 11]);
        prune_runs(folder.path(), &name, 2).unwrap();
        assert_eq!(runs(folder.path(), &name).unwrap(), [10, 11]);
        remove_all(folder.path()).unwrap();
        remove_all(folder.path()).unwrap();
    }
}
