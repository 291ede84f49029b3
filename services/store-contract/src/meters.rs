//! Intervals and price books.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use wherry_model::lifecycle::{MeterEdge, MeterKind};
use wherry_model::{Fact, Instance, PriceBook, Timestamp};
use wherry_store::{Applied, NameOutcome, PriceBookOutcome, ProjectRecord, StoreError, TenantRecord, UsageQuery};

use crate::world::{at, edges, exited, main_container, seen, started};
use crate::{Subject, World};

const fn open(kind: MeterKind, at: Timestamp) -> MeterEdge {
    MeterEdge::Open { kind, at, late: false }
}

const fn close(kind: MeterKind, at: Timestamp) -> MeterEdge {
    MeterEdge::Close { kind, at }
}

/// All that a bill needs, and while it is open the node's last proof of life.
pub async fn an_interval_opens_and_closes_with_its_change(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    let pulling = world.applied(seen(&made, 2, Fact::PullStarted { container: main_container() })).await;
    let running = world.applied(seen(&pulling, 6, started(1, 6))).await;
    world.store.prove_life(node, at(9), 0).await.unwrap();
    let by_kind = |kind| {
        let world = world.clone();
        async move { world.intervals(made.id).await.into_iter().find(|interval| interval.kind == kind).unwrap() }
    };
    let run = by_kind(MeterKind::Run).await;
    assert_eq!((run.instance, &run.name, run.tenant, run.project), (made.id, &made.name, made.tenant, made.project));
    assert_eq!((run.number, run.generation, run.late), (1, made.generation, false));
    let demand = made.spec.demand();
    assert_eq!((run.cpu, run.memory, run.price_book.as_str()), (demand.cpu, demand.memory, "default-1"));
    assert_eq!((run.start_second, run.end_second), (at(6).grid_second(), None));
    assert_eq!(run.proved_until, at(9));
    let pull = by_kind(MeterKind::Pull).await;
    assert_eq!((pull.start_second, pull.number), (at(2).grid_second(), 1));
    world.store.prove_life(node, at(12), 0).await.unwrap();
    assert_eq!(by_kind(MeterKind::Run).await.proved_until, at(12));

    world.applied(seen(&running, 15, exited(1, 6, 15, 0))).await;
    subject.reopen().await;
    let world = world.on(subject);
    let intervals = world.intervals(made.id).await;
    assert_eq!(intervals.len(), 2);
    assert!(intervals.iter().all(|interval| interval.end_second == Some(at(15).grid_second())), "{intervals:?}");
}

/// Both ends are floored; what begins and ends in one grid second covers nothing and is not on the bill; what is
/// opened "before" the end of the last one begins there.
pub async fn an_interval_of_one_second_or_less_covers_the_grid(subject: &mut impl Subject) {
    use MeterKind::Run;
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    let micros = |micros| Timestamp::from_micros(at(0).as_micros() + micros);
    let meter = vec![
        open(Run, micros(999_999)),
        close(Run, micros(2_000_000)),
        open(Run, micros(2_100_000)),
        close(Run, micros(2_900_000)),
        open(Run, micros(2_950_000)),
        close(Run, micros(4_000_001)),
        open(Run, micros(1_000_000)),
        close(Run, micros(500_000)),
        open(Run, micros(3_000_000)),
        close(Run, micros(6_500_000)),
    ];
    world.applied(edges(&made, meter)).await;
    let zero = at(0).grid_second();
    let covered: Vec<_> = world
        .intervals(made.id)
        .await
        .iter()
        .map(|interval| (interval.number, interval.start_second - zero, interval.end_second.unwrap() - zero))
        .collect();
    assert_eq!(covered, [(1, 0, 2), (3, 2, 4), (5, 4, 6)]);
}

/// Half-open on both sides; an open interval goes on for ever.
pub async fn a_window_finds_what_covers_it(subject: &mut impl Subject) {
    use MeterKind::Run;
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    world.applied(edges(&made, vec![open(Run, at(10)), close(Run, at(20)), open(Run, at(30))])).await;
    let zero = at(0).grid_second();
    let cases: [(i64, i64, &[u32]); 8] = [
        (0, 10, &[]),
        (0, 11, &[1]),
        (19, 20, &[1]),
        (20, 30, &[]),
        (20, 31, &[2]),
        (0, 100, &[1, 2]),
        (12, 13, &[1]),
        (1_000_000, 1_000_001, &[2]),
    ];
    for (from, to, wanted) in cases {
        let query = UsageQuery { from_second: zero + from, to_second: zero + to, ..world.usage() };
        let found: Vec<_> = world.store.intervals(&query).await.unwrap().iter().map(|i| i.number).collect();
        assert_eq!(found, wanted, "{from} to {to}");
    }
}

/// Pages of any size give the same as one large page; instances ascend.
pub async fn intervals_come_in_pages(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let other = world.with_project("billing").await;
    let node = world.node_for(50).await;
    for number in 0..4_i64 {
        let view = if number == 2 { &other } else { &world };
        let mut made = view.instance(&format!("web-{number}"), node, number).await;
        for round in 0..3_i64 {
            let kinds = [MeterKind::Run, MeterKind::Pull];
            let meter =
                kinds.into_iter().flat_map(|kind| [open(kind, at(round * 10)), close(kind, at(round * 10 + 5))]);
            made = view.applied(edges(&made, meter.collect())).await;
        }
    }
    for (project, wanted) in [(None, 24), (Some(world.project), 18), (Some(other.project), 6)] {
        let all = world.store.intervals(&UsageQuery { project, ..world.usage() }).await.unwrap();
        assert_eq!(all.len(), wanted);
        assert!(all.is_sorted_by_key(|interval| interval.instance));
        for limit in [1, 5, 24] {
            let mut walked: Vec<wherry_metering::Interval> = Vec::new();
            loop {
                let after = walked.last().map(|last| (last.instance, last.kind, last.number));
                let query = UsageQuery { project, after, limit, ..world.usage() };
                let page = world.store.intervals(&query).await.unwrap();
                assert!(page.len() <= usize::try_from(limit).unwrap());
                if page.is_empty() {
                    break;
                }
                walked.extend(page);
            }
            assert_eq!(walked, all, "pages of {limit}");
        }
    }
}

/// A second open and a close of what is not open are bugs of the caller: an error, and nothing of the change is stored.
pub async fn edges_out_of_turn_are_refused(subject: &mut impl Subject) {
    use MeterKind::{Pull, Run};
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    let begun = world.applied(edges(&made, vec![open(Run, at(10))])).await;
    let before = (world.read(made.id).await, world.intervals(made.id).await);
    for meter in [
        vec![open(Run, at(20))],
        vec![close(Pull, at(20))],
        vec![open(Pull, at(20)), close(Run, at(20)), close(Run, at(21))],
    ] {
        let refused = world.store.apply(&edges(&begun, meter)).await;
        assert!(matches!(refused, Err(StoreError::Violation { .. })), "{refused:?}");
        assert_eq!((world.read(made.id).await, world.intervals(made.id).await), before);
    }
}

/// The book that was put last rates new intervals, also when it is an older one; a stored one stays as it is.
pub async fn price_books_never_change(subject: &mut impl Subject) {
    use MeterKind::Run;
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let first = PriceBook::default_book();
    let second = PriceBook { id: "summer".to_owned(), cpu_pico_per_milli_second: 20_000, ..first.clone() };
    let made = world.instance("web", node, 1).await;
    let made = world.applied(edges(&made, vec![open(Run, at(10))])).await;
    world.store.put_price_book(&second).await.unwrap();
    let made = world.applied(edges(&made, vec![close(Run, at(20)), open(Run, at(20))])).await;
    let tampered = PriceBook { cpu_pico_per_milli_second: 1, ..first.clone() };
    assert_eq!(world.store.put_price_book(&tampered).await.unwrap(), PriceBookOutcome::Differs);
    subject.reopen().await;
    let world = world.on(subject);
    let made = world.applied(edges(&made, vec![close(Run, at(30)), open(Run, at(30))])).await;
    assert_eq!(world.store.put_price_book(&first).await.unwrap(), PriceBookOutcome::Current);
    world.applied(edges(&made, vec![close(Run, at(40)), open(Run, at(40))])).await;
    assert_eq!(world.store.price_book(&first.id).await.unwrap(), Some(first));
    assert_eq!(world.store.price_book(&second.id).await.unwrap(), Some(second));
    assert_eq!(world.store.price_book("unknown").await.unwrap(), None);
    let books: Vec<_> = world.intervals(made.id).await.into_iter().map(|interval| interval.price_book).collect();
    assert_eq!(books, ["default-1", "summer", "summer", "default-1"]);
    let sums = world.store.metered(world.tenant, &[made.id]).await.unwrap();
    let mut sums: Vec<_> =
        sums.iter().map(|sum| (sum.price_book.as_str(), sum.number, sum.start_second, sum.end_second)).collect();
    sums.sort_unstable();
    assert_eq!(
        sums,
        [("default-1", 0, 0, Some(10)), ("default-1", 4, at(40).grid_second(), None), ("summer", 0, 0, Some(20))]
    );
    assert_eq!(world.store.metered(world.with_tenant("other").await.tenant, &[made.id]).await.unwrap(), []);
}

/// Time without a price is an error that says so, and leaves nothing.
pub async fn nothing_is_metered_without_a_price_book(subject: &mut impl Subject) {
    // This case wants a database without a book, so it makes its tenant by itself.
    let store = subject.store();
    let (tenant, project) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    let tenant = TenantRecord {
        id: wherry_model::TenantId::from_uuid(tenant),
        name: wherry_model::TenantName::new("bare").unwrap(),
        created_at: at(0),
    };
    let project = ProjectRecord {
        id: wherry_model::ProjectId::from_uuid(project),
        tenant: tenant.id,
        name: wherry_model::ProjectName::default_project(),
        created_at: at(0),
    };
    assert_eq!(store.create_tenant(&tenant, &project).await.unwrap(), NameOutcome::Created);
    let world = World::bare(subject.store(), tenant.id, project.id);
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    let change = seen(&made, 2, started(1, 2));
    let refused = store.apply(&change).await;
    assert!(matches!(refused, Err(StoreError::Violation { .. })), "{refused:?}");
    assert_eq!(world.read(made.id).await, made);
    store.put_price_book(&PriceBook::default_book()).await.unwrap();
    assert_eq!(store.apply(&change).await.unwrap(), Applied::Yes);
}

/// One attempted edge: which meter, whether it opens, by how many microseconds the clock moved.
type Step = (bool, bool, i64);

/// Whatever edges come, with clocks that jump back too: the intervals cover exactly the seconds that a set of seconds
/// has collected, none twice; an edge out of turn is refused and changes nothing.
pub async fn any_edges_cover_what_a_set_of_seconds_covers(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(100_000).await;
    let handle = Handle::current();
    let checked = tokio::task::spawn_blocking(move || {
        let steps = prop::collection::vec((any::<bool>(), prop::bool::weighted(0.5), -2_500_000_i64..6_000_000), 1..40);
        let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
        let numbers = Cell::new(0);
        runner.run(&steps, |steps| {
            let number = numbers.replace(numbers.get() + 1);
            handle.block_on(async {
                let made = world.instance(&format!("web-{number}"), node, 1).await;
                compare(&world, made, &steps).await;
            });
            Ok(())
        })
    });
    checked.await.unwrap().unwrap();
}

/// What one meter has covered so far.
#[derive(Default)]
struct Model {
    open_since: Option<i64>,
    last_end: Option<i64>,
    seconds: BTreeSet<i64>,
}

async fn compare(world: &World, mut instance: Instance, steps: &[Step]) {
    let mut models: BTreeMap<MeterKind, Model> = BTreeMap::new();
    let mut clock = at(100).as_micros();
    for (run, opens, moved) in steps {
        clock += moved;
        let now = Timestamp::from_micros(clock);
        let kind = if *run { MeterKind::Run } else { MeterKind::Pull };
        let model = models.entry(kind).or_default();
        let change = edges(&instance, vec![if *opens { open(kind, now) } else { close(kind, now) }]);
        let outcome = world.store.apply(&change).await;
        if *opens == model.open_since.is_some() {
            assert!(matches!(outcome, Err(StoreError::Violation { .. })), "{change:?}: {outcome:?}");
            continue;
        }
        assert!(matches!(outcome, Ok(Applied::Yes)), "{change:?}: {outcome:?}");
        instance = change.after;
        match model.open_since.take() {
            None => model.open_since = Some(model.last_end.map_or(now.grid_second(), |end| end.max(now.grid_second()))),
            Some(since) => {
                let end = now.grid_second().max(since);
                model.last_end = Some(end);
                model.seconds.extend(since..end);
            }
        }
    }
    let intervals = world.intervals(instance.id).await;
    for (kind, model) in models {
        let of_kind = || intervals.iter().filter(|interval| interval.kind == kind);
        let open: Vec<_> = of_kind().filter(|i| i.end_second.is_none()).map(|i| i.start_second).collect();
        assert_eq!(open, model.open_since.into_iter().collect::<Vec<_>>());
        let covered: Vec<i64> =
            of_kind().filter_map(|i| i.end_second.map(|end| i.start_second..end)).flatten().collect();
        assert_eq!(covered.len(), model.seconds.len(), "a second is billed twice or not at all");
        assert_eq!(covered.into_iter().collect::<BTreeSet<_>>(), model.seconds);
    }
}
