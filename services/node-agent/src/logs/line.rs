//! CRI's log format: `TIME STREAM TAG TEXT`, where the tag `P` says that the line goes on in the stream's next entry
//! (Kubernetes CRI logging design; containerd cuts lines at 16 KiB).

/// A line that is longer is given out in pieces.
const LONGEST_LINE_BYTES: usize = 256 * 1024;

/// One entry.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    time: &'a [u8],
    is_stderr: bool,
    goes_on: bool,
    text: &'a [u8],
}

fn parse(entry: &[u8]) -> Option<Entry<'_>> {
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

/// Makes lines of entries; keeps what goes on, for each stream.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    timestamps: bool,
    unfinished: [Vec<u8>; 2],
}

impl Joiner {
    pub(super) fn new(timestamps: bool) -> Self {
        Self { timestamps, unfinished: <[Vec<u8>; 2]>::default() }
    }

    /// Takes one entry without its line end; the line that it ends, if it does, with a line end.
    pub(super) fn take(&mut self, entry: &[u8]) -> Option<Vec<u8>> {
        let Some(parsed) = parse(entry) else {
            // Not the engine's writing, for example after a power cut: shown as it is.
            return Some([entry, b"\n"].concat());
        };
        let line = self.unfinished.get_mut(usize::from(parsed.is_stderr))?;
        if line.is_empty() && self.timestamps {
            line.extend_from_slice(parsed.time);
            line.push(b' ');
        }
        line.extend_from_slice(parsed.text);
        if parsed.goes_on && line.len() < LONGEST_LINE_BYTES {
            return None;
        }
        line.push(b'\n');
        Some(std::mem::take(line))
    }

    /// What was never ended.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        for line in &mut self.unfinished {
            if !line.is_empty() {
                rest.append(line);
                rest.push(b'\n');
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(timestamps: bool, entries: &[&str]) -> Vec<String> {
        let mut joiner = Joiner::new(timestamps);
        let mut lines: Vec<Vec<u8>> = entries.iter().filter_map(|entry| joiner.take(entry.as_bytes())).collect();
        lines.push(joiner.rest());
        lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn pieces_are_joined_per_stream() {
        let entries = ["t1 stdout P ab", "t2 stderr F x", "t3 stdout F cd", "t4 stdout F ", "t5 stdout P never"];
        assert_eq!(joined(false, &entries), ["x\n", "abcd\n", "\n", "never\n"]);
        assert_eq!(joined(true, &entries), ["t2 x\n", "t1 abcd\n", "t4 \n", "t5 never\n"]);
    }

    #[test]
    fn foreign_text_is_shown_and_a_line_without_end_is_cut() {
        assert_eq!(joined(false, &["garbage", "t stdout"]), ["garbage\n", "t stdout\n", ""]);
        let piece = format!("t stdout P {}", "x".repeat(100_000));
        assert_eq!(joined(false, &[&piece, &piece, &piece])[0].len(), 300_001);
    }
}
