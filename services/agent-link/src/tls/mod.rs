//! TLS 1.3 on aws-lc-rs, with the clock that everything else here uses.
//!
//! Sessions are never resumed: a resumed one would carry the certificate of the first handshake on, also after it was
//! renewed. A full handshake costs a signature and two checks.

mod client;
mod server;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use wherry_model::Clock;

pub(crate) use client::{Credential, client_config, joining_config};
pub(crate) use server::{ReplicaCertificate, server_config, two_thirds};

/// The name of every replica in its certificate: agents ask for it whatever address they dial.
pub(crate) const CONTROL_NAME: &str = "control.wherry";

/// HTTP/2 in ALPN (RFC 9113).
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";
/// HTTP/1.1 in ALPN (RFC 7301).
pub(crate) const ALPN_HTTP11: &[u8] = b"http/1.1";

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The only certificate that is trusted.
fn roots(anchor: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(anchor.clone())?;
    Ok(Arc::new(roots))
}

/// [`Clock`] as rustls wants it.
struct WallClock(Arc<dyn Clock>);

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().grid_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
