//! Secrets of instances on this machine.
//!
//! The control plane opens them for this node and says them with the desired state. In memory they are plain. On disk stands the
//! desired state with each of them sealed again, under a key of this agent's own (`secrets.key`, readable by root alone), so that
//! containers start again after a restart of the agent or the machine, with the control plane away. That protects a copy of
//! `desired.json`, in a bundle for support, in a backup without the key, and makes it worthless on another machine. It does
//! not protect from root of this machine, nor from who has its whole disk.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use wherry_agent_api::{Desired, DesiredInstance, Secrets};
use wherry_model::{ContainerSpec, Entropy, ImageReference, Sealed, SecretText, VolumeSource};
use wherry_runtime::{RegistryAuth, RuntimeError};
use wherry_sealing::{Keyring, Place, SealingKey};

use crate::durable_file;

/// A secret that is needed and that the control plane did not say, because it could not open it either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotOpened(String);

impl From<NotOpened> for RuntimeError {
    fn from(NotOpened(what): NotOpened) -> Self {
        let message =
            format!("{what} cannot be opened by the service: give it anew, or tell the operator of the service");
        Self::CannotStart { message }
    }
}

/// The secret that was sealed so; `what` it is, for people.
pub(crate) fn opened(
    desired: &DesiredInstance,
    sealed: &Sealed,
    what: impl FnOnce() -> String,
) -> Result<SecretText, NotOpened> {
    desired.more.secrets.get(sealed).cloned().ok_or_else(|| NotOpened(what()))
}

/// Adds what was said of the same instance before, where it names a secret that is not said now: a replica that lacks a key
/// opens nothing, and must not take from a node what another replica has opened for it.
pub(crate) fn carry_over(desired: &mut DesiredInstance, before: &DesiredInstance) {
    let variables = desired.containers.iter().flat_map(|container| &container.spec.env);
    let files = desired.more.volumes.iter().flat_map(|volume| match &volume.source {
        VolumeSource::Secret { files, .. } => files.values().collect(),
        _ => Vec::new(),
    });
    let passwords = desired.more.registry_credentials.iter().map(|known| &known.password);
    let named = variables.filter_map(|variable| variable.secret.as_ref()).chain(files).chain(passwords);
    let missing = named.filter(|sealed| desired.more.secrets.get(sealed).is_none());
    let kept = missing.filter_map(|sealed| Some((sealed.clone(), before.more.secrets.get(sealed)?.clone())));
    for (sealed, plain) in kept.collect::<Vec<_>>() {
        desired.more.secrets.insert(&sealed, plain);
    }
}

/// The variables of a container whose values are secret.
pub(crate) fn environment(
    desired: &DesiredInstance,
    spec: &ContainerSpec,
) -> Result<BTreeMap<String, SecretText>, NotOpened> {
    let secret = spec.env.iter().filter_map(|variable| Some((&variable.name, variable.secret.as_ref()?)));
    let opened = secret.map(|(name, sealed)| {
        let plain = opened(desired, sealed, || format!("the secret variable {name}"))?;
        Ok((name.clone(), plain))
    });
    opened.collect()
}

/// Who the instance is for the registry of this image, and for no other registry.
pub(crate) fn registry_auth(
    desired: &DesiredInstance,
    image: &ImageReference,
) -> Result<Option<RegistryAuth>, NotOpened> {
    let known =
        desired.more.registry_credentials.iter().find(|known| known.registry.eq_ignore_ascii_case(image.registry()));
    let Some(known) = known else { return Ok(None) };
    let password = opened(desired, &known.password, || format!("the password for the registry {}", known.registry))?;
    Ok(Some(RegistryAuth { username: known.username.clone(), password: password.expose().to_owned() }))
}

/// Seals what goes to disk and opens what comes from it.
pub(crate) struct DiskSeal {
    path: PathBuf,
    entropy: Arc<dyn Entropy>,
    keys: Mutex<Option<Keyring>>,
}

impl DiskSeal {
    /// With the key that is there, if one is; another is made when there is something to seal.
    pub(crate) fn open(folder: &Path, entropy: Arc<dyn Entropy>) -> Self {
        let path = folder.join("secrets.key");
        let read = durable_file::read(&path).and_then(|bytes| {
            let parsed = |bytes: Vec<u8>| {
                let text = std::str::from_utf8(&bytes).map_err(io::Error::other)?;
                Keyring::parse(text).map_err(io::Error::other)
            };
            bytes.map(parsed).transpose()
        });
        let keys = read.unwrap_or_else(|error| {
            tracing::error!(%error, "the agent's own key cannot be read: stored secrets are lost until the control plane says them");
            None
        });
        Self { path, entropy, keys: Mutex::new(keys) }
    }

    /// The same with every secret sealed. Blocks on the disk the first time.
    pub(crate) fn sealed(&self, desired: &Desired) -> io::Result<Desired> {
        if desired.instances.iter().all(|instance| instance.more.secrets.is_empty()) {
            return Ok(desired.clone());
        }
        let keys = self.keys_for_sealing()?;
        let mut sealed = desired.clone();
        for instance in &mut sealed.instances {
            let place = Place::of_instance(instance.id);
            let mut kept = Secrets::default();
            for (name, plain) in instance.more.secrets.iter() {
                let text = keys.seal(&place, plain.expose()).map_err(io::Error::other)?;
                kept.insert(&Sealed::new(name.to_owned()), SecretText::new(text.as_str().to_owned()));
            }
            instance.more.secrets = kept;
        }
        Ok(sealed)
    }

    /// The same with every secret opened; without those that do not open.
    pub(crate) fn opened(&self, mut desired: Desired) -> Desired {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
        for instance in &mut desired.instances {
            let place = Place::of_instance(instance.id);
            let mut known = Secrets::default();
            for (name, kept) in instance.more.secrets.iter() {
                match keys.open(&place, &Sealed::new(kept.expose().to_owned())) {
                    Ok(plain) => known.insert(&Sealed::new(name.to_owned()), plain),
                    Err(error) => {
                        tracing::warn!(instance = %instance.id, %error, "a stored secret is lost until the control plane says it");
                    }
                }
            }
            instance.more.secrets = known;
        }
        desired
    }

    fn keys_for_sealing(&self) -> io::Result<Keyring> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = &*keys {
            return Ok(keys.clone());
        }
        let made = Keyring::of(SealingKey::generate("agent", &*self.entropy));
        let fresh = self.path.with_extension("key.new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(made.to_file().as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        if let Some(folder) = self.path.parent() {
            fs::File::open(folder)?.sync_all()?;
        }
        *keys = Some(made.clone());
        Ok(made)
    }
}

impl std::fmt::Debug for DiskSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskSeal").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use wherry_agent_api::{DesiredContainer, DesiredMore};
    use wherry_model::{
        Action, CpuMillis, EnvVar, Generation, MemoryMib, RegistryCredential, RestartPolicy, Volume, VolumeMount,
        VolumeSource,
    };

    use super::*;

    /// One with a secret variable, a secret file and a password, all of them `hush-hush`.
    pub(crate) fn instance() -> DesiredInstance {
        let image = "r.example:5000/web:1".parse().unwrap();
        let sealed = Sealed::new("w1.1.abc".to_owned());
        let mut spec = ContainerSpec::new("main".parse().unwrap(), image, CpuMillis::new(100), MemoryMib::new(64));
        spec.env = vec![
            EnvVar::plain("A", "1"),
            EnvVar { name: "B".to_owned(), value: String::new(), secret: Some(sealed.clone()) },
        ];
        spec.mounts = vec![VolumeMount {
            volume: "v".parse().unwrap(),
            path: "/secret".to_owned(),
            sub_path: None,
            read_only: false,
        }];
        let source = VolumeSource::Secret { files: BTreeMap::from([("pass".to_owned(), sealed.clone())]), mode: None };
        let mut more = DesiredMore {
            volumes: vec![Volume { name: "v".parse().unwrap(), source }],
            registry_credentials: vec![RegistryCredential {
                registry: "r.example:5000".to_owned(),
                username: "me".to_owned(),
                password: sealed.clone(),
            }],
            ..DesiredMore::default()
        };
        more.secrets.insert(&sealed, SecretText::new("hush-hush".to_owned()));
        DesiredInstance {
            id: "01".repeat(16).parse().unwrap(),
            generation: Generation::FIRST,
            action: Action::Run,
            tenant: "02".repeat(16).parse().unwrap(),
            project: "03".repeat(16).parse().unwrap(),
            name: "web".parse().unwrap(),
            search_domain: "x.example".to_owned(),
            containers: vec![DesiredContainer::new(spec, None)],
            restart_policy: RestartPolicy::Always,
            stop_grace_seconds: 10,
            first_run: 1,
            fence_after_seconds: None,
            more,
        }
    }

    #[test]
    fn each_use_gets_its_secret_and_says_what_is_missing() {
        let mut one = instance();
        let spec = one.containers[0].spec.clone();
        assert_eq!(environment(&one, &spec).unwrap()["B"].expose(), "hush-hush");
        let auth = registry_auth(&one, &spec.image).unwrap().unwrap();
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("me", "hush-hush"));
        for other in ["r.example/web:1", "r.example:5001/web:1", "x.r.example:5000/web:1"] {
            assert!(registry_auth(&one, &other.parse().unwrap()).unwrap().is_none(), "{other}");
        }
        let mounts = crate::volumes::mounts(Path::new("/v"), &one, &spec).unwrap();
        let files = mounts[0].secret_files.as_ref().unwrap();
        assert_eq!((files.files["pass"].expose(), files.mode, mounts[0].read_only), ("hush-hush", 0o400, true));
        assert!(!format!("{one:?} {mounts:?} {auth:?}").contains("hush"));
        one.more.secrets = Secrets::default();
        let missing = RuntimeError::from(environment(&one, &spec).unwrap_err()).to_string();
        assert!(missing.contains("the secret variable B"), "{missing}");
        assert!(registry_auth(&one, &spec.image).is_err());
        assert!(crate::volumes::mounts(Path::new("/v"), &one, &spec).is_err());
    }
}
