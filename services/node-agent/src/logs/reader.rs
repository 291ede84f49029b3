//! Reads the lines of one run through all its files. Blocking; holds one read's worth of bytes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

use super::files::RunFiles;
use super::line::{Joiner, ends_line};

const READ_BYTES: usize = 64 * 1024;
/// Bytes without a line end that are taken for a line all the same: an engine writes shorter entries.
const LONGEST_ENTRY_BYTES: usize = 256 * 1024;

/// Reads one run.
#[derive(Debug)]
pub(super) struct RunReader {
    files: RunFiles,
    /// Opened at the beginning, not begun yet.
    waiting: VecDeque<File>,
    current: Option<File>,
    /// Read, without its line end yet.
    partial: Vec<u8>,
    joiner: Joiner,
    skip_lines: u64,
    /// The current file was put aside and has been read to its end once.
    drained: bool,
}

impl RunReader {
    /// Begins at the last `tail` lines, or at the oldest line that is kept.
    pub(super) fn open(files: RunFiles, tail: Option<u32>, timestamps: bool) -> io::Result<Self> {
        let mut waiting = VecDeque::new();
        for number in files.oldest_first() {
            match File::open(files.path(number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => waiting.push_back(file?),
            }
        }
        let skip_lines = match tail {
            None => 0,
            Some(tail) => count_lines(&mut waiting)?.saturating_sub(u64::from(tail)),
        };
        let joiner = Joiner::new(timestamps);
        Ok(Self { files, waiting, current: None, partial: Vec::new(), joiner, skip_lines, drained: false })
    }

    /// The next lines, empty at the end of what is there. `patient` readers come back, so a file that was put aside is
    /// left only after a second look: the engine may have been about to write.
    pub(super) fn read(&mut self, patient: bool) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let Some(file) = &mut self.current else {
                if self.open_next()? {
                    continue;
                }
                return Ok(Vec::new());
            };
            let length = file.read(&mut buffer)?;
            if length > 0 {
                let lines = self.take(buffer.get(..length).unwrap_or_default());
                if lines.is_empty() {
                    continue;
                }
                return Ok(lines);
            }
            let has_next = !self.waiting.is_empty() || self.successor()?.is_some();
            if !has_next {
                return Ok(Vec::new());
            }
            if patient && !std::mem::replace(&mut self.drained, true) {
                return Ok(Vec::new());
            }
            self.open_next()?;
        }
    }

    /// What was never ended; for the end of a run.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let mut lines = Vec::new();
        if !self.partial.is_empty() {
            let entry = std::mem::take(&mut self.partial);
            lines = self.joiner.take(&entry).unwrap_or_default();
        }
        lines.extend(self.joiner.rest());
        lines
    }

    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            let ended = self.partial.last() == Some(&b'\n');
            if !ended && self.partial.len() < LONGEST_ENTRY_BYTES {
                continue;
            }
            if ended {
                self.partial.pop();
            }
            let line = self.joiner.take(&self.partial);
            self.partial.clear();
            match line {
                Some(_) if self.skip_lines > 0 => self.skip_lines -= 1,
                Some(line) => lines.extend(line),
                None => {}
            }
        }
        lines
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let next = match self.waiting.pop_front() {
            Some(file) => Some(file),
            None => self.successor()?,
        };
        self.drained = false;
        let found = next.is_some();
        if found {
            self.current = next;
        }
        Ok(found)
    }

    /// The file after the current one: the next younger, or the oldest when the current was dropped meanwhile.
    fn successor(&self) -> io::Result<Option<File>> {
        let inode = self.current.as_ref().map(File::metadata).transpose()?.map(|known| known.ino());
        let numbers = self.files.oldest_first();
        let is_current =
            |number: &u32| std::fs::metadata(self.files.path(*number)).is_ok_and(|found| Some(found.ino()) == inode);
        let next = match numbers.iter().position(is_current) {
            Some(position) => numbers.get(position + 1),
            None => numbers.first(),
        };
        match next.map(|number| File::open(self.files.path(*number))) {
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            next => next.transpose(),
        }
    }
}

/// How many lines the files hold; leaves them at their beginning.
fn count_lines(files: &mut VecDeque<File>) -> io::Result<u64> {
    let mut lines = 0;
    let mut buffer = vec![0; READ_BYTES];
    for file in files {
        let mut entry = Vec::new();
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
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
        file.seek(SeekFrom::Start(0))?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use super::*;
    use wherry_model::ContainerName;

    fn files(folder: &Path) -> RunFiles {
        RunFiles::new(folder, &ContainerName::new("main").unwrap(), 1)
    }

    fn write(files: &RunFiles, from: usize, to: usize) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(files.path(0)).unwrap();
        for line in from..to {
            writeln!(file, "t stdout F {line}").unwrap();
        }
    }

    fn all(reader: &mut RunReader) -> Vec<usize> {
        let mut text = String::new();
        let mut quiet = 0;
        while quiet < 4 {
            let lines = reader.read(true).unwrap();
            quiet = if lines.is_empty() { quiet + 1 } else { 0 };
            text.push_str(&String::from_utf8(lines).unwrap());
        }
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    #[test]
    fn no_line_is_lost_or_doubled_through_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        write(&files, 0, 10);
        let mut reader = RunReader::open(files.clone(), None, false).unwrap();
        assert_eq!(all(&mut reader), (0..10).collect::<Vec<_>>());
        write(&files, 10, 20);
        files.put_aside(3).unwrap();
        assert_eq!(all(&mut reader), (10..20).collect::<Vec<_>>());
        write(&files, 20, 30);
        files.put_aside(3).unwrap();
        write(&files, 30, 40);
        assert_eq!(all(&mut reader), (20..40).collect::<Vec<_>>());
    }

    #[test]
    fn a_reader_whose_file_was_dropped_goes_on_at_the_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        write(&files, 0, 10);
        let mut reader = RunReader::open(files.clone(), None, false).unwrap();
        assert_eq!(all(&mut reader).len(), 10);
        for round in 1..6 {
            files.put_aside(3).unwrap();
            write(&files, round * 10, round * 10 + 10);
        }
        assert_eq!(all(&mut reader), (30..60).collect::<Vec<_>>());
    }

    #[test]
    fn the_tail_is_counted_in_lines_over_all_files() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        write(&files, 0, 5_000);
        files.put_aside(3).unwrap();
        write(&files, 5_000, 9_000);
        let mut file = std::fs::OpenOptions::new().append(true).open(files.path(0)).unwrap();
        write!(file, "t stdout P 90\nt stdout F 00\nt stdout F 90").unwrap();
        for (tail, expected) in [(0, vec![]), (3, vec![8_998, 8_999, 9_000]), (6_000, (3_001..9_001).collect())] {
            let mut reader = RunReader::open(files.clone(), Some(tail), false).unwrap();
            assert_eq!(all(&mut reader), expected, "tail {tail}");
        }
        writeln!(file, "01").unwrap();
        let mut reader = RunReader::open(files, Some(1), false).unwrap();
        assert_eq!(all(&mut reader), [9_001]);
    }
}
