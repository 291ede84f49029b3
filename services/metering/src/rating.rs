//! From quantities to lines.

use std::collections::BTreeMap;

use wherry_model::lifecycle::MeterKind;
use wherry_model::{Demand, InstanceId, InstanceName, PicoAmount, PriceBook, ProjectId, Timestamp};

use crate::error::RatingError;
use crate::interval::Interval;
use crate::window::Window;

/// What a line charges for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Counted in milli-core-seconds.
    Cpu,
    /// Counted in MiB-seconds.
    Memory,
}

impl Resource {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    /// What its quantity is counted in.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Cpu => "milli-core-seconds",
            Self::Memory => "MiB-seconds",
        }
    }
}

/// One resource of one interval within the window that was asked: everything that is needed to compute the amount again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whose time it is.
    pub instance: InstanceId,
    /// That instance's name.
    pub name: InstanceName,
    /// Under which project.
    pub project: ProjectId,
    /// Running, or pulling an image.
    pub kind: MeterKind,
    /// Which interval of this kind.
    pub number: u32,
    /// What is charged for.
    pub resource: Resource,
    /// First grid second that is charged.
    pub from_second: i64,
    /// First grid second that is not.
    pub to_second: i64,
    /// Seconds between them.
    pub seconds: i64,
    /// How much was asked for: milli-cores or MiB.
    pub size: u32,
    /// Size times seconds, in the resource's unit.
    pub quantity: i64,
    /// The book that the price is from.
    pub price_book: String,
    /// That book's currency.
    pub currency: String,
    /// Pico-units for one unit of the quantity.
    pub unit_price_pico: i64,
    /// Quantity times price, exact.
    pub amount: PicoAmount,
    /// Whether the interval is still open, so that the line grows.
    pub open: bool,
    /// Whether the time was booked after its node had been silent.
    pub late: bool,
}

/// Price books by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriceBooks(BTreeMap<String, PriceBook>);

impl PriceBooks {
    /// The book of that id.
    pub fn get(&self, id: &str) -> Result<&PriceBook, RatingError> {
        self.0.get(id).ok_or_else(|| RatingError::UnknownPriceBook(id.to_owned()))
    }
}

impl FromIterator<PriceBook> for PriceBooks {
    fn from_iter<I: IntoIterator<Item = PriceBook>>(books: I) -> Self {
        Self(books.into_iter().map(|book| (book.id.clone(), book)).collect())
    }
}

/// The lines of an interval within `window`, as far as is known at `now`: CPU, then memory. None when it covers no second
/// of it. Pull time has its own prices; its lines are there even if they cost nothing.
pub fn rate(interval: &Interval, books: &PriceBooks, window: Window, now: Timestamp) -> Result<Vec<Line>, RatingError> {
    let charged = interval.covered(now).overlap(window);
    if charged.is_empty() {
        return Ok(Vec::new());
    }
    let book = books.get(&interval.price_book)?;
    let quantity = interval.quantity(window, now)?;
    let line = |resource, size, amount_of, unit_price_pico| Line {
        instance: interval.instance,
        name: interval.name.clone(),
        project: interval.project,
        kind: interval.kind,
        number: interval.number,
        resource,
        from_second: charged.from_second,
        to_second: charged.to_second,
        seconds: quantity.seconds,
        size,
        quantity: amount_of,
        price_book: book.id.clone(),
        currency: book.currency.clone(),
        unit_price_pico,
        amount: times(amount_of, unit_price_pico),
        open: interval.end_second.is_none(),
        late: interval.late,
    };
    Ok(vec![
        line(Resource::Cpu, interval.cpu.get(), quantity.cpu_milli_seconds, price(book, interval.kind, Resource::Cpu)),
        line(
            Resource::Memory,
            interval.memory.get(),
            quantity.memory_mib_seconds,
            price(book, interval.kind, Resource::Memory),
        ),
    ])
}

/// What one hour of an instance that asks for `demand` costs while it runs.
pub fn per_hour(demand: &Demand, book: &PriceBook) -> PicoAmount {
    const SECONDS: i64 = 3_600;
    times(i64::from(demand.cpu.get()) * SECONDS, price(book, MeterKind::Run, Resource::Cpu))
        + times(i64::from(demand.memory.get()) * SECONDS, price(book, MeterKind::Run, Resource::Memory))
}

/// Pico-units for one unit of the resource's quantity.
const fn price(book: &PriceBook, kind: MeterKind, resource: Resource) -> i64 {
    match (kind, resource) {
        (MeterKind::Run, Resource::Cpu) => book.cpu_pico_per_milli_second,
        (MeterKind::Run, Resource::Memory) => book.memory_pico_per_mib_second,
        (MeterKind::Pull, Resource::Cpu) => book.pull_cpu_pico_per_milli_second,
        (MeterKind::Pull, Resource::Memory) => book.pull_memory_pico_per_mib_second,
    }
}

/// Exact: the product of two `i64` always fits an `i128`.
fn times(quantity: i64, unit_price_pico: i64) -> PicoAmount {
    PicoAmount(i128::from(quantity) * i128::from(unit_price_pico))
}
