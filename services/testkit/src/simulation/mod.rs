//! The whole fleet in one thread and one seed: several replicas of the real application, several machines with the real
//! agent, tenants and operators who ask, and everything that can go wrong between them.
//!
//! [`simulate`] plays one world. What is real: `control` with its background work, the node agent, the life of an instance,
//! the meter. What is played: the store (in memory, obeying the contract), the engine, the network, the clocks. A world has
//! a time of troubles, then all faults end, and everything must come to rest as its owners want it; at last all is deleted
//! and nothing may be left. The invariants I1 to I10 are checked by an observer who sees every process and every commit at
//! its true moment.
//!
//! The same seed gives the same world: one thread, a paused clock, no randomness but the seed's. [`Outcome::trace`] names
//! all that happened, so that two runs can be compared.
//!
//! Rejected: turmoil (it simulates sockets; the contract between agent and control plane is a trait, and what can happen to a
//! message is said in one page here), and stopping a replica's tasks one by one (they are its own business: what is
//! killed here is its way to the store and to its callers, which is all that anybody can see of it).

mod bill;
mod dice;
mod ending;
mod fate;
mod faults;
mod fleet;
mod grip;
mod legal;
mod machine;
mod network;
mod oracle;
mod replica;
mod users;
mod weather;
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What became of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What must never be seen and was; empty when all is well.
    pub violations: Vec<String>,
    /// Names everything that happened.
    pub trace: u64,
    /// Everything that happened, a line each with the true time in seconds.
    pub story: Vec<String>,
}

/// Whether the same seed gives the same world to the last detail: built with `--cfg tokio_unstable`, as `cargo xtask
/// simulate` does. Otherwise tokio adds a little randomness of its own.
pub const REPEATS: bool = cfg!(tokio_unstable);

/// Plays the world of this seed.
pub fn simulate(seed: u64) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    // Tokio wakes those who wait for one `watch` channel in a random order of its own; only so can that be seeded.
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let runtime = builder.build().expect("a runtime of one thread can be made");
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(world::play(seed))));
    played.unwrap_or_else(|panic| Outcome {
        violations: vec![format!("a panic: {}", sentence(panic.as_ref()))],
        trace: 0,
        story: Vec::new(),
    })
}

fn sentence(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
