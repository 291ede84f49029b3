//! One line of the journal: a checksum and one observation as JSON. Whatever a torn write leaves behind does not match.

use wherry_model::Observation;

/// The line of an observation, line end included.
pub(super) fn encode(observation: &Observation) -> Vec<u8> {
    // Plain data with string keys: serde_json cannot fail on it.
    let json = serde_json::to_vec(observation).unwrap_or_default();
    let mut line = format!("{:08x} ", checksum(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    line
}

/// The whole lines at the beginning of `bytes` and how many bytes they are; what follows is torn.
pub(super) fn decode_all(bytes: &[u8]) -> (Vec<Observation>, usize) {
    let mut observations = Vec::new();
    let mut good_bytes = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(observation) = line.strip_suffix(b"\n").and_then(decode) else { break };
        observations.push(observation);
        good_bytes += line.len();
    }
    (observations, good_bytes)
}

fn decode(line: &[u8]) -> Option<Observation> {
    let (sum, json) = (line.get(..8)?, line.get(9..)?);
    let expected = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    if checksum(json) != expected {
        return None;
    }
    serde_json::from_slice(json).ok()
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
