//! What every role begins with: the data folder, the settings, the clock, the randomness, the signals.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wherry_model::{Clock, Entropy};

use crate::data::DataFolder;
use crate::settings::Settings;
use crate::system::{SystemClock, SystemEntropy};

/// What the parts of a process share.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) data: DataFolder,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Base {
    pub(crate) fn new(data: DataFolder, settings: Settings) -> Self {
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        Self { data, settings: Arc::new(settings), clock, entropy }
    }
}

/// The two signals that mean "stop".
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they do not end the process.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    pub(crate) async fn stop_asked(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Stops in order; a second signal stops at once. `command` is what tidies up after that.
    pub(crate) async fn stop_in_order(
        &mut self,
        work: impl Future<Output = anyhow::Result<()>>,
        command: &str,
    ) -> anyhow::Result<()> {
        eprintln!("\nstopping (again to stop at once) …");
        tokio::select! {
            biased;
            ended = work => ended,
            () = self.stop_asked() => anyhow::bail!("stopped at once; the next `{command}` tidies up"),
        }
    }
}

/// The address that this machine sends from when it talks to `target`: the kernel's choice, no packet is sent.
pub(crate) fn address_towards(target: IpAddr) -> Option<IpAddr> {
    let any = match target {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((target, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

/// This machine's address on the network that its default route leads to.
pub(crate) fn main_address() -> Option<Ipv4Addr> {
    // Of the documentation's range (RFC 5737): routed like any stranger, and nobody's.
    match address_towards(Ipv4Addr::new(192, 0, 2, 1).into())? {
        IpAddr::V4(address) if !address.is_loopback() => Some(address),
        _ => None,
    }
}

/// Fails when the folder is another role's.
pub(crate) fn require_absent(path: &Path, sentence: &str) -> anyhow::Result<()> {
    anyhow::ensure!(!path.exists(), "{} is there: {sentence}", path.display());
    Ok(())
}
