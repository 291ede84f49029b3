//! Keys, and the file that they are kept in.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use thiserror::Error;
use wherry_model::{Entropy, Sealed, SecretText};
use zeroize::Zeroizing;

use crate::Place;

const KEY_BYTES: usize = 32;
/// First part of what is sealed: the way in which it is.
const VERSION: &str = "w1";
/// Keys in one file.
const MOST_KEYS: usize = 64;
/// Bytes of a key's id.
const MOST_ID_BYTES: usize = 32;

/// Why a file holds no keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {problem}; a line is an id, a space and 32 bytes in base64, and the last key seals")]
pub struct KeyError {
    /// Counted from 1; 0 for the whole.
    pub line: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// Why something was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("there is no key to seal secrets with")]
pub struct SealError;

/// Why something was not opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The key that it names is not there.
    #[error("it is sealed with the key {0:?}, which is not here: add its line to the key file")]
    NoKey(String),
    /// It was changed, belongs elsewhere, or was sealed with another key of the same id.
    #[error("it does not open here: it was changed, is another project's, or its key is not the one that sealed it")]
    NotOurs,
}

/// One key.
#[derive(Clone)]
pub struct SealingKey {
    id: String,
    material: Zeroizing<[u8; KEY_BYTES]>,
}

/// Only the id.
impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SealingKey {
    /// Makes one.
    pub fn generate(id: &str, entropy: &dyn Entropy) -> Self {
        let mut material = Zeroizing::new([0_u8; KEY_BYTES]);
        entropy.fill(material.as_mut_slice());
        Self { id: id.to_owned(), material }
    }

    /// Its name, in what it sealed.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A word that is the same for the same key and says nothing about it.
    pub fn fingerprint(&self) -> String {
        let hash = digest(&SHA256, &[b"wherry sealing key\0", self.material.as_slice()].concat());
        format!("sha256:{}", URL_SAFE_NO_PAD.encode(hash))
    }

    /// A key for one use of this one.
    fn derived(&self, purpose: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(HMAC_SHA256, self.material.as_slice()), purpose)
    }

    fn aead(&self) -> Option<LessSafeKey> {
        let derived = self.derived(b"wherry seal encryption");
        UnboundKey::new(&AES_256_GCM_SIV, derived.as_ref()).ok().map(LessSafeKey::new)
    }

    /// The place is written with its length, so that it and the content cannot be taken for each other.
    fn nonce(&self, place: &Place, plain: &str) -> [u8; NONCE_LEN] {
        let key = hmac::Key::new(HMAC_SHA256, self.derived(b"wherry seal nonce").as_ref());
        let mut context = hmac::Context::with_key(&key);
        context.update(&u64::try_from(place.as_bytes().len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(place.as_bytes());
        context.update(plain.as_bytes());
        let tag = context.sign();
        let mut nonce = [0_u8; NONCE_LEN];
        for (to, from) in nonce.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        nonce
    }
}

/// Keys by their ids: the last one seals, all open. Empty by default: then nothing is sealed.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: Vec<SealingKey>,
}

impl Keyring {
    /// With this key alone.
    pub fn of(key: SealingKey) -> Self {
        Self { keys: vec![key] }
    }

    /// Reads a key file: a line for each key, the oldest first; `#` begins a comment.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys: Vec<SealingKey> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |problem| KeyError { line: index + 1, problem };
            let (id, encoded) = line.split_once(char::is_whitespace).ok_or(wrong("it has one word"))?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if id.is_empty() || id.len() > MOST_ID_BYTES || !id.bytes().all(plain) {
                return Err(wrong("an id has 1 to 32 letters, digits, '-' or '_'"));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(wrong("its id is there twice"));
            }
            let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).map_err(|_| wrong("the key is not base64"))?);
            let material = <[u8; KEY_BYTES]>::try_from(decoded.as_slice()).map_err(|_| wrong("it has not 32 bytes"))?;
            keys.push(SealingKey { id: id.to_owned(), material: Zeroizing::new(material) });
            if keys.len() > MOST_KEYS {
                return Err(wrong("there are more than 64 keys"));
            }
        }
        if keys.is_empty() { Err(KeyError { line: 0, problem: "there is no key" }) } else { Ok(Self { keys }) }
    }

    /// The file that [`Self::parse`] reads.
    pub fn to_file(&self) -> Zeroizing<String> {
        let mut text =
            Zeroizing::new(String::from("# Keys that secrets are sealed with: the last one seals, all open.\n"));
        for key in &self.keys {
            text.push_str(&key.id);
            text.push(' ');
            text.push_str(&Zeroizing::new(STANDARD.encode(key.material.as_slice())));
            text.push('\n');
        }
        text
    }

    /// All of them, the one that seals last.
    pub fn keys(&self) -> &[SealingKey] {
        &self.keys
    }

    /// Seals a secret for its place. The same is sealed the same.
    pub fn seal(&self, place: &Place, plain: &str) -> Result<Sealed, SealError> {
        let key = self.keys.last().ok_or(SealError)?;
        let aead = key.aead().ok_or(SealError)?;
        let nonce = key.nonce(place, plain);
        let mut content = plain.as_bytes().to_vec();
        aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()), &mut content)
            .map_err(|_| SealError)?;
        let whole = [nonce.as_slice(), &content].concat();
        Ok(Sealed::new(format!("{VERSION}.{}.{}", key.id, URL_SAFE_NO_PAD.encode(whole))))
    }

    /// The same secret sealed with the key that seals now; none when it is.
    pub fn reseal(&self, place: &Place, sealed: &Sealed) -> Result<Option<Sealed>, OpenError> {
        let is_current = |key: &SealingKey| {
            let rest = sealed.as_str().strip_prefix(VERSION).and_then(|rest| rest.strip_prefix('.'));
            rest.and_then(|rest| rest.strip_prefix(key.id())).is_some_and(|rest| rest.starts_with('.'))
        };
        if self.keys.last().is_some_and(is_current) {
            return Ok(None);
        }
        let plain = self.open(place, sealed)?;
        self.seal(place, plain.expose()).map(Some).map_err(|SealError| OpenError::NotOurs)
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, place: &Place, sealed: &Sealed) -> Result<SecretText, OpenError> {
        let mut parts = sealed.as_str().splitn(3, '.');
        let (Some(VERSION), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(OpenError::NotOurs);
        };
        let key = self.keys.iter().find(|key| key.id == id).ok_or_else(|| OpenError::NoKey(id.to_owned()))?;
        let whole = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| OpenError::NotOurs)?);
        let (nonce, content) = whole.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::NotOurs)?;
        let mut content = Zeroizing::new(content.to_vec());
        let aead = key.aead().ok_or(OpenError::NotOurs)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = aead.open_in_place(nonce, Aad::from(place.as_bytes()), &mut content);
        let plain = std::str::from_utf8(plain.map_err(|_| OpenError::NotOurs)?).map_err(|_| OpenError::NotOurs)?;
        Ok(SecretText::new(plain.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wherry_model::{ProjectName, TenantId};

    use super::*;

    /// Bytes that count up from where they begin.
    struct From(u8);

    impl Entropy for From {
        fn fill(&self, bytes: &mut [u8]) {
            for (byte, value) in bytes.iter_mut().zip(self.0..) {
                *byte = value;
            }
        }
    }

    fn place(project: &str) -> Place {
        let tenant: TenantId = "0193573e-7a00-7000-8000-0000000000a1".parse().unwrap();
        Place::of_project(tenant, &ProjectName::new(project).unwrap())
    }

    fn ring(ids: &[&str]) -> Keyring {
        let keys = ids.iter().zip(1_u8..).map(|(id, first)| SealingKey::generate(id, &From(first)));
        Keyring { keys: keys.collect() }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_in_its_place_alone(plain in ".{0,300}", at in any::<prop::sample::Index>(), bit in 0_u8..6) {
            let keys = ring(&["1"]);
            let sealed = keys.seal(&place("a"), &plain).unwrap();
            let opened = keys.open(&place("a"), &sealed).unwrap();
            prop_assert_eq!(opened.expose(), plain.as_str());
            prop_assert_eq!(keys.open(&place("b"), &sealed), Err(OpenError::NotOurs));
            prop_assert_eq!(keys.seal(&place("a"), &plain).unwrap(), sealed.clone());
            prop_assert_ne!(keys.seal(&place("b"), &plain).unwrap(), sealed.clone());
            // Any character that is changed.
            let mut changed = sealed.as_str().as_bytes().to_vec();
            let index = at.index(changed.len());
            changed[index] ^= 1 << bit;
            if let Ok(changed) = String::from_utf8(changed) {
                prop_assert!(keys.open(&place("a"), &Sealed::new(changed)).is_err());
            }
        }
    }

    #[test]
    fn the_last_key_seals_and_all_open() {
        let (old, both) = (ring(&["1"]), ring(&["1", "2"]));
        let first = old.seal(&place("a"), "hush").unwrap();
        let second = both.seal(&place("a"), "hush").unwrap();
        assert!(first.as_str().starts_with("w1.1.") && second.as_str().starts_with("w1.2."));
        assert_eq!(both.open(&place("a"), &first).unwrap().expose(), "hush");
        assert_eq!(old.open(&place("a"), &second), Err(OpenError::NoKey("2".to_owned())));
        assert_eq!(both.reseal(&place("a"), &first), Ok(Some(second.clone())), "as if it were given now");
        assert_eq!(both.reseal(&place("a"), &second), Ok(None));
        assert_eq!(ring(&["1", "2", "22"]).reseal(&place("a"), &second).unwrap().unwrap().as_str()[..6], *"w1.22.");
        assert_eq!(old.reseal(&place("a"), &second), Err(OpenError::NoKey("2".to_owned())));
        assert_eq!(both.reseal(&place("b"), &first), Err(OpenError::NotOurs));
        let other = Keyring::of(SealingKey::generate("1", &From(9)));
        assert_eq!(other.open(&place("a"), &first), Err(OpenError::NotOurs));
        assert_ne!(other.keys()[0].fingerprint(), old.keys()[0].fingerprint());
        assert_eq!(Keyring::default().seal(&place("a"), "hush"), Err(SealError));
    }

    #[test]
    fn a_key_file_reads_as_it_was_written_and_says_what_is_wrong() {
        let keys = ring(&["1", "2026-11"]);
        let again = Keyring::parse(&keys.to_file()).unwrap();
        let fingerprints = |ring: &Keyring| ring.keys().iter().map(SealingKey::fingerprint).collect::<Vec<_>>();
        assert_eq!(fingerprints(&again), fingerprints(&keys));
        assert_eq!(again.keys()[1].id(), "2026-11");
        let key = STANDARD.encode([7; 32]);
        let wrong = [
            (String::new(), 0),
            ("# nothing\n".to_owned(), 0),
            (format!("{key}\n"), 1),
            (format!("\na.b {key}\n"), 2),
            (format!("1 {key}\n1 {key}\n"), 2),
            ("1 AAAA\n".to_owned(), 1),
            ("1 ?\n".to_owned(), 1),
        ];
        for (text, line) in wrong {
            assert_eq!(Keyring::parse(&text).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn nothing_of_a_key_or_a_secret_is_printed() {
        let keys = ring(&["1"]);
        let sealed = keys.seal(&place("a"), "hush").unwrap();
        let opened = keys.open(&place("a"), &sealed).unwrap();
        let shown = format!("{keys:?} {sealed:?} {opened:?}");
        assert!(!shown.contains("hush") && !shown.contains("w1.") && !shown.contains("[1, 2"), "{shown}");
    }
}
