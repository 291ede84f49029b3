//! Secrets of instances: opened for the machine that uses them, and for nobody else.

use wherry_agent_api::Secrets;
use wherry_model::{Instance, InstanceSpec};
use wherry_sealing::{Keyring, Place};

use crate::Control;

impl Control {
    /// What secrets are sealed with.
    pub fn keyring(&self) -> &Keyring {
        &self.inner.config.sealing
    }

    /// Every secret of the instance in plain text. One that cannot be opened is left out: its machine says so when it needs it,
    /// and goes on with everything else.
    pub(crate) fn opened_secrets(&self, instance: &Instance) -> Secrets {
        let place = place_of(instance);
        let mut opened = Secrets::default();
        for (field, sealed) in instance.spec.secrets() {
            match self.keyring().open(&place, sealed) {
                Ok(plain) => opened.insert(sealed, plain),
                Err(error) => {
                    tracing::error!(instance = %instance.id, field, %error, "a secret cannot be opened by this replica");
                }
            }
        }
        opened
    }

    /// The spec with every secret that is kept, or that says what it said: another key would seal it otherwise, and nothing is
    /// to restart for that.
    pub(crate) fn settled_secrets(&self, instance: &Instance, spec: InstanceSpec) -> InstanceSpec {
        let place = place_of(instance);
        let same = |given: &_, known: &_| {
            let open = |sealed| self.keyring().open(&place, sealed).ok();
            open(given).is_some_and(|given| open(known) == Some(given))
        };
        spec.keeping_secrets_of(&instance.spec, same)
    }
}

pub(crate) fn place_of(instance: &Instance) -> Place {
    Place::of_project(instance.tenant, &instance.project_name)
}
