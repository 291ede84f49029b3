//! CRI's log format: `TIME STREAM TAG TEXT`, where the tag `P` says that the line goes on in the stream's next entry
//! (Kubernetes CRI logging design; containerd cuts lines at 16 KiB).

use wherry_model::Timestamp;

use super::files::Inside;

/// A line that is longer is given out in pieces that say so.
const LONGEST_LINE_BYTES: usize = 1024 * 1024;

/// What stands at the end of a piece of a line that is longer.
const GOES_ON: &[u8] = b" [wherry: this line is longer than 1 MiB and goes on in the next]";

/// How lines begin that are Wherry's own.
const OWN: &str = "[wherry]";

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) time: &'a [u8],
    pub(super) is_stderr: bool,
    pub(super) goes_on: bool,
    pub(super) text: &'a [u8],
}

pub(super) fn parse(entry: &[u8]) -> Option<Entry<'_>> {
    let mut parts = entry.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    let is_stderr = match stream {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let tag = tags.split(|byte| *byte == b':').next()?;
    Some(Entry { time, is_stderr, goes_on: tag == b"P", text: parts.next().unwrap_or_default() })
}

/// Whether the entry ends a line.
pub(super) fn ends_line(entry: &[u8]) -> bool {
    !parse(entry).is_some_and(|entry| entry.goes_on)
}

/// A line that has begun.
#[derive(Debug, Default)]
struct Unfinished {
    time: Vec<u8>,
    text: Vec<u8>,
    begun: bool,
}

/// Makes lines of entries; keeps what goes on, for each stream.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    timestamps: bool,
    /// Lines that are not wanted.
    skip: u64,
    /// Nothing before the first line of this time is wanted.
    since: Option<Timestamp>,
    unfinished: [Unfinished; 2],
    /// What Wherry has to say before the next line.
    note: Option<String>,
    /// Streams of which the beginning of the next line is missing.
    torn: Inside,
}

impl Joiner {
    pub(super) fn new(timestamps: bool, skip: u64, since: Option<Timestamp>) -> Self {
        Self { timestamps, skip, since, ..Self::default() }
    }

    /// Takes one entry without its line end; adds the line that it ends, if it does, with a line end. Says whether it does.
    pub(super) fn take(&mut self, entry: &[u8], lines: &mut Vec<u8>) -> bool {
        let Some(Entry { time, is_stderr, goes_on, text }) = parse(entry) else {
            // Not the engine's writing, for example after a power cut: shown as it is.
            if self.is_wanted(None, true) {
                lines.extend_from_slice(entry);
                lines.push(b'\n');
            }
            return true;
        };
        if self.torn.0[usize::from(is_stderr)] {
            // It is counted among what is missing.
            self.torn.0[usize::from(is_stderr)] = goes_on;
            self.skip = self.skip.saturating_sub(u64::from(!goes_on));
            return !goes_on;
        }
        let mut line = std::mem::take(if is_stderr { &mut self.unfinished[1] } else { &mut self.unfinished[0] });
        if !line.begun && goes_on && text.is_empty() {
            return false;
        }
        self.say_note(time, lines);
        if !line.begun {
            line.begun = true;
            line.time.extend_from_slice(time);
        }
        line.text.extend_from_slice(text);
        if goes_on {
            if line.text.len() < LONGEST_LINE_BYTES {
                self.unfinished[usize::from(is_stderr)] = line;
                return false;
            }
            line.text.extend_from_slice(GOES_ON);
        }
        self.give(&line.time, &line.text, !goes_on, lines);
        !goes_on
    }

    /// Something is missing before what is taken next. Lines that have begun end in it, and are counted as missing.
    pub(super) fn interrupt(&mut self, note: String) {
        self.unfinished = <[Unfinished; 2]>::default();
        self.note = Some(note);
    }

    /// What is taken next begins inside of lines, whose beginning was not taken.
    pub(super) fn begin_inside(&mut self, torn: Inside) {
        self.torn = torn;
    }

    /// What was never ended.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let mut lines = Vec::new();
        self.give_unfinished(&mut lines);
        self.note = None;
        lines
    }

    fn give_unfinished(&mut self, lines: &mut Vec<u8>) {
        for line in std::mem::take(&mut self.unfinished) {
            if line.begun {
                self.give(&line.time, &line.text, true, lines);
            }
        }
    }

    fn say_note(&mut self, time: &[u8], lines: &mut Vec<u8>) {
        if self.skip == 0
            && self.since.is_none()
            && let Some(note) = self.note.take()
        {
            self.give(time, format!("{OWN} {note}").as_bytes(), true, lines);
        }
    }

    fn give(&mut self, time: &[u8], text: &[u8], ends: bool, lines: &mut Vec<u8>) {
        if !self.is_wanted(Some(time), ends) {
            return;
        }
        if self.timestamps {
            lines.extend_from_slice(time);
            lines.push(b' ');
        }
        lines.extend_from_slice(text);
        lines.push(b'\n');
    }

    /// Pieces of a line that is too long count as the line.
    fn is_wanted(&mut self, time: Option<&[u8]>, ends: bool) -> bool {
        if let Some(since) = self.since {
            let time = time.and_then(|time| str::from_utf8(time).ok()?.parse::<Timestamp>().ok());
            if time.is_none_or(|time| time < since) {
                return false;
            }
            self.since = None;
        }
        if self.skip > 0 {
            self.skip -= u64::from(ends);
            return false;
        }
        true
    }
}

/// An entry of Wherry's own, with its line end.
pub(super) fn own_entry(time: &[u8], text: &str) -> Vec<u8> {
    [time, b" stderr F ", OWN.as_bytes(), b" ", text.as_bytes(), b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    fn joined(timestamps: bool, entries: &[&str]) -> (String, String) {
        let (mut joiner, mut lines) = (Joiner::new(timestamps, 0, None), Vec::new());
        for entry in entries {
            joiner.take(entry.as_bytes(), &mut lines);
        }
        (text(lines), text(joiner.rest()))
    }

    #[test]
    fn pieces_are_joined_per_stream() {
        let entries =
            ["t1 stdout P ab", "t2 stderr F x", "t3 stdout F cd", "t4 stdout F ", "t5 stdout P never", "t6 stderr P "];
        assert_eq!(joined(false, &entries), ("x\nabcd\n\n".to_owned(), "never\n".to_owned()));
        assert_eq!(joined(true, &entries), ("t2 x\nt1 abcd\nt4 \n".to_owned(), "t5 never\n".to_owned()));
    }

    #[test]
    fn foreign_text_is_shown() {
        assert_eq!(joined(false, &["garbage", "t stdout"]).0, "garbage\nt stdout\n");
    }

    #[test]
    fn a_long_line_is_joined_and_one_without_end_says_where_it_goes_on() {
        let piece = format!("t stdout P {}", "x".repeat(16_384));
        let mut entries = vec![piece.as_str(); 63];
        entries.push("t stdout F end");
        let (lines, rest) = joined(false, &entries);
        assert_eq!((lines.len(), rest.as_str()), (63 * 16_384 + 4, ""));
        let entries = vec![piece.as_str(); 65];
        let (lines, rest) = joined(false, &entries);
        assert!(lines.ends_with("goes on in the next]\n"), "{}", lines.len());
        assert_eq!(rest.len(), 16_385);
    }

    #[test]
    fn what_is_missing_is_said_with_the_time_of_what_follows() {
        let (mut joiner, mut lines) = (Joiner::new(true, 0, None), Vec::new());
        joiner.take(b"t1 stdout P begun", &mut lines);
        joiner.interrupt("12 lines are missing".to_owned());
        joiner.take(b"t9 stdout F next", &mut lines);
        assert_eq!(text(lines), "t9 [wherry] 12 lines are missing\nt9 next\n");
    }

    #[test]
    fn nothing_before_a_time_is_given() {
        let since = "2026-11-23T10:00:00.5Z".parse().unwrap();
        let (mut joiner, mut lines) = (Joiner::new(false, 0, Some(since)), Vec::new());
        for entry in [
            "2026-11-23T10:00:00.49Z stdout F old",
            "2026-11-23T10:00:00.4Z stdout P begun before",
            "2026-11-23T11:00:00.500000001+01:00 stderr F new",
            "2026-11-23T10:00:01Z stdout F  and ended after",
        ] {
            joiner.take(entry.as_bytes(), &mut lines);
        }
        assert_eq!(text(lines), "new\nbegun before and ended after\n");
    }
}
