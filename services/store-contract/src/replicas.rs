//! The list of processes that answer for the control plane.

use wherry_model::ReplicaId;
use wherry_store::ReplicaRecord;

use crate::world::at;
use crate::{Subject, World};

fn replica(world: &World, second: i64) -> ReplicaRecord {
    ReplicaRecord { id: ReplicaId::from_uuid(world.uuid()), agents_url: None, seen_at: at(second), form: 1 }
}

/// As they said last, in order of id, also after reopening.
pub async fn replicas_are_listed_as_they_said_last(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    assert_eq!(world.store.replicas().await.unwrap(), []);
    let mut replicas = [replica(&world, 3), replica(&world, 2), replica(&world, 1)];
    replicas[1].agents_url = Some("https://10.0.0.1:7443".to_owned());
    for replica in replicas.iter().rev() {
        world.store.note_replica(replica, at(0)).await.unwrap();
    }
    assert_eq!(world.store.replicas().await.unwrap(), replicas);
    replicas[0] = ReplicaRecord { agents_url: Some("https://10.0.0.2:7443".to_owned()), seen_at: at(9), ..replicas[0] };
    replicas[1].agents_url = None;
    replicas[1].form = 2;
    for replica in &replicas[..2] {
        world.store.note_replica(replica, at(0)).await.unwrap();
    }
    subject.reopen().await;
    assert_eq!(subject.store().replicas().await.unwrap(), replicas);
}

/// Those that were not seen for long, when another is noted; one that stops in order, at once.
pub async fn replicas_are_forgotten(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (old, recent, new) = (replica(&world, 9), replica(&world, 10), replica(&world, 40));
    for replica in [&old, &recent] {
        world.store.note_replica(replica, at(0)).await.unwrap();
    }
    world.store.note_replica(&new, at(10)).await.unwrap();
    assert_eq!(world.store.replicas().await.unwrap(), [recent.clone(), new.clone()]);
    world.store.forget_replica(recent.id).await.unwrap();
    world.store.forget_replica(old.id).await.unwrap();
    assert_eq!(world.store.replicas().await.unwrap(), [new]);
}
