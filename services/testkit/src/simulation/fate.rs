//! When a process dies: not between two steps of the world, but at one of the moments at which it waits for somebody else. Its
//! engine, the network and its store are all that it ever waits for, so each of its awaits can be its last.

use std::sync::{Mutex, PoisonError};

/// Counts the awaits of one process down to its end.
#[derive(Debug, Default)]
pub(super) struct Fate(Mutex<Option<u32>>);

impl Fate {
    /// It dies at this await from now, counted from 0.
    pub(super) fn seal(&self, awaits: u32) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(awaits);
    }

    /// Whatever was coming does not come.
    pub(super) fn spare(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The process waits; true when it dies of that. Only once.
    pub(super) fn strikes(&self) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let strikes = *left == Some(0);
        *left = if strikes { None } else { left.map(|left| left.saturating_sub(1)) };
        strikes
    }
}
