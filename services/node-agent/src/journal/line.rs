//! One line of the journal: a checksum and one observation as JSON. Whatever a torn write leaves behind does not match.
//!
//! A line that matches and is not understood was written whole by a later release: it is stepped over, not cut, and so are
//! such facts in a snapshot. Cutting it would take everything behind it along.

use std::collections::VecDeque;

use serde::{Deserialize, Deserializer};
use wherry_model::Observation;

/// A whole line.
#[derive(Debug)]
pub(super) enum Line {
    Fact(Box<Observation>),
    /// Of a later release. The number is used all the same.
    Foreign {
        seq: u64,
    },
}

impl Line {
    pub(super) const fn seq(&self) -> u64 {
        match self {
            Self::Fact(observation) => observation.seq,
            Self::Foreign { seq } => *seq,
        }
    }
}

/// What every release writes.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

/// The line of an observation, line end included.
pub(super) fn encode(observation: &Observation) -> Vec<u8> {
    // Plain data with string keys: serde_json cannot fail on it.
    checked(&serde_json::to_vec(observation).unwrap_or_default())
}

pub(super) fn checked(json: &[u8]) -> Vec<u8> {
    let mut line = format!("{:08x} ", checksum(json)).into_bytes();
    line.extend_from_slice(json);
    line.push(b'\n');
    line
}

/// The whole lines at the beginning of `bytes` and how many bytes they are; what follows is torn.
pub(super) fn decode_all(bytes: &[u8]) -> (Vec<Line>, usize) {
    let mut lines = Vec::new();
    let mut good_bytes = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(decoded) = line.strip_suffix(b"\n").and_then(decode) else { break };
        lines.push(decoded);
        good_bytes += line.len();
    }
    (lines, good_bytes)
}

fn decode(line: &[u8]) -> Option<Line> {
    let (sum, json) = (line.get(..8)?, line.get(9..)?);
    let expected = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    if checksum(json) != expected {
        return None;
    }
    match serde_json::from_slice(json) {
        Ok(observation) => Some(Line::Fact(Box::new(observation))),
        Err(error) => {
            let Numbered { seq } = serde_json::from_slice(json).ok()?;
            tracing::error!(seq, %error, "the journal has a fact of a later release, which this one does not report; upgrade this agent again");
            Some(Line::Foreign { seq })
        }
    }
}

/// The facts of a snapshot that are understood.
pub(super) fn understood<'de, D: Deserializer<'de>>(snapshot: D) -> Result<VecDeque<Observation>, D::Error> {
    let facts = Vec::<serde_json::Value>::deserialize(snapshot)?;
    let understood = facts.into_iter().filter_map(|fact| match serde_json::from_value(fact) {
        Ok(observation) => Some(observation),
        Err(error) => {
            tracing::error!(%error, "the journal's snapshot has a fact of a later release, which this one does not report; upgrade this agent again");
            None
        }
    });
    Ok(understood.collect())
}

/// CRC-32 (IEEE 802.3), bit by bit: lines are short and few.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xEDB8_8320 } else { sum >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32() {
        assert_eq!(checksum(b"123456789"), 0xCBF4_3926);
    }
}
