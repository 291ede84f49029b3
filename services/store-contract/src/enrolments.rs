//! Join tokens and enrolments: each token makes one node, however often and by whomever it is used.

use std::net::Ipv4Addr;

use tokio::task::JoinSet;
use wherry_model::{NodeId, TokenId};
use wherry_store::{EnrolOutcome, EnrolmentRecord, JoinTokenRecord, StoreError};

use crate::world::at;
use crate::{Subject, World};

/// What a new node with this name and the range 10.128.`third`.0/24 would be, enrolled at second 0.
pub(crate) fn enrolment(world: &World, name: &str, third: u8) -> EnrolmentRecord {
    EnrolmentRecord {
        node: NodeId::from_uuid(world.uuid()),
        name: name.to_owned(),
        range: (Ipv4Addr::new(10, 128, third, 0), 24),
        created_at: at(0),
        removed_at: None,
    }
}

fn token(world: &World, expires: i64) -> JoinTokenRecord {
    JoinTokenRecord {
        id: TokenId::from_uuid(world.uuid()),
        secret_hash: [7; 32],
        range: None,
        created_at: at(-10),
        expires_at: at(expires),
        used_by: None,
        public_key: None,
    }
}

/// A stored token that works until second `expires`.
pub(crate) async fn stored_token(world: &World, expires: i64) -> TokenId {
    let token = token(world, expires);
    world.store.create_join_token(&token).await.unwrap();
    token.id
}

async fn enrol(world: &World, token: TokenId, key: u8, wanted: &EnrolmentRecord) -> EnrolOutcome {
    world.store.enrol(token, [key; 32], wanted).await.unwrap()
}

/// With a range and without, also after reopening.
pub async fn a_token_is_kept_as_given(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let plain = token(&world, 60);
    let ranged = JoinTokenRecord {
        range: Some((Ipv4Addr::new(255, 255, 255, 0), 24)),
        secret_hash: [255; 32],
        ..token(&world, 90)
    };
    for token in [&plain, &ranged] {
        world.store.create_join_token(token).await.unwrap();
    }
    subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.join_token(plain.id).await.unwrap(), Some(plain));
    assert_eq!(store.join_token(ranged.id).await.unwrap(), Some(ranged));
    assert_eq!(store.join_token(TokenId::from_uuid(world.uuid())).await.unwrap(), None);
}

/// The enrolment, and by whom the token was used: together, and there after reopening.
pub async fn a_token_enrols_one_node(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let token = stored_token(&world, 60).await;
    let made = enrolment(&world, "n1", 1);
    assert_eq!(world.store.enrolment(made.node).await.unwrap(), None);
    assert_eq!(enrol(&world, token, 1, &made).await, EnrolOutcome::Enrolled(made.clone()));
    subject.reopen().await;
    let world = world.on(subject);
    let used = world.store.join_token(token).await.unwrap().unwrap();
    assert_eq!((used.used_by, used.public_key), (Some(made.node), Some([1; 32])));
    assert_eq!(world.store.enrolment(made.node).await.unwrap(), Some(made.clone()));
    // An agent that did not hear the answer asks again, and does not know its id yet.
    assert_eq!(enrol(&world, token, 1, &enrolment(&world, "n1", 9)).await, EnrolOutcome::Again(made.clone()));
    let late = EnrolmentRecord { created_at: at(1_000), ..enrolment(&world, "n1", 9) };
    assert_eq!(enrol(&world, token, 1, &late).await, EnrolOutcome::Again(made.clone()));
    assert_eq!(enrol(&world, token, 2, &enrolment(&world, "n2", 2)).await, EnrolOutcome::TokenRefused);
    assert_eq!(world.store.enrolments().await.unwrap(), [made]);
}

/// From the moment it expires; one that nobody made is refused likewise.
pub async fn an_expired_token_is_refused(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let token = stored_token(&world, 60).await;
    for second in [60, 61, 10_000] {
        let late = EnrolmentRecord { created_at: at(second), ..enrolment(&world, "n1", 1) };
        assert_eq!(enrol(&world, token, 1, &late).await, EnrolOutcome::TokenRefused, "{second}");
    }
    let unknown = TokenId::from_uuid(world.uuid());
    assert_eq!(enrol(&world, unknown, 1, &enrolment(&world, "n1", 1)).await, EnrolOutcome::TokenRefused);
    assert_eq!(world.store.enrolments().await.unwrap(), []);
    let in_time = EnrolmentRecord { created_at: at(59), ..enrolment(&world, "n1", 1) };
    assert_eq!(enrol(&world, token, 1, &in_time).await, EnrolOutcome::Enrolled(in_time.clone()));
}

/// What is refused for its name or range does not use the token. Neighbours touch and do not overlap.
pub async fn names_and_ranges_are_used_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let first = stored_token(&world, 60).await;
    let made = enrolment(&world, "n1", 4);
    enrol(&world, first, 1, &made).await;
    let token = stored_token(&world, 60).await;
    let with = |name: &str, range| EnrolmentRecord { range, ..enrolment(&world, name, 0) };
    let free = (Ipv4Addr::new(10, 128, 9, 0), 24);
    assert_eq!(enrol(&world, token, 2, &with("n1", free)).await, EnrolOutcome::NameTaken);
    assert_eq!(enrol(&world, token, 2, &with("n1", made.range)).await, EnrolOutcome::NameTaken);
    let overlapping = [
        (Ipv4Addr::new(10, 128, 4, 0), 24),
        (Ipv4Addr::new(10, 128, 4, 0), 25),
        (Ipv4Addr::new(10, 128, 4, 128), 25),
        (Ipv4Addr::new(10, 128, 4, 255), 32),
        (Ipv4Addr::new(10, 128, 4, 0), 23),
        (Ipv4Addr::new(10, 128, 0, 0), 10),
        (Ipv4Addr::UNSPECIFIED, 0),
    ];
    for range in overlapping {
        assert_eq!(enrol(&world, token, 2, &with("n2", range)).await, EnrolOutcome::RangeTaken, "{range:?}");
    }
    assert_eq!(world.store.join_token(token).await.unwrap().unwrap().used_by, None);
    assert_eq!(world.store.enrolments().await.unwrap(), std::slice::from_ref(&made));
    let mut all = vec![made];
    let neighbours =
        [(Ipv4Addr::new(10, 128, 5, 0), 24), (Ipv4Addr::new(10, 128, 3, 128), 25), (Ipv4Addr::BROADCAST, 32)];
    for (number, range) in (2_u8..).zip(neighbours) {
        let wanted = with(&format!("n{number}"), range);
        let token = stored_token(&world, 60).await;
        assert_eq!(enrol(&world, token, number, &wanted).await, EnrolOutcome::Enrolled(wanted.clone()), "{range:?}");
        all.push(wanted);
    }
    all.sort_by_key(|record| record.node);
    assert_eq!(world.store.enrolments().await.unwrap(), all);
}

/// A range that does not begin where its prefix says is a bug of the caller.
pub async fn a_range_begins_where_its_prefix_says(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let token = stored_token(&world, 60).await;
    let wrong = EnrolmentRecord { range: (Ipv4Addr::new(10, 128, 1, 7), 24), ..enrolment(&world, "n1", 1) };
    let refused = world.store.enrol(token, [1; 32], &wrong).await;
    assert!(matches!(refused, Err(StoreError::Violation { .. })), "{refused:?}");
    assert_eq!(world.store.join_token(token).await.unwrap().unwrap().used_by, None);
}

/// With different keys all others are refused; with one key all others are told what it made.
pub async fn of_racing_uses_of_a_token_one_enrols(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    for (round, same_key) in [(1_u8, false), (2, true)] {
        let token = stored_token(&world, 60).await;
        let mut tasks = JoinSet::new();
        for number in 0..12 {
            let (world, key) = (world.clone(), if same_key { 1 } else { number });
            let wanted = enrolment(&world, &format!("n{round}-{number}"), round * 20 + number);
            tasks.spawn(async move { enrol(&world, token, key, &wanted).await });
        }
        let outcomes = tasks.join_all().await;
        let enrolled: Vec<_> = outcomes
            .iter()
            .filter_map(|o| if let EnrolOutcome::Enrolled(made) = o { Some(made) } else { None })
            .collect();
        assert_eq!(enrolled.len(), 1, "{outcomes:?}");
        let other = if same_key { EnrolOutcome::Again(enrolled[0].clone()) } else { EnrolOutcome::TokenRefused };
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == other).count(), 11, "{outcomes:?}");
        assert_eq!(world.store.enrolments().await.unwrap().len(), usize::from(round));
        let used = world.store.join_token(token).await.unwrap().unwrap();
        assert_eq!(used.used_by, Some(enrolled[0].node));
    }
}

/// Of machines that join at once with different tokens.
pub async fn of_racing_enrolments_of_a_name_or_range_one_wins(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    for (same_name, refused) in [(true, EnrolOutcome::NameTaken), (false, EnrolOutcome::RangeTaken)] {
        let mut tasks = JoinSet::new();
        for number in 0..10_u8 {
            let token = stored_token(&world, 60).await;
            let wanted = if same_name {
                enrolment(&world, "same", 100 + number)
            } else {
                // Each is contained in those before.
                let range = (Ipv4Addr::new(10, 129, 0, 0), 16 + number);
                EnrolmentRecord { range, ..enrolment(&world, &format!("n{number}"), 0) }
            };
            let world = world.clone();
            tasks.spawn(async move { enrol(&world, token, number, &wanted).await });
        }
        let outcomes = tasks.join_all().await;
        let enrolled = outcomes.iter().filter(|outcome| matches!(outcome, EnrolOutcome::Enrolled(_))).count();
        let lost = outcomes.iter().filter(|outcome| **outcome == refused).count();
        assert_eq!((enrolled, lost), (1, 9), "{outcomes:?}");
    }
    assert_eq!(world.store.enrolments().await.unwrap().len(), 2);
}
