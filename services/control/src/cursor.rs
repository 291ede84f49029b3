//! Page cursors as clients see them: opaque text of one length. Any text of that form is a place in the caller's own list,
//! so a forged one shows nothing that its maker could not list anyway, and the API document can state the form exactly.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;
use wherry_model::{InstanceId, SpecError, Timestamp};
use wherry_store::Cursor;

pub(crate) fn encode(cursor: Cursor) -> String {
    let mut bytes = cursor.created_at.as_micros().to_be_bytes().to_vec();
    bytes.extend_from_slice(cursor.id.as_uuid().as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn decode(text: &str) -> Result<Cursor, SpecError> {
    let wrong = || SpecError::new("cursor", "it is not one that this service gave out: begin again without it");
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    let (micros, id) = bytes.split_first_chunk().ok_or_else(wrong)?;
    Ok(Cursor {
        created_at: Timestamp::from_micros(i64::from_be_bytes(*micros)),
        id: InstanceId::from_uuid(Uuid::from_slice(id).map_err(|_| wrong())?),
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
