//! Counts the lines of a file that was put aside, and cuts what was printed faster than a container may.
//!
//! The engine writes log files itself, so a rate cannot be held while it writes. It is held on what is kept: of a file that
//! was printed too fast the middle goes, and an entry of ours in its place says how much it was. Beginning and end stay, because that is
//! where a flood is explained. Lines are cut between, never inside.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use super::files::Inside;
use super::line::{Entry, own_entry, parse};

/// Bytes of an entry that are held in memory.
const LONGEST_ENTRY_BYTES: usize = 256 * 1024;

/// What is to stay of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// So many bytes, half of them from the beginning.
    pub(super) keep_bytes: u64,
    /// Beyond which rate it was printed, for the entry that says so.
    pub(super) rate_bytes: u64,
}

impl Inside {
    /// Whether the entry ends a line.
    fn takes(&mut self, entry: &[u8]) -> bool {
        let entry = parse(entry.strip_suffix(b"\n").unwrap_or(entry));
        let Some(Entry { is_stderr, goes_on, text, .. }) = entry else { return true };
        let inside = &mut self.0[usize::from(is_stderr)];
        // An engine that closes its file between two lines may write a piece without text.
        *inside = goes_on && (*inside || !text.is_empty());
        !goes_on
    }

    fn any(self) -> bool {
        self.0.contains(&true)
    }
}

/// How many lines end in the file, and where it ends inside of a line.
pub(super) fn count_lines(path: &Path, begins: Inside) -> io::Result<(u64, Inside)> {
    let (mut file, mut entry, mut lines) = (BufReader::with_capacity(64 * 1024, File::open(path)?), Vec::new(), 0);
    let mut open = begins;
    while next_entry(&mut file, &mut entry)? {
        lines += u64::from(entry.last() == Some(&b'\n') && open.takes(&entry));
    }
    Ok((lines, open))
}

/// Writes what is to stay of `from` into `to`, and answers the same of `from`.
pub(super) fn cut(from: &Path, to: &Path, begins: Inside, cut: Cut) -> io::Result<(u64, Inside)> {
    let source = File::open(from)?;
    let length = source.metadata()?.len();
    let half = cut.keep_bytes / 2;
    let tail_from = length.saturating_sub(half);
    let mut source = BufReader::with_capacity(64 * 1024, source);
    let mut target =
        BufWriter::with_capacity(64 * 1024, OpenOptions::new().create(true).truncate(true).write(true).open(to)?);
    let (mut entry, mut open, mut kept_open) = (Vec::new(), begins, begins);
    let (mut offset, mut lines, mut dropped_lines, mut dropped_bytes) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut time_of_first_dropped = Vec::new();
    let mut part = Part::Head;
    while next_entry(&mut source, &mut entry)? {
        let bytes = u64::try_from(entry.len()).unwrap_or(u64::MAX);
        // A line may be finished beyond the half, but one without end is not waited for.
        let head_is_full = offset >= half && !open.any() || offset >= half.saturating_mul(2);
        part = match part {
            Part::Head if head_is_full => Part::Middle,
            part => part,
        };
        if matches!(part, Part::Middle) && offset >= tail_from && !open.any() {
            part = Part::Tail;
            say_dropped(&mut target, kept_open, &time_of_first_dropped, (dropped_lines, dropped_bytes), cut)?;
        }
        let ended = open.takes(&entry);
        lines += u64::from(ended);
        match part {
            Part::Head | Part::Tail => {
                kept_open.takes(&entry);
                target.write_all(&entry)?;
            }
            Part::Middle => {
                if time_of_first_dropped.is_empty() {
                    time_of_first_dropped = parse(&entry).map(|entry| entry.time.to_vec()).unwrap_or_default();
                }
                dropped_lines += u64::from(ended);
                dropped_bytes += bytes;
            }
        }
        offset += bytes;
    }
    if matches!(part, Part::Middle) {
        say_dropped(&mut target, kept_open, &time_of_first_dropped, (dropped_lines, dropped_bytes), cut)?;
    }
    target.into_inner()?.sync_data()?;
    Ok((lines, open))
}

enum Part {
    Head,
    Middle,
    Tail,
}

fn say_dropped(
    target: &mut impl io::Write,
    kept_open: Inside,
    time: &[u8],
    (lines, bytes): (u64, u64),
    cut: Cut,
) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    for (stream, _) in ["stdout", "stderr"].iter().zip(kept_open.0).filter(|(_, open)| *open) {
        target.write_all(&[time, b" ", stream.as_bytes(), b" F \n"].concat())?;
    }
    let rate = cut.rate_bytes;
    let text = format!("{lines} lines ({bytes} bytes) were dropped here: more than {rate} bytes a second were printed");
    target.write_all(&own_entry(time, &text))
}

/// Reads one entry with its line end; a piece of one that is absurdly long, or that was never ended. False at the end.
fn next_entry(file: &mut impl io::BufRead, entry: &mut Vec<u8>) -> io::Result<bool> {
    entry.clear();
    let most = u64::try_from(LONGEST_ENTRY_BYTES).unwrap_or(u64::MAX);
    Ok(io::Read::take(file, most).read_until(b'\n', entry)? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_cut(text: &str, keep_bytes: u64) -> (u64, String) {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, text).unwrap();
        let counted = count_lines(&from, Inside::default()).unwrap();
        assert_eq!(counted, cut(&from, &to, Inside::default(), Cut { keep_bytes, rate_bytes: 10 }).unwrap());
        (counted.0, std::fs::read_to_string(to).unwrap())
    }

    #[test]
    fn the_middle_goes_and_is_counted() {
        let text = (0..1_000).map(|line| format!("t{line} stdout F {line:05}\n")).collect::<Vec<_>>().concat();
        let (lines, kept) = after_cut(&text, 400);
        assert_eq!(lines, 1_000);
        let (marks, others): (Vec<&str>, Vec<&str>) = kept.lines().partition(|line| line.contains("[wherry]"));
        let [mark] = marks[..] else { panic!("{kept}") };
        let dropped = 1_000 - others.len();
        assert!(
            mark.contains(&format!("{dropped} lines ({} bytes)", text.len() - (kept.len() - mark.len() - 1))),
            "{mark}"
        );
        assert!(others.first().unwrap().ends_with("00000") && others.last().unwrap().ends_with("00999"), "{kept}");
        assert!(kept.len() < 600, "{}", kept.len());
        let place = kept.lines().position(|line| line == mark).unwrap();
        assert!(mark.starts_with(&format!("t{place} stderr F ")), "{mark}");
    }

    #[test]
    fn lines_in_pieces_are_not_torn() {
        let four = |line| format!("t stdout P {line}a\nt stderr F x\nt stdout P b\nt stdout F c{line}\n");
        let text = (0..200).map(four).collect::<Vec<_>>().concat();
        let (lines, kept) = after_cut(&text, 500);
        assert_eq!(lines, 400);
        let (mut open, mut begun) = (false, 0);
        for line in kept.lines().filter(|line| line.contains("stdout")) {
            assert_eq!(open, !line.ends_with('a'), "{kept}");
            begun += i32::from(!open);
            open = line.contains(" P ");
        }
        assert!(begun > 4 && !open, "{kept}");
    }

    #[test]
    fn a_line_without_end_is_ended_where_it_is_cut() {
        let (lines, kept) = after_cut(&"t stdout P 0123456789\n".repeat(1_000), 1_000);
        assert_eq!(lines, 0);
        let last: Vec<&str> = kept.lines().rev().take(2).collect();
        assert!(last[0].contains("[wherry] 0 lines (") && last[1] == "t stdout F ", "{last:?}");
    }
}
