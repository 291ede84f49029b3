//! Trees that containers wrote: how much they hold, and their removal, at any depth.
//!
//! A folder is entered from the one above it, so that a path may be longer than the kernel takes, and the stack is not a
//! function's. The first levels stay open while what is below them is measured: a container that moves the folder hides nothing
//! behind it. Further down a folder is left by its `..`; where that leads elsewhere than it came from, the tree counts as one
//! that cannot be measured, as one with too many files does. What is removed is written to by nobody, and always left by `..`.
//! A file without a name that a program still holds open is not found. Rejected: `remove_dir_all` of the standard library,
//! which holds a folder open, and a stack frame, for each level.
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

/// Levels that stay open while they are measured; few programs write deeper trees.
const KEPT_OPEN: usize = 256;

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
    let Some(mut walk) = Walk::begin(root, most_files)? else { return Ok(Measured::default()) };
    while walk.step()? {}
    Ok(walk.count.measured)
}

/// On the way through a tree that others write to.
struct Walk {
    here: OwnedFd,
    level: Level,
    /// With their folders, as far as these stay open.
    above: Vec<(Level, Option<OwnedFd>)>,
    count: Count,
}

impl Walk {
    fn begin(root: &Path, most_files: u64) -> io::Result<Option<Self>> {
        let here = match openat(CWD, root, FOLDER, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut count = Count { most_files, device: identity(&here)?.0, ..Count::default() };
        let level = Level { identity: identity(&here)?, left: count.look(&here)? };
        Ok(Some(Self { here, level, above: Vec::new(), count }))
    }

    /// One folder down or up; whether there is another step.
    fn step(&mut self) -> io::Result<bool> {
        if self.count.measured.too_many {
            return Ok(false);
        }
        if let Some(name) = self.level.left.pop() {
            self.count.names = self.count.names.saturating_sub(name.as_bytes().len());
            let Some(inner) = enter(&self.here, &name)? else { return Ok(true) };
            let entered = Level { identity: identity(&inner)?, left: self.count.look(&inner)? };
            let upper = std::mem::replace(&mut self.level, entered);
            let folder = std::mem::replace(&mut self.here, inner);
            let kept = if self.above.len() < KEPT_OPEN { Some(folder) } else { None };
            self.above.push((upper, kept));
            return Ok(true);
        }
        let Some((upper, kept)) = self.above.pop() else { return Ok(false) };
        let back = match kept {
            Some(folder) => Some(folder),
            None => match enter(&self.here, &CString::from(c".."))? {
                Some(back) if identity(&back)? == upper.identity => Some(back),
                Some(_) | None => None,
            },
        };
        let Some(back) = back else {
            self.count.measured.too_many = true;
            return Ok(false);
        };
        (self.here, self.level) = (back, upper);
        Ok(true)
    }
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
    fn a_folder_that_is_moved_meanwhile_hides_nothing_behind_it() {
        let home = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (home.path().join("root"), home.path().join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        for name in ["a", "b", "c", "d"] {
            fs::create_dir_all(root.join(name).join("inner")).unwrap();
            fs::write(root.join(name).join("much"), vec![1; 100_000]).unwrap();
        }
        let mut walk = Walk::begin(&root, MOST_FILES).unwrap().unwrap();
        while walk.above.len() < 2 {
            assert!(walk.step().unwrap());
        }
        for name in ["a", "b", "c", "d"] {
            fs::rename(root.join(name).join("inner"), elsewhere.join(name)).unwrap();
        }
        while walk.step().unwrap() {}
        let measured = walk.count.measured;
        assert!(measured.bytes >= 400_000 && !measured.too_many, "{measured:?}");
    }

    #[test]
    fn who_moves_folders_deeper_than_are_held_is_not_believed_to_have_little() {
        let home = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (home.path().join("root"), home.path().join("elsewhere"));
        let inner = (0..KEPT_OPEN + 3).fold(root.clone(), |above, _| above.join("d"));
        fs::create_dir_all(&inner).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        let mut walk = Walk::begin(&root, MOST_FILES).unwrap().unwrap();
        while walk.above.len() < KEPT_OPEN + 3 {
            assert!(walk.step().unwrap());
        }
        fs::rename(&inner, elsewhere.join("d")).unwrap();
        while walk.step().unwrap() {}
        assert!(walk.count.measured.too_many);
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
