//! Files that are given with the instance. A file is replaced whole and only when it differs, so a container that runs sees
//! the old or the new content, and a file that a power cut tore is mended by the next start.
//!
//! What is there is believed only where it is a file as this module makes them: no link is followed, nothing is opened that
//! could block, no more is read than was asked for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::remove_any;

/// No file of a volume may begin so.
const FRESH: &str = "..new";

/// Makes exactly these files the folder's content.
pub(super) fn write(folder: &Path, files: &BTreeMap<String, String>) -> io::Result<()> {
    if !super::is_folder(folder) {
        remove_any(folder)?;
        fs::create_dir_all(folder)?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_none_or(|name| !files.contains_key(name)) {
            remove_any(&entry.path())?;
        }
    }
    for (name, content) in files {
        let path = folder.join(name);
        if holds(&path, content.as_bytes()).unwrap_or(false) {
            continue;
        }
        if super::is_folder(&path) {
            remove_any(&path)?;
        }
        let fresh = folder.join(FRESH);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&fresh)?;
        file.write_all(content.as_bytes())?;
        // Whatever the agent's umask.
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        fs::rename(&fresh, path)?;
    }
    Ok(())
}

/// Whether it is a file with exactly this content.
fn holds(path: &Path, content: &[u8]) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let about = file.metadata()?;
    let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
    if !about.is_file() || about.len() != length {
        return Ok(false);
    }
    let mut present = Vec::with_capacity(content.len());
    file.take(length).read_to_end(&mut present)?;
    Ok(present == content)
}
