//! How long instances run, learnt while they do, so that places are proposed where all on a machine end together
//! ([`wherry_placement::lifetime`]). An opinion and no promise: without it, or with another one, every place is as right.
//!
//! Each replica learns for itself, its own writes and what the change feed tells of the others', so all come to know the same. What
//! is learnt outlives the process: the holder of the lease keeps it in the store, and so does who leaves in order. What is kept
//! and cannot be read (a release before or after) is learnt anew.
//!
//! An instance lives from its first place to its end. Who only moves to another machine lives on; so does, not counted as an end, who
//! waits for a place.

use serde::{Deserialize, Serialize};
use wherry_model::{Demand, Instance, InstanceId, Terms, Timestamp};
use wherry_placement::FleetChange;
use wherry_placement::lifetime::{Expectation, Learner, Lifetimes, Reclassed, Traits};

use crate::{Control, Error, lock};

/// Under this name it is kept.
const NAME: &str = "lifetimes";

/// What is kept is of this form; of another one it is learnt anew.
const FORM: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept<L> {
    form: u32,
    learner: L,
}

/// What is expected of the instances there are, and what was learnt of all.
#[derive(Default)]
pub(crate) struct Expected {
    lifetimes: Lifetimes,
    /// How much had been learnt when it was kept last.
    kept: u64,
}

impl Control {
    /// `terms` with when the instance is expected to end.
    pub(crate) fn expecting(&self, who: InstanceId, demand: &Demand, terms: &Terms) -> Terms {
        let departs = self.expectation(Some(who), demand, terms).map(|expected| expected.departs);
        Terms { departs: departs.unwrap_or_default(), ..terms.clone() }
    }

    /// How long `who`, or one like it that began now, is expected to run; none when nothing is learnt here.
    pub(crate) fn expectation(&self, who: Option<InstanceId>, demand: &Demand, terms: &Terms) -> Option<Expectation> {
        if !self.inner.config.learn_lifetimes {
            return None;
        }
        let now_s = seconds(self.now());
        let lifetimes = &mut lock(&self.inner.expected).lifetimes;
        let running = who.and_then(|who| lifetimes.expect_running(who, now_s));
        Some(running.unwrap_or_else(|| lifetimes.expect(&Traits::of(demand, terms, now_s), now_s)))
    }

    /// Takes stored records into what is expected.
    pub(crate) fn learn_lives<'a>(&self, instances: impl IntoIterator<Item = &'a Instance>) {
        let now_s = seconds(self.now());
        self.expect_anew(|lifetimes| {
            let changed = |instance: &Instance| match instance.node.filter(|_| instance.holds_resources) {
                Some(node) => lifetimes.began(instance.id, node, &traits(instance), now_s),
                None if instance.state.is_settled() => lifetimes.ended(instance.id, now_s),
                None => lifetimes.left(instance.id, now_s),
            };
            instances.into_iter().filter_map(changed).collect()
        });
    }

    /// Takes those that ran before this process began into what is expected.
    pub(crate) fn resume_lives(&self, instances: &[Instance]) {
        let now_s = seconds(self.now());
        self.expect_anew(|lifetimes| {
            let resumed = |instance: &Instance| {
                let node = instance.node.filter(|_| instance.holds_resources)?;
                let began_s = seconds(instance.started_at.unwrap_or(instance.created_at));
                lifetimes.resumed(instance.id, node, &traits(instance), began_s, now_s)
            };
            instances.iter().filter_map(resumed).collect()
        });
    }

    /// Time has passed: what has run longer is expected to run longer.
    pub(crate) fn age_lives(&self) {
        let now_s = seconds(self.now());
        self.expect_anew(|lifetimes| lifetimes.advance(now_s));
    }

    /// What changes is told to the picture of the fleet in the order in which it does.
    fn expect_anew(&self, change: impl FnOnce(&mut Lifetimes) -> Vec<Reclassed>) {
        if !self.inner.config.learn_lifetimes {
            return;
        }
        let mut expected = lock(&self.inner.expected);
        let reclassed = change(&mut expected.lifetimes);
        if !reclassed.is_empty() {
            lock(&self.inner.fleet).expect_departures(reclassed);
        }
    }

    /// Goes on with what was learnt before.
    pub(crate) async fn load_lifetimes(&self) -> Result<(), Error> {
        if !self.inner.config.learn_lifetimes {
            return Ok(());
        }
        let Some(kept) = self.store().learnt(NAME).await? else { return Ok(()) };
        let learner = match serde_json::from_str::<Kept<Learner>>(&kept) {
            Ok(Kept { form: FORM, learner }) => learner,
            Ok(Kept { form, .. }) => {
                tracing::warn!(form, "what another release learnt of lifetimes is learnt anew");
                return Ok(());
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "what was learnt of lifetimes cannot be read, it is learnt anew");
                return Ok(());
            }
        };
        let kept = learner.learnt();
        *lock(&self.inner.expected) = Expected { lifetimes: Lifetimes::with(learner), kept };
        Ok(())
    }

    /// Keeps what was learnt, if anything was since the last time.
    pub(crate) async fn keep_lifetimes(&self) -> Result<(), Error> {
        let learner = {
            let expected = lock(&self.inner.expected);
            let learner = expected.lifetimes.learner();
            if learner.learnt() == expected.kept {
                return Ok(());
            }
            learner.clone()
        };
        let kept = learner.learnt();
        let text = serde_json::to_string(&Kept { form: FORM, learner })
            .map_err(|error| Error::internal(format!("what was learnt cannot be written as JSON: {error}")))?;
        self.store().keep_learnt(NAME, &text).await?;
        lock(&self.inner.expected).kept = kept;
        Ok(())
    }
}

fn traits(instance: &Instance) -> Traits {
    Traits::of(&instance.demand(), &instance.terms(), seconds(instance.created_at))
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.grid_second()).unwrap_or(0)
}

impl crate::fleet::FleetIndex {
    fn expect_departures(&mut self, reclassed: Vec<Reclassed>) {
        for (node, departs) in reclassed {
            self.apply(FleetChange::Expect { node, departs });
        }
    }
}
