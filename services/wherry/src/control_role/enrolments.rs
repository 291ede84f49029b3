//! Who may be a node, as the application says, and who was one and was removed, as the store has it on record.
//!
//! A removed node that hears of it ends all that it has, so only a record of the removal counts: that of a node of which a store
//! that was put back knows nothing is none.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use wherry_agent_api::{Applicant, ControlError, Enrolled, Enrolment};
use wherry_model::NodeId;
use wherry_store::Store;

/// Removed nodes that are remembered, so that they cost the store nothing however often they ask.
const MAX_REMEMBERED: usize = 10_000;

/// Application and store together.
pub(super) struct Enrolments {
    application: Arc<dyn Enrolment>,
    store: Arc<dyn Store>,
    /// Who was removed is for ever.
    removed: Mutex<BTreeSet<NodeId>>,
}

impl Enrolments {
    pub(super) fn new(application: Arc<dyn Enrolment>, store: Arc<dyn Store>) -> Self {
        Self { application, store, removed: Mutex::default() }
    }
}

#[async_trait]
impl Enrolment for Enrolments {
    async fn enrol(&self, applicant: Applicant) -> Result<Enrolled, ControlError> {
        self.application.enrol(applicant).await
    }

    async fn is_enrolled(&self, node: NodeId) -> Result<bool, ControlError> {
        self.application.is_enrolled(node).await
    }

    async fn is_removed(&self, node: NodeId) -> Result<bool, ControlError> {
        if self.removed.lock().unwrap_or_else(PoisonError::into_inner).contains(&node) {
            return Ok(true);
        }
        let found = self.store.enrolment(node).await;
        let found = found.map_err(|error| ControlError::Unavailable(format!("the store does not answer: {error}")))?;
        let is_removed = found.is_some_and(|record| record.removed_at.is_some());
        if is_removed {
            let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
            if removed.len() >= MAX_REMEMBERED {
                removed.clear();
            }
            removed.insert(node);
        }
        Ok(is_removed)
    }
}
