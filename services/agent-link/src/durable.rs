//! Files that are there whole or not at all, whatever is killed when.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use wherry_model::Entropy;

/// Keys and certificates are a few lines; more than this is something else.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Rights that let others than the owner do something.
const OTHERS: u32 = 0o077;

/// Writes `contents` to `path` unless something is there. Of two processes that do it at once, one wins; both find what it
/// wrote.
pub(crate) fn create_once(path: &Path, contents: &[u8], mode: u32, entropy: &dyn Entropy) -> io::Result<()> {
    let fresh = write_beside(path, contents, mode, entropy)?;
    let linked = fs::hard_link(&fresh, path);
    let removed = fs::remove_file(&fresh);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => removed?,
    }
    sync_folder_of(path)
}

/// Puts `contents` in the place of what is at `path`.
pub(crate) fn replace(path: &Path, contents: &[u8], mode: u32, entropy: &dyn Entropy) -> io::Result<()> {
    let fresh = write_beside(path, contents, mode, entropy)?;
    if let Err(error) = fs::rename(&fresh, path) {
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    sync_folder_of(path)
}

fn write_beside(path: &Path, contents: &[u8], mode: u32, entropy: &dyn Entropy) -> io::Result<PathBuf> {
    let mut suffix = [0_u8; 8];
    entropy.fill(&mut suffix);
    let fresh = path.with_extension(format!("{:016x}.new", u64::from_be_bytes(suffix)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    match file.write_all(contents).and_then(|()| file.sync_all()) {
        Ok(()) => Ok(fresh),
        Err(error) => {
            let _ = fs::remove_file(&fresh);
            Err(error)
        }
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// The text of a file that anybody may read; none when there is no such file.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::File::open(path) {
        Ok(file) => read_all(file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of a file that only its owner may read; none when there is no such file.
pub(crate) fn read_secret(path: &Path) -> io::Result<Option<String>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        let sentence = format!("others may read it (mode {mode:o}): run `chmod 600` on it");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence));
    }
    read_all(file).map(Some)
}

fn read_all(file: fs::File) -> io::Result<String> {
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    struct Counting(AtomicU8);
    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    #[test]
    fn the_first_writer_wins_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.key");
        let entropy = Counting(AtomicU8::new(0));
        create_once(&path, b"one", 0o600, &entropy).unwrap();
        create_once(&path, b"two", 0o600, &entropy).unwrap();
        assert_eq!(read_secret(&path).unwrap().as_deref(), Some("one"));
        replace(&path, b"three", 0o600, &entropy).unwrap();
        assert_eq!(read_secret(&path).unwrap().as_deref(), Some("three"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_and_an_absent_one_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.key");
        assert_eq!(read_secret(&path).unwrap(), None);
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_secret(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
