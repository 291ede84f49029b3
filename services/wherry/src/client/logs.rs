//! `wherry logs`: one container as it is, or all of an instance, each line with the container's name.
//!
//! What is over is merged by the time of each line, what is followed comes as it arrives. Of each container no more than one
//! piece and one line are held.

use futures_util::stream::{self, BoxStream, StreamExt as _};
use wherry_api_client::LogOptions;
use wherry_model::Timestamp;

use super::failure::{Exit, Failure};
use super::output;
use super::session::Session;
use crate::cli::LogsArgs;

/// A line that is longer is shown in pieces.
const LONGEST_LINE_BYTES: usize = 4 * 1024 * 1024;

pub(super) async fn run(session: &Session, args: &LogsArgs) -> Result<(), Failure> {
    let options = LogOptions {
        run: if args.previous { Some(-1) } else { args.run },
        tail: args.tail,
        follow: args.follow,
        timestamps: args.timestamps,
        since: args.since.clone(),
    };
    let containers = match &args.container {
        Some(container) => vec![container.clone()],
        None => containers(session, &args.name).await?,
    };
    match containers.as_slice() {
        [only] => {
            let mut lines = session.logs(&args.name, only, &options).await?;
            // What a program prints goes through as it is: its colours are its own.
            while let Some(piece) = lines.next().await {
                output::raw(&piece?)?;
            }
            Ok(())
        }
        several if args.follow => follow_all(session, &args.name, several, &options).await,
        several => show_all(session, &args.name, several, options).await,
    }
}

async fn follow_all(session: &Session, name: &str, containers: &[String], options: &LogOptions) -> Result<(), Failure> {
    let width = width_of(containers);
    let mut all = Vec::new();
    for container in containers {
        let lines = Lines::new(session.logs(name, container, options).await?);
        let lines = stream::unfold(lines, |mut lines| async { Some((lines.next().await.transpose()?, lines)) });
        all.push(lines.map(move |line| (container, line)).boxed());
    }
    let mut all = stream::select_all(all);
    while let Some((container, line)) = all.next().await {
        output::raw(&prefixed(container, width, &line?))?;
    }
    Ok(())
}

async fn show_all(session: &Session, name: &str, containers: &[String], options: LogOptions) -> Result<(), Failure> {
    let width = width_of(containers);
    // The lines are sorted by their times, so they are asked for, whether they are shown or not.
    let options_with_times = LogOptions { timestamps: true, ..options };
    let mut all = Vec::new();
    for container in containers {
        let mut lines = Lines::new(session.logs(name, container, &options_with_times).await?);
        let first = lines.next().await?;
        all.push((container, lines, first));
    }
    loop {
        let waiting = all.iter().enumerate().filter_map(|(index, (_, _, line))| Some((time_of(line.as_ref()?), index)));
        let Some((_, index)) = waiting.min() else { return Ok(()) };
        let Some((container, lines, next)) = all.get_mut(index) else { return Ok(()) };
        let Some(line) = std::mem::replace(next, lines.next().await?) else { return Ok(()) };
        let shown = if options.timestamps { line.as_slice() } else { without_time(&line) };
        output::raw(&prefixed(container, width, shown))?;
    }
}

fn width_of(containers: &[String]) -> usize {
    containers.iter().map(String::len).max().unwrap_or(0)
}

fn prefixed(container: &str, width: usize, line: &[u8]) -> Vec<u8> {
    let mut shown = format!("{container:<width$} | ").into_bytes();
    shown.extend_from_slice(line);
    if shown.last() != Some(&b'\n') {
        shown.push(b'\n');
    }
    shown
}

fn time_of(line: &[u8]) -> Option<Timestamp> {
    let text = line.split(|byte| *byte == b' ').next()?;
    str::from_utf8(text).ok()?.parse().ok()
}

fn without_time(line: &[u8]) -> &[u8] {
    if time_of(line).is_none() {
        return line;
    }
    line.iter().position(|byte| *byte == b' ').and_then(|space| line.get(space + 1..)).unwrap_or(line)
}

/// A container's output, line by line.
struct Lines {
    pieces: BoxStream<'static, Result<Vec<u8>, Failure>>,
    buffer: Vec<u8>,
    /// Bytes of it that were given.
    given: usize,
}

impl Lines {
    const fn new(pieces: BoxStream<'static, Result<Vec<u8>, Failure>>) -> Self {
        Self { pieces, buffer: Vec::new(), given: 0 }
    }

    /// The next line with its end; none at the end of all.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut searched = self.given;
        loop {
            let unsearched = self.buffer.get(searched..).unwrap_or_default();
            let end = unsearched.iter().position(|byte| *byte == b'\n').map(|position| searched + position + 1);
            let end =
                end.or_else(|| (self.buffer.len() - self.given > LONGEST_LINE_BYTES).then_some(self.buffer.len()));
            if let Some(end) = end {
                let line = self.buffer.get(self.given..end).unwrap_or_default().to_vec();
                self.given = end;
                return Ok(Some(line));
            }
            self.buffer.drain(..self.given);
            (self.given, searched) = (0, self.buffer.len());
            match self.pieces.next().await {
                Some(piece) => self.buffer.extend_from_slice(&piece?),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Ok(Some(std::mem::take(&mut self.buffer))),
            }
        }
    }
}

async fn containers(session: &Session, name: &str) -> Result<Vec<String>, Failure> {
    let instance = session.get(name).await?;
    Ok(instance.containers.into_iter().map(|container| container.name).collect())
}

pub(super) async fn only_container(session: &Session, name: &str) -> Result<String, Failure> {
    match containers(session, name).await?.as_slice() {
        [only] => Ok(only.clone()),
        several => Err(Failure::new(
            Exit::Usage,
            format!("{name} has several containers, name one with -c: {}", several.join(", ")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_found_in_any_pieces() {
        let text = b"one\n\ntwo and a half\nrest";
        for size in 1..text.len() {
            let pieces: Vec<_> = text.chunks(size).map(|piece| Ok(piece.to_vec())).collect();
            let mut lines = Lines::new(stream::iter(pieces).boxed());
            let mut found = Vec::new();
            while let Some(line) = lines.next().await.unwrap() {
                found.push(String::from_utf8(line).unwrap());
            }
            assert_eq!(found, ["one\n", "\n", "two and a half\n", "rest"], "in pieces of {size}");
        }
    }

    #[test]
    fn names_stand_before_lines_and_times_come_off() {
        assert_eq!(prefixed("web", 5, b"hello\n"), b"web   | hello\n");
        assert_eq!(prefixed("proxy", 5, b"cut off"), b"proxy | cut off\n");
        assert_eq!(without_time(b"2026-11-23T06:30:00.1Z hello there\n"), b"hello there\n");
        assert_eq!(without_time(b"no time here\n"), b"no time here\n");
        assert!(time_of(b"2026-11-23T06:30:00.1Z a") < time_of(b"2026-11-23T06:30:00.12Z b"));
    }
}
