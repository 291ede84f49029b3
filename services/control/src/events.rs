//! Events of instances: read by number, and streamed with replay.
//!
//! The oldest are forgotten (`background/retention.rs`). Who goes on after a number is told when something behind it is gone, never given
//! the rest as if it were all. Rejected: an event that says so in the stream (readers that do not know it would pass it over).

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use wherry_model::{Principal, ProjectName, Scope};
use wherry_store::{EventQuery, StoredEvent};

use crate::{Control, Error};

/// Events that are read at once while streaming.
const STREAM_PAGE: u32 = 100;

/// Which events are wanted.
#[derive(Debug, Clone)]
pub struct EventsRequest {
    /// Of which project.
    pub project: ProjectName,
    /// Of which instance, by name or id; of all when absent.
    pub instance: Option<String>,
    /// After this number, behind which nothing may be forgotten; 0 for all that are kept.
    pub after: u64,
    /// At most this many at once.
    pub limit: u32,
}

/// Events as they come.
pub type EventStream = BoxStream<'static, Result<StoredEvent, Error>>;

impl Control {
    /// The next events after `after`, in order.
    pub async fn events(&self, principal: &Principal, request: &EventsRequest) -> Result<Vec<StoredEvent>, Error> {
        let query = self.event_query(principal, request).await?;
        let page = self.store().events(&query).await?;
        self.misses_none(&query).await?;
        Ok(page)
    }

    /// Refuses a page that was read after a number behind which something is forgotten.
    async fn misses_none(&self, query: &EventQuery) -> Result<(), Error> {
        if query.after == 0 {
            return Ok(());
        }
        let through = self.store().events_forgotten(query).await?;
        if through > query.after { Err(Error::EventsForgotten { after: query.after, through }) } else { Ok(()) }
    }

    /// All events after `after`, then each new one as it is stored. Ends when the reader goes away, or is so slow that what it has not
    /// read is forgotten.
    pub async fn event_stream(&self, principal: &Principal, request: &EventsRequest) -> Result<EventStream, Error> {
        let query = EventQuery { limit: STREAM_PAGE, ..self.event_query(principal, request).await? };
        self.misses_none(&query).await?;
        let pages = stream::try_unfold((self.clone(), query), |(control, mut query)| async move {
            loop {
                let seen = control.store().position();
                let page = control.store().events(&query).await?;
                if let Some(last) = page.last() {
                    control.misses_none(&query).await?;
                    query.after = last.seq;
                    return Ok::<_, Error>(Some((stream::iter(page.into_iter().map(Ok)), (control, query))));
                }
                control.store().changed(seen).await;
            }
        });
        Ok(futures_util::TryStreamExt::try_flatten(pages).boxed())
    }

    async fn event_query(&self, principal: &Principal, request: &EventsRequest) -> Result<EventQuery, Error> {
        Self::require(principal, Scope::InstancesRead)?;
        let project = self.project_of(principal, &request.project).await?;
        let instance = match &request.instance {
            Some(name_or_id) => Some(self.instance_of(principal, &request.project, name_or_id).await?.id),
            None => None,
        };
        Ok(EventQuery {
            tenant: principal.tenant,
            project: project.id,
            instance,
            after: request.after,
            limit: request.limit,
        })
    }
}
