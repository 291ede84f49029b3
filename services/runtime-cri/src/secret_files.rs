//! Files in memory, in the engine's own mount namespace (`mounts.rs`), which is entered by the engine's root in /proc: the
//! content is on no command line and on no disk. Where the kernel can (6.4), it is not swapped either.
//!
//! Nobody but root of the machine can reach the folder, and containers see it read-only: what is in it was written here.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use wherry_runtime::{Result, RuntimeError, SecretFiles};

/// `$1` where, `$2` bytes, `$3` files.
pub(crate) const MOUNT: &str = r#"set -eu
mountpoint -q -- "$1" && exit 0
options="size=$2,nr_inodes=$3,mode=0755,nosuid,nodev,noexec"
mount -t tmpfs -o "$options,noswap" wherry-secret "$1" 2>/dev/null || mount -t tmpfs -o "$options" wherry-secret "$1""#;

/// What the kernel takes for a file beside its content, generously.
const ROOM_PER_FILE: u64 = 3 * 4096;
/// No file of a volume may begin so.
const FRESH: &str = "..new";

/// Bytes and files that the file system must have room for, while one is replaced.
pub(crate) fn room(wanted: &SecretFiles) -> (u64, u64) {
    let files = u64::try_from(wanted.files.len()).unwrap_or(u64::MAX);
    let length = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX);
    let bytes = wanted.files.values().map(|content| length(content.expose())).fold(0, u64::saturating_add);
    (
        bytes.saturating_mul(2).saturating_add(files.saturating_mul(ROOM_PER_FILE)).max(64 * 1024),
        files.saturating_add(8),
    )
}

/// Makes exactly these files the content of the folder, which `engine` sees. Costs a look where they are there already.
pub(crate) fn write(engine: i32, folder: &Path, wanted: &SecretFiles) -> Result<()> {
    let seen = seen_by(engine, folder);
    put(&seen, wanted).map_err(|error| RuntimeError::Internal {
        // The path and the kernel's word; never a content.
        message: format!("the secret files in {} could not be written: {error}", folder.display()),
    })
}

/// The path as the process sees it.
fn seen_by(process: i32, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{process}/root"));
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn put(folder: &Path, wanted: &SecretFiles) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_none_or(|name| !wanted.files.contains_key(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    for (name, content) in &wanted.files {
        let path = folder.join(name);
        let is_there = fs::metadata(&path).is_ok_and(|about| about.permissions().mode() & 0o777 == wanted.mode)
            && fs::read(&path).is_ok_and(|present| present == content.expose().as_bytes());
        if is_there {
            continue;
        }
        let fresh = folder.join(FRESH);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(content.expose().as_bytes())?;
        // Whatever the umask.
        file.set_permissions(fs::Permissions::from_mode(wanted.mode))?;
        fs::rename(&fresh, path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wherry_model::SecretText;

    use super::*;

    fn wanted(files: &[(&str, &str)], mode: u32) -> SecretFiles {
        let files: BTreeMap<_, _> =
            files.iter().map(|(name, content)| ((*name).to_owned(), SecretText::new((*content).to_owned()))).collect();
        SecretFiles { files, mode, shown: None }
    }

    #[test]
    fn exactly_these_files_are_there_with_their_mode() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), &wanted(&[("a", "1"), ("b", "2")], 0o400)).unwrap();
        // Left by one that was ended in the middle.
        fs::write(folder.path().join(FRESH), "torn").unwrap();
        put(folder.path(), &wanted(&[("b", "2"), ("c", "33")], 0o444)).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        for (name, content) in [("b", "2"), ("c", "33")] {
            let path = folder.path().join(name);
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        }
    }

    #[test]
    fn there_is_room_for_replacing_everything() {
        let (bytes, files) = room(&wanted(&[("a", &"x".repeat(100_000))], 0o400));
        assert!(bytes >= 200_000 && files >= 2);
    }
}
