//! Names as the zone keys them: lower-case labels in wire form, each with its length before it, without the root byte.
//!
//! Keys live on the stack, so a lookup allocates nothing, and a byte `.` inside a label of the wire cannot be mistaken for a
//! border between labels.

use hickory_proto::rr::Name;

/// Longest name on the wire, root byte included (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 255;
/// Longest label (RFC 1035, section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;
/// Most labels that fit into [`MAX_NAME_BYTES`].
const MAX_LABELS: usize = MAX_NAME_BYTES / 2;

/// A name as key of the zone.
#[derive(Clone, Copy)]
pub(crate) struct NameKey {
    bytes: [u8; MAX_NAME_BYTES],
    len: usize,
    /// Where each label's length byte stands.
    starts: [u8; MAX_LABELS],
    labels: usize,
}

impl NameKey {
    const fn empty() -> Self {
        Self { bytes: [0; MAX_NAME_BYTES], len: 0, starts: [0; MAX_LABELS], labels: 0 }
    }

    /// The key of a name read from the wire. Any bytes may stand in its labels; they only have to fit.
    pub(crate) fn of(name: &Name) -> Option<Self> {
        let mut key = Self::empty();
        for label in name {
            key.push(label).ok()?;
        }
        Some(key)
    }

    /// Reads a host name as people write it: letters, digits, `-` and `_`, with or without the final dot.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut key = Self::empty();
        for label in text.split('.') {
            if label.is_empty() {
                return Err("a label is empty");
            }
            if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
                return Err("only letters, digits, hyphens and underscores may stand in a label");
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err("a label may not begin or end with a hyphen");
            }
            key.push(label.as_bytes())?;
        }
        Ok(key)
    }

    fn push(&mut self, label: &[u8]) -> Result<(), &'static str> {
        let length = u8::try_from(label.len()).map_err(|_| "a label is longer than 63 bytes")?;
        if label.len() > MAX_LABEL_BYTES {
            return Err("a label is longer than 63 bytes");
        }
        let end = self.len + 1 + label.len();
        // One byte stays free for the root.
        if end >= MAX_NAME_BYTES || self.labels >= MAX_LABELS {
            return Err("the name is longer than 253 characters");
        }
        self.starts[self.labels] = u8::try_from(self.len).map_err(|_| "the name is longer than 253 characters")?;
        self.labels += 1;
        self.bytes[self.len] = length;
        let place = &mut self.bytes[self.len + 1..end];
        place.copy_from_slice(label);
        place.make_ascii_lowercase();
        self.len = end;
        Ok(())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn labels(&self) -> usize {
        self.labels
    }

    /// What stands before `suffix`; empty if they are equal; `None` if the name is not at or under it.
    pub(crate) fn relative_to(&self, suffix: &Self) -> Option<&[u8]> {
        let own = self.labels.checked_sub(suffix.labels)?;
        let border = if suffix.labels == 0 { self.len } else { usize::from(self.starts[own]) };
        (self.bytes[border..self.len] == *suffix.as_bytes()).then(|| &self.bytes[..border])
    }

    /// The name as hickory writes it to the wire.
    pub(crate) fn to_name(self) -> Option<Name> {
        let labels = self.starts[..self.labels].iter().map(|start| {
            let start = usize::from(*start);
            &self.bytes[start + 1..start + 1 + usize::from(self.bytes[start])]
        });
        let mut name = Name::from_labels(labels).ok()?;
        name.set_fqdn(true);
        Some(name)
    }
}

/// The key of the parent: `key` without its first label; `None` at the top.
pub(crate) fn parent(key: &[u8]) -> Option<&[u8]> {
    let (length, rest) = key.split_first()?;
    rest.get(usize::from(*length)..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> NameKey {
        NameKey::parse(text).unwrap()
    }

    #[test]
    fn relative_names_end_at_label_borders() {
        let apex = key("wherry.internal");
        assert_eq!(key("web.Wherry.INTERNAL.").relative_to(&apex), Some(&b"\x03web"[..]));
        assert_eq!(key("wherry.internal").relative_to(&apex), Some(&b""[..]));
        assert_eq!(key("xwherry.internal").relative_to(&apex), None);
        assert_eq!(key("internal").relative_to(&apex), None);
    }

    #[test]
    fn a_dot_inside_a_label_is_no_border() {
        let name = Name::from_labels([&b"a.wherry"[..], b"internal"]).unwrap();
        assert_eq!(NameKey::of(&name).unwrap().relative_to(&key("wherry.internal")), None);
    }

    #[test]
    fn text_that_is_no_host_name_is_refused() {
        let long_label = "a".repeat(64);
        let long_name = ["a".repeat(63).as_str(); 4].join(".");
        for text in ["", ".", "a..b", "*.a", "a b", "-a", "a-", "ä", long_label.as_str(), long_name.as_str()] {
            assert!(NameKey::parse(text).is_err(), "{text:?}");
        }
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(NameKey::parse(&longest).is_ok());
    }

    #[test]
    fn parents_go_up_to_the_top() {
        let name = key("a.b");
        assert_eq!(parent(name.as_bytes()), Some(&b"\x01b"[..]));
        assert_eq!(parent(b"\x01b"), Some(&b""[..]));
        assert_eq!(parent(b""), None);
    }
}
