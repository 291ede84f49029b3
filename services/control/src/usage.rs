//! What was used and what it costs, line by line.

use std::collections::BTreeMap;

use wherry_metering::{Bill, Interval, PriceBooks, Window};
use wherry_model::{Principal, ProjectName, Scope, SpecError, Timestamp};
use wherry_store::UsageQuery;

use crate::{Control, Error};

/// Intervals that are read at once.
const PAGE: u32 = 1_000;

/// The longest window of one question, in days.
const MAX_WINDOW_SECONDS: i64 = 366 * 24 * 3600;

/// A bill for a window.
#[derive(Debug, Clone)]
pub struct Usage {
    /// First grid second of the window.
    pub from_second: i64,
    /// First grid second after it.
    pub to_second: i64,
    /// What was used in it.
    pub bill: Bill,
}

impl Control {
    /// What the caller used in `[from, to)`, in one project or in all.
    pub async fn usage(
        &self,
        principal: &Principal,
        project: Option<&ProjectName>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Usage, Error> {
        Self::require(principal, Scope::UsageRead)?;
        let (from_second, to_second) = (from.grid_second(), to.grid_second());
        if to_second <= from_second {
            return Err(SpecError::new("to", "it must be later than `from`").into());
        }
        if to_second.saturating_sub(from_second) > MAX_WINDOW_SECONDS {
            return Err(SpecError::new("from", "a window has at most 366 days: ask for a shorter one").into());
        }
        let project = match project {
            Some(name) => Some(self.project_of(principal, name).await?.id),
            None => None,
        };
        let intervals = self
            .read_intervals(UsageQuery {
                tenant: principal.tenant,
                project,
                instance: None,
                from_second,
                to_second,
                limit: PAGE,
                after: None,
            })
            .await?;
        let bill = self.bill(&intervals, Window::new(from_second, to_second)).await?;
        Ok(Usage { from_second, to_second, bill })
    }

    /// What one instance used since it was created.
    pub async fn instance_usage(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
    ) -> Result<Usage, Error> {
        Self::require(principal, Scope::UsageRead)?;
        let instance = self.instance_of(principal, project, name_or_id).await?;
        let intervals = self
            .read_intervals(UsageQuery {
                tenant: principal.tenant,
                project: Some(instance.project),
                instance: Some(instance.id),
                from_second: 0,
                to_second: i64::MAX,
                limit: PAGE,
                after: None,
            })
            .await?;
        let bill = self.bill(&intervals, Window::ALWAYS).await?;
        let from_second = instance.created_at.grid_second();
        Ok(Usage { from_second, to_second: self.now().grid_second().saturating_add(1).max(from_second), bill })
    }

    pub(crate) async fn bill(&self, intervals: &[Interval], window: Window) -> Result<Bill, Error> {
        let mut books = BTreeMap::new();
        for interval in intervals {
            if !books.contains_key(&interval.price_book) {
                let book = self.price_book(&interval.price_book).await?;
                books.insert(interval.price_book.clone(), book.as_ref().clone());
            }
        }
        let books: PriceBooks = books.into_values().collect();
        wherry_metering::cost_of(intervals, &books, window, self.now())
            .map_err(|error| Error::internal(error.to_string()))
    }
}
