//! Faults of machines, agents, container engines and networks, on real processes. Rows of `docs/reliability.md`. Needs root.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod agent;
mod away;
mod check;
mod drain;
mod engine;
mod lab;
mod partition;
mod stuck;
