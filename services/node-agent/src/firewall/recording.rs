//! A firewall in memory, for tests.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Firewall, FirewallError, Ruleset};

/// Remembers what was applied, and fails when told to.
#[derive(Debug, Default)]
pub struct RecordingFirewall {
    state: Mutex<Recorded>,
}

#[derive(Debug, Default)]
struct Recorded {
    in_force: Option<Ruleset>,
    applied: usize,
    failures: u32,
}

impl RecordingFirewall {
    /// With no rules in force.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rules in force; none before the first, and after they were removed.
    pub fn in_force(&self) -> Option<Ruleset> {
        self.state().in_force.clone()
    }

    /// How often rules were applied.
    pub fn applied(&self) -> usize {
        self.state().applied
    }

    /// Makes the next `times` calls fail.
    pub fn fail(&self, times: u32) {
        self.state().failures = times;
    }

    fn state(&self) -> MutexGuard<'_, Recorded> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, rules: Option<Ruleset>) -> Result<(), FirewallError> {
        let mut state = self.state();
        if state.failures > 0 {
            state.failures -= 1;
            return Err(FirewallError::Refused("told to fail".to_owned()));
        }
        state.applied += usize::from(rules.is_some());
        state.in_force = rules;
        Ok(())
    }
}

#[async_trait]
impl Firewall for RecordingFirewall {
    async fn apply(&self, rules: &Ruleset) -> Result<(), FirewallError> {
        self.change(Some(rules.clone()))
    }

    async fn stands(&self) -> Result<bool, FirewallError> {
        Ok(self.in_force().is_some())
    }

    async fn remove(&self) -> Result<(), FirewallError> {
        self.change(None)
    }
}
