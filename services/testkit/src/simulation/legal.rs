//! I8: the edges that an instance's life may take, written down a second time and not taken from the lifecycle.

use wherry_model::{Instance, InstanceState as S};

/// What of a write is not legal, if anything.
pub(super) fn broken(before: Option<&Instance>, after: &Instance) -> Option<String> {
    let Some(before) = before else {
        let born = after.revision.0 == 1 && after.generation.0 == 1 && after.state == S::Scheduled;
        return (!born).then(|| format!("it begins as {} of revision {}", after.state, after.revision.0));
    };
    if after.revision.0 != before.revision.0 + 1 {
        return Some(format!("revision {} follows {}", after.revision.0, before.revision.0));
    }
    if after.generation < before.generation || after.generation.0 > before.generation.0 + 1 {
        return Some(format!("generation {} follows {}", after.generation, before.generation));
    }
    let moved = after.node.is_some() && before.node.is_some() && after.node != before.node;
    if moved && after.generation == before.generation {
        return Some("it changes its machine and keeps its generation".to_owned());
    }
    if !edge(before.state, after.state) {
        return Some(format!("{} follows {}", after.state, before.state));
    }
    None
}

const fn edge(from: S, to: S) -> bool {
    match from {
        S::Pending => matches!(to, S::Pending | S::Scheduled | S::Stopped | S::Deleted),
        S::Scheduled | S::Pulling | S::Starting | S::Running | S::Unknown => !matches!(to, S::Deleted),
        S::Stopping => {
            matches!(to, S::Stopping | S::Stopped | S::Pending | S::Succeeded | S::Failed | S::Deleting | S::Deleted)
        }
        S::Stopped | S::Succeeded | S::Failed => {
            matches!(to, S::Scheduled | S::Deleting | S::Deleted)
                || matches!(
                    (from, to),
                    (S::Stopped, S::Stopped) | (S::Succeeded, S::Succeeded) | (S::Failed, S::Failed)
                )
        }
        S::Deleting => matches!(to, S::Deleting | S::Deleted),
        S::Deleted => false,
    }
}
