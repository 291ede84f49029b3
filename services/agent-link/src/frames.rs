//! The answer to a question on the wire: a stream of frames, `kind: u8`, `length: u32` big endian, `length` bytes. In a
//! conversation the other direction is such a stream too.
//!
//! A frame of a kind that is not known is skipped, so kinds can be added. An answer ends with [`Frame::Ended`] or
//! [`Frame::Failed`]; one that ends otherwise was cut off. Rejected: JSON for output, which would have to be escaped or
//! encoded and is most of what goes over this wire; the end of the body as the end of the answer, because a proxy between
//! the two can make one of a broken connection.

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use wherry_agent_api::{NodeError, TerminalSize};

/// Bytes of one frame after its head: the longest line that a node reads, with its time.
pub(crate) const MAX_FRAME_BYTES: usize = 512 * 1024;
const HEAD_BYTES: usize = 5;

const BEGUN: u8 = 1;
const OUTPUT: u8 = 2;
const STDOUT: u8 = 3;
const STDERR: u8 = 4;
const ENDED: u8 = 5;
const FAILED: u8 = 6;
const INPUT: u8 = 7;
const INPUT_ENDED: u8 = 8;
const RESIZED: u8 = 9;

/// How an answer ends.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// Of a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    /// Whether something of a program's output was cut off.
    #[serde(default)]
    pub(crate) truncated: bool,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The node can answer.
    Begun,
    /// Output of a container.
    Output(Bytes),
    /// What a program printed.
    Stdout(Bytes),
    /// What it complained.
    Stderr(Bytes),
    /// That was all.
    Ended(End),
    /// The node cannot answer, or cannot go on.
    Failed(NodeError),
    /// Input of a program or a port.
    Input(Bytes),
    /// There is no more input.
    InputEnded,
    /// A terminal has this size now.
    Resized(TerminalSize),
}

impl Frame {
    /// As it goes over the wire; a payload that is too long is cut.
    pub(crate) fn encode(&self) -> Bytes {
        let json = |value: serde_json::Result<Vec<u8>>| Bytes::from(value.unwrap_or_default());
        let (kind, payload) = match self {
            Self::Begun => (BEGUN, Bytes::new()),
            Self::Output(bytes) => (OUTPUT, bytes.clone()),
            Self::Stdout(bytes) => (STDOUT, bytes.clone()),
            Self::Stderr(bytes) => (STDERR, bytes.clone()),
            Self::Ended(end) => (ENDED, json(serde_json::to_vec(end))),
            Self::Failed(error) => (FAILED, json(serde_json::to_vec(error))),
            Self::Input(bytes) => (INPUT, bytes.clone()),
            Self::InputEnded => (INPUT_ENDED, Bytes::new()),
            Self::Resized(size) => (RESIZED, json(serde_json::to_vec(size))),
        };
        let payload = payload.slice(..payload.len().min(MAX_FRAME_BYTES));
        let mut encoded = BytesMut::with_capacity(HEAD_BYTES + payload.len());
        encoded.put_u8(kind);
        encoded.put_u32(u32::try_from(payload.len()).unwrap_or_default());
        encoded.put(payload);
        encoded.freeze()
    }
}

/// Bytes in pieces that fit a frame, cut behind lines where there are any.
pub(crate) fn pieces(bytes: Vec<u8>) -> impl Iterator<Item = Bytes> {
    let mut rest = Bytes::from(bytes);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if rest.len() <= MAX_FRAME_BYTES {
            return Some(std::mem::take(&mut rest));
        }
        let newline = rest.iter().take(MAX_FRAME_BYTES).rposition(|byte| *byte == b'\n');
        Some(rest.split_to(newline.map_or(MAX_FRAME_BYTES, |position| position + 1)))
    })
}

/// Why there is no further frame although the answer has not ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CutOff {
    #[error("the node's answer broke off")]
    Lost,
    #[error("the node's answer is no answer")]
    Garbage,
}

/// Reads frames as they come, never more than one ahead of whoever wants them.
pub(crate) struct FrameReader {
    body: Body,
    buffer: BytesMut,
}

impl FrameReader {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next frame of a known kind. May be dropped and called again without losing anything.
    pub(crate) async fn next(&mut self) -> Result<Frame, CutOff> {
        loop {
            if let Some((kind, payload)) = self.whole_frame()? {
                if let Some(frame) = decode(kind, payload)? {
                    return Ok(frame);
                }
                continue;
            }
            let piece = self.body.frame().await.ok_or(CutOff::Lost)?.map_err(|_| CutOff::Lost)?;
            if let Ok(data) = piece.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    fn whole_frame(&mut self) -> Result<Option<(u8, Bytes)>, CutOff> {
        let Some((mut head, rest)) = self.buffer.split_at_checked(HEAD_BYTES) else { return Ok(None) };
        let kind = head.get_u8();
        let length = usize::try_from(head.get_u32()).unwrap_or(usize::MAX);
        if length > MAX_FRAME_BYTES {
            return Err(CutOff::Garbage);
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        Ok(Some((kind, self.buffer.split_to(length).freeze())))
    }
}

fn decode(kind: u8, payload: Bytes) -> Result<Option<Frame>, CutOff> {
    Ok(Some(match kind {
        BEGUN => Frame::Begun,
        OUTPUT => Frame::Output(payload),
        STDOUT => Frame::Stdout(payload),
        STDERR => Frame::Stderr(payload),
        ENDED => Frame::Ended(serde_json::from_slice(&payload).map_err(|_| CutOff::Garbage)?),
        FAILED => Frame::Failed(serde_json::from_slice(&payload).map_err(|_| CutOff::Garbage)?),
        INPUT => Frame::Input(payload),
        INPUT_ENDED => Frame::InputEnded,
        RESIZED => Frame::Resized(serde_json::from_slice(&payload).map_err(|_| CutOff::Garbage)?),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, stream};

    use super::*;

    fn all() -> Vec<Frame> {
        vec![
            Frame::Begun,
            Frame::Output("one\n".into()),
            Frame::Stdout(Bytes::from(vec![0; MAX_FRAME_BYTES])),
            Frame::Stderr(Bytes::new()),
            Frame::Failed(NodeError::NotFound("the run 3".to_owned())),
            Frame::Ended(End { exit_code: Some(-1), truncated: true }),
            Frame::Ended(End::default()),
            Frame::Input("typed".into()),
            Frame::InputEnded,
            Frame::Resized(TerminalSize { columns: 100, rows: 40 }),
        ]
    }

    #[tokio::test]
    async fn what_is_written_is_read_however_it_is_cut() {
        let encoded: Vec<u8> = all().iter().flat_map(|frame| frame.encode().to_vec()).collect();
        for size in [3, 4_096, encoded.len()] {
            let pieces: Vec<_> =
                encoded.chunks(size).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
            let mut reader = FrameReader::new(Body::from_stream(stream::iter(pieces)));
            for frame in all() {
                assert_eq!(reader.next().await, Ok(frame), "in pieces of {size}");
            }
            assert_eq!(reader.next().await, Err(CutOff::Lost));
        }
    }

    #[tokio::test]
    async fn who_gives_up_waiting_loses_nothing() {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let body = stream::unfold(receiver, |mut receiver| async {
            let piece = receiver.recv().await?;
            Some((Ok::<_, std::io::Error>(piece), receiver))
        });
        let mut reader = FrameReader::new(Body::from_stream(body));
        let encoded = Frame::Output("hello\n".into()).encode();
        for at in 0..encoded.len() {
            assert_eq!(reader.next().now_or_never(), None, "{at} bytes are no frame");
            sender.send(encoded.slice(at..=at)).await.unwrap();
        }
        assert_eq!(reader.next().await, Ok(Frame::Output("hello\n".into())));
    }

    #[test]
    fn pieces_end_with_lines_where_there_are_any() {
        let sizes = |bytes: Vec<u8>| pieces(bytes).map(|piece| piece.len()).collect::<Vec<_>>();
        assert_eq!(sizes(Vec::new()), Vec::<usize>::new());
        assert_eq!(sizes(vec![b'x'; MAX_FRAME_BYTES + 1]), [MAX_FRAME_BYTES, 1]);
        let lines = [vec![b'x'; MAX_FRAME_BYTES - 10], b"\n123456789012345678901234567890".to_vec()].concat();
        assert_eq!(sizes(lines), [MAX_FRAME_BYTES - 9, 30]);
    }
}
