//! Where a replica listens.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Where agents are listened for when nothing else is said.
const DEFAULT_PORT: u16 = 7443;

/// The agents' port of a replica, `https://host:port`. Only where to dial: who answers must prove itself with a certificate
/// of our authority for `control.wherry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// The text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no endpoint of a control plane: it has the form https://host:port")]
pub struct EndpointError {
    text: String,
}

impl Endpoint {
    pub(crate) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError { text: text.chars().take(200).collect() };
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let plain = uri.scheme() == Some(&http::uri::Scheme::HTTPS)
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
            && !authority.as_str().contains('@');
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if !plain || host.is_empty() {
            return Err(wrong());
        }
        // `http` has no port for one that it cannot read, which is not the same as none.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => DEFAULT_PORT,
            Some(port) => port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(wrong)?,
            None => return Err(wrong()),
        };
        if port == 0 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_with_a_host_and_nothing_behind_it() {
        for (text, printed) in [
            ("https://10.0.0.1:7443", "https://10.0.0.1:7443"),
            ("https://control.example/", "https://control.example:7443"),
            ("https://[fd00::1]:7000", "https://[fd00::1]:7000"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), printed);
        }
        for wrong in [
            "",
            "http://10.0.0.1:7443",
            "10.0.0.1:7443",
            "https://",
            "https://user@host:7443",
            "https://host:7443/agent",
            "https://host:7443/?x",
            "https://host:0",
            "https://host:99999",
            "https://host:",
            "ftp://host:1",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
