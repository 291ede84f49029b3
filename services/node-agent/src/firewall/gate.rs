//! Lets instances in and out: collects what workers ask for, applies it, and tells each when its wish is in force.
//!
//! Wishes that come while the rules are being applied go together into the next application. A wish that is in force
//! already costs nothing. Failures are told to whoever waits; they try again.
//!
//! Others may empty the machine's packet filter (`nft flush ruleset`). That is looked for every few seconds, and mended; so
//! is a failure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use wherry_model::InstanceId;

use super::{Admitted, Elsewhere, Firewall, FirewallError, Ruleset};
use crate::status::Board;

/// How long the rules can be gone unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Wanted {
    /// Counts changes; 0 before the beginning.
    version: u64,
    admitted: BTreeMap<InstanceId, Admitted>,
    elsewhere: Elsewhere,
}

#[derive(Debug, Clone)]
struct Attempt {
    version: u64,
    outcome: Result<(), FirewallError>,
}

/// The way to the firewall.
pub(crate) struct Gate {
    firewall: Arc<dyn Firewall>,
    board: Arc<Board>,
    wanted: Mutex<Wanted>,
    changed: Notify,
    latest: watch::Sender<Option<Attempt>>,
}

impl Gate {
    pub(crate) fn new(firewall: Arc<dyn Firewall>, board: Arc<Board>) -> Self {
        Self { firewall, board, wanted: Mutex::default(), changed: Notify::new(), latest: watch::channel(None).0 }
    }

    /// Begins with these. Nothing is applied before, so that instances which run on through a restart of the agent are
    /// never cut off.
    pub(crate) fn begin(&self, admitted: BTreeMap<InstanceId, Admitted>) {
        let mut wanted = self.wanted();
        (wanted.version, wanted.admitted) = (1, admitted);
        drop(wanted);
        self.changed.notify_one();
    }

    /// From now on these are elsewhere. Nobody waits for it.
    pub(crate) fn surround(&self, elsewhere: Elsewhere) {
        let mut wanted = self.wanted();
        if wanted.elsewhere == elsewhere {
            return;
        }
        wanted.elsewhere = elsewhere;
        if wanted.version > 0 {
            wanted.version += 1;
            self.changed.notify_one();
        }
    }

    /// Returns when the instance is in, with exactly this.
    pub(crate) async fn admit(&self, instance: InstanceId, admitted: Admitted) -> Result<(), FirewallError> {
        let version = {
            let mut wanted = self.wanted();
            if wanted.admitted.get(&instance) != Some(&admitted) {
                wanted.admitted.insert(instance, admitted);
                wanted.version += 1;
            }
            wanted.version
        };
        self.in_force(version).await
    }

    /// Returns when the instance is out.
    pub(crate) async fn release(&self, instance: InstanceId) -> Result<(), FirewallError> {
        let version = {
            let mut wanted = self.wanted();
            if wanted.admitted.remove(&instance).is_some() {
                wanted.version += 1;
            }
            wanted.version
        };
        self.in_force(version).await
    }

    async fn in_force(&self, version: u64) -> Result<(), FirewallError> {
        let mut latest = self.latest.subscribe();
        let covers = |attempt: &Attempt| attempt.version >= version;
        if latest.borrow_and_update().as_ref().is_some_and(|attempt| covers(attempt) && attempt.outcome.is_ok()) {
            return Ok(());
        }
        self.changed.notify_one();
        loop {
            if latest.changed().await.is_err() {
                return Err(FirewallError::Refused("the agent is stopping".to_owned()));
            }
            if let Some(attempt) = latest.borrow_and_update().as_ref().filter(|attempt| covers(attempt)) {
                return attempt.outcome.clone();
            }
        }
    }

    /// Applies for ever.
    pub(crate) async fn keep(self: Arc<Self>) {
        loop {
            let looked = tokio::time::timeout(LOOK_EVERY, self.changed.notified()).await.is_err();
            let gone = looked && self.is_gone().await;
            let (version, rules) = {
                let wanted = self.wanted();
                let instances = wanted.admitted.iter().map(|(id, admitted)| (*id, admitted.clone())).collect();
                (wanted.version, Ruleset { instances, elsewhere: wanted.elsewhere.clone() })
            };
            let in_force = |attempt: &Attempt| attempt.version == version && attempt.outcome.is_ok();
            if version == 0 || (!gone && self.latest.borrow().as_ref().is_some_and(in_force)) {
                continue;
            }
            let outcome = self.firewall.apply(&rules).await;
            if let Err(error) = &outcome {
                tracing::error!(%error, "the firewall could not be set");
            }
            self.board.set(|status| &mut status.firewall_trouble, outcome.as_ref().err().map(ToString::to_string));
            self.latest.send_replace(Some(Attempt { version, outcome }));
        }
    }

    /// Whether rules that were put in force are not any more.
    async fn is_gone(&self) -> bool {
        if self.latest.borrow().as_ref().is_none_or(|attempt| attempt.outcome.is_err()) {
            return false;
        }
        match self.firewall.stands().await {
            Ok(true) => false,
            Ok(false) => {
                tracing::error!("somebody took the firewall's rules away; they are put in force again");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "whether the firewall's rules are in force cannot be told");
                false
            }
        }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::RecordingFirewall;
    use super::*;

    fn id(number: u128) -> InstanceId {
        format!("{number:032x}").parse().unwrap()
    }

    fn admitted(last: u8) -> Admitted {
        Admitted {
            address: [10, 77, 0, last].into(),
            tenant: "01".repeat(16).parse().unwrap(),
            project: "02".repeat(16).parse().unwrap(),
            ports: vec![],
        }
    }

    fn gate() -> (Arc<Gate>, Arc<RecordingFirewall>) {
        let firewall = Arc::new(RecordingFirewall::new());
        let gate = Arc::new(Gate::new(firewall.clone(), Arc::default()));
        tokio::spawn(gate.clone().keep());
        (gate, firewall)
    }

    #[tokio::test]
    async fn wishes_that_come_together_are_applied_together() {
        let (gate, firewall) = gate();
        gate.begin(BTreeMap::new());
        let wishes = (1..=50).map(|number| gate.admit(id(u128::from(number)), admitted(number)));
        for outcome in futures_util::future::join_all(wishes).await {
            outcome.unwrap();
        }
        assert_eq!(firewall.in_force().unwrap().instances.len(), 50);
        assert!(firewall.applied() <= 3, "{} applications", firewall.applied());
        let before = firewall.applied();
        gate.admit(id(1), admitted(1)).await.unwrap();
        gate.release(id(99)).await.unwrap();
        assert_eq!(firewall.applied(), before, "nothing changed, nothing is applied");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_elsewhere_is_in_the_first_rules_and_in_later_ones() {
        let (gate, firewall) = gate();
        let elsewhere = |last| Elsewhere { ranges: vec![([10, 128, last, 0].into(), 24)], neighbours: vec![] };
        gate.surround(elsewhere(1));
        tokio::time::sleep(3 * LOOK_EVERY).await;
        assert_eq!(firewall.in_force(), None, "nothing is applied before it is known who is in");
        gate.begin(BTreeMap::new());
        gate.admit(id(1), admitted(1)).await.unwrap();
        assert_eq!(firewall.in_force().unwrap().elsewhere, elsewhere(1));
        gate.surround(elsewhere(2));
        tokio::time::sleep(LOOK_EVERY).await;
        assert_eq!(firewall.in_force().unwrap().elsewhere, elsewhere(2));
        let applied = firewall.applied();
        gate.surround(elsewhere(2));
        tokio::time::sleep(LOOK_EVERY).await;
        assert_eq!(firewall.applied(), applied);
    }

    #[tokio::test(start_paused = true)]
    async fn rules_that_somebody_took_away_are_back_soon() {
        let (gate, firewall) = gate();
        gate.begin(BTreeMap::new());
        gate.admit(id(1), admitted(1)).await.unwrap();
        firewall.remove().await.unwrap();
        firewall.fail(1);
        tokio::time::sleep(3 * LOOK_EVERY).await;
        assert_eq!(firewall.in_force().unwrap().instances.len(), 1);
        let applied = firewall.applied();
        tokio::time::sleep(3 * LOOK_EVERY).await;
        assert_eq!(firewall.applied(), applied);
    }

    #[tokio::test]
    async fn a_failure_is_told_and_the_next_try_succeeds() {
        let (gate, firewall) = gate();
        gate.begin(BTreeMap::from([(id(9), admitted(9))]));
        gate.release(id(77)).await.unwrap();
        firewall.fail(1);
        assert!(gate.admit(id(1), admitted(1)).await.is_err());
        gate.admit(id(1), admitted(1)).await.unwrap();
        assert_eq!(firewall.in_force().unwrap().instances.len(), 2);
    }
}
