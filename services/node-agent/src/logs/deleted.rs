//! Logs of instances that were deleted: kept for a time, and never more than a share of the disk.
//!
//! They lie in a folder of their own, by instance id, so that a new instance of the same name never shows them and nothing of
//! an instance that is gone is taken for a trace of one that is there. Everything but logs is removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wherry_model::{InstanceId, Timestamp};

use super::files::{list, parse, remove_all, remove_file};
use crate::config::{AgentConfig, LogLimits};

/// Microseconds since the epoch at which the instance was deleted.
const DELETED_AT: &str = "deleted-at";

/// Moves the logs of an instance away, all at once, so that whoever reads them goes on. Idempotent; goes on where it was left.
pub(crate) fn retire(config: &AgentConfig, instance: InstanceId, now: Timestamp) -> io::Result<()> {
    let (from, to) = (config.logs_of(instance), config.deleted_logs_of(instance));
    if list(&from)?.is_empty() || config.logs.keep_deleted.is_zero() {
        return remove_all(&from);
    }
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| parse(name).is_some()) {
            continue;
        }
        if entry.file_type()?.is_dir() { remove_all(&entry.path())? } else { remove_file(&entry.path())? }
    }
    fs::write(from.join(DELETED_AT), now.as_micros().to_string())?;
    fs::create_dir_all(config.deleted_logs_folder())?;
    // Of an instance of this id that came back after its end was told: the later is what counts.
    remove_all(&to)?;
    fs::rename(&from, &to)
}

/// Where the logs of an instance are; none when there are none.
pub(super) fn folder_of(config: &AgentConfig, instance: InstanceId) -> Option<PathBuf> {
    let folders = [config.logs_of(instance), config.deleted_logs_of(instance)];
    folders.into_iter().find(|folder| folder.is_dir())
}

/// Removes what is kept for longer than it should be, and what is too much, the oldest first.
pub(super) fn prune(folder: &Path, limits: &LogLimits, now: Timestamp) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut kept = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let deleted_at = fs::read_to_string(path.join(DELETED_AT)).ok().and_then(|text| text.trim().parse().ok());
        let Some(deleted_at) = deleted_at.map(Timestamp::from_micros) else {
            // The agent died before it had written it; what is there is kept from now on.
            if path.is_dir() {
                fs::write(path.join(DELETED_AT), now.as_micros().to_string())?;
            }
            continue;
        };
        if now.since(deleted_at) > limits.keep_deleted {
            remove_all(&path)?;
        } else {
            let bytes: u64 = list(&path)?.iter().map(|file| file.bytes).sum();
            kept.push((deleted_at, path, bytes));
        }
    }
    kept.sort();
    let most = share_of_disk(folder, limits.deleted_disk_percent)?;
    let mut bytes: u64 = kept.iter().map(|(_, _, bytes)| bytes).sum();
    for (_, path, of_it) in kept {
        if bytes <= most {
            break;
        }
        remove_all(&path)?;
        bytes = bytes.saturating_sub(of_it);
    }
    Ok(())
}

fn share_of_disk(folder: &Path, percent: u8) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_blocks.saturating_mul(disk.f_frsize) / 100 * u64::from(percent))
}

/// How often it is looked whether something is to be removed.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_or_too_much_goes() {
        let folder = tempfile::tempdir().unwrap();
        let at = Timestamp::from_seconds;
        for (name, deleted_at) in [("a", 1_000), ("b", 2_000), ("c", 3_000)] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(DELETED_AT), at(deleted_at).as_micros().to_string()).unwrap();
            fs::write(path.join("main.1.log"), "line").unwrap();
        }
        fs::create_dir(folder.path().join("unfinished")).unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let limits = LogLimits { keep_deleted: Duration::from_secs(2_500), ..LogLimits::default() };
        prune(folder.path(), &limits, at(4_000)).unwrap();
        assert_eq!(names(), ["b", "c", "unfinished"]);
        prune(folder.path(), &LogLimits { deleted_disk_percent: 0, ..limits }, at(4_000)).unwrap();
        assert_eq!(names(), ["unfinished"]);
        prune(folder.path(), &limits, at(6_501)).unwrap();
        assert!(names().is_empty());
        prune(&folder.path().join("absent"), &limits, at(0)).unwrap();
    }
}
