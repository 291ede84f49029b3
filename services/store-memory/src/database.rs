//! The one lock, units of work, and the count of commits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use wherry_store::StoreError;

use crate::MemoryStore;
use crate::state::State;
use crate::trouble::Witness;

/// What becomes of what a unit wrote.
pub(crate) enum Verdict<T> {
    Keep(T),
    Undo(T),
}

pub(crate) struct Database {
    state: Mutex<State>,
    commits: watch::Sender<u64>,
    witness: Mutex<Option<Arc<dyn Witness>>>,
}

impl Default for Database {
    fn default() -> Self {
        Self { state: Mutex::default(), commits: watch::channel(0).0, witness: Mutex::default() }
    }
}

impl Database {
    pub(crate) fn show(&self, witness: Arc<dyn Witness>) {
        *self.witness.lock().unwrap_or_else(PoisonError::into_inner) = Some(witness);
    }

    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state())
    }

    /// Changes something behind everybody's back: nobody is woken, nobody looks on.
    pub(crate) fn edit<T>(&self, edit: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let done = edit(&mut state);
        state.keep();
        done
    }

    /// Runs one unit of work: all of it is stored, or nothing. Readers are woken if it is news.
    pub(crate) fn write<T>(
        &self,
        is_news: bool,
        unit: impl FnOnce(&mut State) -> Result<Verdict<T>, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.state();
        match unit(&mut state) {
            Ok(Verdict::Keep(done)) => {
                self.testify(&state);
                state.keep();
                if is_news {
                    self.commits.send_modify(|count| *count += 1);
                }
                Ok(done)
            }
            Ok(Verdict::Undo(answer)) => {
                state.undo();
                Ok(answer)
            }
            Err(error) => {
                state.undo();
                Err(error)
            }
        }
    }

    fn testify(&self, state: &State) {
        let witness = self.witness.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(witness) = witness else { return };
        for (_, before, after) in state.instances.writes() {
            witness.instance_written(before.map(|row| &*row.record), after.map(|row| &*row.record));
        }
        for (_, before, after) in state.nodes.writes() {
            if let Some(after) = after {
                witness.node_written(before.map(|row| &row.record), &after.record);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic inside a unit leaves its writes to be taken back by the next one that fails: none may go on.
        self.state.lock().expect("no unit of work panicked before")
    }
}

impl MemoryStore {
    pub(crate) async fn read<T: Send>(
        &self,
        call: &'static str,
        look: impl FnOnce(&State) -> T + Send,
    ) -> Result<T, StoreError> {
        self.trouble.before(call).await?;
        let found = self.database.read(look);
        self.trouble.after(call, false).await?;
        Ok(found)
    }

    pub(crate) async fn write<T: Send>(
        &self,
        call: &'static str,
        unit: impl FnOnce(&mut State) -> Result<Verdict<T>, StoreError> + Send,
    ) -> Result<T, StoreError> {
        self.write_as(call, true, unit).await
    }

    /// The same for what is written all the time and what nobody waits for: it wakes no reader.
    pub(crate) async fn write_quietly<T: Send>(
        &self,
        call: &'static str,
        unit: impl FnOnce(&mut State) -> Result<Verdict<T>, StoreError> + Send,
    ) -> Result<T, StoreError> {
        self.write_as(call, false, unit).await
    }

    async fn write_as<T: Send>(
        &self,
        call: &'static str,
        is_news: bool,
        unit: impl FnOnce(&mut State) -> Result<Verdict<T>, StoreError> + Send,
    ) -> Result<T, StoreError> {
        self.trouble.before(call).await?;
        let done = self.database.write(is_news, unit)?;
        self.trouble.after(call, true).await?;
        Ok(done)
    }

    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.database.commits()
    }
}
