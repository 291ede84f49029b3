//! The meter's promises. Numbers P1 … P14 are those of the billing properties that the project keeps.

use std::collections::BTreeSet;

use jiff::civil::date;
use jiff::tz::TimeZone;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use wherry_model::lifecycle::MeterKind;
use wherry_model::{
    CpuMillis, Demand, Generation, InstanceId, InstanceName, MemoryMib, PicoAmount, PriceBook, ProjectId, TenantId,
    Timestamp,
};

use crate::{Bill, Interval, PriceBooks, Quantity, RatingError, Resource, Window, cost_of, per_hour, rate};

/// 2024-02-29T23:59:00Z: a minute before a leap day ends, and a month.
const LEAP: i64 = 1_709_251_140;
const END_OF_TIME: Timestamp = Timestamp::from_micros(i64::MAX);

fn instance(number: u32) -> InstanceId {
    format!("{number:032x}").parse().unwrap()
}

fn interval(start_second: i64, end_second: Option<i64>) -> Interval {
    Interval {
        instance: instance(1),
        name: InstanceName::new("web").unwrap(),
        tenant: "00000000-0000-0000-0000-000000000002".parse::<TenantId>().unwrap(),
        project: "00000000-0000-0000-0000-000000000003".parse::<ProjectId>().unwrap(),
        kind: MeterKind::Run,
        number: 1,
        generation: Generation::FIRST,
        cpu: CpuMillis::new(250),
        memory: MemoryMib::new(64),
        price_book: "test".to_owned(),
        start_second,
        end_second,
        proved_until: END_OF_TIME,
        late: false,
    }
}

/// Prices without a common factor, so that no two mistakes cancel.
fn book() -> PriceBook {
    PriceBook {
        id: "test".to_owned(),
        currency: "EUR".to_owned(),
        cpu_pico_per_milli_second: 10_007,
        memory_pico_per_mib_second: 1_013,
        pull_cpu_pico_per_milli_second: 101,
        pull_memory_pico_per_mib_second: 11,
        spot_percent: 50,
    }
}

fn books() -> PriceBooks {
    PriceBooks::from_iter([book()])
}

fn bill(intervals: &[Interval], window: Window) -> Bill {
    cost_of(intervals, &books(), window, END_OF_TIME).unwrap()
}

#[test]
fn a_bill_says_all_that_is_needed_to_compute_it_again() {
    let pull = Interval { kind: MeterKind::Pull, ..interval(LEAP, Some(LEAP + 3)) };
    let run = interval(LEAP + 3, Some(LEAP + 3_603));
    let bill = bill(&[pull, run], Window::new(LEAP + 1, LEAP + 13));
    let lines = bill.lines.iter().map(|line| {
        let span = (line.from_second - LEAP, line.to_second - LEAP, line.seconds);
        (line.kind, line.resource, span, line.size, line.quantity, line.unit_price_pico, line.amount.0)
    });
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            (MeterKind::Pull, Resource::Cpu, (1, 3, 2), 250, 500, 101, 50_500),
            (MeterKind::Pull, Resource::Memory, (1, 3, 2), 64, 128, 11, 1_408),
            (MeterKind::Run, Resource::Cpu, (3, 13, 10), 250, 2_500, 10_007, 25_017_500),
            (MeterKind::Run, Resource::Memory, (3, 13, 10), 64, 640, 1_013, 648_320),
        ]
    );
    assert_eq!((bill.total, bill.currency.as_deref()), (PicoAmount(25_717_728), Some("EUR")));
    assert_eq!(bill.quantity(MeterKind::Run, Resource::Cpu), 2_500);
    let line = &bill.lines[2];
    assert_eq!((line.name.as_str(), line.price_book.as_str(), line.open, line.late), ("web", "test", false, false));
}

#[test]
fn an_open_interval_ends_with_the_last_proof_and_never_in_the_future() {
    let open = Interval { proved_until: Timestamp::from_micros(20_999_999), ..interval(10, None) };
    let seconds = |now: i64| open.quantity(Window::ALWAYS, Timestamp::from_micros(now)).unwrap().seconds;
    assert_eq!(seconds(15_500_000), 5, "now is earlier");
    assert_eq!(seconds(60_000_000), 10, "the proof is earlier");
    assert_eq!(seconds(9_000_000), 0, "the clock went back behind the start");
    assert_eq!(seconds(-9_000_000), 0);
    assert!(rate(&open, &books(), Window::ALWAYS, Timestamp::from_seconds(30)).unwrap()[0].open);
}

#[test]
fn an_hour_costs_what_3600_seconds_cost() {
    let demand = Demand::new(CpuMillis::new(250), MemoryMib::new(64));
    assert_eq!(per_hour(&demand, &book()), bill(&[interval(0, Some(3_600))], Window::ALWAYS).total);
    // 0.00001 USD a core-second, 0.000001024 USD a GiB-second.
    let whole = Demand::new(CpuMillis::new(1_000), MemoryMib::new(1_024));
    assert_eq!(per_hour(&whole, &PriceBook::default_book()).to_string(), "0.0396864");
}

#[test]
fn what_cannot_be_rated_stops_the_bill() {
    let (first, second) = (interval(0, Some(1)), Interval { price_book: "other".to_owned(), ..interval(1, Some(2)) });
    let cost = |books: &PriceBooks| cost_of([&first, &second], books, Window::ALWAYS, END_OF_TIME);
    assert_eq!(cost(&books()).unwrap_err(), RatingError::UnknownPriceBook("other".to_owned()));
    let dollars = PriceBook { id: "other".to_owned(), currency: "USD".to_owned(), ..book() };
    assert_eq!(
        cost(&PriceBooks::from_iter([book(), dollars])).unwrap_err().to_string(),
        "the intervals are priced in EUR and in USD, ask for a bill of each"
    );
    for absurd in [interval(i64::MIN, Some(i64::MAX)), interval(0, Some(i64::MAX))] {
        let refused = absurd.quantity(Window::ALWAYS, END_OF_TIME).unwrap_err();
        assert_eq!(refused, RatingError::QuantityTooLarge(instance(1)));
    }
    let dear = PriceBook { cpu_pico_per_milli_second: i64::MAX, memory_pico_per_mib_second: i64::MAX, ..book() };
    let long = Interval { cpu: CpuMillis::new(1), memory: MemoryMib::new(1), ..interval(0, Some(i64::MAX)) };
    let total = cost_of([&long; 2], &PriceBooks::from_iter([dear]), Window::ALWAYS, END_OF_TIME);
    assert_eq!(total.unwrap_err(), RatingError::TotalTooLarge);
}

/// P9 at its corner: a million cores for ten years at 1,000 a core-second, and as much memory as goes with them.
#[test]
fn the_largest_thinkable_bill_is_exact() {
    const TEN_YEARS: i64 = 3_653 * 86_400;
    let dear = PriceBook {
        cpu_pico_per_milli_second: 1_000_000_000_000,
        memory_pico_per_mib_second: 1_000_000_000_000,
        ..book()
    };
    let huge = Interval {
        cpu: CpuMillis::new(1_000_000_000),
        memory: MemoryMib::new(u32::MAX),
        ..interval(0, Some(TEN_YEARS))
    };
    let bill = cost_of([&huge], &PriceBooks::from_iter([dear]), Window::ALWAYS, END_OF_TIME).unwrap();
    // 10^6 cores * 315,619,200 s * 1,000, and (2^32 - 1) MiB * 315,619,200 s * 1.
    assert_eq!(bill.lines[0].amount.to_string(), "315619200000000000.00");
    assert_eq!(bill.lines[1].amount.to_string(), "1355574141674064000.00");
}

fn kinds() -> impl Strategy<Value = MeterKind> {
    select(vec![MeterKind::Run, MeterKind::Pull])
}

prop_compose! {
    fn any_interval()(
        start in LEAP - 500..LEAP + 500,
        length in 0_i64..400,
        open in any::<bool>(),
        proof in -1_000_000_000_i64..1_000_000_000,
        kind in kinds(),
        cpu in 10_u32..64_000,
        memory in 4_u32..262_144,
    ) -> Interval {
        Interval {
            kind,
            cpu: CpuMillis::new(cpu),
            memory: MemoryMib::new(memory),
            proved_until: Timestamp::from_micros(LEAP * 1_000_000 + proof),
            ..interval(start, (!open).then_some(start + length))
        }
    }
}

/// What happens to a meter between two moments.
#[derive(Debug, Clone, Copy)]
enum Command {
    Start(u32),
    Stop(u32),
    /// The agent's proof arrives.
    Prove,
    /// The node goes silent: whatever ran is closed at the last proof.
    Silence,
}

fn any_command() -> impl Strategy<Value = (i64, Command)> {
    let which = 0_u32..3;
    let command = prop_oneof![
        3 => which.clone().prop_map(Command::Start),
        2 => which.prop_map(Command::Stop),
        5 => Just(Command::Prove),
        1 => Just(Command::Silence),
    ];
    // Within a second, at its very edge, and over several.
    (prop_oneof![0_i64..1_200_000, Just(1_000_000), Just(0), 0_i64..9_000_000], command)
}

/// Intervals as the store keeps them: opened and closed at floored moments, an open one carrying its node's last proof.
#[derive(Default)]
struct Ledger(Vec<Interval>);

impl Ledger {
    fn open_of(&mut self, number: u32) -> Option<&mut Interval> {
        self.0.iter_mut().find(|known| known.instance == instance(number) && known.end_second.is_none())
    }

    fn start(&mut self, number: u32, at: i64, proof: i64) {
        if self.open_of(number).is_none() {
            let proved_until = Timestamp::from_micros(proof);
            let start = Timestamp::from_micros(at).grid_second();
            let opened = Interval { instance: instance(number), proved_until, ..interval(start, None) };
            self.0.push(opened);
        }
    }

    fn stop(&mut self, number: u32, at: i64) {
        if let Some(open) = self.open_of(number) {
            open.end_second = Some(Timestamp::from_micros(at).grid_second().max(open.start_second));
        }
    }

    fn prove(&mut self, at: i64) {
        for known in &mut self.0 {
            known.proved_until = Timestamp::from_micros(at);
        }
    }
}

proptest! {
    /// P1: what is charged is exactly the set of seconds at whose end the instance provably ran, each once, however the
    /// seconds are asked for. The model keeps moments and knows nothing of intervals.
    #[test]
    fn charged_seconds_are_the_model_set(commands in vec(any_command(), 1..60), cut in 0_i64..120) {
        let mut now = LEAP * 1_000_000;
        let (mut ledger, mut proof) = (Ledger::default(), now);
        // (instance, from, to) in microseconds; `to` is the last moment known to have been lived through.
        let mut lived: Vec<(u32, i64, i64)> = Vec::new();
        let mut running: std::collections::BTreeMap<u32, i64> = std::collections::BTreeMap::new();
        for (elapsed, command) in commands {
            now += elapsed;
            match command {
                Command::Start(number) => {
                    running.entry(number).or_insert(now);
                    ledger.start(number, now, proof);
                }
                Command::Stop(number) => {
                    lived.extend(running.remove(&number).map(|from| (number, from, now)));
                    ledger.stop(number, now);
                }
                Command::Prove => {
                    proof = now;
                    ledger.prove(now);
                }
                Command::Silence => {
                    for (number, from) in std::mem::take(&mut running) {
                        lived.push((number, from, proof));
                        ledger.stop(number, proof);
                    }
                }
            }
        }
        lived.extend(running.into_iter().map(|(number, from)| (number, from, proof)));
        let mut model = BTreeSet::new();
        for (number, from, to) in lived {
            let ends_of_seconds = (LEAP..=now / 1_000_000).filter(|second| {
                let end = (second + 1) * 1_000_000;
                from < end && end <= to
            });
            model.extend(ends_of_seconds.map(|second| (instance(number), second)));
        }

        let mut charged = BTreeSet::new();
        for window in [Window::new(LEAP, LEAP + cut), Window::new(LEAP + cut, i64::MAX)] {
            let bill = cost_of(&ledger.0, &books(), window, Timestamp::from_micros(now)).unwrap();
            for line in bill.lines.iter().filter(|line| line.resource == Resource::Cpu) {
                prop_assert_eq!(line.to_second - line.from_second, line.seconds);
                for second in line.from_second..line.to_second {
                    prop_assert!(charged.insert((line.instance, second)), "second {} is charged twice", second);
                }
            }
        }
        prop_assert_eq!(charged, model);
    }

    /// P5: cutting an interval, or the window, at any second changes no total.
    #[test]
    fn splitting_changes_no_total(whole in any_interval(), cut in LEAP - 600..LEAP + 1_000, now in LEAP - 600..LEAP + 1_000) {
        let now = Timestamp::from_seconds(now);
        let cost = |intervals: &[Interval], window| cost_of(intervals, &books(), window, now).unwrap().total;
        let total = cost(std::slice::from_ref(&whole), Window::ALWAYS);
        let (before, after) = (Window::new(i64::MIN, cut), Window::new(cut, i64::MAX));
        let parts = cost(std::slice::from_ref(&whole), before) + cost(std::slice::from_ref(&whole), after);
        prop_assert_eq!(parts, total);

        let covered = whole.covered(now);
        let cut = cut.clamp(covered.from_second, covered.to_second);
        let first = Interval { end_second: Some(cut), ..whole.clone() };
        let second = Interval { start_second: cut, number: 2, ..whole };
        prop_assert_eq!(cost(&[first, second], Window::ALWAYS), total);
    }

    /// P6: hours, days and months add up to the whole, over leap days, ends of months and years.
    #[test]
    fn calendar_slices_add_up(start in 0_i64..400 * 86_400, length in 0_i64..130 * 86_400, zone_year in 2023_i16..2025) {
        let second_of = |year, month| date(year, month, 1).to_zoned(TimeZone::UTC).unwrap().timestamp().as_second();
        let first = second_of(zone_year, 1);
        let whole = [interval(first + start, Some(first + start + length))];
        let total = bill(&whole, Window::ALWAYS).total;
        let months = (zone_year..zone_year + 3).flat_map(|year| (1..=12).map(move |month| second_of(year, month)));
        let even = |step: i64| (0..=532 * 86_400 / step).map(move |number| first + number * step).collect::<Vec<_>>();
        for bounds in [months.collect::<Vec<_>>(), even(86_400), even(3_600)] {
            let slices = bounds.windows(2).map(|pair| bill(&whole, Window::new(pair[0], pair[1])));
            let (mut sum, mut seconds) = (PicoAmount(0), 0);
            for slice in slices {
                sum = sum + slice.total;
                seconds += slice.lines.first().map_or(0, |line| line.seconds);
            }
            prop_assert_eq!(sum, total);
            prop_assert_eq!(seconds, length);
        }
    }

    /// P9: each line is price times quantity, and the sum of the lines is price times the sum of the quantities.
    #[test]
    fn products_and_sums_are_exact(intervals in vec(any_interval(), 0..20), now in LEAP - 600..LEAP + 1_000) {
        let bill = cost_of(&intervals, &books(), Window::ALWAYS, Timestamp::from_seconds(now)).unwrap();
        for line in &bill.lines {
            prop_assert_eq!(i128::from(line.size) * i128::from(line.seconds), i128::from(line.quantity));
            prop_assert_eq!(i128::from(line.quantity) * i128::from(line.unit_price_pico), line.amount.0);
            prop_assert!(line.seconds > 0 && line.amount.0 > 0);
        }
        let by_sums = bill.quantity(MeterKind::Run, Resource::Cpu) * 10_007
            + bill.quantity(MeterKind::Run, Resource::Memory) * 1_013
            + bill.quantity(MeterKind::Pull, Resource::Cpu) * 101
            + bill.quantity(MeterKind::Pull, Resource::Memory) * 11;
        prop_assert_eq!(bill.total.0, by_sums);
    }

    /// P14: what covers no grid second is no line, and nothing is ever negative, whatever the clock says.
    #[test]
    fn no_second_no_line(known in any_interval(), from in LEAP - 600..LEAP + 1_000, length in -50_i64..50, now in any::<i64>()) {
        let now = Timestamp::from_micros(now);
        let window = Window::new(from, from + length);
        let quantity = known.quantity(window, now).unwrap();
        let lines = rate(&known, &books(), window, now).unwrap();
        prop_assert!(quantity.seconds >= 0 && quantity.seconds <= length.max(0));
        prop_assert_eq!(quantity == Quantity::default(), quantity.seconds == 0);
        prop_assert_eq!(lines.len(), if quantity.seconds == 0 { 0 } else { 2 });
        let flash = Interval { end_second: Some(known.start_second), ..known };
        prop_assert_eq!(rate(&flash, &books(), Window::ALWAYS, now).unwrap(), vec![]);
    }
}
