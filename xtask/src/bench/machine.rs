//! What a number must be kept with: the machine, the versions and the day.

use std::fs;
use std::process::Command;

use crate::command::capture;

/// Lines for the head of a table of results.
pub(super) fn describe() -> Vec<String> {
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    vec![
        format!("machine: {processor}, {cores} cores, {memory} memory"),
        format!("kernel: {}", first_line("uname", &["-sr"])),
        format!(
            "engines: {}; {}; {}",
            first_line("containerd", &["--version"]),
            first_line("runc", &["--version"]),
            first_line("crun", &["--version"]),
        ),
        format!("date: {}", first_line("date", &["-u", "+%Y-%m-%d"])),
        format!("load before: {}", fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()),
    ]
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let text = capture(Command::new(program).args(arguments)).unwrap_or_else(|_| format!("{program}: not installed"));
    text.lines().next().unwrap_or_default().to_owned()
}
