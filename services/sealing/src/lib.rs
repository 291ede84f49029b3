//! Secrets: sealed where they enter, opened where they are used, and nothing but [`Sealed`](wherry_model::Sealed) text
//! in between.
//!
//! A key seals with AES-256-GCM-SIV (RFC 8452). The nonce is made of the content itself by HMAC-SHA-256 under a second key, and
//! so is the same for the same secret in the same [`Place`]: what was given twice is sealed the same, so a request that is
//! repeated changes nothing and restarts nothing. The price: who reads the store sees which secrets of one place are equal, and
//! about how long they are, and nothing else. What is sealed is bound to its place and opens in no other.
//!
//! Keys have ids, and what is sealed names its key: the last of a [`Keyring`] seals, all open. Taking a key away makes what it
//! sealed worthless, which is how a secret is destroyed for good.
//!
//! Rejected: random nonces (every repetition would look like a change); one key for each tenant (the operator would hold all of
//! them in the same file).

mod keyring;
mod place;

pub use keyring::{KeyError, Keyring, OpenError, SealError, SealingKey};
pub use place::Place;
