//! An instance as its tenant sees it: the record, its DNS name, and what it costs.

use std::collections::BTreeMap;
use std::sync::Arc;

use wherry_metering::Interval;
use wherry_model::{Instance, InstanceId, InstanceState, PicoAmount, PriceBook};
use wherry_store::UsageQuery;

use crate::{Control, Error, lock};

/// Intervals that one answer is made of at most.
const MAX_INTERVALS: usize = 100_000;

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are here.
    pub done_bytes: u64,
    /// Bytes that are known to be needed.
    pub total_bytes: u64,
    /// Layers that are here.
    pub done_layers: u32,
    /// Layers that are known to be needed.
    pub total_layers: u32,
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
        let views = self.views(vec![instance]).await?;
        views.into_iter().next().ok_or_else(|| Error::internal("an instance has no view"))
    }

    /// The view of one that was made just now: nothing of it was metered.
    pub(crate) fn view_of_new(&self, instance: Instance) -> InstanceView {
        let demand = instance.demand();
        let book = self.inner.config.price_book.of(demand.spot);
        let cost = Cost {
            so_far: PicoAmount::default(),
            per_hour: wherry_metering::per_hour(&demand, &book),
            currency: book.currency,
        };
        InstanceView { fqdn: self.inner.config.fqdn(&instance), instance, cost, progress: None }
    }

    /// The views of instances of one tenant, with one question to the meter for all of them.
    pub(crate) async fn views(&self, instances: Vec<Instance>) -> Result<Vec<InstanceView>, Error> {
        let Some(tenant) = instances.first().map(|instance| instance.tenant) else { return Ok(Vec::new()) };
        let ids: Vec<InstanceId> = instances.iter().map(|instance| instance.id).collect();
        let mut metered: BTreeMap<InstanceId, Vec<Interval>> = BTreeMap::new();
        for interval in self.store().metered(tenant, &ids).await? {
            metered.entry(interval.instance).or_default().push(interval);
        }
        let regular = &self.inner.config.price_book;
        let spot = regular.spot();
        let mut views = Vec::with_capacity(instances.len());
        for instance in instances {
            let intervals = metered.remove(&instance.id).unwrap_or_default();
            let bill = self.bill(&intervals, wherry_metering::Window::ALWAYS).await?;
            let demand = instance.demand();
            let book = if demand.spot { &spot } else { regular };
            let cost = Cost {
                so_far: bill.total,
                per_hour: wherry_metering::per_hour(&demand, book),
                currency: book.currency.clone(),
            };
            let progress = self.progress_of(&instance);
            views.push(InstanceView { fqdn: self.inner.config.fqdn(&instance), instance, cost, progress });
        }
        Ok(views)
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
