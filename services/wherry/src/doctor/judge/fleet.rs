//! Store, keys, and belonging to a fleet.

use std::time::Duration;

use wherry_model::Timestamp;

use super::super::host::{KeysSeen, Membership, NotJoined, StoreSeen};
use super::Finding;
use crate::client::text::bytes;

/// A certificate of a day is renewed eight hours before its end.
const RENEWAL_IS_LATE: Duration = Duration::from_mins(10);
const JOIN_AGAIN: &str = "run `wherry node --join …` here once more, with the token that it joined with: it stays this node \
                          then, and what runs here goes on; with a new token it becomes another node";

pub(super) fn store(seen: &StoreSeen) -> Finding {
    match seen {
        StoreSeen::File(None) => Finding::note("store", "the SQLite file is made at the first start"),
        StoreSeen::File(Some(size)) => Finding::ok("store", format!("a SQLite file of {}", bytes(*size))),
        StoreSeen::Server { url, outcome: Ok(()) } => {
            Finding::ok("store", format!("{url} answers, its schema is that of this version"))
        }
        // What the store says includes what to do.
        StoreSeen::Server { url, outcome: Err(said) } => Finding::failure("store", format!("{url}: {said}")),
    }
}

pub(super) fn keys(seen: &KeysSeen) -> Finding {
    let copy = "copy the folder `keys` of another replica, or of a backup, here";
    match seen {
        KeysSeen::NotMadeYet => Finding::note("keys", "they are made at the first start"),
        KeysSeen::Missing(files) => {
            let says = format!("the installation has begun, and {} is not here", files.join(", "));
            Finding::failure("keys", says).mend(copy)
        }
        KeysSeen::Alone => Finding::ok("keys", "all here and readable"),
        KeysSeen::Compared(Ok(())) => Finding::ok("keys", "all here, and those of the installation"),
        KeysSeen::Compared(Err(said)) | KeysSeen::Damaged(said) => Finding::failure("keys", said).mend(copy),
    }
}

pub(super) fn membership(seen: &Result<Membership, NotJoined>, now: Timestamp) -> Vec<Finding> {
    let membership = match seen {
        Ok(membership) => membership,
        Err(NotJoined::Never) => {
            let says = "this machine has not joined: `wherry admin node token` on the control plane prints how";
            return vec![Finding::note("fleet", says)];
        }
        Err(NotJoined::Damaged(said)) => return vec![Finding::failure("fleet", said).mend(JOIN_AGAIN)],
    };
    let Membership { node, range, expires_at, reached } = membership;
    let mut findings = vec![Finding::ok("fleet", format!("this is the node {node} with {}/{}", range.0, range.1))];
    let left = expires_at.since(now);
    findings.push(if left.is_zero() {
        Finding::failure("certificate", format!("it ended at {expires_at}")).mend(JOIN_AGAIN)
    } else if left < RENEWAL_IS_LATE {
        let says = format!("it ends at {expires_at} and is being renewed late");
        Finding::warning("certificate", says).mend("see that the control plane can be reached")
    } else {
        Finding::ok("certificate", format!("valid until {expires_at}, renewed by itself before"))
    });
    if left.is_zero() {
        // Nobody takes it any more.
        return findings;
    }
    findings.push(match reached {
        Ok(endpoint) => Finding::ok("control plane", format!("{endpoint} answers and takes the certificate")),
        Err(said) => Finding::warning("control plane", said).mend(
            "what runs here goes on meanwhile, but nothing new comes: see that the replicas run, and that nothing between \
             blocks their agents' port",
        ),
    });
    findings
}
