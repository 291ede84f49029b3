//! The names of the instances of a project, for who is typing one: within a moment or not at all, and without a word of what went
//! wrong.

use std::path::Path;
use std::time::Duration;

use wherry_api_types::InstanceState;
use wherry_model::InstanceName;

use super::connection::{self, Environment};
use super::session::Session;
use crate::cli::ConnectionArgs;

/// Nobody waits longer for a word to be completed.
const PATIENCE: Duration = Duration::from_secs(1);

/// More than this is not completed but looked up.
const MAX_NAMES: usize = 1_000;

/// Those that begin so, in order; none where nobody answers in time.
pub(crate) fn beginning_with(data: &Path, connection: &ConnectionArgs, beginning: &str) -> Vec<String> {
    let Ok(found) = connection::resolve(connection, Environment::read(), data) else { return Vec::new() };
    let Ok(session) = Session::new(found) else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let mut names = Vec::new();
    // What was found when the time is over is told.
    let _ = runtime.block_on(async { tokio::time::timeout(PATIENCE, collect(&session, beginning, &mut names)).await });
    runtime.shutdown_background();
    names.sort_unstable();
    names
}

/// Names only: whatever else a server says does not come into a command line.
async fn collect(session: &Session, beginning: &str, names: &mut Vec<String>) {
    let states: Vec<_> = InstanceState::ALL.into_iter().filter(|state| *state != InstanceState::Deleted).collect();
    let mut cursor = None;
    loop {
        let Ok(page) = session.list(&states, &[], cursor).await else { return };
        let found = page.items.into_iter().map(|instance| instance.name);
        names.extend(found.filter(|name| name.starts_with(beginning) && InstanceName::new(name.as_str()).is_ok()));
        cursor = page.next;
        if cursor.is_none() || names.len() >= MAX_NAMES {
            return;
        }
    }
}
