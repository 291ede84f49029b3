//! Image references: `registry/repository[:tag][@digest]`.
//!
//! A registry must be named. Short names that mean one company's registry are a well-known way to run somebody else's
//! image, so they are refused unless the operator configures a default registry.

use std::fmt;
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
