//! Leases. A store with a clock of its own ignores what the cases say of the time, the others know no other time: so the
//! cases let it pass really, wait for conditions, and hold for a minute what must not run out.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use wherry_model::{ReplicaId, Timestamp};

use crate::world::at;
use crate::{Subject, World};

const MINUTE: Duration = Duration::from_mins(1);
const MOMENT: Duration = Duration::from_millis(50);

/// A world with time in it.
#[derive(Clone)]
struct Office {
    world: World,
    opened: Instant,
}

impl Office {
    async fn new(subject: &mut impl Subject) -> Self {
        Self { world: World::new(subject).await, opened: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.opened.elapsed().as_micros()).unwrap();
        Timestamp::from_micros(at(0).as_micros() + passed)
    }

    fn replica(&self) -> ReplicaId {
        ReplicaId::from_uuid(self.world.uuid())
    }

    async fn hold(&self, name: &str, holder: ReplicaId, time: Duration) -> bool {
        self.world.store.hold_lease(name, holder, self.now(), time).await.unwrap()
    }
}

/// Until it is renewed no longer, also over a reopening; leases of other names are apart.
pub async fn a_lease_has_one_holder(subject: &mut impl Subject) {
    let office = Office::new(subject).await;
    let (first, second) = (office.replica(), office.replica());
    assert!(office.hold("silence", first, MINUTE).await);
    assert!(!office.hold("silence", second, MINUTE).await);
    assert!(office.hold("silence", first, MINUTE).await);
    assert!(office.hold("purge", second, MINUTE).await);
    subject.reopen().await;
    let office = Office { world: office.world.on(subject), ..office };
    assert!(!office.hold("silence", second, MINUTE).await);
    assert!(!office.hold("purge", first, MINUTE).await);
    assert!(office.hold("silence", first, MINUTE).await);
}

/// The holder that comes back finds it taken.
pub async fn a_lease_that_ran_out_is_taken_over(subject: &mut impl Subject) {
    let office = Office::new(subject).await;
    let (first, second) = (office.replica(), office.replica());
    assert!(office.hold("silence", first, MOMENT).await);
    let deadline = Instant::now() + MINUTE;
    while !office.hold("silence", second, MINUTE).await {
        assert!(Instant::now() < deadline, "a lease of {MOMENT:?} never runs out");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(!office.hold("silence", first, MINUTE).await);
}

/// A renewal counts from when it is made; a shorter one shortens.
pub async fn a_renewed_lease_lasts_from_its_renewal(subject: &mut impl Subject) {
    let office = Office::new(subject).await;
    let (first, second) = (office.replica(), office.replica());
    assert!(office.hold("silence", first, MOMENT).await);
    assert!(office.hold("silence", first, MINUTE).await);
    sleep(MOMENT * 2).await;
    assert!(!office.hold("silence", second, MINUTE).await);
    assert!(office.hold("silence", first, MOMENT).await);
    let deadline = Instant::now() + MINUTE;
    while !office.hold("silence", second, MINUTE).await {
        assert!(Instant::now() < deadline, "it goes on as long as before its last renewal");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Every lease of the holder, at once, and of nobody else.
pub async fn released_leases_are_free(subject: &mut impl Subject) {
    let office = Office::new(subject).await;
    let (first, second, third) = (office.replica(), office.replica(), office.replica());
    for (name, holder) in [("silence", first), ("purge", first), ("places", second)] {
        assert!(office.hold(name, holder, MINUTE).await);
    }
    office.world.store.release_leases(first).await.unwrap();
    for (name, free) in [("silence", true), ("purge", true), ("places", false)] {
        assert_eq!(office.hold(name, third, MINUTE).await, free, "{name}");
    }
    // Nothing left to give up.
    office.world.store.release_leases(first).await.unwrap();
    assert!(!office.hold("silence", first, MINUTE).await);
}

async fn race(office: &Office, name: &'static str) -> usize {
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let (office, holder) = (office.clone(), office.replica());
        tasks.spawn(async move { office.hold(name, holder, MINUTE).await });
    }
    tasks.join_all().await.into_iter().filter(|held| *held).count()
}

/// Of one that nobody has, and of one that has run out.
pub async fn of_racing_holders_one_gets_it(subject: &mut impl Subject) {
    let office = Office::new(subject).await;
    assert_eq!(race(&office, "new").await, 1);
    assert!(office.hold("old", office.replica(), MOMENT).await);
    let deadline = Instant::now() + MINUTE;
    loop {
        // Those that ask too early get nothing; the first that is not too early keeps it from the others.
        match race(&office, "old").await {
            0 => assert!(Instant::now() < deadline, "a lease of {MOMENT:?} never runs out"),
            held => {
                assert_eq!(held, 1);
                break;
            }
        }
    }
}
