//! Creates and proofs of life that come together share statements, and none of them notices.

use sqlx::ConnectOptions;
use tokio::task::JoinHandle;
use wherry_model::{NodeId, Timestamp};
use wherry_store::{CreateOutcome, LifeOutcome, Placed};
use wherry_store_contract::{World, invariants};

use crate::support::{SqliteSubject, raw};

const ROOM: u32 = 4;

fn keyed(mut placed: Placed, key: &str, fingerprint: u8) -> Placed {
    placed.idempotency = Some((key.to_owned(), [fingerprint; 32]));
    placed
}

async fn together(world: &World, creates: Vec<Placed>) -> Vec<CreateOutcome> {
    let asked = creates.into_iter().map(|placed| {
        let store = world.store.clone();
        tokio::spawn(async move { store.place_and_create(&placed).await.expect("the store answers") })
    });
    in_order(asked.collect()).await
}

async fn in_order<T>(asked: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut outcomes = Vec::new();
    for one in asked {
        outcomes.push(one.await.expect("nothing panics"));
    }
    outcomes
}

#[tokio::test]
async fn creates_that_come_together_are_all_made() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let (one, other) = (world.node_for(100).await, world.node_for(100).await);
    let before = [world.node(one).await.desired_revision, world.node(other).await.desired_revision];
    let place = |number: u32| if number.is_multiple_of(3) { other } else { one };
    let create = |number: u32| {
        let placed = world.create_with(&format!("web-{number}"), place(number), i64::from(number), |spec| {
            spec.labels.insert("app".to_owned(), "web".to_owned());
        });
        if number.is_multiple_of(2) { keyed(placed, &format!("key-{number}"), 1) } else { placed }
    };
    let outcomes = together(&world, (0..60).map(create).collect()).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, CreateOutcome::Created(_))), "{outcomes:?}");
    assert_eq!([world.used(one).await, world.used(other).await], [40, 20]);
    assert_eq!(world.events().await.len(), 60);
    assert!(world.node(one).await.desired_revision > before[0] && world.node(other).await.desired_revision > before[1]);
    // Each is found under its key, and by whoever follows changes.
    let again = together(&world, (0..60).filter(|number| number % 2 == 0).map(create).collect()).await;
    assert!(again.iter().all(|outcome| matches!(outcome, CreateOutcome::Replayed(_))), "{again:?}");
    invariants::check(&world.store).await.unwrap();
}

#[tokio::test]
async fn each_of_several_creates_gets_its_own_answer() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let (node, full) = (world.node_for(ROOM).await, world.node_for(0).await);
    world.instance("there", node, 1).await;
    let creates = vec![
        keyed(world.create("first", node, 2), "key", 1),
        keyed(world.create("second", node, 2), "key", 1),
        keyed(world.create("third", node, 2), "key", 2),
        world.create("there", node, 2),
        world.create("fourth", full, 2),
        world.create("first", node, 2),
        world.create("fifth", node, 2),
    ];
    let outcomes = together(&world, creates).await;
    let name = |outcome: &CreateOutcome| match outcome {
        CreateOutcome::Created(_) => "created",
        CreateOutcome::Replayed(_) => "replayed",
        CreateOutcome::KeyReused => "key reused",
        CreateOutcome::NameTaken => "name taken",
        CreateOutcome::NodeRefused => "refused",
        CreateOutcome::DnsNameTaken => "dns name taken",
    };
    let names: Vec<&str> = outcomes.iter().map(name).collect();
    assert_eq!(names, ["created", "replayed", "key reused", "name taken", "refused", "name taken", "created"]);
    assert_eq!((world.used(node).await, world.used(full).await, world.events().await.len()), (3, 0, 3));
    invariants::check(&world.store).await.unwrap();
}

#[tokio::test]
async fn proofs_of_life_that_come_together_all_count() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let mut nodes: Vec<NodeId> = Vec::new();
    for _ in 0..40 {
        nodes.push(world.node_for(1).await);
    }
    let at = Timestamp::from_seconds(2_000_000);
    let before = world.node(nodes[0]).await.heartbeats;
    // Of one node two, of one that is not there one, of one in an epoch that is not its one.
    let mut asked: Vec<(NodeId, u64)> = nodes.iter().map(|node| (*node, 0)).collect();
    asked.extend([(nodes[0], 0), (NodeId::from_uuid(world.uuid()), 0), (nodes[1], 7)]);
    let proofs = asked.into_iter().map(|(node, epoch)| {
        let store = world.store.clone();
        tokio::spawn(async move { store.prove_life(node, at, epoch).await.unwrap() })
    });
    let outcomes = in_order(proofs.collect()).await;
    let (taken, others) = outcomes.split_at(41);
    assert!(taken.iter().all(|outcome| matches!(outcome, LifeOutcome::Taken { .. })), "{taken:?}");
    assert_eq!(others, [LifeOutcome::Unknown, LifeOutcome::Fenced { epoch: 0 }]);
    let counts = [world.node(nodes[0]).await.heartbeats, world.node(nodes[1]).await.heartbeats];
    assert_eq!(counts, [before + 2, before + 1]);
    assert_eq!(world.node(nodes[39]).await.proof_at, at);
}

/// A full disk ends a transaction like this: what is told is that, and not that its savepoints are gone.
#[tokio::test]
async fn what_ended_the_transaction_of_several_creates_is_told_to_each() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(100).await;
    let mut stranger = raw(&subject.path()).connect().await.unwrap();
    let trigger =
        "CREATE TRIGGER planted BEFORE INSERT ON events BEGIN SELECT RAISE(ROLLBACK, 'the planted cause'); END";
    sqlx::query(trigger).execute(&mut stranger).await.unwrap();
    let asked = (0..20).map(|number| world.create(&format!("web-{number}"), node, 1)).map(|placed| {
        let store = world.store.clone();
        tokio::spawn(async move { store.place_and_create(&placed).await.unwrap_err() })
    });
    for error in in_order(asked.collect()).await {
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        let told: Vec<String> = causes.map(ToString::to_string).collect();
        assert!(told.iter().any(|cause| cause.contains("the planted cause")), "{told:?}");
    }
    sqlx::query("DROP TRIGGER planted").execute(&mut stranger).await.unwrap();
    assert_eq!(world.used(node).await, 0);
    world.instance("after", node, 2).await;
    invariants::check(&world.store).await.unwrap();
}
