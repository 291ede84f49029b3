//! The core of the end-to-end tests once more, with `wherry up` on PostgreSQL. All of them on PostgreSQL, in about four minutes:
//! `WHERRY_E2E_STORE=postgres cargo nextest run -p wherry-e2e --test e2e -E 'not test(a_full_disk)'`. That one fills the disk of
//! the data folder, on which PostgreSQL has nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]
#![expect(dead_code, unused_imports, reason = "the support serves the tests that are not run twice, too")]

#[path = "../e2e/by_hand.rs"]
mod by_hand;
#[path = "../e2e/kill_loop.rs"]
mod kill_loop;
#[path = "../e2e/protocol.rs"]
mod protocol;
#[path = "../e2e/support/mod.rs"]
mod support;
