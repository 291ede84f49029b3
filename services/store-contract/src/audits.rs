//! Who entered an instance: begun, ended once, kept beyond the instance, forgotten after its time.

use wherry_model::{AuditId, InstanceId, ReplicaId};
use wherry_store::{AuditEnd, AuditKind, AuditOutcome, AuditQuery, AuditRecord};

use crate::world::{at, main_container, name};
use crate::{Subject, World};

fn entry(world: &World, instance: InstanceId, second: i64) -> AuditRecord {
    AuditRecord {
        id: AuditId::from_uuid(world.uuid()),
        tenant: world.tenant,
        project: world.project,
        instance,
        name: name("web"),
        kind: AuditKind::Exec,
        container: Some(main_container()),
        command: vec!["sh".to_owned(), "-c".to_owned(), "echo \"caf\u{e9}\"".to_owned()],
        port: None,
        actor: "key:1".to_owned(),
        replica: ReplicaId::from_uuid(world.uuid()),
        begun_at: at(second),
        end: None,
    }
}

fn end(second: i64, exit_code: i32) -> AuditEnd {
    let (bytes_in, bytes_out) = (1 << 40, 7);
    AuditEnd { at: at(second), outcome: AuditOutcome::Ended, exit_code: Some(exit_code), bytes_in, bytes_out }
}

fn all(world: &World) -> AuditQuery {
    AuditQuery { of: Some((world.tenant, world.project)), instance: None, before: None, limit: 100 }
}

/// As given, with its end as given, also after reopening.
pub async fn an_entry_is_kept_as_given(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let program = entry(&world, InstanceId::from_uuid(world.uuid()), 1);
    let port = AuditRecord {
        kind: AuditKind::PortForward,
        container: None,
        command: Vec::new(),
        port: Some(8080),
        ..entry(&world, program.instance, 2)
    };
    for record in [&program, &port] {
        world.store.begin_audit(record).await.unwrap();
    }
    assert_eq!(world.store.audits(&all(&world)).await.unwrap(), [port.clone(), program.clone()]);
    assert!(world.store.end_audit(program.id, &end(3, -1)).await.unwrap());
    subject.reopen().await;
    let ended = AuditRecord { end: Some(end(3, -1)), ..program };
    assert_eq!(subject.store().audits(&all(&world)).await.unwrap(), [port, ended]);
}

/// An end that was written stays; what was never begun has none.
pub async fn an_entry_ends_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let record = entry(&world, InstanceId::from_uuid(world.uuid()), 1);
    assert!(!world.store.end_audit(record.id, &end(2, 0)).await.unwrap());
    world.store.begin_audit(&record).await.unwrap();
    assert!(world.store.end_audit(record.id, &end(2, 0)).await.unwrap());
    assert!(!world.store.end_audit(record.id, &end(3, 1)).await.unwrap());
    let stored = world.store.audits(&all(&world)).await.unwrap();
    assert_eq!(stored, [AuditRecord { end: Some(end(2, 0)), ..record.clone() }]);
    world.store.begin_audit(&record).await.expect_err("an id is used once");
}

/// Newest first, in pages of any size, and nobody's but who asks; all of them for the operator.
pub async fn entries_come_in_pages_to_whom_they_belong(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (other, stranger) = (world.with_project("other").await, world.with_tenant("blue").await);
    let (first, second) = (InstanceId::from_uuid(world.uuid()), InstanceId::from_uuid(world.uuid()));
    let mut written = Vec::new();
    for number in 0..7 {
        let instance = if number % 2 == 0 { first } else { second };
        written.push(entry(&world, instance, number));
    }
    let foreign = [entry(&other, first, 8), entry(&stranger, first, 9)];
    for record in written.iter().chain(&foreign) {
        world.store.begin_audit(record).await.unwrap();
    }
    written.sort_by_key(|audit| std::cmp::Reverse(audit.id));
    for limit in [1, 3, 7, 100] {
        let mut walked: Vec<AuditRecord> = Vec::new();
        loop {
            let before = walked.last().map(|record| record.id);
            let page = world.store.audits(&AuditQuery { before, limit, ..all(&world) }).await.unwrap();
            assert!(page.len() <= usize::try_from(limit).unwrap());
            if page.is_empty() {
                break;
            }
            walked.extend(page);
        }
        assert_eq!(walked, written, "pages of {limit}");
    }
    let of_first = world.store.audits(&AuditQuery { instance: Some(first), ..all(&world) }).await.unwrap();
    assert_eq!(of_first, written.iter().filter(|record| record.instance == first).cloned().collect::<Vec<_>>());
    assert_eq!(world.store.audits(&all(&stranger)).await.unwrap(), foreign[1..]);
    let whole = AuditQuery { of: None, ..all(&world) };
    assert_eq!(world.store.audits(&whole).await.unwrap().len(), 9);
    let whole_of_first = world.store.audits(&AuditQuery { instance: Some(first), ..whole }).await.unwrap();
    assert_eq!(whole_of_first.len(), 6);
}

/// An entry outlives its instance, and goes after its own time, ended or not, a bounded number at once.
pub async fn entries_are_forgotten_after_their_time(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(10).await;
    let gone = world.deleted(&world.instance("old", node, 1).await, 2).await;
    let records: Vec<AuditRecord> = (3..8).map(|second| entry(&world, gone.id, second)).collect();
    for record in &records {
        world.store.begin_audit(record).await.unwrap();
    }
    assert!(world.store.purge(at(1_000), 100).await.unwrap() >= 1);
    assert_eq!(world.store.audits(&all(&world)).await.unwrap().len(), 5);
    assert_eq!(world.store.purge_audits(at(3), 100).await.unwrap(), 0);
    assert_eq!(world.store.purge_audits(at(7), 3).await.unwrap(), 3);
    assert_eq!(world.store.purge_audits(at(7), 3).await.unwrap(), 1);
    assert_eq!(world.store.audits(&all(&world)).await.unwrap(), records[4..]);
}
