//! Who uses the data folder, and which other Wherrys run on this machine.
//!
//! The lock is looked up in `/proc/locks` and not tried: a doctor that took it, however briefly, could make a
//! `wherry up` fail that starts at the same moment.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::super::host::Occupancy;
use crate::data::DataFolder;

pub(super) fn occupancy(data: &DataFolder) -> Occupancy {
    let lock = fs::metadata(data.root().join("wherry.lock")).ok();
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let holder = lock.and_then(|file| find_holder(&locks, file.ino()));
    let own = std::process::id();
    let mut others: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own && Some(*pid) != holder && runs_containers(*pid))
        .collect();
    others.sort_unstable();
    // `wherry up` asks too, while it holds the lock itself.
    Occupancy { holder: holder.filter(|pid| *pid != own), others }
}

/// `1: FLOCK  ADVISORY  WRITE 4711 08:01:131073 0 EOF`; the last field but two ends with the inode.
fn find_holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, "FLOCK", _, "WRITE", pid, file, ..] = fields.as_slice() else { return None };
        let (_, locked) = file.rsplit_once(':')?;
        (locked.parse() == Ok(inode)).then(|| pid.parse().ok()).flatten()
    })
}

fn runs_containers(pid: u32) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    is_such_a_command(&command)
}

fn is_such_a_command(command: &[u8]) -> bool {
    let mut words = command.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let is_wherry = program == b"wherry" || program.ends_with(b"/wherry");
    // The one flag that may stand before a command.
    let mut command = words.next();
    while command.is_some_and(|word| word.starts_with(b"--data")) {
        if command == Some(b"--data") {
            words.next();
        }
        command = words.next();
    }
    is_wherry && matches!(command, Some(b"up" | b"node"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock() {
        let locks = "1: POSIX  ADVISORY  WRITE 99 08:01:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 08:01:131073 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 4712 08:01:131073 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 12 00:1c:43 0 EOF\n";
        assert_eq!(find_holder(locks, 131_073), Some(4711));
        assert_eq!(find_holder(locks, 42), None);
        assert_eq!(find_holder(locks, 43), None);
    }

    #[test]
    fn a_held_lock_is_seen_without_taking_it() {
        let scratch = tempfile::tempdir().unwrap();
        let data = DataFolder::new(scratch.path()).unwrap();
        let _held = data.lock("wherry up").unwrap();
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let inode = fs::metadata(scratch.path().join("wherry.lock")).unwrap().ino();
        assert_eq!(find_holder(&locks, inode), Some(std::process::id()));
        assert_eq!(occupancy(&data).holder, None, "its own lock is nobody else's");
    }

    #[test]
    fn what_counts_as_another_wherry() {
        assert!(is_such_a_command(b"/usr/bin/wherry\0up\0--data\0/d\0"));
        assert!(is_such_a_command(b"wherry\0--data\0/d\0node\0"));
        assert!(is_such_a_command(b"wherry\0--data=/d\0up\0"));
        assert!(!is_such_a_command(b"wherry\0ps\0"));
        assert!(!is_such_a_command(b"wherry\0control\0"));
        assert!(!is_such_a_command(b"wherry\0admin\0node\0token\0"));
        assert!(!is_such_a_command(b"/usr/bin/vim\0wherry\0up\0"));
        assert!(!is_such_a_command(b""));
    }
}
