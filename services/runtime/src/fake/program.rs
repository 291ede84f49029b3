//! The few words of shell that a fake container understands, so that the conformance suite runs the same commands here
//! and on a real engine: `echo TEXT`, `echo TEXT >&2`, `head -c BYTES /dev/zero`, `sleep SECONDS`, `exit CODE`, `cat`,
//! `stty size`, `test -c DEVICE || exit CODE`, `while :`, `nc -ll -p PORT -e cat`, `trap '' TERM` and `trap 'exit CODE' USR1`, separated by `;`.
//!
//! Anything else runs until it is stopped, as a server would.

use std::path::Path;
use std::time::Duration;

use crate::Device;

/// One step of a fake container's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Writes a line to stdout.
    Echo(String),
    /// Writes a line to stderr.
    Complain(String),
    /// Writes so many zero bytes to stdout.
    Zeros(usize),
    /// Copies its input to stdout.
    Copy,
    /// Prints rows and columns of its terminal.
    TerminalSize,
    /// Sends back what comes to this port, until it is stopped.
    EchoServer(u16),
    /// Waits.
    Sleep(Duration),
    /// Ends with this code.
    Exit(i32),
    /// From the start of the program on, SIGTERM does nothing.
    IgnoreTerminate,
    /// SIGUSR1 ends it with this code.
    ExitOnUser1(i32),
    /// Ends with this code unless the container sees this device.
    NeedsDevice(String, i32),
    /// Runs until it is stopped.
    Serve,
}

/// A fake container's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// What it does, in order; it ends with code 0 after the last.
    pub(super) steps: Vec<Step>,
    spins: bool,
}

impl Program {
    /// Reads a command line; `None` when its executable does not exist (any path below `/no/such/`).
    pub(super) fn parse(arguments: &[String]) -> Option<Self> {
        let first = arguments.first().map(String::as_str).unwrap_or_default();
        if first.starts_with("/no/such/") {
            return None;
        }
        let text = match arguments {
            [shell, option, text] if shell.ends_with("sh") && option == "-c" => text.clone(),
            other => other.join(" "),
        };
        let spins = text.split(';').any(|statement| statement.trim() == "while :");
        Some(Self { steps: text.split(';').map(|statement| step(statement.trim())).collect(), spins })
    }

    /// What it does where these devices are seen.
    pub(super) fn seeing(mut self, devices: &[Device]) -> Self {
        let sees = |path: &str| devices.iter().any(|device| device.container_path == Path::new(path));
        let steps = std::mem::take(&mut self.steps).into_iter().filter_map(|step| match step {
            Step::NeedsDevice(path, _) if sees(&path) => None,
            Step::NeedsDevice(_, code) => Some(Step::Exit(code)),
            step => Some(step),
        });
        self.steps = steps.collect();
        self
    }

    /// With what a signal ends it, if it does: as the first process of its namespace it hears only what it listens to.
    pub(super) fn exit_code_by(&self, signal: u8) -> Option<i32> {
        let by_user = self.steps.iter().find_map(|step| match step {
            Step::ExitOnUser1(code) => Some(*code),
            _ => None,
        });
        match signal {
            9 => Some(137),
            10 => by_user,
            15 if !self.ignores_terminate() => Some(143),
            _ => None,
        }
    }

    /// Whether it computes for ever.
    pub(super) fn spins(&self) -> bool {
        self.spins
    }

    /// Whether SIGTERM does not end it.
    pub(super) fn ignores_terminate(&self) -> bool {
        self.steps.contains(&Step::IgnoreTerminate)
    }
}

fn step(statement: &str) -> Step {
    let (word, rest) = statement.split_once(' ').unwrap_or((statement, ""));
    match word.rsplit('/').next().unwrap_or_default() {
        "echo" => match rest.strip_suffix(">&2") {
            Some(text) => Step::Complain(unquoted(text.trim_end())),
            None => Step::Echo(unquoted(rest)),
        },
        "head" => {
            let count = rest.strip_prefix("-c ").and_then(|rest| rest.strip_suffix(" /dev/zero"));
            count.and_then(|count| count.parse().ok()).map_or(Step::Serve, Step::Zeros)
        }
        "test" => {
            let needs = rest.strip_prefix("-c ").and_then(|rest| rest.split_once(" || exit "));
            let needs = needs.and_then(|(path, code)| Some((path.to_owned(), code.parse().ok()?)));
            needs.map_or(Step::Serve, |(path, code)| Step::NeedsDevice(path, code))
        }
        "cat" if rest.is_empty() => Step::Copy,
        "stty" if rest == "size" => Step::TerminalSize,
        "nc" => {
            let port = rest.strip_prefix("-ll -p ").and_then(|rest| rest.strip_suffix(" -e cat"));
            port.and_then(|port| port.parse().ok()).map_or(Step::Serve, Step::EchoServer)
        }
        "sleep" => rest.parse().map_or(Step::Serve, |seconds| Step::Sleep(Duration::from_secs(seconds))),
        "exit" => rest.parse().map_or(Step::Serve, Step::Exit),
        "trap" if rest == "'' TERM" => Step::IgnoreTerminate,
        "trap" => {
            let code = rest.strip_prefix("'exit ").and_then(|rest| rest.strip_suffix("' USR1"));
            code.and_then(|code| code.parse().ok()).map_or(Step::Serve, Step::ExitOnUser1)
        }
        _ => Step::Serve,
    }
}

fn unquoted(text: &str) -> String {
    text.trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(words: &[&str]) -> Option<Program> {
        Program::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn shell_text_becomes_steps() {
        let parsed = program(&["/bin/sh", "-c", "trap '' TERM; echo hi; sleep 2; exit 3"]).unwrap();
        assert!(parsed.ignores_terminate());
        assert_eq!(parsed.steps[1..], [Step::Echo("hi".into()), Step::Sleep(Duration::from_secs(2)), Step::Exit(3)]);
    }

    #[test]
    fn servers_serve_and_missing_executables_are_missing() {
        assert_eq!(program(&["/usr/sbin/nginx", "-g", "daemon off"]).unwrap().steps, [Step::Serve]);
        assert_eq!(program(&["/no/such/command"]), None);
    }
}
