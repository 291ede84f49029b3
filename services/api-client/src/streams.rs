//! Output and events as streams. Both hold back the service when they are read slowly; nothing piles up here.

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use wherry_api_types::{Event, FleetEvent};

use crate::error::ClientError;
use crate::instances::instance;
use crate::transport::{Call, Client, segment};

/// The longest event that is read, in bytes.
const MAX_EVENT_BYTES: usize = 256 * 1024;

/// Which output to read.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on as lines are written.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<u32>,
    /// Begin each line with its time.
    pub timestamps: bool,
    /// A run by its number, or counted back from the latest.
    pub run: Option<i64>,
    /// Only from then on: a time as RFC 3339 has it, or how long ago, for example `10m`.
    pub since: Option<String>,
}

/// Which events to read.
#[derive(Debug, Clone, Default)]
pub struct EventOptions {
    /// Only of this instance.
    pub instance: Option<String>,
    /// Only after this number.
    pub after: u64,
    /// End after what has happened so far, instead of going on with what happens.
    pub past_only: bool,
}

/// Output in pieces.
pub type LogStream = BoxStream<'static, Result<Vec<u8>, ClientError>>;

/// Events, first those that are stored, then new ones as they happen.
pub type EventStream = BoxStream<'static, Result<Event, ClientError>>;

/// Events of the fleet, likewise.
pub type FleetEventStream = BoxStream<'static, Result<FleetEvent, ClientError>>;

impl Client {
    /// What a container prints.
    pub async fn logs(
        &self,
        project: &str,
        name: &str,
        container: &str,
        options: &LogOptions,
    ) -> Result<LogStream, ClientError> {
        let path = format!("{}/containers/{}/logs", instance(project, name), segment(container));
        let mut call = Call::get(path).query("follow", options.follow).query("timestamps", options.timestamps);
        call.may_be_silent = options.follow;
        if let Some(lines) = options.tail {
            call = call.query("tail", lines);
        }
        if let Some(run) = options.run {
            call = call.query("run", run);
        }
        if let Some(since) = &options.since {
            call = call.query("since", since);
        }
        let answer = self.send(&call).await?;
        let client = self.clone();
        let bytes = answer.bytes_stream().map_ok(|piece| piece.to_vec());
        Ok(bytes.map_err(move |source| client.away(source)).boxed())
    }

    /// Events of a project or of one instance. Ends when the connection does; go on after the last number that was seen.
    pub async fn events(&self, project: &str, options: &EventOptions) -> Result<EventStream, ClientError> {
        let path = match &options.instance {
            Some(name) => format!("{}/events", instance(project, name)),
            None => format!("/v1/projects/{}/events", segment(project)),
        };
        let call = Call::get(path).query("after", options.after).query("follow", !options.past_only);
        let call = call.header("accept", "text/event-stream");
        self.event_stream(call).await
    }

    /// Events of the fleet after a number of the replica that answers (scope `admin`), and with `follow` new ones as they
    /// happen. Ends when the connection does.
    pub async fn fleet_events(&self, after: u64, follow: bool) -> Result<FleetEventStream, ClientError> {
        let call = Call::get("/v1/admin/events".to_owned()).query("after", after).query("follow", follow);
        self.event_stream(call.header("accept", "text/event-stream")).await
    }

    /// Sends the call and reads its answer as server-sent events.
    async fn event_stream<T: DeserializeOwned + Send + 'static>(
        &self,
        call: Call<'_>,
    ) -> Result<BoxStream<'static, Result<T, ClientError>>, ClientError> {
        let answer = self.send(&call).await?;
        let client = self.clone();
        let pieces = answer.bytes_stream().boxed();
        let events = stream::try_unfold((client, pieces, Vec::new()), |(client, mut pieces, mut buffer)| async move {
            loop {
                if let Some(data) = take_event(&mut buffer) {
                    let event = serde_json::from_slice(&data).map_err(|_| client.understand_failure(200, &data))?;
                    return Ok(Some((event, (client, pieces, buffer))));
                }
                match pieces.try_next().await.map_err(|source| client.away(source))? {
                    None => return Ok(None),
                    Some(piece) => buffer.extend_from_slice(&piece),
                }
                if buffer.len() > MAX_EVENT_BYTES {
                    return Err(client.understand_failure(200, &buffer));
                }
            }
        });
        Ok(events.boxed())
    }
}

/// Takes the data of the first whole event out of the buffer (WHATWG, server-sent events); comments are skipped.
fn take_event(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let block: Vec<u8> = buffer.drain(..end + 2).collect();
        let mut data = Vec::new();
        for line in block.split(|byte| *byte == b'\n') {
            if let Some(value) = line.strip_prefix(b"data:") {
                if !data.is_empty() {
                    data.push(b'\n');
                }
                data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            }
        }
        if !data.is_empty() {
            return Some(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_whole() {
        let mut buffer = b": alive\n\nid: 1\nevent: x\ndata: {\"a\":\ndata: 1}\n\ndata: ha".to_vec();
        assert_eq!(take_event(&mut buffer).unwrap(), b"{\"a\":\n1}");
        assert_eq!(take_event(&mut buffer), None);
        buffer.extend_from_slice(b"lf\n\n");
        assert_eq!(take_event(&mut buffer).unwrap(), b"half");
        assert!(buffer.is_empty());
    }
}
