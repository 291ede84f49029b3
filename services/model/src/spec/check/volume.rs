//! Volumes and where containers see them.

use crate::quantity::MemoryMib;

use super::super::{Limits, Volume, VolumeMount, VolumeSource};
use super::{Checked, at_most, check_absolute_path, wrong};

impl Volume {
    pub(super) fn check(&self, field: &str) -> Checked {
        match &self.source {
            VolumeSource::EmptyDir { size: Some(size), .. } if *size < MemoryMib::new(1) || *size > MemoryMib::MAX => {
                wrong(format!("{field}.empty_dir.size"), format!("{size} is outside 1Mi to 16Ti"))
            }
            VolumeSource::EmptyDir { .. } => Ok(()),
            VolumeSource::Secret { files } => check_files(format!("{field}.secret.files"), files.keys()),
            VolumeSource::Config { files } => check_files(format!("{field}.config.files"), files.keys()),
            VolumeSource::Git { repository, revision, directory } => {
                if !repository.starts_with("https://") && !repository.starts_with("http://") {
                    return wrong(format!("{field}.git.repository"), "give an address that begins with https://");
                }
                let plain =
                    |text: &str| text.len() <= 2048 && !text.chars().any(|c| c.is_control() || c.is_whitespace());
                if !plain(repository) || repository.contains('@') {
                    return wrong(format!("{field}.git.repository"), "it is too long, or holds spaces or credentials");
                }
                if let Some(revision) = revision
                    && (revision.is_empty() || revision.starts_with('-') || !plain(revision))
                {
                    return wrong(format!("{field}.git.revision"), "give a branch, a tag or a commit");
                }
                directory.as_deref().map_or(Ok(()), |path| check_inner_path(&format!("{field}.git.directory"), path))
            }
        }
    }
}

fn check_files<'a>(field: String, names: impl ExactSizeIterator<Item = &'a String>) -> Checked {
    if names.len() == 0 {
        return wrong(field, "give at least one file");
    }
    at_most(&field, names.len(), Limits::MAX_VOLUME_FILES)?;
    for name in names {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > 253 || name.starts_with("..") || name == "." || !name.bytes().all(plain) {
            let message = format!("{name:?} is no file name: use 1 to 253 letters, digits, '.', '-' or '_'");
            return wrong(field, message);
        }
    }
    Ok(())
}

/// A path that stays where it begins.
fn check_inner_path(field: &str, path: &str) -> Checked {
    let stays = path.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
    if path.is_empty() || path.len() > Limits::MAX_PATH_BYTES || path.contains('\0') || !stays {
        return wrong(field, "give a relative path without empty parts, \".\" and \"..\", for example \"conf/site\"");
    }
    Ok(())
}

impl VolumeMount {
    pub(super) fn check(&self, field: &str) -> Checked {
        let at = format!("{field}.path");
        check_absolute_path(at.clone(), &self.path)?;
        let trimmed = self.path.trim_end_matches('/');
        if trimmed.is_empty() || trimmed.split('/').any(|part| part == ".." || part == ".") {
            return wrong(at, "give a folder below \"/\", without \".\" and \"..\"");
        }
        if ["/proc", "/sys", "/dev"].iter().any(|own| trimmed == *own || trimmed.starts_with(&format!("{own}/"))) {
            return wrong(at, "/proc, /sys and /dev are the machine's");
        }
        self.sub_path.as_deref().map_or(Ok(()), |path| check_inner_path(&format!("{field}.sub_path"), path))
    }
}
