//! Typed client of `/v1`: what the CLI, the load generator, tests and bridges talk to Wherry with.
//!
//! It gets access tokens for its key and renews them, sends the same `Idempotency-Key` again when a create got no answer,
//! and turns `application/problem+json` into a typed error. It retries only what is safe to repeat, a bounded number of
//! times.

mod error;
mod fleet;
mod instances;
mod output;
mod session;
mod streams;
mod tenancy;
mod token;
mod transport;
mod webhooks;

pub use error::ClientError;
pub use instances::{ListOptions, UsageOptions};
pub use output::ExecOutput;
pub use session::{ExecOptions, Heard, SessionReader, SessionWriter};
pub use streams::{EventOptions, EventStream, FleetEventStream, LogOptions, LogStream};
pub use token::Credentials;
pub use transport::Client;
