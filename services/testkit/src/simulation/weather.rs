//! Between one replica's process and the database: waits, outages, answers that are lost, and the end of the process.
//!
//! A replica that is killed is never polled to its end: everything that it does goes through its store, where it waits for
//! ever from then on. So a crash strikes between any two calls, before a call is done and after it is.

use std::future::pending;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use wherry_store::StoreError;
use wherry_store_memory::Trouble;

use super::dice::Dice;

/// What one replica meets on its way to the store.
pub(super) struct Weather {
    dice: Dice,
    dead: watch::Sender<bool>,
    /// In a thousand calls.
    trouble: Mutex<Chances>,
    out_until: Mutex<Option<Instant>>,
}

/// How often what goes wrong, in a thousand calls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chances {
    pub(super) slow: u32,
    pub(super) fails: u32,
    pub(super) ambiguous: u32,
    pub(super) deaf: u32,
}

impl Weather {
    pub(super) fn new(dice: Dice, chances: Chances) -> Self {
        Self { dice, dead: watch::channel(false).0, trouble: Mutex::new(chances), out_until: Mutex::default() }
    }

    /// Ends the process: nothing of it goes on.
    pub(super) fn kill(&self) {
        self.dead.send_replace(true);
    }

    pub(super) fn dies(&self) -> watch::Receiver<bool> {
        self.dead.subscribe()
    }

    pub(super) fn set(&self, chances: Chances) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = chances;
    }

    /// The database cannot be reached for so long.
    pub(super) fn out_for(&self, time: Duration) {
        *self.out_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
    }

    fn chances(&self) -> Chances {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_out(&self) -> bool {
        self.out_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| until > Instant::now())
    }

    async fn while_alive(&self) {
        if *self.dead.borrow() {
            pending::<()>().await;
        }
    }
}

fn unavailable(call: &'static str) -> StoreError {
    StoreError::Unavailable { context: call.to_owned(), source: None }
}

#[async_trait]
impl Trouble for Weather {
    async fn before(&self, call: &'static str) -> Result<(), StoreError> {
        self.while_alive().await;
        let chances = self.chances();
        if self.is_out() {
            sleep(self.dice.millis(0..1_500)).await;
            self.while_alive().await;
            if self.is_out() {
                return Err(unavailable(call));
            }
        }
        if self.dice.happens(chances.slow) {
            let longest = if self.dice.happens(30) { 2_000 } else { 40 };
            sleep(self.dice.millis(0..longest)).await;
            self.while_alive().await;
        }
        if self.dice.happens(chances.fails) { Err(unavailable(call)) } else { Ok(()) }
    }

    async fn after(&self, call: &'static str, wrote: bool) -> Result<(), StoreError> {
        let chances = self.chances();
        if self.dice.happens(chances.slow) {
            let longest = if self.dice.happens(50) { 1_500 } else { 30 };
            sleep(self.dice.millis(0..longest)).await;
        }
        self.while_alive().await;
        if self.is_out() || (wrote && self.dice.happens(chances.ambiguous)) { Err(unavailable(call)) } else { Ok(()) }
    }

    async fn wakes(&self) -> bool {
        self.while_alive().await;
        sleep(self.dice.millis(0..50)).await;
        !self.dice.happens(self.chances().deaf)
    }
}
