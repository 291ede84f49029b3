//! Money as integers. Amounts are pico-units of a currency (10^-12), held in `i128`; rounding happens on invoices only.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use serde::{Deserialize, Serialize};

/// An exact amount in millionths of a millionth of the currency unit. Serialised as a decimal string of the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PicoAmount(pub i128);

impl PicoAmount {
    const PER_UNIT: u128 = 1_000_000_000_000;
}

impl Add for PicoAmount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sum for PicoAmount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for PicoAmount {
    /// The exact decimal value in currency units, trailing zeros removed, at least two decimals: `0.000175`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let fraction = format!("{:012}", magnitude % Self::PER_UNIT);
        let significant = fraction.trim_end_matches('0').len().max(2);
        write!(f, "{sign}{}.{}", magnitude / Self::PER_UNIT, fraction.get(..significant).unwrap_or(&fraction))
    }
}

/// What a second of a resource costs. Intervals name the book they are rated with, so prices never change afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceBook {
    /// Stable key, for example `default-1`.
    pub id: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Pico-units for one thousandth of a core during one second.
    pub cpu_pico_per_milli_second: i64,
    /// Pico-units for one MiB during one second.
    pub memory_pico_per_mib_second: i64,
    /// The same two prices while an image is pulled; zero unless the operator says otherwise.
    pub pull_cpu_pico_per_milli_second: i64,
    /// See [`Self::pull_cpu_pico_per_milli_second`].
    pub pull_memory_pico_per_mib_second: i64,
    /// What spot instances cost of these prices, in percent; 50 when absent.
    #[serde(default = "usual_spot", skip_serializing_if = "is_usual_spot")]
    pub spot_percent: u8,
}

const fn usual_spot() -> u8 {
    50
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_usual_spot(percent: &u8) -> bool {
    *percent == usual_spot()
}

impl PriceBook {
    /// The book that a new installation starts with: 0.00001 USD per core-second, 0.000001024 USD per GiB-second.
    pub fn default_book() -> Self {
        Self {
            id: "default-1".to_owned(),
            currency: "USD".to_owned(),
            cpu_pico_per_milli_second: 10_000,
            memory_pico_per_mib_second: 1_000,
            pull_cpu_pico_per_milli_second: 0,
            pull_memory_pico_per_mib_second: 0,
            spot_percent: usual_spot(),
        }
    }

    /// The id of the book that intervals of spot instances are rated with beside the book of `id`.
    pub fn spot_id(id: &str) -> String {
        format!("{id}+spot")
    }

    /// The book of spot instances beside this one. Prices are rounded down.
    #[must_use]
    pub fn spot(&self) -> Self {
        let part = |price: i64| price.saturating_mul(i64::from(self.spot_percent)) / 100;
        Self {
            id: Self::spot_id(&self.id),
            currency: self.currency.clone(),
            cpu_pico_per_milli_second: part(self.cpu_pico_per_milli_second),
            memory_pico_per_mib_second: part(self.memory_pico_per_mib_second),
            pull_cpu_pico_per_milli_second: part(self.pull_cpu_pico_per_milli_second),
            pull_memory_pico_per_mib_second: part(self.pull_memory_pico_per_mib_second),
            spot_percent: self.spot_percent,
        }
    }

    /// The one of the two that an instance costs.
    #[must_use]
    pub fn of(&self, is_spot: bool) -> Self {
        if is_spot { self.spot() } else { self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_exactly() {
        for (pico, text) in [
            (0, "0.00"),
            (1, "0.000000000001"),
            (1_500_000_000_000, "1.50"),
            (-2_000_000_000_001, "-2.000000000001"),
            (175_000_000, "0.000175"),
        ] {
            assert_eq!(PicoAmount(pico).to_string(), text);
        }
    }
}
