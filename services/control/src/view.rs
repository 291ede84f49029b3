//! An instance as its tenant sees it: the record, its DNS name, and what it costs.

use std::sync::Arc;

use wherry_metering::Interval;
use wherry_model::{Instance, InstanceState, PicoAmount, PriceBook};
use wherry_store::UsageQuery;

use crate::{Control, Error, lock};

/// Intervals of one instance that are read at once.
const INTERVAL_PAGE: u32 = 1_000;

/// Intervals that one answer is made of at most.
const MAX_INTERVALS: usize = 100_000;

/// How far a pull is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// That are here.
    pub done_bytes: u64,
    /// That are known to be needed.
    pub total_bytes: u64,
}

/// What an instance costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// From its creation up to the last proof of life.
    pub so_far: PicoAmount,
    /// While it runs.
    pub per_hour: PicoAmount,
    /// ISO 4217.
    pub currency: String,
}

/// An instance as its tenant sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    /// The record.
    pub instance: Instance,
    /// Its full DNS name.
    pub fqdn: String,
    /// Its cost.
    pub cost: Cost,
    /// While its image is pulled: how far that is.
    pub progress: Option<Progress>,
}

impl Control {
    pub(crate) async fn view(&self, instance: Instance) -> Result<InstanceView, Error> {
        let intervals = self
            .read_intervals(UsageQuery {
                tenant: instance.tenant,
                project: Some(instance.project),
                instance: Some(instance.id),
                from_second: 0,
                to_second: i64::MAX,
                limit: INTERVAL_PAGE,
                after: None,
            })
            .await?;
        let bill = self.bill(&intervals, wherry_metering::Window::ALWAYS).await?;
        let book = &self.inner.config.price_book;
        let cost = Cost {
            so_far: bill.total,
            per_hour: wherry_metering::per_hour(&instance.spec.demand(), book),
            currency: book.currency.clone(),
        };
        let progress = self.progress_of(&instance);
        Ok(InstanceView { fqdn: self.inner.config.fqdn(&instance), instance, cost, progress })
    }

    /// How far the pull is, while there is one: a heartbeat may be older than the record.
    fn progress_of(&self, instance: &Instance) -> Option<Progress> {
        let node = instance.node.filter(|_| instance.state == InstanceState::Pulling)?;
        lock(&self.inner.progress).get(&node)?.get(&instance.id).copied()
    }

    /// All intervals that the query finds, page by page.
    pub(crate) async fn read_intervals(&self, mut query: UsageQuery) -> Result<Vec<Interval>, Error> {
        let mut all = Vec::new();
        loop {
            let page = self.store().intervals(&query).await?;
            let full = page.len() >= usize::try_from(query.limit).unwrap_or(usize::MAX);
            query.after = page.last().map(|last| (last.instance, last.kind, last.number));
            all.extend(page);
            if !full {
                return Ok(all);
            }
            if all.len() > MAX_INTERVALS {
                return Err(wherry_model::SpecError::new(
                    "from",
                    "the window has too many intervals: ask for a shorter one",
                )
                .into());
            }
        }
    }

    /// The price book of that id, remembered: a stored book never changes.
    pub(crate) async fn price_book(&self, id: &str) -> Result<Arc<PriceBook>, Error> {
        if let Some(book) = lock(&self.inner.books).get(id) {
            return Ok(Arc::clone(book));
        }
        let book = self.store().price_book(id).await?;
        let book = Arc::new(book.ok_or_else(|| Error::internal(format!("the price book {id} is missing")))?);
        lock(&self.inner.books).insert(id.to_owned(), Arc::clone(&book));
        Ok(book)
    }
}
