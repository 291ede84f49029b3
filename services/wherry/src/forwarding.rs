//! IPv4 forwarding of the machine, which routed instances need. Switched on at the start and, if it was off before, off
//! again when nothing of Wherry is left.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::data::DataFolder;

const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Lies in the run folder while the setting was ours to switch on.
fn note(data: &DataFolder) -> PathBuf {
    data.run().join("ip_forward_was_off")
}

/// Switches forwarding on unless it is.
pub(crate) fn switch_on(data: &DataFolder) -> anyhow::Result<()> {
    switch_on_at(Path::new(SETTING), &note(data)).with_context(|| format!("cannot switch {SETTING} on"))
}

/// Switches it off again if it was switched on here and no other Wherry runs on this machine.
pub(crate) fn put_back(data: &DataFolder) -> anyhow::Result<()> {
    let run = data.run();
    let alone = run.parent().is_none_or(|all| others(all, &run) == 0);
    put_back_at(Path::new(SETTING), &note(data), alone).with_context(|| format!("cannot put {SETTING} back"))
}

fn switch_on_at(setting: &Path, note: &Path) -> io::Result<()> {
    if std::fs::read_to_string(setting)?.trim() != "0" {
        return Ok(());
    }
    std::fs::write(note, b"")?;
    std::fs::write(setting, b"1")
}

fn put_back_at(setting: &Path, note: &Path, alone: bool) -> io::Result<()> {
    if !note.exists() {
        return Ok(());
    }
    if alone {
        std::fs::write(setting, b"0")?;
    }
    match std::fs::remove_file(note) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn others(all: &Path, own: &Path) -> usize {
    let folders = std::fs::read_dir(all).into_iter().flatten().flatten();
    folders.filter(|folder| folder.path() != own).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_off_is_off_again_and_what_was_on_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (setting, note) = (folder.path().join("setting"), folder.path().join("note"));
        let read = || std::fs::read_to_string(&setting).unwrap().trim().to_owned();
        for (before, alone, after) in [("0\n", true, "0"), ("0\n", false, "1"), ("1\n", true, "1")] {
            std::fs::write(&setting, before).unwrap();
            switch_on_at(&setting, &note).unwrap();
            assert_eq!(read(), "1");
            // A second start, as after a crash, must not take our own work for the machine's.
            switch_on_at(&setting, &note).unwrap();
            put_back_at(&setting, &note, alone).unwrap();
            assert_eq!(read(), after, "{before:?} {alone}");
            assert!(!note.exists());
        }
    }
}
