//! What processes use, read from `/proc`: so that the load generator's own part is never counted as Wherry's.

use std::fs;
use std::time::Duration;

/// Ticks of `/proc/*/stat` each second (`sysconf(_SC_CLK_TCK)`, 100 on every Linux that Wherry runs on).
const TICKS_PER_SECOND: u64 = 100;

/// One look at one process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Use {
    /// Processor time since its start, in user and kernel.
    pub(crate) cpu: Duration,
    pub(crate) resident_kib: u64,
}

/// None when the process is not there.
pub(crate) fn of(pid: u32) -> Option<Use> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows is numbers from field 3 on.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kib = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(Use { cpu: Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND), resident_kib })
}

/// The machine, for the head of a result.
pub(crate) fn machine() -> String {
    let field = |file: &str, name: &str| -> Option<String> {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{processor}, {cores} cores, {memory} memory, Linux {}", kernel.trim())
}

/// The machine's load now: 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_uses_something_and_one_that_is_not_there_nothing() {
        let used = super::of(std::process::id()).unwrap();
        assert!(used.resident_kib > 0);
        assert!(super::of(u32::MAX).is_none());
    }
}
