//! Faults of the control plane and of its database, done to real processes: `wherry control` over a PostgreSQL of the test's own,
//! machines with an agent and a containerd each, in network namespaces.
//!
//! Every test ends with the history check of the lab: nothing acknowledged is lost, nothing runs twice, nothing is billed that
//! did not run, nothing is left. `docs/reliability.md` says which test stands for which row of the fault list.
//!
//! They need root, PostgreSQL and what `cargo xtask setup` installs for containers. Nothing here asserts that something took
//! less than some time, beyond generous bounds: they run beside other work. `WHERRY_FAULT_SEED` repeats the choices of a run,
//! `WHERRY_FAULT_ROUNDS` sets how often replicas are killed, `WHERRY_FAULT_FREEZE_SECONDS` for how long the database is frozen; with more of
//! either, run them with `--profile long`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod database;
mod failpoints;
mod herd;
mod kills;
mod releases;
mod rivals;
mod support;
mod takeover;
mod upgrade;
