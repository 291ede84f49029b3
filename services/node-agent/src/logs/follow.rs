//! A container's output as a stream: what is there, and with `follow` what comes, through rotations and restarts.
//!
//! Nothing is read before the reader asks for it, so a slow reader costs one chunk. Files are looked at every tenth of a
//! second: inotify would wake sooner, but nobody reads faster, and it is one more thing that can be exhausted.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{LogChunk, LogQuery, NodeError};

use super::files::{RunFiles, runs};
use super::reader::RunReader;
use crate::blocking::blocking;

const LOOK_EVERY: Duration = Duration::from_millis(100);

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
    folder: PathBuf,
    query: LogQuery,
    source: Arc<dyn LogProgressSource>,
    stopping: CancellationToken,
    reader: Option<(u32, RunReader)>,
    /// Whether the reader's run was over before it was last read.
    run_was_over: bool,
    ended: bool,
}

/// The output that the query asks for. The folder is the instance's.
pub(crate) async fn stream(
    folder: PathBuf,
    query: LogQuery,
    source: Arc<dyn LogProgressSource>,
    stopping: CancellationToken,
) -> Result<BoxStream<'static, LogChunk>, NodeError> {
    if source.progress(&query).is_none() {
        return Err(NodeError::NotFound(format!("instance {}", query.instance)));
    }
    let mut follower = Follower { folder, query, source, stopping, reader: None, run_was_over: false, ended: false };
    let tail = follower.query.tail;
    let is_there = follower.open_next_run(tail).await.map_err(unreadable)?;
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
        if let Some((run, mut reader)) = self.reader.take() {
            let patient = self.query.follow && !self.run_was_over;
            let (reader, lines) = blocking(move || {
                let lines = reader.read(patient);
                (reader, lines)
            })
            .await;
            let lines = lines.map_err(unreadable)?;
            let reader = &mut self.reader.insert((run, reader)).1;
            if !lines.is_empty() {
                return Ok(lines);
            }
            if !self.query.follow {
                self.ended = true;
                return Ok(reader.rest());
            }
            if self.run_was_over {
                let rest = reader.rest();
                self.ended = self.query.run.is_some()
                    || (!self.open_next_run(None).await.map_err(unreadable)? && self.is_settled());
                if !rest.is_empty() || self.ended {
                    return Ok(rest);
                }
            } else if self.is_over(run) {
                self.run_was_over = true;
                return Ok(Vec::new());
            }
        } else if self.open_next_run(None).await.map_err(unreadable)? {
            return Ok(Vec::new());
        } else if !self.query.follow || self.is_settled() {
            self.ended = true;
            return Ok(Vec::new());
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep(LOOK_EVERY) => Ok(Vec::new()),
            () = self.stopping.cancelled() => Err(NodeError::Unavailable("the agent is stopping; ask again".to_owned())),
        }
    }

    /// Opens the run that was asked for; the latest, to begin with; or the first after the one that was read.
    async fn open_next_run(&mut self, tail: Option<u32>) -> io::Result<bool> {
        let (folder, query) = (self.folder.clone(), self.query.clone());
        let after = self.reader.as_ref().map(|(run, _)| *run);
        let opened = blocking(move || -> io::Result<Option<(u32, RunReader)>> {
            let kept = runs(&folder, &query.container)?;
            let wanted = match (query.run, after) {
                (Some(run), None) => kept.iter().find(|kept| **kept == run),
                (Some(_), Some(_)) => None,
                (None, None) => kept.last(),
                (None, Some(after)) => kept.iter().find(|kept| **kept > after),
            };
            let Some(run) = wanted else { return Ok(None) };
            let files = RunFiles::new(&folder, &query.container, *run);
            Ok(Some((*run, RunReader::open(files, tail, query.timestamps)?)))
        })
        .await?;
        let found = opened.is_some();
        if found {
            self.reader = opened;
            self.run_was_over = false;
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
