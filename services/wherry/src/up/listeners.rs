//! The ports of the API. They are bound before anything else is started, so that a port in use is found out at once.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wherry_api_server::ApiState;

use crate::settings::Listen;

/// Where everything answers, with real port numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) api: SocketAddr,
    pub(super) operator: SocketAddr,
    pub(super) dns: SocketAddr,
}

/// Bound, not yet serving.
pub(super) struct Listeners {
    pub(super) addresses: Addresses,
    api: TcpListener,
    operator: TcpListener,
}

impl Listeners {
    pub(super) async fn bind(listen: &Listen) -> anyhow::Result<Self> {
        let api = bind(listen.api, "the API", "--listen-api or listen.api").await?;
        let operator = bind(listen.operator, "metrics and health", "--listen-operator or listen.operator").await?;
        let addresses = Addresses { api: api.local_addr()?, operator: operator.local_addr()?, dns: listen.dns };
        Ok(Self { addresses, api, operator })
    }

    /// Serves until `stop`.
    pub(super) fn serve(self, state: &ApiState, stop: &CancellationToken) -> TaskTracker {
        let tasks = TaskTracker::new();
        let public = wherry_api_server::public_router(state);
        let operator = wherry_api_server::operator_router(state);
        tasks.spawn(wherry_api_server::serve(self.api, public, stop.child_token()));
        tasks.spawn(wherry_api_server::serve(self.operator, operator, stop.child_token()));
        tasks
    }
}

async fn bind(address: SocketAddr, what: &str, way_out: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for {what}: stop what uses it, or choose another address with {way_out}")
    })
}
