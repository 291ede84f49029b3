//! Disk, memory, clock, and whether layers can be laid over each other where the data is.

use std::fs;
use std::path::{Path, PathBuf};

use wherry_model::{Clock as _, Timestamp};

use super::super::exec;
use super::super::host::{ClockReading, Disk, Memory, Trial};
use crate::data::DataFolder;
use crate::system::SystemClock;

/// The folder itself, or the nearest one above it that exists.
fn nearest_existing(folder: &Path) -> PathBuf {
    folder.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// A folder that goes when this does.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Self, String> {
        let folder = parent.join(format!(".wherry-doctor-{}", std::process::id()));
        let scratch = Self(folder.clone());
        for part in ["lower", "upper", "work", "merged"] {
            fs::create_dir_all(folder.join(part))
                .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        }
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Mounts an overlay for a moment, in a mount namespace that ends with its process.
pub(super) fn overlay(data: &Path) -> Trial {
    const MOUNT: &str =
        r#"cd "$1" && exec mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged"#;
    let unshare = exec::find("unshare").ok_or("unshare is not installed")?;
    let scratch = Scratch::new(&nearest_existing(data))?;
    let folder = scratch.0.to_string_lossy();
    exec::run(&unshare, &["--mount", "--", "sh", "-c", MOUNT, "sh", &folder], "").map(drop)
}

pub(super) fn disk(data: &Path) -> Result<Disk, String> {
    let folder = nearest_existing(data);
    let seen = rustix::fs::statvfs(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(Disk {
        free_bytes: seen.f_bavail.saturating_mul(seen.f_frsize),
        free_inodes: (seen.f_files > 0).then_some(seen.f_favail),
        folder,
    })
}

pub(super) fn memory() -> Memory {
    Memory { available_bytes: parse_available(&fs::read_to_string("/proc/meminfo").unwrap_or_default()) }
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

pub(super) fn clock(data: &DataFolder) -> ClockReading {
    let written = |path: PathBuf| {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
        let since_epoch = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).ok()?))
    };
    let log = data.database().with_extension("db-wal");
    // systemd-timesyncd keeps this file for exactly this question (systemd-time-wait-sync.service(8)).
    let has_timesyncd = Path::new("/run/systemd/timesync").is_dir();
    ClockReading {
        last_write: written(data.database()).max(written(log)),
        now: SystemClock.now(),
        synchronised: has_timesyncd.then(|| Path::new("/run/systemd/timesync/synchronized").exists()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory() {
        let meminfo = "MemTotal:       24576000 kB\nMemFree:         1000 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(parse_available(meminfo), Some(20_480_000 * 1024));
        assert_eq!(parse_available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_looked_at_from_above() {
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(nearest_existing(&scratch.path().join("a/b")), scratch.path());
        assert_eq!(disk(&scratch.path().join("a/b")).unwrap().folder, scratch.path());
    }
}
