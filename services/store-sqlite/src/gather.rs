//! Work of one kind that comes at the same time and is done with shared statements: creates, proofs of life.
//!
//! Who comes first asks the writer for a unit; whoever comes before that unit begins is carried along. So nobody waits for company,
//! and the more there is to do the less each costs. A statement through the driver is a message to a thread and back, which
//! costs more than most of what SQLite does for it.
//!
//! What nobody is in a hurry about, and comes all the time, may wait for company after all ([`Gather::patient`]): where hundreds come
//! each second a unit is asked for a little later, and what would have been a commit each is one for all of them.
//!
//! The unit is asked for in a task of its own: a caller that goes away leaves those that it would have carried along unharmed. One that
//! went away before its unit began is left out.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wherry_store::StoreError;

use crate::writer::{GroupFailure, News, Running, Verdict, Writer};

/// The most that one unit does.
const MOST: usize = 128;

/// How long a patient unit waits for company, and from how many pieces of work a second on.
const LINGER: Duration = Duration::from_millis(25);
const CROWD: u32 = 150;

type Reply<A> = oneshot::Sender<Result<A, StoreError>>;

/// What waits for its unit.
pub(crate) struct Gather<W, A> {
    waiting: Mutex<Vec<(W, Reply<A>)>>,
    /// What came lately, where that decides how long a unit waits.
    pace: Option<Mutex<Pace>>,
}

impl<W, A> Default for Gather<W, A> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), pace: None }
    }
}

/// Counts by the second.
#[derive(Debug, Default)]
struct Pace {
    second: Option<Instant>,
    count: u32,
    before: u32,
}

impl Pace {
    /// One more has come; says whether it comes in a crowd.
    fn note(&mut self, now: Instant) -> bool {
        match self.second.map(|began| now.duration_since(began)) {
            Some(since) if since < Duration::from_secs(1) => {}
            since => {
                let is_next = since.is_some_and(|since| since < Duration::from_secs(2));
                self.before = if is_next { self.count } else { 0 };
                (self.second, self.count) = (Some(now), 0);
            }
        }
        self.count += 1;
        self.count.max(self.before) >= CROWD
    }
}

impl<W, A> fmt::Debug for Gather<W, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").field("waiting", &lock(&self.waiting).len()).finish_non_exhaustive()
    }
}

/// What a unit makes of each piece of its work, in order.
pub(crate) type Outcomes<A> = Vec<Result<A, StoreError>>;

impl<W: Send + 'static, A: Send + 'static> Gather<W, A> {
    /// For what may wait a little where there is much of it.
    pub(crate) fn patient() -> Self {
        Self { waiting: Mutex::default(), pace: Some(Mutex::default()) }
    }

    /// Does `work` with whatever else waits, by `all`, and answers after the commit.
    pub(crate) async fn run<F>(
        self: &Arc<Self>,
        writer: &Arc<Writer>,
        (context, news): (&'static str, News),
        work: W,
        all: F,
    ) -> Result<A, StoreError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection, Vec<W>) -> Running<'c, Outcomes<A>> + Send + 'static,
    {
        let in_a_crowd = self.pace.as_ref().is_some_and(|pace| lock(pace).note(Instant::now()));
        let (answer, is_first) = self.join(work);
        if is_first {
            let linger = if in_a_crowd { LINGER } else { Duration::ZERO };
            tokio::spawn(Arc::clone(self).unit(Arc::clone(writer), (context, news), linger, all));
        }
        let stopped =
            |_| StoreError::Unavailable { context: format!("{context}: the writer has stopped"), source: None };
        answer.await.map_err(stopped)?
    }

    /// Adds work; true when a unit must be asked for, which is so for the first and for each that finds all units full.
    fn join(&self, work: W) -> (oneshot::Receiver<Result<A, StoreError>>, bool) {
        let (reply, answer) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        let is_first = waiting.len().is_multiple_of(MOST);
        waiting.push((work, reply));
        (answer, is_first)
    }

    /// Takes what waits, up to what one unit does, without those whose caller is gone.
    fn take(&self) -> (Vec<W>, Vec<Reply<A>>) {
        let mut waiting = lock(&self.waiting);
        let count = waiting.len().min(MOST);
        waiting.drain(..count).filter(|(_, reply)| !reply.is_closed()).unzip()
    }

    async fn unit<F>(
        self: Arc<Self>,
        writer: Arc<Writer>,
        (context, news): (&'static str, News),
        linger: Duration,
        all: F,
    ) where
        F: for<'c> FnOnce(&'c mut SqliteConnection, Vec<W>) -> Running<'c, Outcomes<A>> + Send + 'static,
    {
        if !linger.is_zero() {
            tokio::time::sleep(linger).await;
        }
        let replies: Arc<Mutex<Option<Vec<Reply<A>>>>> = Arc::default();
        let (slot, gather) = (Arc::clone(&replies), Arc::clone(&self));
        let ran = writer
            .run_as(context, news, move |connection| {
                Box::pin(async move {
                    let (work, replies) = gather.take();
                    *lock(&slot) = Some(replies);
                    if work.is_empty() { Ok(Verdict::Undo(Vec::new())) } else { all(connection, work).await }
                })
            })
            .await;
        // A unit that never began leaves its work where it was.
        let replies = lock(&replies).take().unwrap_or_else(|| self.take().1);
        // A caller that has gone away does not need the answer.
        match ran {
            Ok(outcomes) => replies.into_iter().zip(outcomes).for_each(|(reply, outcome)| drop(reply.send(outcome))),
            Err(error) if replies.len() == 1 => {
                replies.into_iter().zip([Err(error)]).for_each(|(reply, outcome)| drop(reply.send(outcome)));
            }
            Err(error) => {
                let failure = GroupFailure::of(error);
                for reply in replies {
                    drop(reply.send(Err(failure.tell(context))));
                }
            }
        }
    }
}

/// Sizes of pieces for statements of several rows: few, so that each stays prepared.
pub(crate) fn pieces<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    const LARGEST: usize = 32;
    let mut left = rows;
    std::iter::from_fn(move || {
        let size = if left.len() >= LARGEST { LARGEST } else { 1 << left.len().checked_ilog2()? };
        let (piece, rest) = left.split_at(size);
        left = rest;
        Some(piece)
    })
}

/// `(?, ?), (?, ?)` for so many rows of so many columns.
pub(crate) fn places(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row; rows].join(", ")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_powers_of_two_and_lose_nothing() {
        for count in [0, 1, 2, 3, 31, 32, 33, 100] {
            let rows: Vec<usize> = (0..count).collect();
            let sizes: Vec<usize> = pieces(&rows).map(<[usize]>::len).collect();
            assert!(sizes.iter().all(|size| size.is_power_of_two() && *size <= 32), "{sizes:?}");
            assert_eq!(pieces(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        }
        assert_eq!(places(2, 3), "(?, ?, ?), (?, ?, ?)");
    }

    #[test]
    fn it_is_a_crowd_while_many_come_each_second() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let mut at = |millis| pace.note(begun + Duration::from_millis(millis));
        assert!((0..u64::from(CROWD) - 1).all(|millis| !at(millis)));
        assert!(at(900) && at(1_500), "the second before counts");
        assert!(!at(2_600), "few came in the second before");
        assert!((0..u64::from(CROWD)).map(|millis| at(3_000 + millis)).last().unwrap());
        assert!(!at(60_000), "that was long ago");
    }

    #[test]
    fn each_full_unit_is_followed_by_another_and_nobody_is_left_behind() {
        let gather: Gather<usize, ()> = Gather::default();
        let joined: Vec<_> = (0..=MOST * 2).map(|work| gather.join(work)).collect();
        assert_eq!(joined.iter().filter(|(_, is_first)| *is_first).count(), 3);
        let taken: Vec<Vec<usize>> = (0..3).map(|_| gather.take().0).collect();
        assert_eq!(taken.concat(), (0..=MOST * 2).collect::<Vec<_>>());
        drop(joined);
        let (gone, _) = gather.join(7);
        drop(gone);
        assert!(gather.take().0.is_empty(), "whose caller is gone is left out");
    }
}
