//! The meter: whole-second intervals and what they cost, in integers.
//!
//! Time is whole UTC seconds. An interval `[start, end)` covers grid seconds, both ends floored, so neighbours tile
//! exactly and any split of a window sums to the whole (DESIGN section 8). Quantity times price is exact in `i128`
//! pico-units; nothing is rounded here.

mod interval;

pub use interval::Interval;
