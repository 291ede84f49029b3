//! When a stream ends that would not end by itself.

use std::time::Duration;

use wherry_model::{Principal, Subject};

use crate::state::ApiState;

/// How often a stream asks whether the key behind it still works.
const RECHECK: Duration = Duration::from_secs(15);

/// How long a stream may last for whom we cannot ask about: the tokens of outside issuers.
const OUTSIDE_LIMIT: Duration = Duration::from_hours(1);

/// Returns when the service shuts down, or when the caller's key does not work any more.
pub(crate) async fn until_unwelcome(state: ApiState, principal: Principal) {
    let ended = async {
        match &principal.subject {
            Subject::Key(key) => loop {
                tokio::time::sleep(RECHECK).await;
                if let Ok(false) = state.control.key_works(*key).await {
                    return;
                }
            },
            Subject::External { .. } => tokio::time::sleep(OUTSIDE_LIMIT).await,
        }
    };
    tokio::select! {
        () = state.shutdown.cancelled() => {}
        () = ended => {}
    }
}
