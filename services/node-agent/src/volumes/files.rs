//! Files that are given with the instance. A file is replaced whole and only when it differs, so a container that runs sees
//! the old or the new content, and a file that a power cut tore is mended by the next start.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// No file of a volume may begin so.
const FRESH: &str = "..new";

/// Makes exactly these files the folder's content.
pub(super) fn write(folder: &Path, files: &BTreeMap<String, String>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_none_or(|name| !files.contains_key(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    for (name, content) in files {
        let path = folder.join(name);
        if fs::read(&path).is_ok_and(|present| present == content.as_bytes()) {
            continue;
        }
        let fresh = folder.join(FRESH);
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&fresh)?;
        file.write_all(content.as_bytes())?;
        // Whatever the agent's umask.
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        fs::rename(&fresh, path)?;
    }
    Ok(())
}
