//! Text that must never be shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret, sealed with a key that records do not hold. What seals and opens it is not here: the core only carries it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// Takes what is sealed already.
    pub const fn new(sealed: String) -> Self {
        Self(sealed)
    }

    /// As it is kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Says nothing of it, not even how long it is.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}
