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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use wherry_model::{Clock as _, TokenId};
    use wherry_store::{EnrolOutcome, EnrolmentRecord, EnrolmentStore as _, JoinTokenRecord, NodeStore as _};
    use wherry_store_sqlite::SqliteStore;

    use super::*;
    use crate::system::{SystemClock, SystemEntropy};

    /// What the application says does not matter here.
    struct Nobody;

    #[async_trait]
    impl Enrolment for Nobody {
        async fn enrol(&self, _applicant: Applicant) -> Result<Enrolled, ControlError> {
            Err(ControlError::UnknownNode)
        }

        async fn is_enrolled(&self, _node: NodeId) -> Result<bool, ControlError> {
            Ok(false)
        }
    }

    #[tokio::test]
    async fn only_a_removal_on_record_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(folder.path().join("wherry.db")).await.unwrap());
        let now = SystemClock.now();
        let token = JoinTokenRecord {
            id: TokenId::generate(&SystemClock, &SystemEntropy),
            secret_hash: [7; 32],
            range: None,
            created_at: now,
            expires_at: now.plus(std::time::Duration::from_hours(1)),
            used_by: None,
            public_key: None,
        };
        store.create_join_token(&token).await.unwrap();
        let node = NodeId::generate(&SystemClock, &SystemEntropy);
        let range = (Ipv4Addr::new(10, 128, 1, 0), 24);
        let record = EnrolmentRecord { node, name: "one".to_owned(), range, created_at: now, removed_at: None };
        assert!(matches!(store.enrol(token.id, [1; 32], &record).await.unwrap(), EnrolOutcome::Enrolled(_)));

        let enrolments = Enrolments::new(Arc::new(Nobody), Arc::clone(&store) as Arc<dyn Store>);
        let stranger = NodeId::generate(&SystemClock, &SystemEntropy);
        for node in [node, stranger] {
            assert_eq!(enrolments.is_removed(node).await, Ok(false));
        }
        store.remove_node(node, now).await.unwrap();
        for _ in 0..2 {
            assert_eq!(enrolments.is_removed(node).await, Ok(true));
        }
        assert_eq!(enrolments.is_removed(stranger).await, Ok(false));
    }
}
