//! Which log files there are, and what their names say.
//!
//! `main.3.log` is what the engine writes for run 3 of `main`, or what it wrote last. `main.3.log.000002` was put aside
//! second, and the engine may still be about to write its last lines. `main.3.log.000002.1500-2900` is complete and holds what
//! was printed from line 1500 up to line 2900 of the run, so whoever misses files knows how many lines; `2900o` says that a line of
//! stdout goes on in the next file, which begins with `2900o`, `e` the same of stderr. A release before put
//! files aside as `main.3.log.1`, the highest number being the oldest.
//!
//! Numbers never come again within a run, and only the agent renames: a reader knows from a number what follows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use wherry_model::ContainerName;

/// Numbers of this many digits were given by this release.
const NUMBER_DIGITS: usize = 6;

/// Streams of which a line goes on over the border of two files: stdout, stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Inside(pub(crate) [bool; 2]);

impl Inside {
    /// In how many streams.
    pub(crate) fn count(self) -> u64 {
        self.0.iter().map(|inside| u64::from(*inside)).sum()
    }

    fn letters(self) -> String {
        ['o', 'e'].iter().zip(self.0).filter(|(_, inside)| *inside).map(|(letter, _)| *letter).collect()
    }

    /// Reads a number with the letters behind it.
    fn after_number(text: &str) -> Option<(u64, Self)> {
        let digits = text.trim_end_matches(['o', 'e']);
        let letters = text.get(digits.len()..)?;
        Some((digits.parse().ok()?, Self([letters.contains('o'), letters.contains('e')])))
    }
}

/// Which lines of a run a file stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lines {
    /// How many lines of the run were printed before it.
    pub(crate) before: u64,
    /// How many lines of the run were printed up to its end.
    pub(crate) through: u64,
    /// Where it begins inside of a line.
    pub(crate) begins: Inside,
    /// Where it ends inside of a line.
    pub(crate) ends: Inside,
}

/// The place of a file in its run; in the order in which they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Put aside by a release before; the number is negative, so that the oldest comes first.
    Former(i64),
    /// Put aside; from 1.
    Aside { number: u32, lines: Option<Lines> },
    /// Being written, or the end of a run that is over.
    Written,
}

/// A log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFile {
    pub(crate) container: String,
    pub(crate) run: u32,
    pub(crate) place: Place,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) written_at: SystemTime,
}

/// What a file's name says; none when it is no log.
pub(crate) fn parse(name: &str) -> Option<(&str, u32, Place)> {
    let mut parts = name.split('.');
    let (container, run) = (parts.next()?, parts.next()?.parse().ok()?);
    if parts.next()? != "log" {
        return None;
    }
    let place = match (parts.next(), parts.next(), parts.next()) {
        (None, None, None) => Place::Written,
        (Some(number), None, None) if number.len() < NUMBER_DIGITS => Place::Former(-number.parse::<i64>().ok()?),
        (Some(number), None, None) => Place::Aside { number: number.parse().ok()?, lines: None },
        (Some(number), Some(lines), None) => {
            let (before, through) = lines.split_once('-')?;
            let ((before, begins), (through, ends)) = (Inside::after_number(before)?, Inside::after_number(through)?);
            let lines = Lines { before, through, begins, ends };
            Place::Aside { number: number.parse().ok()?, lines: Some(lines) }
        }
        _ => return None,
    };
    Some((container, run, place))
}

/// All log files of an instance: by container and run, each run in the order of writing.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<LogFile>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some((container, run, place)) = name.to_str().and_then(parse) else { continue };
        let found = match entry.metadata() {
            // It was renamed or dropped since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        let (bytes, written_at) = (found.len(), found.modified()?);
        files.push(LogFile { container: container.to_owned(), run, place, path: entry.path(), bytes, written_at });
    }
    files.sort_by(|a, b| (&a.container, a.run, a.place).cmp(&(&b.container, b.run, b.place)));
    // A crash can leave a file beside what was made of it.
    let numbers: Vec<Option<(String, u32, u32)>> = files.iter().map(complete_number).collect();
    files.retain(|file| match file.place {
        Place::Aside { number, lines: None } => {
            let same = Some((file.container.clone(), file.run, number));
            !numbers.contains(&same)
        }
        _ => true,
    });
    Ok(files)
}

fn complete_number(file: &LogFile) -> Option<(String, u32, u32)> {
    match file.place {
        Place::Aside { number, lines: Some(_) } => Some((file.container.clone(), file.run, number)),
        _ => None,
    }
}

/// The files of one run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunFiles {
    folder: PathBuf,
    container: ContainerName,
    run: u32,
}

impl RunFiles {
    pub(crate) fn new(folder: &Path, container: &ContainerName, run: u32) -> Self {
        Self { folder: folder.to_owned(), container: container.clone(), run }
    }

    /// The same run in another folder.
    pub(crate) fn in_folder(self, folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ..self }
    }

    /// The file that the engine writes.
    pub(crate) fn written(&self) -> PathBuf {
        self.folder.join(super::file_name(&self.container, self.run))
    }

    pub(crate) fn aside(&self, number: u32, lines: Option<Lines>) -> PathBuf {
        let name = super::file_name(&self.container, self.run);
        let lines = lines.map(|Lines { before, through, begins, ends }| {
            format!(".{before}{}-{through}{}", begins.letters(), ends.letters())
        });
        let lines = lines.unwrap_or_default();
        self.folder.join(format!("{name}.{number:0NUMBER_DIGITS$}{lines}"))
    }

    /// In the order of writing.
    pub(crate) fn list(&self) -> io::Result<Vec<LogFile>> {
        let mut files = list(&self.folder)?;
        files.retain(|file| file.container == self.container.as_str() && file.run == self.run);
        Ok(files)
    }

    /// Puts the file that is being written aside and answers its number; none when there is no such file.
    pub(crate) fn put_aside(&self) -> io::Result<Option<u32>> {
        let number = newest(&self.list()?) + 1;
        match fs::rename(self.written(), self.aside(number, None)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            renamed => renamed.map(|()| Some(number)),
        }
    }
}

/// The highest number among the files of a run; 0 when none was put aside.
pub(crate) fn newest(files: &[LogFile]) -> u32 {
    let numbers = files.iter().map(|file| match file.place {
        Place::Aside { number, .. } => number,
        Place::Former(_) | Place::Written => 0,
    });
    numbers.max().unwrap_or(0)
}

/// Removes a file that may be gone already.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Numbers of the runs of a container that have files, in order.
pub(crate) fn runs(folder: &Path, container: &ContainerName) -> io::Result<Vec<u32>> {
    let files = list(folder)?;
    let mut runs: Vec<u32> =
        files.iter().filter(|file| file.container == container.as_str()).map(|file| file.run).collect();
    runs.dedup();
    Ok(runs)
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
    fn names_say_run_and_place_in_the_order_of_writing() {
        let folder = tempfile::tempdir().unwrap();
        let name = ContainerName::new("main").unwrap();
        let files = RunFiles::new(folder.path(), &name, 2);
        let (begins, ends) = (Inside([true, false]), Inside([true, true]));
        let lines = Lines { before: 10, through: 25, begins, ends };
        let complete = files.aside(2, Some(lines));
        assert!(complete.ends_with("main.2.log.000002.10o-25oe"), "{}", complete.display());
        for other in
            ["main.2.log.1", "main.2.log.3", "side.1.log", "main.10.log", "hosts", "main.x.log", "main.2.log.new"]
        {
            fs::write(folder.path().join(other), "").unwrap();
        }
        for path in [files.written(), complete, files.aside(2, None), files.aside(3, None)] {
            fs::write(path, "").unwrap();
        }
        let places: Vec<Place> = files.list().unwrap().into_iter().map(|file| file.place).collect();
        let lines = Some(lines);
        let aside = |number, lines| Place::Aside { number, lines };
        assert_eq!(places, [Place::Former(-3), Place::Former(-1), aside(2, lines), aside(3, None), Place::Written]);
        assert_eq!(files.put_aside().unwrap(), Some(4));
        assert_eq!(files.put_aside().unwrap(), None);
        assert_eq!(runs(folder.path(), &name).unwrap(), [2, 10]);
        remove_all(folder.path()).unwrap();
        remove_all(folder.path()).unwrap();
        assert!(files.list().unwrap().is_empty());
    }
}
