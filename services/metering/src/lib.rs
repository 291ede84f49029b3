//! The meter: whole-second intervals and what they cost, in integers.
//!
//! Time is whole UTC seconds. An interval `[start, end)` covers grid seconds, both ends floored, so neighbours tile
//! exactly and any split of a window sums to the whole (DESIGN section 8). Put differently: a second is charged if the
//! instance ran through the moment at which it ended. Rounding up at the end, as others do, would charge the second of a
//! restart twice.
//!
//! [`cost_of`] turns intervals into a [`Bill`]: lines of quantity times price, exact in `i128` pico-units, and their sum.
//! Nothing is rounded here; an open interval is charged up to the last proof that it ran, never further. All of it is a
//! function of what is stored and of `now`, so anyone with the intervals and the price books can compute a bill again.

#![deny(clippy::float_arithmetic)]

mod bill;
mod error;
mod interval;
mod rating;
#[cfg(test)]
mod tests;
mod window;

pub use bill::{Bill, cost_of};
pub use error::RatingError;
pub use interval::{Interval, Quantity};
pub use rating::{Line, PriceBooks, Resource, per_hour, rate};
pub use window::Window;
