//! F02: replicas are killed at random moments while customers use them.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::{Crowd, Lab, number, seed};

const ROUNDS: u64 = 10;
/// Answers that customers get at least in each round, so that the kills meet work.
const ANSWERS: usize = 3;

/// Every answer is a right one or one that means "ask again"; nothing acknowledged is lost, doubled or billed twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f02_replicas_that_are_killed_at_random_lose_and_double_nothing() {
    let rounds = number("WHERRY_FAULT_ROUNDS").unwrap_or(ROUNDS);
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut lab = Lab::start(2, 1).await;
    let mut crowd = Crowd::start(&lab, 3, seed);
    for _ in 0..rounds {
        crowd.more(ANSWERS).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        let victim = random.random_range(0..2);
        lab.crash(victim);
        if random.random_bool(0.3) {
            // Nobody is there at all, and the one that comes back may be killed before it is up.
            lab.crash(1 - victim);
        }
    }
    lab.ready().await;
    crowd.more(ANSWERS).await;
    let answers = crowd.leave().await;
    println!("F02: {rounds} rounds of kill -9, {answers} answers");
    lab.finish().await;
}
