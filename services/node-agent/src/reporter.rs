//! The line to the control plane, upwards: sends what the journal holds until it is acknowledged.
//!
//! - The first word of a life is an empty report. If more is stored of this journal than it has ever said, its folder was
//!   put back to an older state, and the numbers that it would use next are taken: what it says would be skipped as known.
//!   It goes on under a new id.
//! - A batch that fails is halved until it succeeds. A fact that fails alone for [`PATIENCE`], while the control plane
//!   answers an empty report, is poison: its instance is set aside, which means that its facts go a way of their own, under
//!   a journal id of their own, one by one and once in a while. Everybody else's go on. At most [`MOST_ASIDE`] instances: more of
//!   them are not poison but a control plane that is broken, and that is waited out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{ControlError, Report};
use wherry_model::{InstanceId, JournalId, Observation};

use crate::backoff::Backoff;
use crate::fence;
use crate::node::Node;
use crate::session;

/// Without an answer in this time the same is sent again.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A fact that fails alone for so long is poison. Also how often trouble is said, and how often poison is tried again.
const PATIENCE: Duration = Duration::from_mins(1);
/// Most instances whose facts go a way of their own.
const MOST_ASIDE: usize = 16;

/// Reports until `stopping`, and then until everything was sent or one report fails.
pub(crate) async fn keep(node: Arc<Node>, stopping: CancellationToken) {
    let board = node.board.clone();
    let mut reporter = Reporter::new(node);
    loop {
        tokio::select! {
            biased;
            () = reporter.something_to_do() => {}
            () = stopping.cancelled() => return,
        }
        fence::passed(&reporter.node).await;
        let outcome = reporter.step().await;
        board.set(|status| &mut status.journal_facts, reporter.node.journal.pending());
        let mut wait = reporter.judge(outcome);
        if !wait.is_zero() && reporter.node.desired.is_removed() {
            wait = session::REMOVED_LOOK;
        }
        if !wait.is_zero() {
            tokio::select! {
                biased;
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled() => return,
            }
        }
    }
}

struct Reporter {
    node: Arc<Node>,
    /// Whether the store and this journal fit.
    checked: bool,
    /// Whether the control plane must hear of a new journal id.
    introduce: bool,
    /// Most facts of the next batch.
    most: usize,
    /// The fact that fails alone, and since when.
    alone: Option<(u64, Instant)>,
    aside_due: Instant,
    failures: u32,
    last_said: Option<Instant>,
}

impl Reporter {
    fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            checked: false,
            introduce: false,
            most: Report::MAX_OBSERVATIONS,
            alone: None,
            aside_due: Instant::now(),
            failures: 0,
            last_said: None,
        }
    }

    async fn something_to_do(&self) {
        let aside = async {
            if self.node.journal.aside().is_empty() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep_until(self.aside_due).await;
        };
        tokio::select! {
            biased;
            () = self.node.journal.something_to_send() => {}
            () = aside => {}
        }
    }

    async fn step(&mut self) -> Result<(), ControlError> {
        self.check().await?;
        let journal = self.node.journal.clone();
        let facts = journal.unacknowledged(self.most);
        let count = facts.len();
        if let Some(first) = facts.first().cloned() {
            match self.send(journal.id(), facts).await {
                Ok(through) => journal.acknowledged(through),
                Err(error) => {
                    self.most = (count / 2).max(1);
                    if count == 1 && error != ControlError::UnknownNode {
                        self.suspect(&first).await?;
                    }
                    return Err(error);
                }
            }
            self.most = self.most.saturating_mul(2).min(Report::MAX_OBSERVATIONS);
            self.alone = None;
        }
        if self.aside_due <= Instant::now() {
            let mut trouble = None;
            for instance in journal.aside() {
                trouble = self.send_aside(instance).await.err().or(trouble);
            }
            if let Some(error) = trouble {
                let instances = journal.aside();
                tracing::error!(?instances, %error, "the control plane still does not take facts of these instances");
            }
            self.aside_due = Instant::now() + PATIENCE;
        }
        Ok(())
    }

    async fn check(&mut self) -> Result<(), ControlError> {
        let journal = &self.node.journal;
        if !self.checked {
            let through = self.send(journal.id(), Vec::new()).await?;
            let opened_through = journal.opened_through();
            if through > opened_through {
                tracing::error!(
                    through,
                    opened_through,
                    "more is stored of this journal than it has said, its folder was put back; it gets a new id"
                );
                journal.renew(JournalId::generate(&*self.node.clock, &*self.node.entropy)).await;
                self.introduce = true;
            }
            self.checked = true;
        }
        if self.introduce {
            within(self.node.control.hello(self.node.hello().await)).await?;
            self.introduce = false;
        }
        Ok(())
    }

    /// Returns through which number everything is stored; fails when that is nothing of what was sent.
    async fn send(&self, journal: JournalId, observations: Vec<Observation>) -> Result<u64, ControlError> {
        let first = observations.first().map_or(0, |first| first.seq);
        let report = Report { node: self.node.config.machine.node, journal, observations };
        let ack = within(self.node.control.report(report)).await?;
        if ack.through < first {
            return Err(ControlError::Refused(format!("it took fact {first} and acknowledged nothing of it")));
        }
        Ok(ack.through)
    }

    /// Notes that a fact failed alone, and sets its instance aside when that is not for the first time.
    async fn suspect(&mut self, fact: &Observation) -> Result<(), ControlError> {
        let since = match self.alone {
            Some((seq, since)) if seq == fact.seq => since,
            _ => Instant::now(),
        };
        self.alone = Some((fact.seq, since));
        let journal = self.node.journal.clone();
        if since.elapsed() < PATIENCE || journal.aside().len() >= MOST_ASIDE {
            return Ok(());
        }
        self.send(journal.id(), Vec::new()).await?;
        tracing::error!(
            instance = %fact.instance,
            seq = fact.seq,
            fact = ?fact.fact,
            "the control plane does not take this fact; its instance's facts wait, everybody else's go on"
        );
        journal.set_aside(fact.instance).await;
        self.aside_due = Instant::now() + PATIENCE;
        Ok(())
    }

    /// Tries what an instance that was set aside has to say; back to the others with it when all of that was taken.
    async fn send_aside(&self, instance: InstanceId) -> Result<(), ControlError> {
        let journal = &self.node.journal;
        let id = journal.id_aside(instance);
        for fact in journal.unacknowledged_aside(instance, Report::MAX_OBSERVATIONS) {
            let through = self.send(id, vec![fact]).await?;
            journal.acknowledged_aside(instance, through);
        }
        journal.take_back(instance).await;
        Ok(())
    }

    /// How long to wait before the next step.
    fn judge(&mut self, outcome: Result<(), ControlError>) -> Duration {
        let Err(error) = outcome else {
            self.failures = 0;
            return Duration::ZERO;
        };
        self.failures = self.failures.saturating_add(1);
        if self.last_said.is_none_or(|at| at.elapsed() >= PATIENCE) {
            self.last_said = Some(Instant::now());
            let waiting = self.node.journal.pending();
            if self.failures == 1 {
                tracing::warn!(%error, waiting, "a report was not taken; it is kept and sent again");
            } else {
                tracing::error!(%error, waiting, "reports are not taken; they are kept and sent again");
            }
        }
        Backoff::CONTROL_PLANE.delay(self.failures)
    }
}

async fn within<T>(call: impl Future<Output = Result<T, ControlError>>) -> Result<T, ControlError> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, call).await;
    answer.unwrap_or_else(|_| Err(ControlError::Unavailable("it did not answer".to_owned())))
}
