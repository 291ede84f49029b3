//! A whole Wherry for one test, the registry that its images come from, and the ways to look at both from outside.

pub(crate) mod dns;
mod engine;
mod observer;
mod store;
mod traces;
mod wherry;
mod world;

pub(crate) use engine::EngineContainer;
pub(crate) use observer::Observer;
pub(crate) use traces::output_of;
pub(crate) use wherry::{Said, Wherry, binary, plain_client, said};
pub(crate) use world::{PROJECT, World, shell};

use std::time::{Duration, Instant};

/// Asks again and again until there is an answer, at most `within`; fails with `what` after that.
pub(crate) async fn eventually<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = look().await {
            return answer;
        }
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A decimal amount in picos, exactly.
pub(crate) fn picos(amount: &str) -> i128 {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    assert!(fraction.len() <= 12, "{amount} is finer than picos");
    format!("{whole}{fraction:0<12}").parse().unwrap()
}
