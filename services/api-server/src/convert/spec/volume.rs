//! Volumes and where containers see them.

use std::collections::BTreeMap;

use wherry_api_types as wire;
use wherry_model as model;
use wherry_model::SpecError;

use super::{Seal, parse};

pub(super) fn to_model(seal: &Seal<'_>, field: &str, volume: wire::Volume) -> Result<model::Volume, SpecError> {
    let source = match (volume.empty_dir, volume.config, volume.secret, volume.git) {
        (Some(empty), None, None, None) => model::VolumeSource::EmptyDir {
            medium: match empty.medium.unwrap_or_default() {
                wire::Medium::Disk => model::Medium::Disk,
                wire::Medium::Memory => model::Medium::Memory,
            },
            size: empty.size.map(|size| parse(format!("{field}.empty_dir.size"), &size)).transpose()?,
        },
        (None, Some(config), None, None) => model::VolumeSource::Config { files: config.files },
        (None, None, Some(secret), None) => secret_to_model(seal, &format!("{field}.secret"), secret)?,
        (None, None, None, Some(wire::GitVolume { repository, revision, directory })) => {
            model::VolumeSource::Git { repository, revision, directory }
        }
        _ => return Err(SpecError::new(field, "give exactly one of empty_dir, config, secret and git")),
    };
    Ok(model::Volume { name: parse(format!("{field}.name"), &volume.name)?, source })
}

fn secret_to_model(seal: &Seal<'_>, field: &str, secret: wire::SecretVolume) -> Result<model::VolumeSource, SpecError> {
    if secret.files_set.len() > model::Limits::MAX_VOLUME_FILES {
        let message = format!("the most is {}", model::Limits::MAX_VOLUME_FILES);
        return Err(SpecError::new(format!("{field}.files_set"), message));
    }
    // What is given goes before what is kept.
    let mut files: BTreeMap<String, model::Sealed> =
        secret.files_set.into_iter().map(|name| (name, model::Sealed::kept())).collect();
    for (name, content) in secret.files {
        let sealed = seal.file(&format!("{field}.files.{name}"), &content)?;
        files.insert(name, sealed);
    }
    let mode = secret.mode.map(|mode| {
        let octal = (3..=4).contains(&mode.len()) && mode.bytes().all(|byte| byte.is_ascii_digit());
        let bits = u32::from_str_radix(&mode, 8).ok().filter(|bits| octal && *bits <= 0o777);
        bits.ok_or_else(|| {
            SpecError::new(format!("{field}.mode"), "give permission bits in octal, for example \"0444\"")
        })
    });
    Ok(model::VolumeSource::Secret { files, mode: mode.transpose()? })
}

pub(super) fn mount_to_model(field: &str, mount: wire::VolumeMount) -> Result<model::VolumeMount, SpecError> {
    let wire::VolumeMount { volume, path, sub_path, read_only } = mount;
    Ok(model::VolumeMount { volume: parse(format!("{field}.volume"), &volume)?, path, sub_path, read_only })
}

pub(super) fn to_wire(volume: &model::Volume) -> wire::Volume {
    let named = wire::Volume { name: volume.name.to_string(), ..wire::Volume::default() };
    match &volume.source {
        model::VolumeSource::EmptyDir { medium, size } => wire::Volume {
            empty_dir: Some(wire::EmptyDirVolume {
                medium: Some(match medium {
                    model::Medium::Disk => wire::Medium::Disk,
                    model::Medium::Memory => wire::Medium::Memory,
                }),
                size: size.map(|size| size.to_string()),
            }),
            ..named
        },
        model::VolumeSource::Config { files } => {
            wire::Volume { config: Some(wire::ConfigVolume { files: files.clone() }), ..named }
        }
        model::VolumeSource::Git { repository, revision, directory } => {
            let (repository, revision, directory) = (repository.clone(), revision.clone(), directory.clone());
            wire::Volume { git: Some(wire::GitVolume { repository, revision, directory }), ..named }
        }
        model::VolumeSource::Secret { files, mode } => {
            let (files_set, mode) = (files.keys().cloned().collect(), mode.map(|mode| format!("{mode:04o}")));
            let secret = wire::SecretVolume { files_set, mode, ..wire::SecretVolume::default() };
            wire::Volume { secret: Some(secret), ..named }
        }
    }
}

pub(super) fn mount_to_wire(mount: &model::VolumeMount) -> wire::VolumeMount {
    wire::VolumeMount {
        volume: mount.volume.to_string(),
        path: mount.path.clone(),
        sub_path: mount.sub_path.clone(),
        read_only: mount.read_only,
    }
}
