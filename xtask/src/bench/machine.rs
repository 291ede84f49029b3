//! What a number must be kept with: the machine, the versions and the day.

use std::fs;
use std::process::Command;

use crate::command::capture;

/// Lines for the head of a table of results about containers.
pub(super) fn describe() -> Vec<String> {
    let engines = format!(
        "engines: {}; {}; {}",
        first_line("containerd", &["--version"]),
        first_line("runc", &["--version"]),
        first_line("crun", &["--version"]),
    );
    let load = format!("load before: {}", fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    vec![machine(), kernel(), engines, date(), load]
}

/// Lines for the head of a table of results about stores.
pub(super) fn describe_for_stores() -> Vec<String> {
    vec![machine(), kernel(), format!("database: {}", first_line("psql", &["--version"])), date()]
}

/// Lines for the head of a table of results about computing alone.
pub(super) fn describe_for_computing() -> Vec<String> {
    let load = format!("load before: {}", fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    vec![machine(), kernel(), date(), load]
}

fn machine() -> String {
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    format!("machine: {processor}, {cores} cores, {memory} memory")
}

fn kernel() -> String {
    format!("kernel: {}", first_line("uname", &["-sr"]))
}

fn date() -> String {
    format!("date: {}", first_line("date", &["-u", "+%Y-%m-%d"]))
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
