//! Disk, memory, clock, and who is here already.

use std::time::Duration;

use wherry_model::Timestamp;

use super::super::host::{ClockReading, Disk, Health, Memory, Occupancy, OpenFiles};
use super::Finding;
use crate::cli::Role;
use crate::client::text::bytes;
use crate::open_files::COMFORTABLE;

/// Below this the service refuses new work sooner or later; below the second it hardly starts.
const DISK_COMFORTABLE_BYTES: u64 = 2 << 30;
const DISK_LEAST_BYTES: u64 = 256 << 20;
const INODES_LEAST: u64 = 20_000;
const MEMORY_COMFORTABLE_BYTES: u64 = 512 << 20;
const MEMORY_LEAST_BYTES: u64 = 128 << 20;

/// 2026-01-01: before this software was written no clock that is right can be.
const EARLIEST_NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);
const LARGEST_STEP_BACK: Duration = Duration::from_secs(5);

pub(super) fn disk(seen: &Result<Disk, String>) -> Vec<Finding> {
    let disk = match seen {
        Ok(disk) => disk,
        Err(said) => return vec![Finding::warning("disk", format!("free space cannot be read: {said}"))],
    };
    let folder = disk.folder.display();
    let says = format!("{} free at {folder}", bytes(disk.free_bytes));
    let mend = "free some, or choose a folder on a larger disk with --data";
    let mut findings = vec![match disk.free_bytes {
        free if free < DISK_LEAST_BYTES => Finding::failure("disk", format!("only {says}")).mend(mend),
        free if free < DISK_COMFORTABLE_BYTES => {
            Finding::warning("disk", format!("only {says}: images will fill it")).mend(mend)
        }
        _ => Finding::ok("disk", says),
    }];
    if disk.free_inodes.is_some_and(|free| free < INODES_LEAST) {
        let says = format!("fewer than {INODES_LEAST} files can still be made at {folder}: images have thousands each");
        findings.push(Finding::warning("disk", says).mend(mend));
    }
    findings
}

pub(super) fn memory(seen: &Memory) -> Finding {
    match seen.available_bytes {
        None => Finding::warning("memory", "the free amount cannot be read"),
        Some(available) => {
            let says = format!("{} available", bytes(available));
            match available {
                few if few < MEMORY_LEAST_BYTES => {
                    Finding::failure("memory", format!("only {says}")).mend("stop something, or add memory")
                }
                few if few < MEMORY_COMFORTABLE_BYTES => {
                    Finding::warning("memory", format!("only {says}: there is room for a few small instances"))
                }
                _ => Finding::ok("memory", says),
            }
        }
    }
}

/// The service raises the soft limit by itself, so only the hard one counts.
pub(super) fn open_files(seen: OpenFiles) -> Finding {
    match seen.most {
        None => Finding::ok("open files", "no limit"),
        Some(most) if most < COMFORTABLE => {
            let says =
                format!("at most {most}: connections and log streams will be refused before the machine is full");
            Finding::warning("open files", says).mend(format!(
                "LimitNOFILE={COMFORTABLE} or more in the unit; in a shell ulimit -n {COMFORTABLE}, as root"
            ))
        }
        Some(most) => Finding::ok("open files", format!("up to {most}")),
    }
}

/// Bills are made of this clock.
pub(super) fn clock(seen: &ClockReading) -> Vec<Finding> {
    let mend = "set the clock and keep it right, for example with apt-get install systemd-timesyncd";
    let says = format!("it is {}", seen.now);
    if seen.now < EARLIEST_NOW {
        return vec![
            Finding::failure("clock", format!("{says}, it says: that is before Wherry was written")).mend(mend),
        ];
    }
    if let Some(last_write) = seen.last_write
        && last_write.since(seen.now) > LARGEST_STEP_BACK
    {
        let says = format!("{says}, it says, but the data was last written at {last_write}: the clock was set back");
        return vec![
            Finding::warning("clock", says).mend(format!("{mend}; seconds are not billed twice, but may be missed")),
        ];
    }
    match seen.synchronised {
        Some(true) => vec![Finding::ok("clock", format!("{says}, synchronised"))],
        Some(false) => {
            let says = format!("{says}, not synchronised yet");
            vec![Finding::warning("clock", says).mend("look at timedatectl timesync-status")]
        }
        None => vec![Finding::ok("clock", says)],
    }
}

pub(super) fn occupancy(seen: &Occupancy, role: Role) -> Vec<Finding> {
    let command = role.command();
    let mut findings = vec![match seen.holder {
        Some(pid) => Finding::ok("this installation", format!("`{command}` runs (process {pid})")),
        None => Finding::note("this installation", format!("`{command}` does not run on this data folder")),
    }];
    // A control plane hands out nothing of its machine.
    if !seen.others.is_empty() && role != Role::Control {
        let pids = seen.others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let says =
            format!("another Wherry runs on this machine (process {pids}): both hand out the same CPU and memory");
        let mend =
            "stop one; or give each its own data folder, ports, network.range, node.cpu_millis and node.memory_mib";
        findings.push(Finding::warning("other installations", says).mend(mend));
    }
    findings
}

pub(super) fn health(seen: &[Health], role: Role) -> Vec<Finding> {
    let command = role.command();
    seen.iter()
        .map(|health| match &health.answer {
            Ok((200, _)) => Finding::ok("service", format!("{} says that all is well", health.url)),
            Ok((status, body)) => Finding::failure("service", format!("{} answers {status}: {body}", health.url))
                .mend(format!("read what `{command}` prints; it goes on by itself once the cause is gone")),
            Err(said) => Finding::failure("service", format!("{} gives no answer: {said}", health.url))
                .mend(format!("read what `{command}` prints, or find who else listens there with ss -lnpt")),
        })
        .collect()
}
