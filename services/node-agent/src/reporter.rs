//! The line to the control plane, upwards: sends what the journal holds until it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wherry_agent_api::{ControlError, ControlPlane, Report};
use wherry_model::NodeId;

use crate::backoff::Backoff;
use crate::journal::Journal;
use crate::status::Board;

/// A report that breaks the contract does so again at once; a later control plane may understand it.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);

/// Without an answer in this time the same is sent again.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Reports until `stopping`, and then until everything was sent or one report fails.
pub(crate) async fn keep(
    journal: Arc<Journal>,
    control: Arc<dyn ControlPlane>,
    node: NodeId,
    board: Arc<Board>,
    stopping: CancellationToken,
) {
    let mut failures: u32 = 0;
    loop {
        tokio::select! {
            biased;
            () = journal.something_to_send() => {}
            () = stopping.cancelled() => return,
        }
        let observations = journal.unacknowledged(Report::MAX_OBSERVATIONS);
        let last = observations.last().map_or(0, |last| last.seq);
        let first = observations.first().map_or(0, |first| first.seq);
        let report = Report { node, journal: journal.id(), observations };
        let answer = tokio::time::timeout(ANSWER_WITHIN, control.report(report)).await;
        let wait = match answer.unwrap_or_else(|_| Err(ControlError::Unavailable("it did not answer".to_owned()))) {
            Ok(ack) if ack.through >= first => {
                journal.acknowledged(ack.through.min(last));
                failures = 0;
                Duration::ZERO
            }
            Ok(_) => {
                failures = failures.saturating_add(1);
                tracing::error!(first, "the control plane took a report and acknowledged nothing of it");
                AFTER_REFUSAL
            }
            Err(ControlError::Refused(message)) => {
                failures = failures.saturating_add(1);
                tracing::error!(first, message, "the control plane refused a report; it is kept and sent again");
                AFTER_REFUSAL
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures == 1 {
                    tracing::warn!(%error, "a report could not be sent; it is kept and sent again");
                }
                Backoff::CONTROL_PLANE.delay(failures)
            }
        };
        board.set(|status| &mut status.journal_facts, journal.pending());
        if failures > 0 {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled() => return,
            }
        }
    }
}
