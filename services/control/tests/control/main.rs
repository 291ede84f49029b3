//! The use cases on the real store, with a played clock and played nodes. One file per kind of use case.

#![expect(clippy::unwrap_used, reason = "every line of this crate is a test")]

mod background;
mod calls;
mod create;
mod drain;
mod enrolment;
mod events;
mod exec;
mod fleet_events;
mod fleet_random;
mod gpus;
mod keys;
mod life;
mod lifetimes;
mod logs;
mod loss;
mod placement;
mod put;
mod random;
mod read;
mod renewals;
mod replicas;
mod reports;
mod schedules;
mod secrets;
mod sessions;
mod silence;
mod stuck;
mod support;
mod surroundings;
mod telling;
mod tenants;
mod unreadable;
mod usage;
mod wait;
mod webhooks;
mod without_leases;
mod zone;
