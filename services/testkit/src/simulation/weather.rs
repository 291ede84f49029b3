//! Between one replica's process and the database: waits, outages, answers that are lost, and the end of the process.
//!
//! A replica that is killed is never polled to its end: everything that it does goes through its store, where it waits for
//! ever from then on. So a crash strikes between any two calls, before a call is done and after it is. One that is stopped
//! (SIGSTOP) waits there likewise, and goes on with what it knew before.

use std::future::pending;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use wherry_store::StoreError;
use wherry_store_memory::Trouble;

use super::dice::Dice;
use super::fate::Fate;

/// What one replica meets on its way to the store.
pub(super) struct Weather {
    dice: Dice,
    dead: watch::Sender<bool>,
    frozen: watch::Sender<bool>,
    fate: Fate,
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
        let (dead, frozen) = (watch::channel(false).0, watch::channel(false).0);
        Self { dice, dead, frozen, fate: Fate::default(), trouble: Mutex::new(chances), out_until: Mutex::default() }
    }

    /// Ends the process: nothing of it goes on.
    pub(super) fn kill(&self) {
        self.dead.send_replace(true);
    }

    /// Ends it at this await from now.
    pub(super) fn seal(&self, awaits: u32) {
        self.fate.seal(awaits);
    }

    pub(super) fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// SIGSTOP and SIGCONT.
    pub(super) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    pub(super) async fn thawed(&self) {
        if *self.frozen.borrow() {
            // The sender lives in `self`, so the channel cannot close.
            drop(self.frozen.subscribe().wait_for(|frozen| !frozen).await);
        }
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
        self.thawed().await;
        if self.is_dead() {
            pending::<()>().await;
        }
    }

    /// The process waits for the store.
    async fn meets_fate(&self) {
        if self.fate.strikes() {
            self.kill();
        }
        self.while_alive().await;
    }
}

fn unavailable(call: &'static str) -> StoreError {
    StoreError::Unavailable { context: call.to_owned(), source: None }
}

#[async_trait]
impl Trouble for Weather {
    async fn before(&self, call: &'static str) -> Result<(), StoreError> {
        self.meets_fate().await;
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
        self.meets_fate().await;
        if self.is_out() || (wrote && self.dice.happens(chances.ambiguous)) { Err(unavailable(call)) } else { Ok(()) }
    }

    async fn wakes(&self) -> bool {
        self.while_alive().await;
        sleep(self.dice.millis(0..50)).await;
        !self.dice.happens(self.chances().deaf)
    }
}
