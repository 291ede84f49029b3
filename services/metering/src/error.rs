//! Why something cannot be rated.

use thiserror::Error;
use wherry_model::InstanceId;

/// Nothing is billed in part: one interval that cannot be rated stops the whole bill.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RatingError {
    /// An interval names a book that the caller did not hand in.
    #[error("price book {0:?} is missing, load every book that the intervals name")]
    UnknownPriceBook(String),
    /// Amounts of two currencies have no sum.
    #[error("the intervals are priced in {0} and in {1}, ask for a bill of each")]
    MixedCurrencies(String, String),
    /// More than 9.2 * 10^18 milli-core-seconds or MiB-seconds: no instance can be so large or so old.
    #[error("an interval of instance {0} is too large to count, check its start, end and size in the store")]
    QuantityTooLarge(InstanceId),
    /// More than 1.7 * 10^26 currency units.
    #[error("the total is too large to count, check the price books")]
    TotalTooLarge,
}
