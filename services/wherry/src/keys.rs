//! The keys of an installation, and that all its processes have the same ones.
//!
//! They lie in `keys/` of the data folder and are made at the first start. What the store keeps of them is a fingerprint of
//! each, settled by whoever comes first: a replica with other keys would sign tokens that the others refuse, and give
//! instances other names.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use wherry_agent_link::{Authority, Lives};
use wherry_api_server::{OutsideIssuer, SigningKey};
use wherry_store::Store;

use crate::base::Base;
use crate::control_role::auth;

/// What a control plane signs and names with.
pub(crate) struct Keys {
    pub(crate) naming: [u8; 32],
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
        let outside = auth::outside_issuers(&settings.auth)?;
        if !takes_agents {
            return Ok(Self { naming, signing, outside, authority: None });
        }
        let lives = Lives { node: Duration::from_secs(settings.agents.certificate_seconds), ..Lives::default() };
        let (clock, entropy) = (Arc::clone(clock), Arc::clone(entropy));
        let authority = match (&settings.agents.ca_certificate, &settings.agents.ca_key) {
            (Some(certificate), Some(key)) => Authority::open(certificate, key, lives, clock, entropy),
            _ => Authority::open_or_create(&data.keys(), lives, clock, entropy),
        };
        let authority = authority.context("cannot use the authority that certifies nodes")?;
        Ok(Self { naming, signing, outside, authority: Some(Arc::new(authority)) })
    }

    /// Each key with the file to copy and its fingerprint, which says nothing about it: all have 256 random bits or are public.
    fn fingerprints(&self) -> Vec<(&'static str, &'static str, String)> {
        let naming = Sha256::new().chain_update(b"wherry naming key\0").chain_update(self.naming).finalize();
        let hexadecimal = naming.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let mut all = vec![
            ("token_key", "token.pem", self.signing.public().kid.clone()),
            ("naming_key", "naming.key", format!("sha256:{hexadecimal}")),
        ];
        if let Some(authority) = &self.authority {
            all.push(("node_authority", "ca.pem and ca.key", authority.fingerprint().to_string()));
        }
        all
    }

    /// Fails when the installation was begun with other keys.
    pub(crate) async fn settle(&self, base: &Base, store: &dyn Store) -> anyhow::Result<()> {
        for (name, files, own) in self.fingerprints() {
            let settled =
                store.settle(name, &own).await.context("the store does not say which keys it was begun with")?;
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
