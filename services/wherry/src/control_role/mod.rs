//! `wherry control`: a replica of the control plane. It has no containers and needs no root: any number of them answer for one
//! PostgreSQL, and one may stand on a SQLite file of its own.
//!
//! Order of the start: what can be refused at once (settings, lock, ports), then store and keys, then the application, last the
//! doors. Order of the stop: doors, background work with its leases, store.

pub(crate) mod auth;
mod client_file;
mod enrolments;
mod greeting;
pub(crate) mod listeners;
mod part;

use std::net::Ipv4Addr;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

pub(crate) use part::{Opened, Serving};

use crate::base::{Base, Signals, require_absent};
use crate::cli::ControlArgs;
use crate::data::DataFolder;
use crate::metrics;
use crate::settings::{DEFAULT_AGENTS, Settings};
use crate::store::OpenStore;
use listeners::Listeners;

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run(data: DataFolder, args: &ControlArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut signals = Signals::install()?;
    let base = Base::new(data.clone(), settings(&data, args)?);
    require_absent(
        &data.identity(),
        "this data folder is that of a machine that has joined a Wherry, give another folder with --data",
    )?;
    data.create_for_control()?;
    let lock = data.lock("wherry control")?;
    let stop = CancellationToken::new();
    let serving = tokio::select! {
        biased;
        serving = start(&base, &stop, begun) => serving?,
        () = signals.stop_asked() => return Ok(()),
    };
    signals.stop_asked().await;
    let work = async {
        serving.close_doors().await;
        serving.finish().await;
        Ok(())
    };
    signals.stop_in_order(work, "wherry control").await?;
    drop(lock);
    println!("This replica is down. Instances run on, and other replicas answer.");
    Ok(())
}

async fn start(base: &Base, stop: &CancellationToken, begun: Instant) -> anyhow::Result<Serving> {
    let listeners = Listeners::bind(&base.settings).await?;
    let (addresses, url) = (listeners.addresses, listeners.agents_url().map(str::to_owned));
    let store = OpenStore::open(&base.data, &base.settings).await?;
    let opened = Opened::new(base, store, listeners, Ipv4Addr::LOCALHOST, stop).await?;
    let serving = opened.begin().serve(Vec::new())?;
    let sources = metrics::Sources::new(metrics::ControlSource::of(&serving), None);
    metrics::start(serving.state().registry(), sources, stop.clone())?;
    greeting::print(&addresses, url.as_deref(), base, begun.elapsed());
    Ok(serving)
}

fn settings(data: &DataFolder, args: &ControlArgs) -> anyhow::Result<Settings> {
    let mut settings = Settings::load(args.config.as_deref(), data.root())?;
    args.listen.apply(&mut settings);
    settings.agents.listen = args.listen_agents.or(settings.agents.listen).or(Some(DEFAULT_AGENTS));
    Ok(settings)
}
