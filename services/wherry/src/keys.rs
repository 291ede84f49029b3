//! The keys of an installation, and that all its processes have the same ones.
//!
//! They lie in `keys/` of the data folder and are made at the first start. What the store keeps of them is a fingerprint of
//! each, settled by whoever comes first: a replica with other keys would sign tokens that the others refuse, and give
//! instances other names.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use wherry_agent_link::{Authority, Lives};
use wherry_api_server::{OutsideIssuer, SigningKey};
use wherry_sealing::{Keyring, SealingKey};
use wherry_store::Store;
use zeroize::Zeroizing;

use crate::base::Base;
use crate::control_role::auth;
use crate::data::write_private;

/// In the folder of keys.
pub(crate) const SEALING_FILE: &str = "sealing.keys";

/// What a control plane signs and names with.
pub(crate) struct Keys {
    pub(crate) naming: [u8; 32],
    /// What secrets of instances are sealed with.
    pub(crate) sealing: Keyring,
    pub(crate) signing: SigningKey,
    pub(crate) outside: Vec<OutsideIssuer>,
    /// Who certifies nodes; absent where none can join.
    pub(crate) authority: Option<Arc<Authority>>,
}

impl Keys {
    /// Opens what is there and makes what is missing. The authority only when agents are listened for.
    pub(crate) fn open(base: &Base, takes_agents: bool) -> anyhow::Result<Self> {
        let Base { data, settings, clock, entropy } = base;
        let path = data.keys().join("token.pem");
        let signing = SigningKey::open(&path, entropy.as_ref()).context("cannot use the token signing key")?;
        let naming = data.naming_key(entropy.as_ref())?;
        let sealing = sealing_keys(base)?;
        let outside = auth::outside_issuers(&settings.auth)?;
        if !takes_agents {
            return Ok(Self { naming, sealing, signing, outside, authority: None });
        }
        let lives = Lives { node: Duration::from_secs(settings.agents.certificate_seconds), ..Lives::default() };
        let (clock, entropy) = (Arc::clone(clock), Arc::clone(entropy));
        let authority = match (&settings.agents.ca_certificate, &settings.agents.ca_key) {
            (Some(certificate), Some(key)) => Authority::open(certificate, key, lives, clock, entropy),
            _ => Authority::open_or_create(&data.keys(), lives, clock, entropy),
        };
        let authority = authority.context("cannot use the authority that certifies nodes")?;
        Ok(Self { naming, sealing, signing, outside, authority: Some(Arc::new(authority)) })
    }

    /// Each key with the file to copy and its fingerprint, which says nothing about it: all have 256 random bits or are public.
    fn fingerprints(&self) -> Vec<(String, &'static str, String)> {
        let naming = Sha256::new().chain_update(b"wherry naming key\0").chain_update(self.naming).finalize();
        let hexadecimal = naming.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let mut all = vec![
            ("token_key".to_owned(), "token.pem", self.signing.public().kid.clone()),
            ("naming_key".to_owned(), "naming.key", format!("sha256:{hexadecimal}")),
        ];
        // Each by its id: another may be added at any time, the same at every replica.
        let sealing = self.sealing.keys().iter();
        all.extend(sealing.map(|key| (format!("sealing_key_{}", key.id()), SEALING_FILE, key.fingerprint())));
        if let Some(authority) = &self.authority {
            all.push(("node_authority".to_owned(), "ca.pem and ca.key", authority.fingerprint().to_string()));
        }
        all
    }

    /// Fails when the installation was begun with other keys.
    pub(crate) async fn settle(&self, base: &Base, store: &dyn Store) -> anyhow::Result<()> {
        for (name, files, own) in self.fingerprints() {
            let settled =
                store.settle(&name, &own).await.context("the store does not say which keys it was begun with")?;
            anyhow::ensure!(
                settled == own,
                "this installation was begun with other keys than those in {keys}: {files} are not its own. Copy the folder \
                 `keys` of another replica, or of a backup, over it and start again (it has {own}, the installation {settled})",
                keys = base.data.keys().display(),
            );
        }
        Ok(())
    }
}

/// The keys of the operator's file, or those of the folder, made at the first start.
fn sealing_keys(base: &Base) -> anyhow::Result<Keyring> {
    let own = base.data.keys().join(SEALING_FILE);
    let path = base.settings.secrets.key_file.as_ref().unwrap_or(&own);
    let text = match std::fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound && *path == own => {
            let made = Keyring::of(SealingKey::generate("1", base.entropy.as_ref()));
            write_private(path, made.to_file().as_bytes())?;
            return Ok(made);
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot read {}, the keys that secrets are sealed with", path.display()));
        }
    };
    let open_to_all = std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o077 != 0);
    anyhow::ensure!(!open_to_all, "{} may be read by others than its owner: `chmod 600` it", path.display());
    let text = std::str::from_utf8(&text).with_context(|| format!("{} is no text", path.display()))?;
    Keyring::parse(text)
        .with_context(|| format!("{} does not hold keys that secrets can be sealed with", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataFolder;
    use crate::settings::Settings;

    #[tokio::test]
    async fn sealing_keys_are_made_once_for_root_alone_and_are_the_same_at_every_replica() {
        let scratch = tempfile::tempdir().unwrap();
        let base = |folder: &str, settings| {
            let data = DataFolder::new(&scratch.path().join(folder)).unwrap();
            data.create_for_control().unwrap();
            Base::new(data, settings)
        };
        let one = base("one", Settings::default());
        let keys = Keys::open(&one, false).unwrap();
        let file = one.data.keys().join(SEALING_FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Keys::open(&one, false).unwrap();
        assert_eq!(again.sealing.keys()[0].fingerprint(), keys.sealing.keys()[0].fingerprint());
        let store = wherry_store_sqlite::SqliteStore::open(one.data.database()).await.unwrap();
        keys.settle(&one, &store).await.unwrap();
        // Another replica, with everything but this file.
        let other = base("other", Settings::default());
        for name in ["token.pem", "naming.key"] {
            std::fs::copy(one.data.keys().join(name), other.data.keys().join(name)).unwrap();
        }
        let refused = Keys::open(&other, false).unwrap().settle(&other, &store).await.unwrap_err().to_string();
        assert!(refused.contains(SEALING_FILE), "{refused}");
        // A key file of the operator's must be there, and be private.
        let mut settings = Settings::default();
        settings.secrets.key_file = Some(file.clone());
        let named = base("other", settings);
        Keys::open(&named, false).unwrap().settle(&named, &store).await.unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Keys::open(&named, false).err().unwrap().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
        std::fs::remove_file(&file).unwrap();
        assert!(Keys::open(&named, false).is_err() && !file.exists());
        store.close().await;
    }
}
