//! The whole stack in one process, for tests: the real application on a real SQLite file, with hands on its clock, its
//! randomness, its nodes and its restarts.
//!
//! ```no_run
//! # async fn example() {
//! use wherry_model::InstanceState;
//! use wherry_testkit::{Stack, spec};
//!
//! let stack = Stack::start().await;
//! let web = stack.create(stack.acme(), "web", spec()).await;
//! stack.agent().obey().await;
//! assert_eq!(stack.read(stack.acme(), "web").await.instance.state, InstanceState::Running);
//! # drop(web);
//! # }
//! ```
//!
//! What is real: `control`, the store, the life of an instance. What is played: the clock ([`ManualClock`]), randomness
//! ([`SeededEntropy`]), the DNS server ([`RecordingZone`]) and the nodes: a [`ScriptedAgent`] keeps the contract of
//! `agent-api` by hand, without containers; a [`RealNode`] is the real agent on an engine in memory, and lets the clock run.
//!
//! Time has two hands. [`Stack::advance`] turns the wall clock only. [`Stack::let_pass`] turns tokio's monotonic clock
//! too, on which silence of nodes and waits are judged; it needs the single-threaded runtime of `#[tokio::test]`. Pausing
//! tokio's clock for longer than that is wrong here: SQLite works on threads of its own, and a paused clock would run
//! into every timeout while they work.
//!
//! Failures of the kit itself panic with a sentence: it serves tests only.

mod agent;
mod builder;
mod clock;
mod entropy;
mod interrupt;
mod line;
mod patience;
mod real;
mod sample;
mod seed;
pub mod simulation;
mod stack;
mod zone;

pub use agent::{Obedience, Ran, ScriptedAgent};
pub use builder::{Node, StackBuilder, Tenant};
pub use clock::ManualClock;
pub use entropy::SeededEntropy;
pub use interrupt::interrupted;
pub use line::Line;
pub use patience::{PATIENCE, eventually};
pub use real::RealNode;
pub use sample::{digest, main_container, replaceable, sized, spec};
pub use seed::seeds;
pub use stack::Stack;
pub use wherry_store_memory::{MemoryStore, Trouble};
pub use zone::RecordingZone;
