//! Trees that containers wrote: how much they hold, and their removal, at any depth.
//!
//! A folder is entered from the one above it and left by its `..`, so that a path may be longer than the kernel takes, no
//! more than two folders are open at a time, and the stack is not a function's. Where `..` leads elsewhere than it came
//! from, because a container moved the folder meanwhile, the rest is left out: what was counted until then is there.
//! Rejected: `remove_dir_all` of the standard library, which holds a folder open, and a stack frame, for each level.
//!
//! No link is followed and no other file system is entered.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

/// Files and folders that are looked at in one instance; who has more has too many.
pub(crate) const MOST_FILES: u64 = 1_000_000;
/// Bytes of names of folders that wait to be looked at; who has more has too many files.
const MOST_NAMES: usize = 64 * 1024 * 1024;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Measured {
    /// Bytes of the disk; what has several names counts once.
    pub(super) bytes: u64,
    /// Files, folders and whatever else has a name.
    pub(super) files: u64,
    /// The rest was not looked at.
    pub(super) too_many: bool,
}

/// Which folder it is.
type Identity = (u64, u64);

/// A folder on the way down.
struct Level {
    identity: Identity,
    /// Folders in it that were not entered yet.
    left: Vec<CString>,
}

fn enter(above: &OwnedFd, name: &CString) -> io::Result<Option<OwnedFd>> {
    match openat(above, name, FOLDER, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        // Gone, or something else by now.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn identity(folder: &OwnedFd) -> io::Result<Identity> {
    let about = fstat(folder)?;
    Ok((about.st_dev, about.st_ino))
}

/// Names in a folder.
fn names(folder: &OwnedFd) -> io::Result<Dir> {
    Ok(Dir::read_from(folder)?)
}

fn is_name(name: &std::ffi::CStr) -> bool {
    !matches!(name.to_bytes(), b"." | b"..")
}

/// How much there is below `root`, itself included. Nothing where there is nothing.
pub(super) fn measure(root: &Path, most_files: u64) -> io::Result<Measured> {
    let mut here = match openat(CWD, root, FOLDER, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Measured::default()),
        Err(error) => return Err(error.into()),
    };
    let mut count = Count { most_files, device: identity(&here)?.0, ..Count::default() };
    let mut above: Vec<Level> = Vec::new();
    let mut level = Level { identity: identity(&here)?, left: count.look(&here)? };
    while !count.measured.too_many {
        if let Some(name) = level.left.pop() {
            count.names = count.names.saturating_sub(name.as_bytes().len());
            let Some(inner) = enter(&here, &name)? else { continue };
            let entered = Level { identity: identity(&inner)?, left: count.look(&inner)? };
            above.push(std::mem::replace(&mut level, entered));
            here = inner;
        } else {
            let Some(upper) = above.pop() else { break };
            let Some(back) = enter(&here, &CString::from(c".."))? else { break };
            if identity(&back)? != upper.identity {
                break;
            }
            (here, level) = (back, upper);
        }
    }
    Ok(count.measured)
}

#[derive(Default)]
struct Count {
    measured: Measured,
    most_files: u64,
    device: u64,
    names: usize,
    several: BTreeSet<u64>,
}

impl Count {
    /// Adds what is in the folder; says which folders are in it.
    fn look(&mut self, folder: &OwnedFd) -> io::Result<Vec<CString>> {
        let mut folders = Vec::new();
        for entry in names(folder)? {
            let entry = entry?;
            if !is_name(entry.file_name()) {
                continue;
            }
            if self.measured.files >= self.most_files || self.names > MOST_NAMES {
                self.measured.too_many = true;
                break;
            }
            let about = match statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                about => about?,
            };
            if about.st_dev != self.device {
                continue;
            }
            self.measured.files += 1;
            let is_folder = FileType::from_raw_mode(about.st_mode) == FileType::Directory;
            if is_folder || about.st_nlink < 2 || self.several.insert(about.st_ino) {
                let blocks = u64::try_from(about.st_blocks).unwrap_or(0);
                self.measured.bytes = self.measured.bytes.saturating_add(blocks.saturating_mul(512));
            }
            if is_folder {
                self.names += entry.file_name().to_bytes().len();
                folders.push(entry.file_name().to_owned());
            }
        }
        Ok(folders)
    }
}

/// Removes a folder with all that is in it. Nobody else may write to it. Idempotent.
pub(super) fn remove(root: &Path) -> io::Result<()> {
    let mut here = match openat(CWD, root, FOLDER, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut above: Vec<(Level, CString)> = Vec::new();
    let mut level = Level { identity: identity(&here)?, left: clear(&here)? };
    loop {
        if let Some(name) = level.left.pop() {
            let Some(inner) = enter(&here, &name)? else { continue };
            let entered = Level { identity: identity(&inner)?, left: clear(&inner)? };
            above.push((std::mem::replace(&mut level, entered), name));
            here = inner;
        } else {
            let Some((upper, name)) = above.pop() else { break };
            let back = openat(&here, c"..", FOLDER, Mode::empty())?;
            if identity(&back)? != upper.identity {
                return Err(io::Error::other("a folder that is being removed was moved"));
            }
            gone(unlinkat(&back, &name, AtFlags::REMOVEDIR))?;
            (here, level) = (back, upper);
        }
    }
    gone(unlinkat(CWD, root, AtFlags::REMOVEDIR))
}

fn gone(removed: Result<(), Errno>) -> io::Result<()> {
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes all but folders; says which these are.
fn clear(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut folders = Vec::new();
    for entry in names(folder)? {
        let entry = entry?;
        if !is_name(entry.file_name()) {
            continue;
        }
        match unlinkat(folder, entry.file_name(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => folders.push(entry.file_name().to_owned()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::mkdirat;

    use super::*;

    const DEPTH: usize = 12_000;

    fn deep(root: &Path) {
        fs::create_dir(root).unwrap();
        let mut here = openat(CWD, root, FOLDER, Mode::empty()).unwrap();
        for _ in 0..DEPTH {
            mkdirat(&here, "a-level-with-a-long-name", Mode::RWXU).unwrap();
            here = openat(&here, "a-level-with-a-long-name", FOLDER, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_measured_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("deep");
        deep(&root);
        fs::write(root.join("beside"), vec![1; 100_000]).unwrap();
        let measured = measure(&root, MOST_FILES).unwrap();
        assert_eq!(measured.files, u64::try_from(DEPTH).unwrap() + 1);
        assert!(measured.bytes >= 100_000 && !measured.too_many, "{measured:?}");
        remove(&root).unwrap();
        assert!(!root.exists());
        remove(&root).unwrap();
        assert_eq!(measure(&root, 10).unwrap(), Measured::default());
    }

    #[test]
    fn what_has_several_names_counts_once_and_links_lead_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let outside = home.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("much"), vec![1; 1_000_000]).unwrap();
        let root = home.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("one"), vec![1; 400_000]).unwrap();
        fs::hard_link(root.join("one"), root.join("two")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("out")).unwrap();
        let measured = measure(&root, MOST_FILES).unwrap();
        assert_eq!(measured.files, 3);
        assert!((400_000..800_000).contains(&measured.bytes), "{measured:?}");
        remove(&root).unwrap();
        assert!(outside.join("much").exists());
    }

    #[test]
    fn no_more_files_are_looked_at_than_allowed() {
        let home = tempfile::tempdir().unwrap();
        for index in 0..50 {
            fs::create_dir(home.path().join(index.to_string())).unwrap();
        }
        let measured = measure(home.path(), 20).unwrap();
        assert_eq!((measured.files, measured.too_many), (20, true));
        assert!(!measure(home.path(), 50).unwrap().too_many);
    }
}
