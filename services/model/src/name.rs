//! Names that people choose. All of them are DNS labels (RFC 1123): what names an instance also names its host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest name, in bytes: a DNS label (RFC 1035 section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// Labels that would be mistaken for the service's own names.
const RESERVED: [&str; 6] = ["ns", "api", "www", "localhost", "wherry", "resolver"];

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a name has at least one character")]
    Empty,
    /// Longer than a DNS label may be.
    #[error("{0} characters are too many, the limit is 63")]
    TooLong(usize),
    /// A character outside `a-z`, `0-9` and `-`.
    #[error("{0:?} is not allowed: use lower-case letters a-z, digits and hyphens")]
    Character(char),
    /// A hyphen at an end.
    #[error("a name begins and ends with a letter or digit")]
    Hyphen,
    /// Reads like an internationalised label ("xn--"), which could imitate another name.
    #[error("hyphens in the third and fourth place are reserved (RFC 5891)")]
    Punycode,
    /// One of the service's own names.
    #[error("{0:?} is reserved, choose another name")]
    Reserved(String),
}

fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(bad) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(NameError::Character(bad));
    }
    if text.len() > MAX_LABEL_BYTES {
        return Err(NameError::TooLong(text.len()));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    if text.get(2..4) == Some("--") {
        return Err(NameError::Punycode);
    }
    Ok(())
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, reserved: $reserved:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and takes it as a name.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                check_label(&text)?;
                if $reserved.contains(&text.as_str()) {
                    return Err(NameError::Reserved(text));
                }
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

label!(
    /// The name of an instance, unique in its tenant and project, and the first label of its DNS name.
    InstanceName,
    reserved: RESERVED
);
label!(
    /// The first label of a DNS name, where it is not the name of the instance.
    DnsLabel,
    reserved: RESERVED
);
label!(
    /// The name of a container inside its instance.
    ContainerName,
    reserved: [""; 0]
);
label!(
    /// The name of a webhook, unique in its project.
    WebhookName,
    reserved: [""; 0]
);
label!(
    /// The name of a volume inside its instance.
    VolumeName,
    reserved: [""; 0]
);
label!(
    /// The name of a port inside its instance.
    PortName,
    reserved: [""; 0]
);
label!(
    /// The name of a project, unique in its tenant.
    ProjectName,
    reserved: [""; 0]
);
label!(
    /// The short name of a tenant, unique in the service.
    TenantName,
    reserved: [""; 0]
);

impl ProjectName {
    /// The project that every tenant has from the start.
    pub fn default_project() -> Self {
        Self("default".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_names_say_what_is_wrong() {
        let long = "a".repeat(64);
        for (text, wanted) in [
            ("", NameError::Empty),
            ("Web", NameError::Character('W')),
            ("a.b", NameError::Character('.')),
            ("*", NameError::Character('*')),
            ("_acme", NameError::Character('_')),
            ("-a", NameError::Hyphen),
            ("a-", NameError::Hyphen),
            ("xn--80ak6aa92e", NameError::Punycode),
            ("ns", NameError::Reserved("ns".into())),
            (long.as_str(), NameError::TooLong(64)),
        ] {
            assert_eq!(InstanceName::new(text), Err(wanted), "{text:?}");
        }
    }

    #[test]
    fn right_names_pass() {
        let longest = "a".repeat(63);
        for text in ["a", "0", "web-1", longest.as_str()] {
            assert_eq!(InstanceName::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn json_is_checked_too() {
        assert!(serde_json::from_str::<InstanceName>("\"Bad\"").is_err());
        assert_eq!(serde_json::from_str::<InstanceName>("\"ok\"").unwrap().as_str(), "ok");
    }
}
