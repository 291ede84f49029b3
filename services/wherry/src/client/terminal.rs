//! The terminal of this process, lent to a program elsewhere: every key goes there, `Ctrl-C` too.
//!
//! It is given back when [`Raw`] is dropped, on whichever way: at the end, at an error, in a panic, and for signals because those
//! that would end the process are waited for (`leave`) and end it by that same way.

use std::io::IsTerminal as _;

use rustix::termios::{self, OptionalActions, Termios};
use tokio::signal::unix::{Signal, SignalKind, signal};
use wherry_api_types::TerminalSize;

use super::failure::{Exit, Failure};

/// The terminal as it is lent.
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// Lends the terminal, if input and output are one.
    pub(super) fn lend() -> Result<Self, Failure> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Err(Failure::new(Exit::Usage, "this is no terminal: leave -t away, -i alone is for pipes"));
        }
        let failed = |error: rustix::io::Errno| Failure::failed(format!("the terminal cannot be used: {error}"));
        let before = termios::tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before).ok();
    }
}

/// Its size now; 80 by 24 where it does not say.
pub(super) fn size() -> TerminalSize {
    let usual = TerminalSize { columns: 80, rows: 24 };
    termios::tcgetwinsize(std::io::stdout()).map_or(usual, |size| TerminalSize {
        columns: if size.ws_col == 0 { usual.columns } else { size.ws_col },
        rows: if size.ws_row == 0 { usual.rows } else { size.ws_row },
    })
}

/// Tells of each change of the size.
pub(super) fn resizes() -> Result<Signal, Failure> {
    Ok(signal(SignalKind::window_change())?)
}

/// Returns when a signal wants this process to end, with the exit code that says so.
pub(super) async fn leave() -> Result<u8, Failure> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        biased;
        _ = hangup.recv() => 128 + 1,
        _ = interrupt.recv() => 128 + 2,
        _ = terminate.recv() => 128 + 15,
    })
}
