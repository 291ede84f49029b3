//! Enrolments, leases, replicas, calls, and what all processes agree on.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use wherry_model::{NodeId, ReplicaId, Timestamp, TokenId};
use wherry_store::{
    CallRecord, CallStore, EnrolOutcome, EnrolmentRecord, EnrolmentStore, InstallationStore, JoinTokenRecord,
    LeaseStore, ReplicaRecord, ReplicaStore, StoreError,
};

use crate::MemoryStore;
use crate::database::Verdict;
use crate::state::{LeaseRow, State, first_of, overlap, violation};

/// Calls that one post forgets at most.
const MOST_FORGOTTEN: usize = 100;

#[async_trait]
impl EnrolmentStore for MemoryStore {
    async fn create_join_token(&self, token: &JoinTokenRecord) -> Result<(), StoreError> {
        self.write("storing a join token", |state| {
            if state.tokens.has(&token.id) {
                return Err(violation(format!("token {} is there", token.id)));
            }
            state.tokens.put(token.id, token.clone());
            Ok(Verdict::Keep(()))
        })
        .await
    }

    async fn join_token(&self, id: TokenId) -> Result<Option<JoinTokenRecord>, StoreError> {
        self.read("reading a join token", |state| state.tokens.get(&id).cloned()).await
    }

    async fn enrol(
        &self,
        token: TokenId,
        public_key: [u8; 32],
        enrolment: &EnrolmentRecord,
    ) -> Result<EnrolOutcome, StoreError> {
        self.write("enrolling a node", |state| enrol(state, token, public_key, enrolment)).await
    }

    async fn enrolment(&self, node: NodeId) -> Result<Option<EnrolmentRecord>, StoreError> {
        self.read("reading an enrolment", |state| state.enrolments.get(&node).cloned()).await
    }

    async fn enrolments(&self) -> Result<Vec<EnrolmentRecord>, StoreError> {
        self.read("listing enrolments", |state| present(state).cloned().collect()).await
    }
}

fn present(state: &State) -> impl Iterator<Item = &EnrolmentRecord> {
    state.enrolments.values().filter(|enrolment| enrolment.removed_at.is_none())
}

fn enrol(
    state: &mut State,
    token: TokenId,
    public_key: [u8; 32],
    enrolment: &EnrolmentRecord,
) -> Result<Verdict<EnrolOutcome>, StoreError> {
    let Some(known) = state.tokens.get(&token) else { return Ok(Verdict::Undo(EnrolOutcome::TokenRefused)) };
    if let Some(user) = known.used_by {
        let same = known.public_key == Some(public_key);
        let made = state.enrolments.get(&user).filter(|made| same && made.removed_at.is_none());
        return Ok(Verdict::Undo(made.cloned().map_or(EnrolOutcome::TokenRefused, EnrolOutcome::Again)));
    }
    if known.expires_at <= enrolment.created_at {
        return Ok(Verdict::Undo(EnrolOutcome::TokenRefused));
    }
    if first_of(enrolment.range) != enrolment.range.0 {
        return Err(violation(format!("range {}/{} begins elsewhere", enrolment.range.0, enrolment.range.1)));
    }
    if present(state).any(|other| other.name == enrolment.name) {
        return Ok(Verdict::Undo(EnrolOutcome::NameTaken));
    }
    if present(state).any(|other| overlap(other.range, enrolment.range)) {
        return Ok(Verdict::Undo(EnrolOutcome::RangeTaken));
    }
    state.tokens.change(&token, |token| {
        token.used_by = Some(enrolment.node);
        token.public_key = Some(public_key);
    });
    state.enrolments.put(enrolment.node, enrolment.clone());
    Ok(Verdict::Keep(EnrolOutcome::Enrolled(enrolment.clone())))
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn hold_lease(
        &self,
        name: &str,
        holder: ReplicaId,
        now: Timestamp,
        time: Duration,
    ) -> Result<bool, StoreError> {
        self.write_quietly("holding a lease", |state| {
            let known = state.leases.get(&name.to_owned());
            if known.is_some_and(|lease| lease.holder != holder && lease.until > now) {
                return Ok(Verdict::Undo(false));
            }
            state.leases.put(name.to_owned(), LeaseRow { holder, until: now.plus(time) });
            Ok(Verdict::Keep(true))
        })
        .await
    }

    async fn release_leases(&self, holder: ReplicaId) -> Result<(), StoreError> {
        self.write("giving leases up", |state| {
            state.leases.remove_where(|_, lease| lease.holder == holder);
            Ok(Verdict::Keep(()))
        })
        .await
    }
}

#[async_trait]
impl ReplicaStore for MemoryStore {
    async fn note_replica(&self, replica: &ReplicaRecord, forget_before: Timestamp) -> Result<(), StoreError> {
        self.write_quietly("noting a replica", |state| {
            state.replicas.remove_where(|_, known| known.seen_at < forget_before);
            state.replicas.put(replica.id, replica.clone());
            Ok(Verdict::Keep(()))
        })
        .await
    }

    async fn forget_replica(&self, id: ReplicaId) -> Result<(), StoreError> {
        self.write("forgetting a replica", |state| {
            state.replicas.remove(&id);
            Ok(Verdict::Keep(()))
        })
        .await
    }

    async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        self.read("listing replicas", |state| state.replicas.values().cloned().collect()).await
    }
}

#[async_trait]
impl CallStore for MemoryStore {
    async fn post_call(&self, call: &CallRecord, now: Timestamp) -> Result<(), StoreError> {
        self.write("posting a call", |state| {
            let expired: Vec<[u8; 32]> = state
                .calls
                .iter()
                .filter(|(_, call)| call.expires_at < now)
                .map(|(hash, _)| *hash)
                .take(MOST_FORGOTTEN)
                .collect();
            for hash in &expired {
                state.calls.remove(hash);
            }
            if state.calls.has(&call.ticket_hash) {
                return Err(violation("a ticket is posted twice"));
            }
            state.calls.put(call.ticket_hash, call.clone());
            Ok(Verdict::Keep(()))
        })
        .await
    }

    async fn called_nodes(&self, now: Timestamp) -> Result<Vec<NodeId>, StoreError> {
        self.read("looking for calls", |state| {
            let waiting = state.calls.values().filter(|call| call.expires_at > now);
            let nodes: BTreeSet<NodeId> = waiting.map(|call| call.node).collect();
            nodes.into_iter().collect()
        })
        .await
    }

    async fn take_calls(&self, node: NodeId, now: Timestamp) -> Result<Vec<CallRecord>, StoreError> {
        self.write_quietly("taking calls", |state| {
            let own = state.calls.values().filter(|call| call.node == node && call.expires_at > now);
            let mut calls: Vec<CallRecord> = own.cloned().collect();
            calls.sort_by_key(|call| (call.expires_at, call.ticket_hash));
            for call in &calls {
                state.calls.remove(&call.ticket_hash);
            }
            Ok(if calls.is_empty() { Verdict::Undo(calls) } else { Verdict::Keep(calls) })
        })
        .await
    }
}

#[async_trait]
impl InstallationStore for MemoryStore {
    async fn settle(&self, name: &str, value: &str) -> Result<String, StoreError> {
        self.write("settling what all processes agree on", |state| {
            if let Some(known) = state.settled.get(&name.to_owned()) {
                return Ok(Verdict::Undo(known.clone()));
            }
            state.settled.put(name.to_owned(), value.to_owned());
            Ok(Verdict::Keep(value.to_owned()))
        })
        .await
    }

    async fn keep_learnt(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.write_quietly("keeping what was learnt", |state| {
            state.learnt.put(name.to_owned(), value.to_owned());
            Ok(Verdict::Keep(()))
        })
        .await
    }

    async fn learnt(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.read("reading what was learnt", |state| state.learnt.get(&name.to_owned()).cloned()).await
    }
}
