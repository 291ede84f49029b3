//! Text that must never be shown.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A secret, sealed with a key that records do not hold. What seals and opens it is not here: the core only carries it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// Takes what is sealed already.
    pub const fn new(sealed: String) -> Self {
        Self(sealed)
    }

    /// Stands for the secret that is there already, in what an instance is to become. It is never stored.
    pub const fn kept() -> Self {
        Self(String::new())
    }

    /// Whether it is [`Self::kept`].
    pub const fn is_kept(&self) -> bool {
        self.0.is_empty()
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

/// A secret in plain text, on its way to where it is used. It is never printed, and what it lay in is overwritten when it is
/// dropped; copies that others make of it while they read or write JSON are not.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes a secret.
    pub fn new(plain: String) -> Self {
        Self(Zeroizing::new(plain))
    }

    /// The secret itself: for whoever is about to use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Says nothing of it, not even how long it is.
impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}
