//! Volumes of instances on this machine: `volumes/INSTANCE/KIND/VOLUME` in the data folder.
//!
//! Invariants: a folder belongs to one instance and is of one kind, both in its path, so a volume that becomes another kind
//! between two lives of the instance is another volume and never reads what containers left in the old one; it is there
//! from the first start of a container until nothing is left of the instance on this machine or its spec does not name it
//! any more, through restarts of containers, of the agent and of the machine. What is in memory lives as long as the
//! sandbox ([`remove_memory`]), because after that nothing is reserved for it; its generation is in its name. Making ready again what is ready changes nothing that a container wrote. Only root of the machine can
//! enter `volumes`, so that below it everything can be open to every user of the containers, as in Kubernetes.
//!
//! Nothing here follows what a container wrote: paths inside of a volume are resolved by the engine ([`MountPart`]).

mod files;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use wherry_agent_api::DesiredInstance;
use wherry_model::{ContainerSpec, Medium, MemoryMib, Sealed, Volume, VolumeMount, VolumeName, VolumeSource};
use wherry_runtime::{Mount, MountPart, SecretFiles};

use crate::secrets::{self, NotOpened};

/// Where folders inside of volumes are held; no volume has such a name.
const PARTS: &str = ".parts";
/// Written by containers.
const DISK: &str = "disk";
/// Nothing on disk: the engine shows containers its own file systems there.
const MEMORY: &str = "memory";
/// A commit of a repository, then written by containers; its generation is in its name: each life begins with a fresh one.
const GIT: &str = "git";
/// As [`MEMORY`].
const SECRET: &str = "secret";
/// Written by the agent alone.
const CONFIG: &str = "config";

/// Makes every volume of the instance ready that is not.
pub(crate) fn prepare(folder: &Path, desired: &DesiredInstance) -> io::Result<()> {
    if desired.more.volumes.is_empty() {
        return remove(folder);
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if let Some(all) = folder.parent() {
        fs::set_permissions(all, fs::Permissions::from_mode(0o700))?;
    }
    remove_what_is_not_named(folder, desired)?;
    for volume in &desired.more.volumes {
        let path = path_of(folder, desired, volume);
        if let Some(kind) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(kind)?;
        }
        match &volume.source {
            // The engine puts the files of a secret in it, in memory.
            VolumeSource::EmptyDir { .. } | VolumeSource::Secret { .. } => open_folder(&path)?,
            // Fetched by the worker, which has the network for it.
            VolumeSource::Git { .. } => {}
            VolumeSource::Config { files } => files::write(&path, files)?,
        }
    }
    Ok(())
}

fn path_of(folder: &Path, desired: &DesiredInstance, volume: &Volume) -> PathBuf {
    let name = volume.name.as_str();
    match &volume.source {
        VolumeSource::EmptyDir { medium: Medium::Disk, .. } => folder.join(DISK).join(name),
        // No volume has a name with a dot.
        VolumeSource::EmptyDir { medium: Medium::Memory, .. } => {
            folder.join(MEMORY).join(format!("{name}.{}", desired.generation.0))
        }
        VolumeSource::Config { .. } => folder.join(CONFIG).join(name),
        VolumeSource::Git { .. } => folder.join(GIT).join(format!("{name}.{}", desired.generation.0)),
        VolumeSource::Secret { .. } => folder.join(SECRET).join(format!("{name}.{}", desired.generation.0)),
    }
}

/// Volumes do not change within a generation, so nothing that runs sees any of this.
fn remove_what_is_not_named(folder: &Path, desired: &DesiredInstance) -> io::Result<()> {
    let named: BTreeSet<PathBuf> = desired.more.volumes.iter().map(|volume| path_of(folder, desired, volume)).collect();
    for entry in entries(folder)? {
        if entry == folder.join(PARTS) {
            continue;
        }
        let kind = [DISK, MEMORY, SECRET, CONFIG, GIT].into_iter().find(|kind| entry == folder.join(kind));
        let Some(kind) = kind.filter(|_| is_folder(&entry)) else {
            remove_any(&entry)?;
            continue;
        };
        for volume in entries(&entry)?.into_iter().filter(|volume| !named.contains(volume)) {
            if [MEMORY, SECRET].contains(&kind) { remove_held(&volume)? } else { remove_any(&volume)? }
        }
    }
    Ok(())
}

/// Sorted; none where there is no folder.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

/// A folder itself, not a link to one.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())
}

/// Whatever it is, if it is.
fn remove_any(path: &Path) -> io::Result<()> {
    if is_folder(path) {
        return tree::remove(path);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Removes a folder on which the engine holds something: the mount goes with it, and nothing in it is touched.
fn remove_held(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Gives back what the instance holds in memory, once no container of it runs; parts of volumes would go on holding it.
pub(crate) fn remove_memory(folder: &Path) -> io::Result<()> {
    for kind in [PARTS, MEMORY, SECRET] {
        for held in entries(&folder.join(kind))? {
            remove_held(&held)?;
        }
    }
    Ok(())
}

/// An empty folder for everybody, whole from its first moment, so that one that is there needs no look.
fn open_folder(path: &Path) -> io::Result<()> {
    if is_folder(path) {
        return Ok(());
    }
    // Neither a volume nor a generation ends so.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    remove_any(&fresh)?;
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o777))?;
    fs::rename(&fresh, path)
}

/// What the container sees of them.
pub(crate) fn mounts(
    folder: &Path,
    desired: &DesiredInstance,
    container: &ContainerSpec,
) -> Result<Vec<Mount>, NotOpened> {
    let mounts = container.mounts.iter().enumerate().filter_map(|(index, mount)| {
        let volume = desired.more.volumes.iter().find(|volume| volume.name == mount.volume)?;
        let stage = folder.join(PARTS).join(format!("{}.{index}", container.name));
        Some(one_mount(folder, desired, volume, mount, stage))
    });
    mounts.collect()
}

fn one_mount(
    folder: &Path,
    desired: &DesiredInstance,
    volume: &Volume,
    mount: &VolumeMount,
    stage: PathBuf,
) -> Result<Mount, NotOpened> {
    let host_path = path_of(folder, desired, volume);
    let plain =
        Mount { host_path, container_path: (&mount.path).into(), read_only: mount.read_only, ..Mount::default() };
    if let VolumeSource::Secret { files, mode } = &volume.source {
        let secret_files = Some(secret_files(desired, volume, files, *mode, mount.sub_path.clone())?);
        return Ok(Mount { secret_files, read_only: true, ..plain });
    }
    let part = mount.sub_path.as_ref().map(|path| MountPart { path: path.into(), stage });
    if let VolumeSource::Git { .. } = &volume.source {
        return Ok(Mount { part, ..plain });
    }
    let VolumeSource::EmptyDir { medium, size } = &volume.source else {
        // Written by nobody but the agent, and the name of a file leads nowhere else.
        let host_path = mount.sub_path.iter().fold(plain.host_path.clone(), |path, file| path.join(file));
        return Ok(Mount { host_path, read_only: true, ..plain });
    };
    let memory_bytes = match medium {
        Medium::Disk => None,
        Medium::Memory => Some(size.map_or_else(|| memory_left(desired), MemoryMib::bytes)),
    };
    Ok(Mount { memory_bytes, part, ..plain })
}

fn secret_files(
    desired: &DesiredInstance,
    volume: &Volume,
    files: &BTreeMap<String, Sealed>,
    mode: Option<u32>,
    shown: Option<String>,
) -> Result<SecretFiles, NotOpened> {
    let opened = files.iter().map(|(name, sealed)| {
        let plain = secrets::opened(desired, sealed, || format!("the secret file {name} of volume {}", volume.name))?;
        Ok((name.clone(), plain))
    });
    Ok(SecretFiles { files: opened.collect::<Result<_, _>>()?, mode: mode.unwrap_or(VolumeSource::SECRET_MODE), shown })
}

/// An equal part of what volumes with a size leave of all memory that the containers of the instance may take; never 0,
/// which the kernel would read as no limit.
fn memory_left(desired: &DesiredInstance) -> u64 {
    let mut left = desired.most_memory().bytes();
    let mut sharing = 0_u64;
    for volume in &desired.more.volumes {
        match &volume.source {
            VolumeSource::EmptyDir { medium: Medium::Memory, size: Some(size) } => {
                left = left.saturating_sub(size.bytes());
            }
            VolumeSource::EmptyDir { medium: Medium::Memory, size: None } => sharing = sharing.saturating_add(1),
            VolumeSource::EmptyDir { .. }
            | VolumeSource::Config { .. }
            | VolumeSource::Secret { .. }
            | VolumeSource::Git { .. } => {}
        }
    }
    (left / sharing.max(1)).max(MemoryMib::new(1).bytes())
}

/// Where a repository goes.
pub(crate) struct Place {
    /// Nobody but the fetch writes to it.
    pub(crate) fresh: PathBuf,
    /// `fresh`, or the folder in it that was asked for; empty.
    pub(crate) into: PathBuf,
    /// What `fresh` is to be called when it is whole.
    pub(crate) path: PathBuf,
}

/// Makes a place for what is to be fetched; none when it is there already.
pub(crate) fn to_fetch(
    folder: &Path,
    desired: &DesiredInstance,
    volume: &Volume,
    directory: Option<&str>,
) -> io::Result<Option<Place>> {
    let path = path_of(folder, desired, volume);
    if is_folder(&path) {
        return Ok(None);
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    remove_any(&fresh)?;
    let mut into = fresh.clone();
    let parts = std::iter::once(None).chain(directory.into_iter().flat_map(|parts| parts.split('/')).map(Some));
    for part in parts {
        into.extend(part);
        fs::create_dir(&into)?;
        fs::set_permissions(&into, fs::Permissions::from_mode(0o777))?;
    }
    Ok(Some(Place { fresh, into, path }))
}

/// What the instance holds on disk: in each volume that may be written, and in all of them together with what is being
/// fetched. Bounded, however much there is.
pub(crate) fn written(folder: &Path, desired: &DesiredInstance) -> io::Result<Written> {
    let mut written = Written::default();
    for kind in [DISK, GIT] {
        for path in entries(&folder.join(kind))? {
            let measured = tree::measure(&path, tree::MOST_FILES.saturating_sub(written.files))?;
            written.bytes = written.bytes.saturating_add(measured.bytes);
            written.files = written.files.saturating_add(measured.files);
            written.too_many |= measured.too_many;
            let named = desired.more.volumes.iter().find(|volume| path_of(folder, desired, volume) == path);
            if let Some(Volume { name, source: VolumeSource::EmptyDir { size: Some(size), .. } }) = named
                && measured.bytes > size.bytes()
            {
                written.over.get_or_insert((name.clone(), measured.bytes, *size));
            }
        }
    }
    Ok(written)
}

/// What volumes on disk hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// There are more files than [`tree::MOST_FILES`].
    pub(crate) too_many: bool,
    /// A volume that holds more than its size.
    pub(crate) over: Option<(VolumeName, u64, MemoryMib)>,
}

pub(crate) use self::tree::MOST_FILES;

/// Removes all volumes of an instance, however much is in them.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    tree::remove(folder)
}

#[cfg(test)]
mod tests;
