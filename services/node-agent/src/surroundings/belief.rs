//! Which names this node believes, while replicas of the control plane that are not equally far tell it of them.
//!
//! Invariants: a name never goes back to a lower revision, and one that was withdrawn does not come back unless at a higher
//! one, for [`PATIENCE`]: that is how far behind a replica can be. What is said for longer than that is believed, because
//! the control plane may have been put back to an older state. A name that is not in an answer is withdrawn at once: better
//! no answer than that of an instance which has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use wherry_agent_api::NameRecord;
use wherry_model::InstanceId;

/// How long the control plane is not believed when it goes back.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

type Key = (InstanceId, String);

/// What was believed before the control plane contradicted it.
#[derive(Debug)]
struct Doubt {
    record: NameRecord,
    /// Whether it answers meanwhile: an older record contradicts it. If not, it was withdrawn.
    answers: bool,
    until: Instant,
}

impl Doubt {
    const fn is_settled_by(&self, told: &NameRecord) -> bool {
        let (told, believed) = (told.revision.0, self.record.revision.0);
        told > believed || (self.answers && told == believed)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Belief {
    told: BTreeMap<Key, NameRecord>,
    doubts: BTreeMap<Key, Doubt>,
}

fn by_key(names: Vec<NameRecord>) -> BTreeMap<Key, NameRecord> {
    names.into_iter().map(|record| ((record.instance, record.name.clone()), record)).collect()
}

impl Belief {
    /// Begins with what an earlier agent believed.
    pub(super) fn resume(names: Vec<NameRecord>) -> Self {
        Self { told: by_key(names), doubts: BTreeMap::new() }
    }

    /// The control plane says that these are all.
    pub(super) fn tell(&mut self, names: Vec<NameRecord>, now: Instant) {
        self.settle(now);
        let told = by_key(names);
        for record in self.names() {
            let key = (record.instance, record.name.clone());
            let until = now + PATIENCE;
            match told.get(&key) {
                None => drop(self.doubts.insert(key, Doubt { record, answers: false, until })),
                Some(now_told) if now_told.revision < record.revision => {
                    self.doubts.entry(key).or_insert(Doubt { record, answers: true, until });
                }
                Some(_) => {}
            }
        }
        self.doubts.retain(|key, doubt| !told.get(key).is_some_and(|record| doubt.is_settled_by(record)));
        self.told = told;
    }

    /// Gives up doubts that are too old.
    pub(super) fn settle(&mut self, now: Instant) {
        self.doubts.retain(|_, doubt| doubt.until > now);
    }

    /// When [`Self::settle`] is due, if nothing else is told before.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.doubts.values().map(|doubt| doubt.until).min()
    }

    /// Whether the names are just those that the control plane said.
    pub(super) fn is_as_told(&self) -> bool {
        !self.doubts.keys().any(|key| self.told.contains_key(key))
    }

    /// How many names the control plane said.
    pub(super) fn len(&self) -> usize {
        self.told.len()
    }

    /// What is believed, in order of instance.
    pub(super) fn names(&self) -> Vec<NameRecord> {
        let believed = |(key, told): (&Key, &NameRecord)| match self.doubts.get(key) {
            None => Some(told.clone()),
            Some(doubt) => doubt.answers.then(|| doubt.record.clone()),
        };
        self.told.iter().filter_map(believed).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use wherry_model::Revision;

    use super::*;

    fn record(instance: u8, revision: u64) -> NameRecord {
        NameRecord {
            instance: format!("{instance:032x}").parse().unwrap(),
            revision: Revision(revision),
            name: format!("web-{instance}.example"),
            address: [10, 0, instance, u8::try_from(revision % 250).unwrap()].into(),
        }
    }

    fn revisions(belief: &Belief) -> Vec<u64> {
        belief.names().iter().map(|record| record.revision.0).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_record_is_not_believed_for_ten_seconds_and_then_is() {
        let mut belief = Belief::default();
        let begin = Instant::now();
        belief.tell(vec![record(1, 7)], begin);
        belief.tell(vec![record(1, 5)], begin + PATIENCE / 2);
        assert_eq!((revisions(&belief), belief.is_as_told()), (vec![7], false));
        // Saying it again does not begin the time anew.
        belief.tell(vec![record(1, 6)], begin + PATIENCE);
        assert_eq!(revisions(&belief), [7]);
        assert_eq!(belief.settles_at(), Some(begin + PATIENCE / 2 + PATIENCE));
        belief.settle(begin + PATIENCE / 2 + PATIENCE);
        assert_eq!((revisions(&belief), belief.is_as_told()), (vec![6], true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_withdrawn_name_is_gone_at_once_and_comes_back_only_as_a_newer_one() {
        let mut belief = Belief::resume(vec![record(1, 7), record(2, 3)]);
        let begin = Instant::now();
        belief.tell(vec![record(2, 3)], begin);
        assert_eq!((revisions(&belief), belief.is_as_told()), (vec![3], true));
        belief.tell(vec![record(1, 7), record(2, 3)], begin + PATIENCE / 2);
        assert_eq!((revisions(&belief), belief.is_as_told()), (vec![3], false));
        belief.settle(begin + PATIENCE);
        assert_eq!(revisions(&belief), [7, 3]);
        belief.tell(vec![], begin + PATIENCE);
        belief.tell(vec![record(1, 8)], begin + PATIENCE);
        assert_eq!(revisions(&belief), [8]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_is_as_new_settles_a_doubt_and_another_instance_under_the_name_has_none() {
        let mut belief = Belief::default();
        let now = Instant::now();
        belief.tell(vec![record(1, 7)], now);
        belief.tell(vec![record(1, 5)], now);
        belief.tell(vec![record(1, 7)], now);
        assert_eq!((revisions(&belief), belief.settles_at()), (vec![7], None));
        let heir = NameRecord { name: record(1, 0).name, ..record(9, 1) };
        belief.tell(vec![heir], now);
        assert_eq!(revisions(&belief), [1]);
    }

    proptest! {
        /// Whatever two replicas say in turn: within the patience no name goes back, and nothing is believed that nobody said.
        #[test]
        fn nothing_goes_back_within_the_patience(
            answers in prop::collection::vec((prop::collection::btree_map(1_u8..4, 1_u64..6, 0..4), 0_u64..4), 1..40)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let mut belief = Belief::default();
                let mut now = Instant::now();
                // The highest revision that was shown, and when it was last told.
                let mut shown: BTreeMap<u8, (u64, Instant)> = BTreeMap::new();
                let mut ever_told = BTreeSet::new();
                for (names, seconds) in answers {
                    ever_told.extend(names.iter().map(|(instance, revision)| (*instance, *revision)));
                    now += Duration::from_secs(seconds);
                    belief.tell(names.iter().map(|(instance, revision)| record(*instance, *revision)).collect(), now);
                    for (instance, told) in &names {
                        let name = record(*instance, 0).name;
                        let believed = belief.names().into_iter().find(|record| record.name == name);
                        if let Some(believed) = believed {
                            let (highest, at) = shown.get(instance).copied().unwrap_or((0, now));
                            let (revision, is_recent) = (believed.revision.0, now < at + PATIENCE);
                            assert!(revision >= highest || !is_recent, "went from {highest} back to {revision}");
                            assert!(ever_told.contains(&(*instance, revision)), "nobody said {revision}");
                            if revision == *told {
                                shown.insert(*instance, (revision, now));
                            }
                        }
                    }
                    assert!(belief.names().iter().all(|known| names.keys().any(|n| record(*n, 0).name == known.name)));
                }
            });
        }
    }
}
