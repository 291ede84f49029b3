//! Page cursors as clients see them: opaque text. A forged one is refused; it could only ever name a place in the
//! caller's own list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use wherry_model::{InstanceId, SpecError, Timestamp};
use wherry_store::Cursor;

pub(crate) fn encode(cursor: Cursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}/{}", cursor.created_at.as_micros(), cursor.id))
}

pub(crate) fn decode(text: &str) -> Result<Cursor, SpecError> {
    let wrong = || SpecError::new("cursor", "it is not one that this service gave out: begin again without it");
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    let plain = String::from_utf8(bytes).map_err(|_| wrong())?;
    let (micros, id) = plain.split_once('/').ok_or_else(wrong)?;
    Ok(Cursor {
        created_at: Timestamp::from_micros(micros.parse().map_err(|_| wrong())?),
        id: id.parse::<InstanceId>().map_err(|_| wrong())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_forgery() {
        let id = "0190f8a0-0000-7000-8000-000000000001".parse().unwrap();
        let cursor = Cursor { created_at: Timestamp::from_micros(42), id };
        assert_eq!(decode(&encode(cursor)).unwrap(), cursor);
        for forged in ["", "!!", "AAAA", "NDIvMQ", &"A".repeat(10_000)] {
            assert_eq!(decode(forged).unwrap_err().field, "cursor");
        }
    }
}
