//! Secrets are sealed here, at the border: behind it nobody has them in plain text but who opens them for a machine.

use wherry_api_types::{MAX_SECRET_CHARACTERS, SecretText};
use wherry_model::{Limits, ProjectName, Sealed, SpecError, TenantId};
use wherry_sealing::{Keyring, Place};

/// Seals what is given to one project.
pub(crate) struct Seal<'a> {
    keys: &'a Keyring,
    place: Place,
}

impl<'a> Seal<'a> {
    pub(crate) fn new(keys: &'a Keyring, tenant: TenantId, project: &ProjectName) -> Self {
        Self { keys, place: Place::of_project(tenant, project) }
    }

    /// A secret as it was given, the one that is there when it only is said to be set, or none.
    pub(super) fn secret(
        &self,
        field: &str,
        given: Option<SecretText>,
        is_set: bool,
    ) -> Result<Option<Sealed>, SpecError> {
        let Some(given) = given else { return Ok(is_set.then(Sealed::kept)) };
        if given.expose().contains('\0') || given.expose().chars().count() > MAX_SECRET_CHARACTERS {
            let message = format!("a secret has at most {MAX_SECRET_CHARACTERS} characters and no NUL");
            return Err(SpecError::new(field, message));
        }
        self.sealed(field, &given).map(Some)
    }

    /// The content of a file.
    pub(super) fn file(&self, field: &str, given: &SecretText) -> Result<Sealed, SpecError> {
        if given.expose().len() > Limits::MAX_VOLUME_FILE_BYTES {
            let message = format!("a file has at most {} bytes", Limits::MAX_VOLUME_FILE_BYTES);
            return Err(SpecError::new(field, message));
        }
        self.sealed(field, given)
    }

    fn sealed(&self, field: &str, given: &SecretText) -> Result<Sealed, SpecError> {
        let sealed = self.keys.seal(&self.place, given.expose());
        sealed.map_err(|_| {
            SpecError::new(field, "this service was not given a key to seal secrets with: tell its operator")
        })
    }
}
