//! Volumes and where containers see them.

use wherry_api_types as wire;
use wherry_model as model;
use wherry_model::SpecError;

use super::parse;

pub(super) fn to_model(field: &str, volume: wire::Volume) -> Result<model::Volume, SpecError> {
    let source = match (volume.empty_dir, volume.config) {
        (Some(empty), None) => model::VolumeSource::EmptyDir {
            medium: match empty.medium.unwrap_or_default() {
                wire::Medium::Disk => model::Medium::Disk,
                wire::Medium::Memory => model::Medium::Memory,
            },
            size: empty.size.map(|size| parse(format!("{field}.empty_dir.size"), &size)).transpose()?,
        },
        (None, Some(config)) => model::VolumeSource::Config { files: config.files },
        _ => return Err(SpecError::new(field, "give exactly one of empty_dir and config")),
    };
    Ok(model::Volume { name: parse(format!("{field}.name"), &volume.name)?, source })
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
        // No request can ask for one yet.
        model::VolumeSource::Secret { .. } => named,
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
