//! Who this machine is in its fleet.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use wherry_agent_link::{Identity, JoinOrder};
use wherry_model::{Clock, Timestamp};

use super::part::Place;
use super::{another, join_token, machine, underlay};
use crate::base::Base;
use crate::cli::JoinArgs;
use crate::metrics::SecondsLeft;

/// How long the address of a replica may take to be found out: a name server can be away with everything else.
const LOOK_UP: Duration = Duration::from_secs(2);

/// What was kept of an earlier start; none before the first.
pub(super) fn open(base: &Base) -> anyhow::Result<Option<Identity>> {
    Identity::open(&base.data.identity()).context("who this machine is in its fleet cannot be read")
}

/// The identity that is known, or the one that joining gives.
pub(super) async fn settle(base: &Base, known: Option<Identity>, args: &JoinArgs) -> anyhow::Result<Identity> {
    if let Some(url) = &args.join {
        let order = order(base, known.as_ref(), url, args)?;
        if let Some(known) = known.filter(|known| known.would_become_another(&order.token, base.clock.now())) {
            another::require_left_nothing(base, &known).await?;
        }
        let (clock, entropy) = (Arc::clone(&base.clock), Arc::clone(&base.entropy));
        return Ok(Identity::join(&base.data.identity(), order, clock, entropy).await?);
    }
    let identity = known.context(
        "this machine has not joined a fleet: run `wherry admin node token` where the control plane is, then the command that \
         it prints, here",
    )?;
    if let Err(error) = identity.check(base.clock.now()) {
        // What runs here runs on, and the clock may be what is wrong.
        tracing::error!(error = &error as &dyn std::error::Error, "this node is cut off from its fleet");
    }
    Ok(identity)
}

fn order(base: &Base, known: Option<&Identity>, url: &str, args: &JoinArgs) -> anyhow::Result<JoinOrder> {
    let fingerprint = args.ca_fingerprint.as_deref().context("--join needs --ca-fingerprint")?;
    let token = join_token::given(args)?;
    let ca_fingerprint = fingerprint.parse().context("--ca-fingerprint")?;
    let name = match (&args.name, known) {
        (Some(name), _) => name.clone(),
        // A machine that joins again keeps its name.
        (None, Some(known)) => known.name().to_owned(),
        (None, None) => machine::name(&base.settings.node).to_ascii_lowercase(),
    };
    Ok(JoinOrder { endpoint: url.to_owned(), token, ca_fingerprint, name })
}

/// Where the machine is in the fleet's network.
pub(super) async fn place(
    base: &Base,
    identity: &Identity,
    given: Option<std::net::Ipv4Addr>,
) -> anyhow::Result<Place> {
    let Base { data, settings, .. } = base;
    let hosts = match given.or(settings.network.underlay) {
        Some(_) => Vec::new(),
        None => addresses(&identity.endpoints()).await,
    };
    let underlay = Some(underlay::choose(data, given, settings.network.underlay, &hosts)?);
    Ok(Place { node: identity.node(), name: identity.name().to_owned(), range: identity.range(), underlay })
}

/// The addresses of those replicas that can be looked up.
async fn addresses(endpoints: &[String]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for endpoint in endpoints {
        let host = endpoint.trim_start_matches("https://");
        let looked_up = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host(host)).await;
        if let Ok(Ok(addresses)) = looked_up {
            found.extend(addresses.map(|address| address.ip()));
        }
        if !found.is_empty() {
            break;
        }
    }
    found
}

/// Seconds until the certificate ends, below 0 when it has.
pub(super) fn life(base: &Base, identity: &Identity) -> SecondsLeft {
    let (clock, expiry) = (Arc::clone(&base.clock), identity.watch_expiry());
    Box::new(move || seconds_left(*expiry.borrow(), clock.as_ref()))
}

fn seconds_left(expires_at: Timestamp, clock: &dyn Clock) -> i64 {
    expires_at.grid_second() - clock.now().grid_second()
}
