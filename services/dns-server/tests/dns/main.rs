//! Both servers, asked by real packets over UDP and TCP on loopback.
#![expect(clippy::unwrap_used, reason = "clippy.toml allows it in tests; this covers what tests share")]

mod answers;
mod bad_input;
mod connections;
mod node_resolver;
mod support;
mod swap;
