//! Whole numbers as JSON Schema understands them: `80` and `80.0` are the same integer.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// Up to here every whole number has a floating-point form of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

struct Whole<T>(PhantomData<T>);

impl<T: TryFrom<i64>> Visitor<'_> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number within its bounds")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        let wrong = || E::invalid_value(Unexpected::Unsigned(number), &self);
        T::try_from(i64::try_from(number).map_err(|_| wrong())?).map_err(|_| wrong())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        let wrong = || E::invalid_value(Unexpected::Float(number), &self);
        if number.fract() != 0.0 || number.abs() >= EXACT {
            return Err(wrong());
        }
        // Printed without a fraction it is the integer; there is no checked conversion from floats.
        let whole: i64 = format!("{number:.0}").parse().map_err(|_| wrong())?;
        T::try_from(whole).map_err(|_| wrong())
    }
}

pub(crate) fn whole<'de, T: TryFrom<i64>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_any(Whole(PhantomData))
}

/// [`whole`], or null.
pub(crate) mod optional {
    use serde::{Deserialize, Deserializer};

    #[derive(Deserialize)]
    #[serde(transparent, bound = "T: TryFrom<i64>")]
    struct Wrapped<T>(#[serde(deserialize_with = "super::whole")] T);

    pub(crate) fn whole<'de, T: TryFrom<i64>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
        Ok(Option::<Wrapped<T>>::deserialize(from)?.map(|wrapped| wrapped.0))
    }
}

#[cfg(test)]
mod tests {
    use crate::Port;

    #[test]
    fn whole_floats_are_integers_and_others_are_not() {
        let port = |text: &str| serde_json::from_str::<Port>(&format!("{{\"port\":{text}}}")).map(|port| port.port);
        for text in ["80", "80.0", "8e1"] {
            assert_eq!(port(text).unwrap(), 80, "{text}");
        }
        for text in ["80.5", "-1", "65536", "1e300", "\"80\"", "null", "true"] {
            assert!(port(text).is_err(), "{text}");
        }
    }
}
