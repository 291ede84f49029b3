//! Reports: what a batch of observations changes is stored exactly once, with its acknowledgement.

use tokio::task::JoinSet;
use wherry_model::Fact;
use wherry_model::lifecycle::Ask;
use wherry_store::ReportOutcome;

use crate::world::{asked, exited, seen, started};
use crate::{Subject, World, invariants};

/// The same batch again, or one that overlaps it, is told how far the journal is stored, and stores nothing.
pub async fn a_report_is_applied_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, journal) = (world.node_for(5).await, world.journal());
    assert_eq!(world.store.acknowledged(node, journal).await.unwrap(), 0);
    let changes = [seen(&world.instance("web", node, 1).await, 2, started(1, 2))];
    let report = |after, through| world.store.apply_report(node, journal, after, through, &changes, &[]);
    assert_eq!(report(0, 3).await.unwrap(), ReportOutcome::Applied(3));
    let events = world.events().await;
    assert_eq!(events.len(), 2);
    for (after, through) in [(0, 3), (0, 9), (2, 5), (9, 12)] {
        assert_eq!(report(after, through).await.unwrap(), ReportOutcome::Superseded(3), "{after} to {through}");
    }
    assert_eq!(world.events().await, events);
    assert_eq!(world.store.acknowledged(node, journal).await.unwrap(), 3);
    assert_eq!(world.intervals(changes[0].after.id).await.len(), 1);
}

/// A start and an end of one instance in one batch: the second is computed from the first.
pub async fn changes_of_a_report_build_on_each_other(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, journal) = (world.node_for(5).await, world.journal());
    let begun = seen(&world.instance("web", node, 1).await, 2, started(1, 2));
    let ended = seen(&begun.after, 7, exited(1, 2, 7, 0));
    let gone = seen(&ended.after, 8, Fact::SandboxStopped);
    let outcome = world.store.apply_report(node, journal, 0, 3, &[begun, ended, gone.clone()], &[]).await.unwrap();
    assert_eq!(outcome, ReportOutcome::Applied(3));
    assert_eq!(world.read(gone.after.id).await, gone.after);
    let intervals = world.intervals(gone.after.id).await;
    assert_eq!(intervals.iter().map(|i| i.end_second.unwrap() - i.start_second).collect::<Vec<_>>(), [5]);
    assert_eq!(world.used(node).await, 0);
    invariants::check(&world.store).await.unwrap();
}

/// If one change comes too late, the others of the batch are not stored either, and nothing is acknowledged.
pub async fn a_report_is_all_or_nothing(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, journal) = (world.node_for(5).await, world.journal());
    let (first, second) = (world.instance("a", node, 1).await, world.instance("b", node, 1).await);
    let batch = [seen(&first, 2, started(1, 2)), seen(&second, 2, started(1, 2))];
    let stopping = world.applied(asked(&second, Ask::Stop, 2)).await;
    let events = world.events().await;
    let outcome = world.store.apply_report(node, journal, 0, 2, &batch, &[]).await.unwrap();
    assert_eq!(outcome, ReportOutcome::LostRace);
    assert_eq!((world.read(first.id).await, world.read(second.id).await), (first.clone(), stopping.clone()));
    assert_eq!((world.events().await, world.intervals(first.id).await), (events, Vec::new()));
    assert_eq!(world.store.acknowledged(node, journal).await.unwrap(), 0);
    // Computed again from what is there now, the same facts are stored.
    let again = [seen(&first, 2, started(1, 2)), seen(&stopping, 2, started(1, 2))];
    let outcome = world.store.apply_report(node, journal, 0, 2, &again, &[]).await.unwrap();
    assert_eq!(outcome, ReportOutcome::Applied(2));
    invariants::check(&world.store).await.unwrap();
}

/// An agent that sends again after a restart of the control plane is not believed twice.
pub async fn acknowledgements_survive_reopening(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, journal) = (world.node_for(5).await, world.journal());
    let changes = [seen(&world.instance("web", node, 1).await, 2, started(1, 2))];
    world.store.apply_report(node, journal, 0, 4, &changes, &[]).await.unwrap();
    subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.acknowledged(node, journal).await.unwrap(), 4);
    let again = store.apply_report(node, journal, 0, 4, &changes, &[]).await.unwrap();
    assert_eq!(again, ReportOutcome::Superseded(4));
}

/// Another journal of the node, and the same journal id of another node, begin at 0.
pub async fn journals_are_apart(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, other, journal) = (world.node_for(5).await, world.node_for(5).await, world.journal());
    assert_eq!(world.store.apply_report(node, journal, 0, 8, &[], &[]).await.unwrap(), ReportOutcome::Applied(8));
    for (node, journal) in [(node, world.journal()), (other, journal)] {
        assert_eq!(world.store.acknowledged(node, journal).await.unwrap(), 0);
        assert_eq!(world.store.apply_report(node, journal, 0, 2, &[], &[]).await.unwrap(), ReportOutcome::Applied(2));
    }
    assert_eq!(world.store.acknowledged(node, journal).await.unwrap(), 8);
}

/// The same batch sent many times at once.
pub async fn of_racing_reports_one_is_applied(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, journal) = (world.node_for(5).await, world.journal());
    let change = seen(&world.instance("web", node, 1).await, 2, started(1, 2));
    let mut tasks = JoinSet::new();
    for _ in 0..12 {
        let (store, change) = (world.store.clone(), change.clone());
        tasks.spawn(async move { store.apply_report(node, journal, 0, 1, &[change], &[]).await.unwrap() });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == ReportOutcome::Applied(1)).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == ReportOutcome::Superseded(1)).count(), 11);
    assert_eq!(world.events().await.len(), 2);
}

/// Facts that change nothing are acknowledged all the same.
pub async fn a_report_that_changes_nothing_is_acknowledged(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, journal) = (world.node_for(5).await, world.journal());
    assert_eq!(world.store.apply_report(node, journal, 0, 5, &[], &[]).await.unwrap(), ReportOutcome::Applied(5));
    assert_eq!(world.store.acknowledged(node, journal).await.unwrap(), 5);
    assert_eq!(world.store.apply_report(node, journal, 5, 6, &[], &[]).await.unwrap(), ReportOutcome::Applied(6));
}
