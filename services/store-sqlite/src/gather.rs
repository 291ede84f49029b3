//! Work of one kind that comes at the same time and is done with shared statements: creates, proofs of life.
//!
//! Who comes first asks the writer for a unit; whoever comes before that unit begins is carried along. So nobody waits for company,
//! and the more there is to do the less each costs. A statement through the driver is a message to a thread and back, which
//! costs more than most of what SQLite does for it.
//!
//! The unit is asked for in a task of its own: a caller that goes away leaves those that it would have carried along unharmed. One that
//! went away before its unit began is left out.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot;
use wherry_store::StoreError;

use crate::writer::{GroupFailure, News, Running, Verdict, Writer};

/// The most that one unit does.
const MOST: usize = 128;

type Reply<A> = oneshot::Sender<Result<A, StoreError>>;

/// What waits for its unit.
pub(crate) struct Gather<W, A> {
    waiting: Mutex<Vec<(W, Reply<A>)>>,
}

impl<W, A> Default for Gather<W, A> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<W, A> fmt::Debug for Gather<W, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").field("waiting", &lock(&self.waiting).len()).finish()
    }
}

/// What a unit makes of each piece of its work, in order.
pub(crate) type Outcomes<A> = Vec<Result<A, StoreError>>;

impl<W: Send + 'static, A: Send + 'static> Gather<W, A> {
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
        let (answer, is_first) = self.join(work);
        if is_first {
            tokio::spawn(Arc::clone(self).unit(Arc::clone(writer), (context, news), all));
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

    async fn unit<F>(self: Arc<Self>, writer: Arc<Writer>, (context, news): (&'static str, News), all: F)
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection, Vec<W>) -> Running<'c, Outcomes<A>> + Send + 'static,
    {
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
