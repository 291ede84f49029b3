//! Reads the lines of one run through all its files. Blocking; holds one read's worth of bytes and one line of each stream.
//!
//! A file that was put aside is left only when it is complete, so no line that the engine wrote late is lost. A reader so slow
//! that files were dropped before it came to them is told how many lines it misses, as a line.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use wherry_model::Timestamp;

use super::files::{Inside, LogFile, Place, RunFiles, newest};
use super::line::{Joiner, ends_line};

const READ_BYTES: usize = 64 * 1024;
/// Bytes without a line end that are taken for a line all the same: an engine writes shorter entries.
const LONGEST_ENTRY_BYTES: usize = 256 * 1024;
/// How often a file is looked for anew that was renamed while it was opened.
const OPEN_TRIES: u32 = 16;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At the oldest line that is kept.
    Oldest,
    /// At the last so many lines.
    Tail(u32),
    /// At the first line of this time or later.
    Since(Timestamp),
}

/// What a look brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Whole lines.
    Lines(Vec<u8>),
    /// The file was put aside and is not known to be complete: look again, or [`RunReader::leave`] it.
    Waits,
    /// There is no more now. When the last file is complete there will only be more if the engine begins another.
    End { complete: bool },
}

/// The file that is being read.
#[derive(Debug)]
struct Current {
    file: File,
    key: i64,
    /// How many lines of the run were printed before it, where that is known.
    before: Option<u64>,
    /// Lines of it that were read.
    lines: u64,
    /// It was complete when it was last read to its end.
    was_complete: bool,
}

/// Reads one run.
#[derive(Debug)]
pub(super) struct RunReader {
    files: RunFiles,
    current: Option<Current>,
    /// Files of lower keys are behind.
    next_key: i64,
    /// Lines of the run that are behind, where that is known.
    passed: Option<u64>,
    /// Read, without its line end yet.
    partial: Vec<u8>,
    joiner: Joiner,
    buffer: Vec<u8>,
}

/// Where a file that was opened stands by now.
enum Standing {
    Written,
    MayGrow,
    Complete { through: Option<u64> },
}

impl RunReader {
    /// Opens nothing yet.
    pub(super) fn open(files: RunFiles, start: Start, timestamps: bool) -> io::Result<Self> {
        let (next_key, skip, since) = match start {
            Start::Oldest => (i64::MIN, 0, None),
            Start::Tail(lines) => {
                let (key, skip) = before_tail(&files, u64::from(lines))?;
                (key, skip, None)
            }
            Start::Since(since) => (first_after(&files, since)?, 0, Some(since)),
        };
        let joiner = Joiner::new(timestamps, skip, since);
        let passed = (start == Start::Oldest).then_some(0);
        Ok(Self { files, current: None, next_key, passed, partial: Vec::new(), joiner, buffer: vec![0; READ_BYTES] })
    }

    /// The next lines, or why there are none.
    pub(super) fn read(&mut self) -> io::Result<Piece> {
        let mut lines = Vec::new();
        loop {
            let Some(current) = &mut self.current else {
                if self.open_next()? {
                    continue;
                }
                return Ok(Piece::End { complete: false });
            };
            let length = current.file.read(&mut self.buffer)?;
            if length > 0 {
                self.take(length, &mut lines);
                if lines.is_empty() {
                    continue;
                }
                return Ok(Piece::Lines(lines));
            }
            if !lines.is_empty() {
                return Ok(Piece::Lines(lines));
            }
            let was_complete = current.was_complete;
            match self.standing()? {
                Standing::Written if !was_complete => return Ok(Piece::End { complete: false }),
                Standing::MayGrow if !was_complete => return Ok(Piece::Waits),
                // What was written before it was complete is read first.
                Standing::Complete { .. } if !was_complete => self.leave(),
                standing => {
                    let through = if let Standing::Complete { through } = standing { through } else { None };
                    self.pass(through);
                    if !self.open_next()? {
                        return Ok(Piece::End { complete: true });
                    }
                }
            }
        }
    }

    /// The present file is behind.
    fn pass(&mut self, through: Option<u64>) {
        if let Some(current) = &self.current {
            let counted = current.before.map(|before| before + current.lines);
            (self.passed, self.next_key) = (through.or(counted), current.key + 1);
        }
    }

    /// Goes on in another folder, to which all files were moved.
    pub(super) fn go_on_in(&mut self, folder: &Path) {
        self.files = self.files.clone().in_folder(folder);
    }

    /// Says something before the first line.
    pub(super) fn note(&mut self, text: String) {
        self.joiner.interrupt(text);
    }

    /// Takes the present file for complete.
    pub(super) fn leave(&mut self) {
        if let Some(current) = &mut self.current {
            current.was_complete = true;
        }
    }

    /// What was never ended; for the end of a run.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let mut lines = Vec::new();
        if !self.partial.is_empty() {
            let entry = std::mem::take(&mut self.partial);
            self.joiner.take(&entry, &mut lines);
        }
        lines.extend(self.joiner.rest());
        lines
    }

    fn take(&mut self, length: usize, lines: &mut Vec<u8>) {
        let mut ended_lines = 0;
        for piece in self.buffer.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            let ended = piece.last() == Some(&b'\n');
            if ended && self.partial.is_empty() {
                let entry = piece.get(..piece.len() - 1).unwrap_or_default();
                ended_lines += u64::from(self.joiner.take(entry, lines));
                continue;
            }
            self.partial.extend_from_slice(piece);
            if !ended && self.partial.len() < LONGEST_ENTRY_BYTES {
                continue;
            }
            if ended {
                self.partial.pop();
            }
            ended_lines += u64::from(self.joiner.take(&self.partial, lines));
            self.partial.clear();
        }
        if let Some(current) = &mut self.current {
            current.lines += ended_lines;
        }
    }

    /// Opens the first file that is not behind, if there is one. Says what lies between.
    fn open_next(&mut self) -> io::Result<bool> {
        for _ in 0..OPEN_TRIES {
            let files = self.files.list()?;
            let newest_before = newest(&files);
            let Some(found) = files.iter().find(|file| key(file, newest_before) >= self.next_key) else {
                return Ok(false);
            };
            let file = match File::open(&found.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            // What is being written may have been put aside since, and the file opened be the one after it.
            if found.place == Place::Written && newest(&self.files.list()?) != newest_before {
                continue;
            }
            let (key, before) = (key(found, newest_before), lines_before(found, &files));
            let (before, begins) = before.map_or((None, Inside::default()), |(before, begins)| (Some(before), begins));
            if self.current.is_none() || key > self.next_key {
                self.say_what_is_missing(before.map(|before| before + begins.count()));
                self.joiner.begin_inside(begins);
            }
            self.current = Some(Current { file, key, before, lines: 0, was_complete: false });
            return Ok(true);
        }
        Ok(false)
    }

    fn say_what_is_missing(&mut self, before: Option<u64>) {
        let note = match (self.passed, before) {
            (Some(passed), Some(before)) if before > passed => {
                let missing = before - passed;
                format!("{missing} lines are missing here: no more than a bound of a container's output is kept")
            }
            (None, _) | (_, None) if self.current.is_some() => {
                "lines are missing here: no more than a bound of a container's output is kept".to_owned()
            }
            _ => return,
        };
        self.joiner.interrupt(note);
    }

    fn standing(&self) -> io::Result<Standing> {
        let Some(current) = &self.current else { return Ok(Standing::Complete { through: None }) };
        let inode = current.file.metadata()?.ino();
        if std::fs::metadata(self.files.written()).is_ok_and(|found| found.ino() == inode) {
            return Ok(Standing::Written);
        }
        let files = self.files.list()?;
        let newest = newest(&files);
        let is_it = |file: &&LogFile| file.place != Place::Written && key(file, newest) == current.key;
        Ok(match files.iter().find(is_it).map(|file| file.place) {
            Some(Place::Aside { lines: None, .. }) => Standing::MayGrow,
            Some(Place::Aside { lines: Some(lines), .. }) => Standing::Complete { through: Some(lines.through) },
            // Not there: it was dropped, which happens to complete files only, or all that is left was moved.
            Some(Place::Former(_) | Place::Written) | None => Standing::Complete { through: None },
        })
    }
}

/// The order of files in a run as numbers; what is being written will get the number after the newest.
fn key(file: &LogFile, newest: u32) -> i64 {
    match file.place {
        Place::Former(number) => number + 1,
        Place::Aside { number, .. } => i64::from(number),
        Place::Written => i64::from(newest) + 1,
    }
}

/// How many lines of the run were printed before the file, and where it begins inside of a line.
fn lines_before(file: &LogFile, files: &[LogFile]) -> Option<(u64, Inside)> {
    if let Place::Aside { lines: Some(lines), .. } = file.place {
        return Some((lines.before, lines.begins));
    }
    let own = key(file, newest(files));
    if own == 1 && !files.iter().any(|other| matches!(other.place, Place::Former(_))) {
        return Some((0, Inside::default()));
    }
    files.iter().find_map(|other| match other.place {
        Place::Aside { number, lines: Some(lines) } if i64::from(number) == own - 1 => {
            Some((lines.through, lines.ends))
        }
        _ => None,
    })
}

/// The key of the file in which the last `tail` lines begin, and how many lines of it come before them.
fn before_tail(files: &RunFiles, tail: u64) -> io::Result<(i64, u64)> {
    let found = files.list()?;
    let newest = newest(&found);
    let mut counted = 0;
    let mut first = i64::MIN;
    for file in found.iter().rev() {
        first = key(file, newest);
        counted += match count_lines(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            lines => lines?,
        };
        // One more, so that what begins in the file before is not taken for a line.
        if counted > tail {
            break;
        }
    }
    Ok((first, counted.saturating_sub(tail)))
}

/// The key of the first file that may hold lines of `since` or later. Clocks of files are coarse.
fn first_after(files: &RunFiles, since: Timestamp) -> io::Result<i64> {
    let found = files.list()?;
    let newest = newest(&found);
    let micros = u64::try_from(since.as_micros()).unwrap_or(0);
    let from = SystemTime::UNIX_EPOCH + Duration::from_micros(micros).saturating_sub(Duration::from_secs(1));
    let first = found.iter().find(|file| file.written_at >= from || file.place == Place::Written);
    Ok(first.map_or(i64::MIN, |file| key(file, newest)))
}

/// How many lines the file holds.
fn count_lines(file: &LogFile) -> io::Result<u64> {
    let mut open = File::open(&file.path)?;
    let (mut lines, mut buffer, mut entry) = (0, vec![0; READ_BYTES], Vec::new());
    loop {
        let length = open.read(&mut buffer)?;
        if length == 0 {
            return Ok(lines);
        }
        for piece in buffer.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            // The beginning of an entry tells what it is.
            let room = 256_usize.saturating_sub(entry.len()).min(piece.len());
            entry.extend_from_slice(piece.get(..room).unwrap_or_default());
            if piece.last() == Some(&b'\n') {
                lines += u64::from(ends_line(&entry));
                entry.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests;
