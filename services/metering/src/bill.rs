//! Lines and their sum.

use wherry_model::lifecycle::MeterKind;
use wherry_model::{PicoAmount, Timestamp};

use crate::error::RatingError;
use crate::interval::Interval;
use crate::rating::{Line, PriceBooks, Resource, rate};
use crate::window::Window;

/// What some intervals cost within a window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bill {
    /// In the order of the intervals.
    pub lines: Vec<Line>,
    /// The currency of every line; absent while there is none.
    pub currency: Option<String>,
    /// The exact sum of the lines.
    pub total: PicoAmount,
}

impl Bill {
    /// How much of a resource it charges for, in the resource's unit.
    pub fn quantity(&self, kind: MeterKind, resource: Resource) -> i128 {
        let lines = self.lines.iter().filter(|line| line.kind == kind && line.resource == resource);
        lines.map(|line| i128::from(line.quantity)).sum()
    }

    /// Adds a line.
    pub fn add(&mut self, line: Line) -> Result<(), RatingError> {
        let currency = self.currency.get_or_insert_with(|| line.currency.clone());
        if *currency != line.currency {
            return Err(RatingError::MixedCurrencies(currency.clone(), line.currency));
        }
        let total = self.total.0.checked_add(line.amount.0).ok_or(RatingError::TotalTooLarge)?;
        self.total = PicoAmount(total);
        self.lines.push(line);
        Ok(())
    }
}

/// The bill of `intervals` within `window`, as far as is known at `now`: all of it or an error, never a part.
pub fn cost_of<'a>(
    intervals: impl IntoIterator<Item = &'a Interval>,
    books: &PriceBooks,
    window: Window,
    now: Timestamp,
) -> Result<Bill, RatingError> {
    let mut bill = Bill::default();
    for interval in intervals {
        for line in rate(interval, books, window, now)? {
            bill.add(line)?;
        }
    }
    Ok(bill)
}
