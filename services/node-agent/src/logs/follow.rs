//! A container's output as a stream: what is there, and with `follow` what comes, through rotations and restarts.
//!
//! Nothing is read before the reader asks for it, so a slow reader costs one chunk. Files are looked at every tenth of a
//! second: inotify would wake sooner, but nobody reads faster, and it is one more thing that can be exhausted.
//!
//! A run is read to its end: after the agent was told that it is over, until its last file is complete.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{LogChunk, LogQuery, NodeError};
use wherry_model::Timestamp;

use super::deleted::folder_of;
use super::files::{RunFiles, list, runs};
use super::reader::{Piece, RunReader, Start};
use crate::blocking::blocking;
use crate::config::AgentConfig;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Looks at a file that is not complete, after its engine has left it, before it is taken for complete: a little longer than
/// [`super::CLOSED_AFTER`].
const PATIENCE: u32 = 60;

/// How many looks a follower has for an instance that this node has not been told of: it may have been placed a moment ago.
const LOOKS_FOR_NEWS: u32 = 100;

/// How a container stands, for deciding whether more output can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogProgress {
    /// Number of the latest run that was said to have started.
    pub(crate) run: u32,
    /// Whether that run goes on.
    pub(crate) runs: bool,
    /// Whether no further run will come unless somebody asks for it.
    pub(crate) settled: bool,
}

/// Who knows that.
pub(crate) trait LogProgressSource: Send + Sync {
    /// None when the instance is not on this node.
    fn progress(&self, query: &LogQuery) -> Option<LogProgress>;
}

struct Follower {
    config: Arc<AgentConfig>,
    query: LogQuery,
    source: Arc<dyn LogProgressSource>,
    stopping: CancellationToken,
    reader: Option<(u32, RunReader)>,
    /// Looks in a row that brought nothing.
    quiet_looks: u32,
    ended: bool,
}

/// The output that the query asks for.
pub(crate) async fn stream(
    config: Arc<AgentConfig>,
    query: LogQuery,
    source: Arc<dyn LogProgressSource>,
    stopping: CancellationToken,
) -> Result<BoxStream<'static, LogChunk>, NodeError> {
    let mut follower = Follower { config, query, source, stopping, reader: None, quiet_looks: 0, ended: false };
    let is_there = follower.open_first_run().await.map_err(unreadable)?;
    if !is_there && follower.source.progress(&follower.query).is_none() {
        return Err(NodeError::NotFound(format!("instance {}", follower.query.instance)));
    }
    if let (false, Some(run), false) = (is_there, follower.query.run, follower.query.follow) {
        return Err(NodeError::NotFound(format!("the output of run {run}; only that of the latest runs is kept")));
    }
    Ok(stream::unfold(follower, |mut follower| async move {
        let chunk = follower.next().await?;
        follower.ended |= chunk.is_err();
        Some((chunk, follower))
    })
    .boxed())
}

fn unreadable(error: io::Error) -> NodeError {
    tracing::error!(%error, "output of a container cannot be read");
    NodeError::Unavailable("the output cannot be read now".to_owned())
}

impl Follower {
    /// Opens the first run that is asked for. With `follow` it waits a while for the node to learn of the instance.
    async fn open_first_run(&mut self) -> io::Result<bool> {
        for _ in 0..LOOKS_FOR_NEWS {
            let is_known = self.open_next_run().await? || self.source.progress(&self.query).is_some();
            if is_known || !self.query.follow || self.stopping.is_cancelled() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(self.reader.is_some())
    }

    async fn next(&mut self) -> Option<LogChunk> {
        while !self.ended {
            match self.advance().await {
                Ok(chunk) if chunk.is_empty() => {}
                Ok(chunk) => return Some(Ok(chunk)),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    /// Reads, or goes on to the next run, or ends, or waits.
    async fn advance(&mut self) -> Result<Vec<u8>, NodeError> {
        let Some((run, mut reader)) = self.reader.take() else {
            let is_settled = !self.query.follow || self.is_settled();
            if !self.open_next_run().await.map_err(unreadable)? {
                self.ended = is_settled;
                self.pause().await?;
            }
            return Ok(Vec::new());
        };
        // Before it is read: what was written until then is found.
        let is_over = self.is_over(run);
        let (config, instance) = (self.config.clone(), self.query.instance);
        let (reader, piece) = blocking(move || {
            if let Some(folder) = folder_of(&config, instance) {
                reader.go_on_in(&folder);
            }
            let piece = reader.read();
            (reader, piece)
        })
        .await;
        let reader = &mut self.reader.insert((run, reader)).1;
        match piece.map_err(unreadable)? {
            Piece::Lines(lines) => {
                self.quiet_looks = 0;
                return Ok(lines);
            }
            Piece::Waits if self.quiet_looks >= PATIENCE => {
                self.quiet_looks = 0;
                reader.leave();
                return Ok(Vec::new());
            }
            Piece::End { complete } if is_over && (complete || self.quiet_looks >= PATIENCE) => {
                let rest = reader.rest();
                return self.end_run(rest).await;
            }
            Piece::End { .. } if !is_over && !self.query.follow => {
                self.ended = true;
                return Ok(reader.rest());
            }
            Piece::Waits | Piece::End { .. } => {}
        }
        self.quiet_looks = self.quiet_looks.saturating_add(1);
        self.pause().await?;
        Ok(Vec::new())
    }

    /// The run was read to its end.
    async fn end_run(&mut self, rest: Vec<u8>) -> Result<Vec<u8>, NodeError> {
        let goes_on = self.query.run.is_none() && (self.query.follow || self.query.since.is_some());
        let is_settled = !goes_on || !self.query.follow || self.is_settled();
        if goes_on && self.open_next_run().await.map_err(unreadable)? {
            return Ok(rest);
        }
        self.ended = is_settled;
        if !is_settled && rest.is_empty() {
            self.pause().await?;
        }
        Ok(rest)
    }

    async fn pause(&self) -> Result<(), NodeError> {
        if self.ended {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep(LOOK_EVERY) => Ok(()),
            () = self.stopping.cancelled() => Err(NodeError::Unavailable("the agent is stopping; ask again".to_owned())),
        }
    }

    /// Opens the run that was asked for; the latest, to begin with, or the first with output of the time that was asked for;
    /// or the first after the one that was read.
    async fn open_next_run(&mut self) -> io::Result<bool> {
        let (config, query) = (self.config.clone(), self.query.clone());
        let after = self.reader.as_ref().map(|(run, _)| *run);
        let opened = blocking(move || -> io::Result<Option<(u32, RunReader)>> {
            let Some(folder) = folder_of(&config, query.instance) else { return Ok(None) };
            let kept = runs(&folder, &query.container)?;
            let wanted = match (query.run, after) {
                (Some(run), None) => kept.iter().find(|kept| **kept == run).copied(),
                (Some(_), Some(_)) => None,
                (None, None) => match query.since {
                    Some(since) if query.tail.is_none() => first_since(&folder, &query, since)?,
                    _ => kept.last().copied(),
                },
                (None, Some(after)) => kept.iter().find(|kept| **kept > after).copied(),
            };
            let Some(run) = wanted else { return Ok(None) };
            let files = RunFiles::new(&folder, &query.container, run);
            let start = match (query.tail, query.since) {
                (Some(tail), _) if after.is_none() => Start::Tail(tail),
                (_, Some(since)) => Start::Since(since),
                _ => Start::Oldest,
            };
            let mut reader = RunReader::open(files, start, query.timestamps)?;
            if let Some(after) = after.filter(|after| run > after + 1) {
                reader.note(format!("the output of runs {} to {} is not kept any more", after + 1, run - 1));
            }
            Ok(Some((run, reader)))
        })
        .await?;
        let found = opened.is_some();
        if found {
            self.reader = opened;
            self.quiet_looks = 0;
        }
        Ok(found)
    }

    fn is_over(&self, run: u32) -> bool {
        let progress = self.source.progress(&self.query);
        progress.is_none_or(|now| now.settled || now.run > run || (now.run == run && !now.runs))
    }

    fn is_settled(&self) -> bool {
        self.source.progress(&self.query).is_none_or(|now| now.settled)
    }
}

/// The first run that was written at that time or later; the latest when none was.
fn first_since(folder: &std::path::Path, query: &LogQuery, since: Timestamp) -> io::Result<Option<u32>> {
    let micros = u64::try_from(since.as_micros()).unwrap_or(0);
    let since = SystemTime::UNIX_EPOCH + Duration::from_micros(micros).saturating_sub(Duration::from_secs(1));
    let files = list(folder)?;
    let of_it = || files.iter().filter(|file| file.container == query.container.as_str());
    Ok(of_it().find(|file| file.written_at >= since).or_else(|| of_it().next_back()).map(|file| file.run))
}
