//! What is asked of a program, and how often.

use super::super::{Check, Limits, Probe};
use super::{Checked, at_most, check_words, within, wrong};

impl Probe {
    pub(super) fn check(&self, field: &str, is_readiness: bool) -> Checked {
        self.check.check(field)?;
        let most = Limits::MAX_PROBE_SECONDS;
        within(format!("{field}.initial_delay_seconds"), self.initial_delay.0, 0, most)?;
        within(format!("{field}.period_seconds"), self.period.0, 1, most)?;
        within(format!("{field}.timeout_seconds"), self.timeout.0, 1, most)?;
        within(format!("{field}.failure_threshold"), self.failure_threshold, 1, Limits::MAX_PROBE_THRESHOLD)?;
        within(format!("{field}.success_threshold"), self.success_threshold, 1, Limits::MAX_PROBE_THRESHOLD)?;
        if !is_readiness && self.success_threshold != 1 {
            return wrong(format!("{field}.success_threshold"), "it is 1 for liveness and startup");
        }
        Ok(())
    }
}

impl Check {
    pub(super) fn check(&self, field: &str) -> Checked {
        let port = |field: String, port: u16| {
            if port == 0 { wrong(field, "0 is not a port, give 1 to 65535") } else { Ok(()) }
        };
        match self {
            Self::Exec { command } => {
                let field = format!("{field}.exec.command");
                if command.first().is_none_or(String::is_empty) {
                    return wrong(field, "give a program and its arguments");
                }
                check_words(&field, command.iter())
            }
            Self::Tcp { port: number } => port(format!("{field}.tcp.port"), *number),
            Self::Http { port: number, path, headers, .. } => {
                port(format!("{field}.http.port"), *number)?;
                let plain =
                    |text: &str| text.len() <= 8 * 1024 && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
                if !path.starts_with('/') || !plain(path) {
                    return wrong(format!("{field}.http.path"), "give a path that begins with \"/\", without spaces");
                }
                at_most(&format!("{field}.http.headers"), headers.len(), 32)?;
                for (index, header) in headers.iter().enumerate() {
                    let name_is = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
                    let value_is = |byte: u8| byte == b'\t' || (0x20..=0x7e).contains(&byte);
                    let right = !header.name.is_empty()
                        && header.name.len() <= 4 * 1024
                        && header.value.len() <= 4 * 1024
                        && header.name.bytes().all(name_is)
                        && header.value.bytes().all(value_is);
                    if !right {
                        return wrong(format!("{field}.http.headers[{index}]"), "it is not a header of HTTP");
                    }
                }
                Ok(())
            }
        }
    }
}
