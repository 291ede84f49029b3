//! Who may be a node: a one-time token names it once, and from then on its enrolment does.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use wherry_agent_api::{Applicant, ControlError, Enrolled, Enrolment, NodeHello};
use wherry_model::{NodeId, TokenId};
use wherry_store::{EnrolOutcome, EnrolmentRecord, JoinTokenRecord};

use super::ranges::{self, Range};
use super::removed;
use crate::auth::hash_secret;
use crate::{Control, Error, lock};

/// How long the answer to "is this node enrolled" is believed: the delay of a removal.
const ENROLLED_TTL: Duration = Duration::from_secs(2);

/// Nodes whose enrolment is remembered.
const MAX_CACHED: usize = 100_000;

/// Ranges that are tried when others are enrolled at the same time.
const MAX_RANGES: u32 = 32;

/// The longest name of a node, that of a DNS label.
const MAX_NAME_BYTES: usize = 63;

#[derive(Default)]
pub(crate) struct EnrolledCache {
    known: BTreeMap<NodeId, (Instant, bool)>,
    /// Counts what was forgotten: an answer that was read before that is not remembered after it.
    forgotten: u64,
}

impl EnrolledCache {
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.known.remove(&node);
        self.forgotten += 1;
    }
}

#[async_trait]
impl Enrolment for Control {
    async fn enrol(&self, applicant: Applicant) -> Result<Enrolled, ControlError> {
        let token = self.token_of(&applicant.token).await?;
        if !is_name(&applicant.name) {
            let message = "a node's name has 1 to 63 lower-case letters, digits, hyphens and dots: give another --name";
            return Err(ControlError::Refused(message.to_owned()));
        }
        // Machines that join at once would all be offered the same range.
        let _turn = match token.range {
            None => Some(self.inner.enrolling.lock().await),
            Some(_) => None,
        };
        for _ in 0..MAX_RANGES {
            let range = match token.range {
                Some(range) => range,
                None => self.free_range().await?,
            };
            let record = EnrolmentRecord {
                node: NodeId::generate(self.inner.clock.as_ref(), self.inner.entropy.as_ref()),
                name: applicant.name.clone(),
                range,
                created_at: self.now(),
                removed_at: None,
            };
            let outcome = self.store().enrol(token.id, applicant.public_key, &record).await.map_err(Error::from)?;
            match outcome {
                EnrolOutcome::Enrolled(made) => {
                    tracing::info!(node = %made.node, name = made.name, token = %token.id, "a machine was enrolled");
                    return Ok(self.enrolled(&made));
                }
                EnrolOutcome::Again(made) if made.removed_at.is_none() => return Ok(self.enrolled(&made)),
                EnrolOutcome::Again(_) | EnrolOutcome::TokenRefused => return Err(token_refused()),
                EnrolOutcome::NameTaken => {
                    let message = format!("another node is called {}: give another --name", applicant.name);
                    return Err(ControlError::Refused(message));
                }
                EnrolOutcome::RangeTaken if token.range.is_some() => {
                    let message =
                        "the range of this token overlaps that of another node: make a token with another one";
                    return Err(ControlError::Refused(message.to_owned()));
                }
                EnrolOutcome::RangeTaken => {}
            }
        }
        Err(ControlError::Unavailable("many machines join at once".to_owned()))
    }

    async fn is_enrolled(&self, node: NodeId) -> Result<bool, ControlError> {
        let forgotten = {
            let cache = lock(&self.inner.enrolled);
            // Where nobody else removes nodes, who does forgets it here.
            let is_believed = |at: &Instant| self.inner.config.is_alone || at.elapsed() < ENROLLED_TTL;
            if let Some((_, enrolled)) = cache.known.get(&node).filter(|(at, _)| is_believed(at)) {
                return Ok(*enrolled);
            }
            cache.forgotten
        };
        let asked = Instant::now();
        let found = self.store().enrolment(node).await.map_err(Error::from)?;
        let enrolled = found.is_some_and(|record| record.removed_at.is_none());
        let mut cache = lock(&self.inner.enrolled);
        if cache.forgotten != forgotten {
            return Ok(enrolled);
        }
        if cache.known.len() >= MAX_CACHED {
            cache.known.clear();
        }
        cache.known.insert(node, (asked, enrolled));
        Ok(enrolled)
    }
}

impl Control {
    /// An enrolled node says of itself what its enrolment says; its name is the one that it was enrolled with, so that no
    /// operator is led to another machine. Who has none is the node of this process: the transport lets in nobody else.
    pub(super) async fn as_enrolled(&self, hello: NodeHello) -> Result<NodeHello, ControlError> {
        let Some(record) = self.store().enrolment(hello.node).await.map_err(Error::from)? else { return Ok(hello) };
        if record.removed_at.is_some() {
            return Err(removed());
        }
        if record.range != hello.range {
            let (first, prefix) = record.range;
            return Err(ControlError::Forbidden(format!("its range is {first}/{prefix}, not another one")));
        }
        Ok(NodeHello { name: record.name, ..hello })
    }

    /// The token that the text names, if its secret is right. Whether it is expired or used is decided by the transaction
    /// that uses it.
    async fn token_of(&self, text: &str) -> Result<JoinTokenRecord, ControlError> {
        let (id, secret) = text.strip_prefix("wjt_").and_then(|rest| rest.split_once('_')).ok_or_else(token_refused)?;
        let id: TokenId = id.parse().map_err(|_| token_refused())?;
        let found = self.store().join_token(id).await.map_err(Error::from)?;
        let record = found.ok_or_else(token_refused)?;
        let right: bool = record.secret_hash.ct_eq(&hash_secret(secret)).into();
        if right { Ok(record) } else { Err(token_refused()) }
    }

    async fn free_range(&self) -> Result<Range, ControlError> {
        let mut taken: Vec<Range> =
            self.store().enrolments().await.map_err(Error::from)?.iter().map(|record| record.range).collect();
        taken.extend(self.store().nodes().await.map_err(Error::from)?.iter().map(|node| node.range));
        let config = &self.inner.config;
        ranges::first_free(config.fleet_range, config.node_prefix, &taken).ok_or_else(|| {
            let (first, prefix) = config.fleet_range;
            ControlError::Refused(format!("no range is left in {first}/{prefix}: remove nodes, or give a larger one"))
        })
    }

    fn enrolled(&self, record: &EnrolmentRecord) -> Enrolled {
        Enrolled { node: record.node, range: record.range, apex: self.inner.config.apex() }
    }
}

/// One sentence for all: who guesses learns nothing.
fn token_refused() -> ControlError {
    let message = "the join token is wrong, expired, or was used by another machine: make a new one";
    ControlError::Forbidden(message.to_owned())
}

fn is_name(name: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| edge(byte) || byte == b'-' || byte == b'.';
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(inner)
        && name.bytes().next().is_some_and(edge)
        && name.bytes().next_back().is_some_and(edge)
}
