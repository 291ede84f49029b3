//! The line to the engine's socket: made at the first call, made again after it broke, every call with a deadline.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use wherry_runtime::{Result, RuntimeError};

use crate::failure::{About, runtime_error};
use crate::generated::containerd::services::containers::v1::containers_client::ContainersClient;
use crate::generated::containerd::services::content::v1::content_client::ContentClient;
use crate::generated::containerd::services::events::v1::events_client::EventsClient;
use crate::generated::containerd::services::tasks::v1::tasks_client::TasksClient;
use crate::generated::runtime::v1::image_service_client::ImageServiceClient;
use crate::generated::runtime::v1::runtime_service_client::RuntimeServiceClient;

/// Lists of thousands of containers pass gRPC's default of 4 MiB.
const MESSAGE_LIMIT_BYTES: usize = 64 << 20;

/// How much longer than the engine's own deadline we wait for it to say so.
const DEADLINE_SLACK: Duration = Duration::from_secs(1);

/// Deadline of the call that only asks whether somebody is there.
pub(crate) const PING_LIMIT: Duration = Duration::from_secs(5);

/// Deadline of calls that only read.
pub(crate) const READ_LIMIT: Duration = Duration::from_secs(15);

/// Deadline of calls that start or remove something; a loaded machine with slow disks needs tens of seconds.
pub(crate) const WRITE_LIMIT: Duration = Duration::from_secs(90);

/// The namespace in which containerd's CRI plugin keeps its things.
const CRI_NAMESPACE: &str = "k8s.io";

#[derive(Debug, Clone)]
pub(crate) struct Connection {
    channel: Channel,
}

impl Connection {
    /// Needs a tokio runtime, does not touch the socket yet.
    pub(crate) fn lazy(socket: &Path) -> Result<Self> {
        let uri = format!("unix://{}", socket.display());
        let endpoint = Endpoint::from_shared(uri).map_err(|error| RuntimeError::InvalidArgument {
            message: format!("socket path {} is not usable: {error}", socket.display()),
        })?;
        Ok(Self { channel: endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy() })
    }

    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT_BYTES)
    }

    pub(crate) fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT_BYTES)
    }

    pub(crate) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone())
    }

    pub(crate) fn events(&self) -> EventsClient<Channel> {
        EventsClient::new(self.channel.clone())
    }

    pub(crate) fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone())
    }

    pub(crate) fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }
}

/// A request that the engine gives up after `limit`, so that it does not go on with what nobody waits for.
pub(crate) fn request<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// A request to containerd's own services, about what its CRI plugin keeps.
pub(crate) fn namespaced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", tonic::metadata::MetadataValue::from_static(CRI_NAMESPACE));
    request
}

/// The same for one that the engine gives up after `limit`.
pub(crate) fn namespaced_within<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = namespaced(message);
    request.set_timeout(limit);
    request
}

/// Waits for an answer, at most `limit` and a little, and turns what went wrong into the contract's terms.
///
/// Boxed: a gRPC call's future is tens of KiB, and it would stand in every future of the agent that awaits it.
pub(crate) fn answered<'a, T>(
    call: &'static str,
    about: About<'a>,
    limit: Duration,
    answer: impl Future<Output = Result<Response<T>, Status>> + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    async move {
        match tokio::time::timeout(limit + DEADLINE_SLACK, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(runtime_error(call, about, limit, &status)),
            Err(_elapsed) => Err(RuntimeError::Timeout { call, after: limit }),
        }
    }
    .boxed()
}
