//! Standard input, output and error of this process, spliced with a program inside of an instance.

use std::io::{Read as _, Write as _};

use tokio::sync::mpsc;
use wherry_api_client::{Heard, SessionReader, SessionWriter};

use super::failure::Failure;
use super::{output, terminal};

/// Bytes of input that are read at once.
const PIECE_BYTES: usize = 32 * 1024;

/// Pieces of input that wait to be sent.
const QUEUE: usize = 4;

/// The two keys after which an attached terminal is left, as Docker has them: Ctrl-P, Ctrl-Q.
const LEAVE_KEYS: [u8; 2] = [0x10, 0x11];

/// What is spliced.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wires {
    pub(super) stdin: bool,
    pub(super) tty: bool,
    /// Whether Ctrl-P Ctrl-Q leaves.
    pub(super) may_leave: bool,
}

/// Talks until the program has ended, and says with which code.
pub(super) async fn talk((writer, mut reader): (SessionWriter, SessionReader), wires: Wires) -> Result<i32, Failure> {
    tokio::select! {
        biased;
        ended = print(&mut reader) => ended,
        left = speak(writer, wires) => left,
        signal = terminal::leave() => Err(Failure::Ended(signal?)),
    }
}

async fn print(reader: &mut SessionReader) -> Result<i32, Failure> {
    loop {
        match reader.next().await? {
            Heard::Stdout(bytes) => output::raw(&bytes)?,
            Heard::Stderr(bytes) => std::io::stderr().lock().write_all(&bytes)?,
            Heard::Ended(code) => return Ok(code),
        }
    }
}

/// Sends input and sizes. Returns only when the keys to leave were pressed: how it ends otherwise is heard, not said.
async fn speak(mut writer: SessionWriter, wires: Wires) -> Result<i32, Failure> {
    let said = say(&mut writer, wires).await;
    match said {
        Ok(true) => {
            writer.close().await;
            return Err(Failure::Ended(0));
        }
        // A program that has ended does not listen; the reader hears how.
        Ok(false) | Err(Failure::Told { .. }) => {}
        Err(failure) => return Err(failure),
    }
    // Dropping it would be the end.
    std::future::pending().await
}

async fn say(writer: &mut SessionWriter, wires: Wires) -> Result<bool, Failure> {
    let mut typed = if wires.stdin { Some(read_input()) } else { None };
    let mut resizes = if wires.tty { Some(terminal::resizes()?) } else { None };
    let mut pressed = 0;
    loop {
        tokio::select! {
            biased;
            Some(()) = async { resizes.as_mut()?.recv().await } => writer.resize(terminal::size()).await?,
            piece = async { typed.as_mut()?.recv().await }, if typed.is_some() => {
                let Some(bytes) = piece else {
                    typed = None;
                    writer.end_of_input().await?;
                    continue;
                };
                if wires.may_leave && wants_to_leave(&bytes, &mut pressed) {
                    return Ok(true);
                }
                writer.data(&bytes).await?;
            }
            else => return Ok(false),
        }
    }
}

/// Whether the keys to leave were pressed one after the other, also over two pieces.
fn wants_to_leave(bytes: &[u8], pressed: &mut usize) -> bool {
    for byte in bytes {
        if LEAVE_KEYS.get(*pressed) == Some(byte) {
            *pressed += 1;
        } else {
            *pressed = usize::from(LEAVE_KEYS.first() == Some(byte));
        }
        if *pressed == LEAVE_KEYS.len() {
            return true;
        }
    }
    false
}

/// A thread of its own, because reading blocks and the process must be able to end meanwhile; it reads no further ahead than
/// the queue is long.
pub(super) fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (pieces, queue) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match std::io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let piece = buffer.get(..count).unwrap_or_default().to_vec();
                    if pieces.blocking_send(piece).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    queue
}

/// What a program's end means for this process, which has 8 bits to say it.
pub(super) fn ended(code: i32) -> Result<(), Failure> {
    match u8::try_from(code).unwrap_or(u8::MAX) {
        0 => Ok(()),
        code => Err(Failure::Ended(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        for (code, told) in [(3, 3), (137, 137), (255, 255), (256, 255), (-1, 255)] {
            assert_eq!(ended(code), Err(Failure::Ended(told)));
        }
        assert_eq!(ended(0), Ok(()));
    }

    #[test]
    fn two_keys_leave_however_they_arrive() {
        let leaves = |pieces: &[&[u8]]| {
            let mut pressed = 0;
            pieces.iter().any(|piece| wants_to_leave(piece, &mut pressed))
        };
        assert!(leaves(&[b"\x10\x11"]) && leaves(&[b"ls\x10", b"\x11"]) && leaves(&[b"\x10\x10\x11"]));
        assert!(!leaves(&[b"\x10", b"x\x11"]) && !leaves(&[b"\x11\x10"]) && !leaves(&[b""]));
    }
}
