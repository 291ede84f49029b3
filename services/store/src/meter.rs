//! Metered intervals. They are written by the changes that cause them, never alone; the schema forbids overlaps.

use async_trait::async_trait;
use wherry_metering::Interval;
use wherry_model::{InstanceId, PriceBook, ProjectId, TenantId};

use crate::error::StoreError;

/// Which intervals to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageQuery {
    /// Only of this tenant.
    pub tenant: TenantId,
    /// Only of this project.
    pub project: Option<ProjectId>,
    /// Only of this instance.
    pub instance: Option<InstanceId>,
    /// Only those that cover a grid second from here on …
    pub from_second: i64,
    /// … up to, not including, here. Open intervals count as endless.
    pub to_second: i64,
    /// At most this many, in order of (instance, kind, number), after `after`.
    pub limit: u32,
    /// The key of the last interval of the page before.
    pub after: Option<(InstanceId, wherry_model::lifecycle::MeterKind, u32)>,
}

/// What became of a price book that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriceBookOutcome {
    /// It is stored, and new intervals are rated with it.
    Current,
    /// Another book is stored under this id; nothing was changed, because prices of the past do not change.
    Differs,
}

/// Intervals and prices.
#[async_trait]
pub trait MeterStore: Send + Sync {
    /// A page of intervals; an open one carries its node's last proof of life.
    async fn intervals(&self, query: &UsageQuery) -> Result<Vec<Interval>, StoreError>;

    /// The price book of that id.
    async fn price_book(&self, id: &str) -> Result<Option<PriceBook>, StoreError>;

    /// Stores a price book under its id unless it is there, with the one of spot instances beside it ([`PriceBook::spot`]), and makes it
    /// the one that new intervals are rated with.
    async fn put_price_book(&self, book: &PriceBook) -> Result<PriceBookOutcome, StoreError>;

    /// What instances of the tenant were metered in all: of each, the closed intervals of one kind, size and price book
    /// added up into one of number 0 that begins at second 0, and the open ones as they are. What it costs does not
    /// grow with the history that the caller has to read.
    async fn metered(&self, tenant: TenantId, instances: &[InstanceId]) -> Result<Vec<Interval>, StoreError>;
}
