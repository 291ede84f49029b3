//! What is expected, and why.

use std::fmt;

use wherry_model::Departure;

/// How long an instance is expected to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    /// How badly that suits a machine of each departure class.
    pub departs: Departure,
    /// Its mean, in seconds, of which no more than a day is counted.
    pub remaining_s: u64,
    /// From how many like it this was learnt.
    pub learnt_from: u32,
    /// What makes them like it.
    pub basis: Basis,
}

/// What instances have in common from which something was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// Nothing: all instances.
    All,
    /// The tenant.
    Tenant,
    /// The image too.
    Image,
    /// The size too.
    Shape,
    /// Its place among what was started with it too.
    Batch,
}

impl Basis {
    pub(super) const BY_GENERALITY: [Self; 5] = [Self::All, Self::Tenant, Self::Image, Self::Shape, Self::Batch];
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "of all kinds",
            Self::Tenant => "of the same tenant",
            Self::Image => "of the same image",
            Self::Shape => "of the same image and size",
            Self::Batch => "of the same image, size and place in their batch",
        })
    }
}

impl fmt::Display for Expectation {
    /// In words: "expected to run about 2 h more: learnt from 314 of the same image and size".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.remaining_s {
            0..3_600 => (self.remaining_s / 60, "min"),
            _ => ((self.remaining_s + 1_800) / 3_600, "h"),
        };
        let more = if self.remaining_s > 80_000 { "a day or" } else { "about" };
        write!(f, "expected to run {more} {number} {unit} more: ")?;
        match self.learnt_from {
            0 => f.write_str("nothing is learnt yet"),
            count => write!(f, "learnt from {count} {}", self.basis),
        }
    }
}
