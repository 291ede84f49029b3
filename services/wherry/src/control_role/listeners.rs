//! The ports of a control plane. They are bound before anything else is started, so that a port in use is found out at
//! once.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::base::main_address;
use crate::settings::{Agents, Settings};

/// Where everything answers, with real port numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) api: SocketAddr,
    pub(crate) operator: SocketAddr,
    pub(crate) dns: SocketAddr,
}

/// Bound, not yet serving.
pub(crate) struct Listeners {
    pub(crate) addresses: Addresses,
    pub(super) api: TcpListener,
    pub(super) operator: TcpListener,
    pub(super) agents: Option<AgentsListener>,
}

/// Where agents call.
pub(crate) struct AgentsListener {
    pub(super) listener: TcpListener,
    /// What agents are told: `https://HOST:PORT`.
    pub(super) url: String,
    /// The host in it: it stands in the certificate.
    pub(super) host: String,
}

impl Listeners {
    pub(crate) async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let listen = &settings.listen;
        let api = bind(listen.api, "the API", "--listen-api or listen.api").await?;
        let operator = bind(listen.operator, "metrics and health", "--listen-operator or listen.operator").await?;
        let agents = match settings.agents.listen {
            Some(address) => Some(AgentsListener::bind(address, &settings.agents).await?),
            None => None,
        };
        let addresses = Addresses { api: api.local_addr()?, operator: operator.local_addr()?, dns: listen.dns };
        Ok(Self { addresses, api, operator, agents })
    }

    /// Where agents are told to call.
    pub(crate) fn agents_url(&self) -> Option<&str> {
        self.agents.as_ref().map(|agents| agents.url.as_str())
    }
}

impl AgentsListener {
    async fn bind(address: SocketAddr, settings: &Agents) -> anyhow::Result<Self> {
        let listener = bind(address, "agents", "--listen-agents or agents.listen").await?;
        let bound = listener.local_addr()?;
        let url = match &settings.advertise {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("https://{}", advertised(bound)?),
        };
        let host = url.trim_start_matches("https://").rsplit_once(':').map_or("", |(host, _)| host);
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Self { listener, url, host })
    }
}

/// Other machines cannot call "everywhere".
fn advertised(bound: SocketAddr) -> anyhow::Result<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return Ok(bound);
    }
    let own = main_address().context(
        "agents.advertise: this machine has no default route, so say under which address other machines reach it, \
         https://HOST:PORT",
    )?;
    Ok(SocketAddr::new(IpAddr::V4(own), bound.port()))
}

pub(crate) async fn bind(address: SocketAddr, what: &str, way_out: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for {what}: stop what uses it, or choose another address with {way_out}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_agents_are_told_is_where_we_listen_unless_the_operator_knows_better() {
        let any_port = "127.0.0.1:0".parse().unwrap();
        let here = AgentsListener::bind(any_port, &Agents::default()).await.unwrap();
        let port = here.listener.local_addr().unwrap().port();
        assert_eq!((here.url, here.host), (format!("https://127.0.0.1:{port}"), "127.0.0.1".to_owned()));
        for (url, host) in
            [("https://control.example:7443/", "control.example"), ("https://[2001:db8::1]:1", "2001:db8::1")]
        {
            let agents = Agents { advertise: Some(url.to_owned()), ..Agents::default() };
            let named = AgentsListener::bind(any_port, &agents).await.unwrap();
            assert_eq!((named.url.as_str(), named.host.as_str()), (url.trim_end_matches('/'), host));
        }
    }
}
