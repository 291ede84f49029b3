//! Volumes and where containers see them.

use crate::quantity::MemoryMib;

use super::super::{Limits, Medium, Volume, VolumeMount, VolumeSource};
use super::{Checked, at_most, check_absolute_path, wrong};

impl Volume {
    /// `memory`: what the containers of the instance may take together; `disk`: what they may write, if that was said.
    pub(super) fn check(&self, field: &str, memory: MemoryMib, disk: Option<MemoryMib>) -> Checked {
        match &self.source {
            VolumeSource::EmptyDir { size: Some(size), .. } if *size < MemoryMib::new(1) || *size > MemoryMib::MAX => {
                wrong(format!("{field}.empty_dir.size"), format!("{size} is outside 1Mi to 16Ti"))
            }
            VolumeSource::EmptyDir { medium: Medium::Disk, size: Some(size) } => match disk {
                Some(disk) if *size > disk => wrong(
                    format!("{field}.empty_dir.size"),
                    format!("{size} is more than the {disk} of ephemeral_disk that the instance may write"),
                ),
                _ => Ok(()),
            },
            VolumeSource::EmptyDir { size: Some(size), .. } if *size > memory => wrong(
                format!("{field}.empty_dir.size"),
                format!("{size} is more than the {memory} that the containers of the instance may take"),
            ),
            VolumeSource::EmptyDir { .. } => Ok(()),
            VolumeSource::Secret { mode: Some(mode), .. } if *mode > 0o777 => {
                wrong(format!("{field}.secret.mode"), "give permission bits in octal, for example \"0444\"")
            }
            VolumeSource::Secret { files, .. } => check_files(format!("{field}.secret.files"), files.keys()),
            VolumeSource::Config { files } => check_files(format!("{field}.config.files"), files.keys()),
            VolumeSource::Git { repository, revision, directory } => {
                check_repository(&format!("{field}.git.repository"), repository)?;
                if let Some(revision) = revision {
                    check_revision(&format!("{field}.git.revision"), revision)?;
                }
                match directory {
                    Some(directory) => check_inner_path(&format!("{field}.git.directory"), directory),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A URL of which nothing is a word of a command line, a file of the machine, or a password that everybody could read.
fn check_repository(field: &str, repository: &str) -> Checked {
    if repository.starts_with("ssh://") {
        return wrong(field, "ssh takes a key, which a volume cannot be given: use https, http or git");
    }
    let rest = ["https://", "http://", "git://"].into_iter().find_map(|scheme| repository.strip_prefix(scheme));
    let (host, _) = rest.unwrap_or_default().split_once('/').unwrap_or_default();
    if host.contains('@') {
        return wrong(
            field,
            "a user or password in a URL could be read by everybody who sees the instance: leave it out",
        );
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    let begins = host.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'[');
    let is_url = begins && host.bytes().all(plain) && repository.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
    if !is_url || repository.len() > Limits::MAX_REPOSITORY_BYTES {
        let message = format!(
            "give a URL of at most {} bytes that begins with https://, http:// or git://, for example \
             https://git.example/team/site.git",
            Limits::MAX_REPOSITORY_BYTES
        );
        return wrong(field, message);
    }
    Ok(())
}

fn check_revision(field: &str, revision: &str) -> Checked {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/' | b'+' | b'@');
    let begins = revision.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_');
    if begins && revision.bytes().all(plain) && revision.len() <= Limits::MAX_REVISION_BYTES {
        return Ok(());
    }
    wrong(field, "give a branch, a tag or a commit, for example \"main\" or \"v1.2\"")
}

/// In memory they take no more together than the containers may: their pages outlive the container that wrote them.
pub(super) fn check_memory_together(volumes: &[Volume], memory: MemoryMib) -> Checked {
    let mut left = memory.get();
    let mut without_size = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let VolumeSource::EmptyDir { medium: Medium::Memory, size } = &volume.source else { continue };
        let field = format!("volumes[{index}].empty_dir.size");
        let Some(size) = size else {
            without_size.push(field);
            continue;
        };
        let Some(rest) = left.checked_sub(size.get()) else {
            let message = format!(
                "with the volumes before it, {size} is more than the {memory} that the containers of the instance may take"
            );
            return wrong(field, message);
        };
        left = rest;
    }
    let fits = usize::try_from(left).is_ok_and(|left| without_size.len() <= left);
    match without_size.first() {
        Some(field) if !fits => {
            let left = MemoryMib::new(left);
            wrong(
                field.clone(),
                format!("the volumes with a size leave {left} of {memory} for those without: take less"),
            )
        }
        _ => Ok(()),
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
    /// What the kernel reads of the path: any number of slashes is one.
    pub(super) fn path_parts(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter(|part| !part.is_empty())
    }

    pub(super) fn check(&self, field: &str, volume: &Volume) -> Checked {
        let at = format!("{field}.path");
        check_absolute_path(at.clone(), &self.path)?;
        let parts: Vec<&str> = self.path_parts().collect();
        if parts.is_empty() || parts.iter().any(|part| matches!(*part, ".." | ".")) {
            return wrong(at, "give a folder below \"/\", without \".\" and \"..\"");
        }
        if parts.first().is_some_and(|first| matches!(*first, "proc" | "sys" | "dev")) {
            return wrong(at, "/proc, /sys and /dev are the machine's");
        }
        let Some(path) = &self.sub_path else { return Ok(()) };
        let at = format!("{field}.sub_path");
        check_inner_path(&at, path)?;
        let has_file = match &volume.source {
            VolumeSource::EmptyDir { .. } | VolumeSource::Git { .. } => true,
            VolumeSource::Secret { files, .. } => files.contains_key(path),
            VolumeSource::Config { files } => files.contains_key(path),
        };
        if has_file { Ok(()) } else { wrong(at, format!("volume {} has no file {path:?}", volume.name)) }
    }
}
