//! The use cases on the real store, with a played clock and played nodes. One file per kind of use case.

#![expect(clippy::unwrap_used, reason = "every line of this crate is a test")]

mod background;
mod create;
mod events;
mod keys;
mod life;
mod logs;
mod put;
mod random;
mod read;
mod reports;
mod silence;
mod support;
mod tenants;
mod usage;
mod wait;
mod zone;
