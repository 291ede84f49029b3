//! What containers print. The bytes come from the node that has them, never through the store.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use wherry_agent_api::{LogQuery, NodeError};
use wherry_model::{ContainerName, InstanceState, Principal, ProjectName, Scope, SpecError, Timestamp};

use crate::{Control, Error};

/// The most lines that `tail` may ask for.
const MAX_TAIL: u32 = 100_000;

/// Which output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogRequest {
    /// A run by its number, or counted back from the latest: 0 the latest, -1 the one before.
    pub run: Option<i64>,
    /// Only the last so many lines.
    pub tail: Option<u32>,
    /// Go on as lines are written.
    pub follow: bool,
    /// Begin each line with its time.
    pub timestamps: bool,
    /// Only from the first line of this time or later; of all runs that are kept, unless `run` or `tail` say otherwise.
    pub since: Option<Timestamp>,
}

/// Output in pieces of whole lines.
pub type LogStream = BoxStream<'static, Result<Vec<u8>, Error>>;

impl Control {
    /// Streams the output of a container; empty when it has not run yet. Of a deleted instance, by its id, as long as the
    /// node that had it last keeps it.
    pub async fn instance_logs(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        container: &ContainerName,
        request: LogRequest,
    ) -> Result<LogStream, Error> {
        Self::require(principal, Scope::LogsRead)?;
        if request.tail.is_some_and(|lines| lines > MAX_TAIL) {
            return Err(SpecError::new("tail", format!("the most is {MAX_TAIL} lines")).into());
        }
        let instance = self.instance_of(principal, project, name_or_id).await?;
        let status = instance.container(container);
        let status =
            status.ok_or_else(|| Error::NotFound(format!("the container {container} of {}", instance.name)))?;
        let latest = status.latest_run().map(|run| run.number);
        if latest.is_none() && !request.follow {
            return Ok(stream::empty().boxed());
        }
        let run = match request.run {
            None | Some(0) => None,
            Some(back) if back < 0 => {
                let number = i64::from(latest.unwrap_or(0)).saturating_add(back);
                let number = u32::try_from(number).ok().filter(|number| *number > 0);
                Some(number.ok_or_else(|| Error::NotFound(format!("the run {back} of {container}")))?)
            }
            Some(number) => {
                Some(u32::try_from(number).map_err(|_| SpecError::new("run", "no container has run that often"))?)
            }
        };
        let services = instance.node.and_then(|node| self.node_services(node));
        let services = services.ok_or_else(|| Error::unavailable("the output of this instance cannot be reached"))?;
        let is_deleted = instance.state == InstanceState::Deleted;
        let query = LogQuery {
            instance: instance.id,
            container: container.clone(),
            run,
            tail: request.tail,
            // Nothing more comes of what is deleted, and a machine that has it no more must not wait to hear of it.
            follow: request.follow && !is_deleted,
            timestamps: request.timestamps,
            since: request.since,
        };
        let chunks = services.logs(query).await.map_err(|error| match error {
            NodeError::NotFound(_) if is_deleted => Error::NotFound(format!(
                "the output of {}: it was deleted longer ago than output is kept",
                instance.name
            )),
            error => node_error(error),
        })?;
        Ok(chunks.map(|chunk| chunk.map_err(node_error)).boxed())
    }
}

/// A node's words may name paths or addresses of the fleet, so a tenant does not get to read them.
fn node_error(error: NodeError) -> Error {
    match error {
        NodeError::NotFound(_) | NodeError::Refused(_) => Error::NotFound("the output of this run".to_owned()),
        NodeError::Unavailable(message) => {
            tracing::warn!(error = message, "a node could not serve output");
            Error::unavailable("the output of this instance cannot be reached")
        }
    }
}
