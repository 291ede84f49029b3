//! The name of an authority, short enough for a command line.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use thiserror::Error;

const PREFIX: &str = "sha256:";

/// SHA-256 of a certificate in DER form; printed as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// The text is not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a fingerprint is `sha256:` and 64 hexadecimal digits: `wherry admin node token` prints the right one")]
pub struct FingerprintError;

impl Fingerprint {
    pub(crate) fn of(der: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads what is printed, in either case and with or without colons between the bytes, as openssl prints it.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(FingerprintError)?.replace(':', "");
        let bytes = digits.as_bytes();
        if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
            return Err(FingerprintError);
        }
        let mut parsed = [0_u8; 32];
        for (byte, pair) in parsed.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| FingerprintError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| FingerprintError)?;
        }
        Ok(Self(parsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_and_nothing_else() {
        let print = Fingerprint([0xa5; 32]);
        assert_eq!(print.to_string().parse(), Ok(print));
        let with_colons = format!("sha256:{}", vec!["A5"; 32].join(":"));
        assert_eq!(with_colons.parse(), Ok(print));
        for wrong in ["", "sha256:", &"a5".repeat(32), "sha1:a5", &format!("sha256:{}", "+5".repeat(32))] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(FingerprintError), "{wrong}");
        }
    }
}
