//! The secrets of a spec: which there are, and what becomes of them when an instance is given another.
//!
//! Nobody can read a secret back, so nobody could give it again with the rest. A spec may say "the one that is there"
//! ([`Sealed::kept`]); it is filled in from the instance before anything is stored.

use std::collections::BTreeMap;

use super::{InstanceSpec, Sealed, SpecError, VolumeSource};

impl InstanceSpec {
    /// Every secret, sealed, with its path on the wire, in order.
    pub fn secrets(&self) -> Vec<(String, &Sealed)> {
        self.named_secrets().into_iter().map(|(field, _, secret)| (field, secret)).collect()
    }

    /// Path on the wire, what it is the secret of whatever its place in a list, and the secret.
    fn named_secrets(&self) -> Vec<(String, [&str; 3], &Sealed)> {
        let mut found = Vec::new();
        for (container, field) in self.containers.iter().zip(self.container_fields()) {
            for (index, variable) in container.env.iter().enumerate() {
                if let Some(secret) = &variable.secret {
                    let name = ["env", container.name.as_str(), &variable.name];
                    found.push((format!("{field}.env[{index}].secret"), name, secret));
                }
            }
        }
        for (index, volume) in self.volumes.iter().enumerate() {
            if let VolumeSource::Secret { files, .. } = &volume.source {
                for (file, content) in files {
                    let name = ["file", volume.name.as_str(), file];
                    found.push((format!("volumes[{index}].secret.files.{file}"), name, content));
                }
            }
        }
        for (index, credential) in self.registry_credentials.iter().enumerate() {
            let name = ["registry", &credential.registry, &credential.username];
            found.push((format!("registry_credentials[{index}].password"), name, &credential.password));
        }
        found
    }

    /// The same with the secrets of `before` where it says that they are kept: a variable's by container and name, a file's by
    /// volume and name, a password's by registry and user; and where both are the `same`, sealed at different times. What `before` does not have stays [`Sealed::kept`].
    #[must_use]
    pub fn keeping_secrets_of(mut self, before: &Self, same: impl Fn(&Sealed, &Sealed) -> bool) -> Self {
        let fill = |wanted, known| fill(wanted, known, &same);
        for container in &mut self.containers {
            let Some(former) = before.container(&container.name) else { continue };
            for variable in &mut container.env {
                let same = former.env.iter().find(|known| known.name == variable.name);
                fill(variable.secret.as_mut(), same.and_then(|known| known.secret.as_ref()));
            }
        }
        for volume in &mut self.volumes {
            let VolumeSource::Secret { files, .. } = &mut volume.source else { continue };
            let former = before.volumes.iter().find(|known| known.name == volume.name);
            let Some(VolumeSource::Secret { files: known, .. }) = former.map(|former| &former.source) else { continue };
            for (name, content) in files {
                fill(Some(content), known.get(name));
            }
        }
        for credential in &mut self.registry_credentials {
            let same = before
                .registry_credentials
                .iter()
                .find(|known| (&known.registry, &known.username) == (&credential.registry, &credential.username));
            fill(Some(&mut credential.password), same.map(|known| &known.password));
        }
        self
    }

    /// The same with each secret as `reseal` gives it; one that it gives nothing for stays.
    #[must_use]
    pub(crate) fn resealed(mut self, mut reseal: impl FnMut(&Sealed) -> Option<Sealed>) -> Self {
        let mut replace = |secret: &mut Sealed| {
            if let Some(again) = reseal(secret) {
                *secret = again;
            }
        };
        for container in &mut self.containers {
            container.env.iter_mut().filter_map(|variable| variable.secret.as_mut()).for_each(&mut replace);
        }
        for volume in &mut self.volumes {
            if let VolumeSource::Secret { files, .. } = &mut volume.source {
                files.values_mut().for_each(&mut replace);
            }
        }
        self.registry_credentials.iter_mut().for_each(|credential| replace(&mut credential.password));
        self
    }

    /// Refuses a secret that is said to be there and is not; names the first.
    pub fn check_secrets_are_given(&self) -> Result<(), SpecError> {
        match self.secrets().into_iter().find(|(_, secret)| secret.is_kept()) {
            Some((field, _)) => {
                Err(SpecError::new(field, "there is no such secret yet that could be kept: give its value"))
            }
            None => Ok(()),
        }
    }

    /// Secrets of this spec that `before` does not have, by their paths.
    pub(crate) fn secrets_changed_since(&self, before: &Self) -> Vec<String> {
        let known: BTreeMap<[&str; 3], &Sealed> =
            before.named_secrets().into_iter().map(|(_, name, secret)| (name, secret)).collect();
        let changed = self.named_secrets().into_iter().filter(|(_, name, secret)| known.get(name) != Some(secret));
        changed.map(|(field, ..)| field).collect()
    }
}

fn fill(wanted: Option<&mut Sealed>, known: Option<&Sealed>, same: impl Fn(&Sealed, &Sealed) -> bool) {
    if let (Some(wanted), Some(known)) = (wanted, known)
        && wanted != known
        && (wanted.is_kept() || same(wanted, known))
    {
        wanted.clone_from(known);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ContainerSpec, EnvVar, RegistryCredential, Volume};
    use super::*;
    use crate::quantity::{CpuMillis, MemoryMib};

    fn spec(secret: &Sealed) -> InstanceSpec {
        let image = "r.example/web:1".parse().unwrap();
        let mut container =
            ContainerSpec::new("main".parse().unwrap(), image, CpuMillis::new(250), MemoryMib::new(128));
        container.env = vec![
            EnvVar::plain("A", "1"),
            EnvVar { name: "B".to_owned(), value: String::new(), secret: Some(secret.clone()) },
        ];
        let files = BTreeMap::from([("pass".to_owned(), secret.clone())]);
        let source = VolumeSource::Secret { files, mode: None };
        let credential = RegistryCredential {
            registry: "r.example".to_owned(),
            username: "me".to_owned(),
            password: secret.clone(),
        };
        InstanceSpec {
            volumes: vec![Volume { name: "v".parse().unwrap(), source }],
            registry_credentials: vec![credential],
            ..InstanceSpec::new(vec![container])
        }
    }

    #[test]
    fn what_is_kept_is_filled_in_and_nothing_else() {
        let (before, kept) = (spec(&Sealed::new("x".to_owned())), spec(&Sealed::kept()));
        let fields =
            ["containers[0].env[1].secret", "volumes[0].secret.files.pass", "registry_credentials[0].password"];
        assert_eq!(kept.secrets().iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(), fields);
        assert_eq!(kept.check_secrets_are_given().unwrap_err().field, fields[0]);
        assert_eq!(kept.clone().keeping_secrets_of(&before, |_, _| false), before);
        let new = spec(&Sealed::new("y".to_owned()));
        assert_eq!(new.clone().keeping_secrets_of(&before, |_, _| false), new);
        assert_eq!(new.clone().keeping_secrets_of(&before, |_, _| true), before, "sealed again");
        assert_eq!(new.secrets_changed_since(&before), fields);
        let mut turned = before.clone();
        turned.containers[0].env.reverse();
        assert!(turned.secrets_changed_since(&before).is_empty(), "only its place is another");
        let again = before.clone().resealed(|_| Some(Sealed::new("z".to_owned())));
        assert!(again.secrets().iter().all(|(_, secret)| secret.as_str() == "z"), "each of them");
        assert_eq!(before.clone().resealed(|_| None), before);
        // Another user's password, another variable, another volume.
        let mut others = kept;
        others.registry_credentials[0].username = "you".to_owned();
        others.containers[0].env[1].name = "C".to_owned();
        others.volumes[0].name = "w".parse().unwrap();
        assert_eq!(others.clone().keeping_secrets_of(&before, |_, _| false), others);
    }
}
