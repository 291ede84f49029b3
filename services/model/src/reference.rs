//! Image references: `registry/repository[:tag][@digest]`.
//!
//! A registry must be named. Short names that mean one company's registry are a well-known way to run somebody else's
//! image, so they are refused unless the operator configures a default registry.
//!
//! The node asks the registry from its own network, which instances cannot reach. So a registry must not be given as an
//! address that only means something there: link-local with the metadata services, unspecified, multicast. Loopback and
//! private addresses may be real registries and stay; so does a name, whatever it resolves to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a reference was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// No registry in front.
    #[error("{0:?} names no registry: write REGISTRY/REPOSITORY:TAG, for example registry.example/team/web:1")]
    NoRegistry(String),
    /// Not the grammar of the OCI distribution specification.
    #[error("{0:?} is not an image reference: write REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST")]
    Syntax(String),
    /// The registry is an address at which none can be.
    #[error("{0} is an address of the machine's own surroundings, images cannot be pulled from it: name a registry")]
    ForbiddenRegistry(IpAddr),
    /// Longer than any registry accepts.
    #[error("an image reference has at most 512 characters")]
    TooLong,
}

/// The content address of an image manifest: `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReferenceError::Syntax(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A checked image reference with its registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// Registry and repository, without tag or digest.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The registry alone: host, and port where it has one.
    pub fn registry(&self) -> &str {
        self.repository.split('/').next().unwrap_or(&self.repository)
    }

    /// The digest, when the user gave one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository at exactly `digest`: what is run at every start after the first pull.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { repository: self.repository.clone(), tag: None, digest: Some(digest) }
    }
}

/// The address that a host with or without a port spells, if it spells one.
fn address_of(host: &str) -> Option<IpAddr> {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    any_ipv4(name).map(IpAddr::V4)
}

/// IPv4 in every spelling that `inet_aton` takes (POSIX `inet_addr`): one to four parts, each decimal, octal after `0` or
/// hexadecimal after `0x`; the last part fills all that is left.
fn any_ipv4(text: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
        Some("") => Some(0),
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if part.len() > 1 && part.starts_with('0') => u32::from_str_radix(part, 8).ok(),
        None => part.parse::<u32>().ok(),
    };
    let parts = text.split('.').map(number).collect::<Option<Vec<u32>>>()?;
    let (last, leading) = parts.split_last()?;
    let left_bits = 32_u32.checked_sub(8 * u32::try_from(leading.len()).ok()?).filter(|bits| *bits >= 8)?;
    if leading.iter().any(|part| *part > 255) || u64::from(*last) >= 1 << left_bits {
        return None;
    }
    let above = leading.iter().fold(0_u64, |above, part| above << 8 | u64::from(*part));
    u32::try_from(above << left_bits | u64::from(*last)).ok().map(Ipv4Addr::from)
}

/// Azure's machine agent and metadata, at a public address.
const AZURE_AGENT: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local() || v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast() || v4 == AZURE_AGENT
        }
        IpAddr::V6(v6) => {
            // Mapped (RFC 4291), the deprecated compatible form, and NAT64 (RFC 6052) carry an IPv4 address at the end.
            let [.., high, low] = v6.segments();
            let carries = matches!(v6.segments(), [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..]);
            let carried = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
            let forbidden_carried = carries && v6 != Ipv6Addr::LOCALHOST && is_forbidden(IpAddr::V4(carried));
            v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast() || forbidden_carried
        }
    }
}

fn host_is_valid(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("v6", port.strip_prefix(':'))
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let name_ok = !name.is_empty()
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
    // The number parser alone would also take "+80".
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    name_ok && port.is_none_or(|port| digits(port) && port.parse::<u16>().is_ok_and(|number| number > 0))
}

fn path_component_is_valid(component: &str) -> bool {
    let bytes = component.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes.iter().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
        && !component.contains("..")
        && !component.contains("___")
}

fn tag_is_valid(tag: &str) -> bool {
    tag.len() <= 128
        && tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > 512 {
            return Err(ReferenceError::TooLong);
        }
        let syntax = || ReferenceError::Syntax(text.to_owned());
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|_| syntax())?)),
            None => (text, None),
        };
        let Some((host, path)) = rest.split_once('/') else {
            return Err(ReferenceError::NoRegistry(text.to_owned()));
        };
        if !host.contains(['.', ':', '[']) && host != "localhost" {
            return Err(ReferenceError::NoRegistry(text.to_owned()));
        }
        let (path, tag) = path.split_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
        if !host_is_valid(host) || !path.split('/').all(path_component_is_valid) || !tag.is_none_or(tag_is_valid) {
            return Err(syntax());
        }
        if let Some(address) = address_of(host).filter(|address| is_forbidden(*address)) {
            return Err(ReferenceError::ForbiddenRegistry(address));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { repository: format!("{host}/{path}"), tag, digest })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn complete_references_keep_their_parts() {
        for (text, printed) in [
            ("127.0.0.1:5000/demo/web:1", "127.0.0.1:5000/demo/web:1"),
            ("localhost/web", "localhost/web:latest"),
            ("[::1]:5000/web:a", "[::1]:5000/web:a"),
            ("registry.example/team/web_x/y-z:v1.2", "registry.example/team/web_x/y-z:v1.2"),
        ] {
            assert_eq!(text.parse::<ImageReference>().unwrap().to_string(), printed);
        }
        let pinned = format!("r.example/web@sha256:{HEX}");
        assert_eq!(pinned.parse::<ImageReference>().unwrap().to_string(), pinned);
        let tagged: ImageReference = "r.example/web:1".parse().unwrap();
        assert_eq!(tagged.pinned(format!("sha256:{HEX}").parse().unwrap()).to_string(), pinned);
    }

    #[test]
    fn registries_in_the_machines_surroundings_are_refused_however_they_are_spelt() {
        for host in [
            "169.254.169.254",
            "169.254.1.1:5000",
            "2852039166:80",
            "0xa9fea9fe:80",
            "0XA9.0xFE.0xa9.0xfe",
            "0251.0376.0251.0376",
            "169.16689662",
            "169.254.43518",
            "025177524776:80",
            "168.63.129.16",
            "168.0x3f8110",
            "0.0.0.0:5000",
            "0.0",
            "0x.0:80",
            "224.0.0.1",
            "255.255.255.255",
            "[::]:5000",
            "[fe80::1]",
            "[febf::1]:80",
            "[ff02::1]",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]:80",
            "[::169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
        ] {
            let refused = format!("{host}/team/web:1").parse::<ImageReference>().unwrap_err();
            assert!(matches!(refused, ReferenceError::ForbiddenRegistry(_)), "{host}: {refused}");
        }
        for host in [
            "127.0.0.1:5000",
            "10.0.0.5",
            "192.168.7.9:5000",
            "[::1]:5000",
            "[fd00::5]",
            "169.253.0.1",
            "169.254.169.254.example",
            "0xa9fea9fe.example",
            "1.2.3.4.5",
            "256.1.1.1",
            "registry.example:5000",
        ] {
            format!("{host}/team/web:1").parse::<ImageReference>().unwrap_or_else(|error| panic!("{host}: {error}"));
        }
    }

    #[test]
    fn incomplete_and_hostile_references_are_refused() {
        for text in ["web", "team/web:1", ""] {
            assert!(matches!(text.parse::<ImageReference>(), Err(ReferenceError::NoRegistry(_))), "{text}");
        }
        for text in [
            "r.example/",
            "r.example/Web",
            "r.example/a b",
            "r.example/../etc",
            "r.example/a:b:c",
            "r.example/a@sha256:1",
            "r.example:0/a",
            "r.example:99999/a",
            "r.example:+80/a",
            "[::zz]:1/a",
            "http://r.example/a",
            "r.example/a:",
            "r.example//a",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
    }
}
