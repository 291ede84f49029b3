//! Amounts of CPU and memory, in the Kubernetes quantity syntax that container people know.
//!
//! Any size from 10m and 4Mi is allowed and is metered as asked, never rounded up: a quantity that is not a whole
//! number of milli-cores or MiB is refused, because rounding would bill something that nobody asked for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a quantity was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// Not a number with a known suffix.
    #[error("{0:?} is not a quantity: write {1}")]
    Syntax(String, &'static str),
    /// Finer than the meter counts.
    #[error("{0:?} is not a whole number of {1}")]
    TooFine(String, &'static str),
    /// Below the smallest size.
    #[error("{0:?} is too small, the least is {1}")]
    TooSmall(String, &'static str),
    /// Above the largest size.
    #[error("{0:?} is too large, the most is {1}")]
    TooLarge(String, &'static str),
}

/// CPU time per second, in thousandths of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CpuMillis(u32);

/// Memory in MiB (2^20 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemoryMib(u32);

/// Whole seconds of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(pub u32);

impl Seconds {
    /// The same as a duration.
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0 as u64)
    }
}

const CPU_FORM: &str = "\"500m\" (thousandths of a core) or \"0.5\" (cores)";
const MEMORY_FORM: &str = "\"256Mi\" or \"1Gi\"";

impl CpuMillis {
    /// The smallest request: 10m.
    pub const MIN: Self = Self(10);
    /// The largest request: 1024 cores.
    pub const MAX: Self = Self(1_024_000);

    /// `millis` thousandths of a core, unchecked against the request bounds (node capacities use the same type).
    pub const fn new(millis: u32) -> Self {
        Self(millis)
    }

    /// Thousandths of a core.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl MemoryMib {
    /// The smallest request: 4Mi.
    pub const MIN: Self = Self(4);
    /// The largest request: 16Ti.
    pub const MAX: Self = Self(16 * 1024 * 1024);

    /// `mib` MiB, unchecked against the request bounds (node capacities use the same type).
    pub const fn new(mib: u32) -> Self {
        Self(mib)
    }

    /// MiB.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64 * 1024 * 1024
    }
}

/// A decimal number as `digits / 10^scale`; at most 18 digits, so it fits an `i128` with room for any suffix.
fn decimal(text: &str) -> Option<(u128, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = [whole, fraction].concat();
    if whole.is_empty() || digits.len() > 18 || (text.contains('.') && fraction.is_empty()) {
        return None;
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, u32::try_from(fraction.len()).ok()?))
}

impl FromStr for CpuMillis {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let syntax = || QuantityError::Syntax(text.to_owned(), CPU_FORM);
        let (number, per_unit) = text.strip_suffix('m').map_or((text, 1_000), |number| (number, 1));
        let (digits, scale) = decimal(number).ok_or_else(syntax)?;
        let scaled = digits * per_unit;
        let divisor = 10_u128.pow(scale);
        if scaled % divisor != 0 {
            return Err(QuantityError::TooFine(text.to_owned(), "thousandths of a core"));
        }
        let millis = u32::try_from(scaled / divisor).unwrap_or(u32::MAX);
        match Self(millis) {
            cpu if cpu < Self::MIN => Err(QuantityError::TooSmall(text.to_owned(), "10m")),
            cpu if cpu > Self::MAX => Err(QuantityError::TooLarge(text.to_owned(), "1024")),
            cpu => Ok(cpu),
        }
    }
}

impl FromStr for MemoryMib {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        const SUFFIXES: [(&str, u128); 8] = [
            ("Ki", 1 << 10),
            ("Mi", 1 << 20),
            ("Gi", 1 << 30),
            ("Ti", 1 << 40),
            ("k", 1_000),
            ("M", 1_000_000),
            ("G", 1_000_000_000),
            ("T", 1_000_000_000_000),
        ];
        let (number, factor) = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|number| (number, *factor)))
            .unwrap_or((text, 1));
        let (digits, scale) = decimal(number).ok_or_else(|| QuantityError::Syntax(text.to_owned(), MEMORY_FORM))?;
        let scaled = digits * factor;
        let divisor = 10_u128.pow(scale) << 20;
        if scaled < u128::from(Self::MIN.0) * divisor {
            return Err(QuantityError::TooSmall(text.to_owned(), "4Mi"));
        }
        if scaled % divisor != 0 {
            return Err(QuantityError::TooFine(text.to_owned(), "MiB, for example \"256Mi\""));
        }
        match u32::try_from(scaled / divisor).map(Self) {
            Ok(memory) if memory <= Self::MAX => Ok(memory),
            _ => Err(QuantityError::TooLarge(text.to_owned(), "16Ti")),
        }
    }
}

impl fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1_000) { write!(f, "{}", self.0 / 1_000) } else { write!(f, "{}m", self.0) }
    }
}

impl fmt::Display for MemoryMib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 && self.0.is_multiple_of(1_024) {
            write!(f, "{}Gi", self.0 / 1_024)
        } else {
            write!(f, "{}Mi", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_what_kubernetes_users_write() {
        for (text, millis) in [("500m", 500), ("0.5", 500), ("1", 1_000), ("0.25", 250), ("2.5", 2_500), ("10m", 10)] {
            assert_eq!(text.parse(), Ok(CpuMillis(millis)), "{text}");
        }
        for (text, mib) in [("64Mi", 64), ("1Gi", 1_024), ("0.5Gi", 512), ("4Mi", 4), ("4194304", 4), ("4096Ki", 4)] {
            assert_eq!(text.parse(), Ok(MemoryMib(mib)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_with_a_way_out() {
        for text in ["", "m", ".5", "1.", "-1", "1e3", "half", "9m", "0", "0.0005", "1025", "99999999999999999999"] {
            assert!(text.parse::<CpuMillis>().is_err(), "{text}");
        }
        for text in ["", "Mi", "64mi", "3Mi", "0", "-5Mi", "100M", "4.5Mi", "17Ti", "1Pi", "1e9"] {
            assert!(text.parse::<MemoryMib>().is_err(), "{text}");
        }
        assert_eq!(
            "100M".parse::<MemoryMib>().unwrap_err().to_string(),
            "\"100M\" is not a whole number of MiB, for example \"256Mi\""
        );
    }

    proptest! {
        #[test]
        fn printing_then_parsing_is_identity(cpu in 10_u32..=1_024_000, mib in 4_u32..=16 * 1024 * 1024) {
            prop_assert_eq!(CpuMillis(cpu).to_string().parse(), Ok(CpuMillis(cpu)));
            prop_assert_eq!(MemoryMib(mib).to_string().parse(), Ok(MemoryMib(mib)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            let _ = text.parse::<CpuMillis>();
            let _ = text.parse::<MemoryMib>();
        }
    }
}
