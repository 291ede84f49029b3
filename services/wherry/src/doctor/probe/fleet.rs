//! Store, keys, and the way to the control plane. Nothing is written: neither keys nor a schema are made.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use wherry_agent_link::{Identity, LinkSettings};

use super::super::host::{KeysSeen, Membership, NotJoined, StoreSeen};
use crate::base::Base;
use crate::data::DataFolder;
use crate::keys::Keys;
use crate::settings::{Settings, without_password};
use crate::store::OpenStore;

/// How long the control plane may take to answer.
const CONTROL_PLANE: Duration = Duration::from_secs(6);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// An error with all that is behind it, in one line.
fn whole(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

fn wait_for<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| format!("nothing can be asked: {error}"))?.block_on(work))
}

pub(super) fn store(data: &DataFolder, settings: &Settings) -> StoreSeen {
    let Some(url) = &settings.store.url else {
        let size = std::fs::metadata(data.database()).ok().map(|file| file.len());
        return StoreSeen::File(size);
    };
    let opened = wait_for(async {
        OpenStore::open(data, settings).await.map_err(|error| whole(&error))?.close().await;
        Ok(())
    });
    StoreSeen::Server { url: without_password(url), outcome: opened.and_then(|outcome| outcome) }
}

pub(super) fn keys(data: &DataFolder, settings: &Settings) -> KeysSeen {
    let mut files = vec!["token.pem", "naming.key"];
    if settings.agents.ca_certificate.is_none() {
        files.extend(["ca.pem", "ca.key"]);
    }
    let missing: Vec<&str> = files.iter().copied().filter(|file| !data.keys().join(file).exists()).collect();
    let found = wait_for(async {
        // A SQLite store would be made by opening it, and has no other replicas whose keys could differ.
        let store = match settings.store.url {
            Some(_) => OpenStore::open(data, settings).await.ok(),
            None => None,
        };
        let seen = compare(data, settings, store.as_ref(), missing).await;
        if let Some(store) = store {
            store.close().await;
        }
        seen
    });
    found.unwrap_or_else(KeysSeen::Damaged)
}

async fn compare(
    data: &DataFolder,
    settings: &Settings,
    store: Option<&OpenStore>,
    missing: Vec<&'static str>,
) -> KeysSeen {
    // Whoever starts first settles the keys, and then makes the first tenant.
    let has_begun = match store {
        Some(store) => store.store().tenants(None, 1).await.is_ok_and(|tenants| !tenants.is_empty()),
        None => data.database().exists(),
    };
    if !missing.is_empty() {
        return if has_begun { KeysSeen::Missing(missing) } else { KeysSeen::NotMadeYet };
    }
    let base = Base::new(data.clone(), settings.clone());
    let keys = match Keys::open(&base, true) {
        Ok(keys) => keys,
        Err(error) => return KeysSeen::Damaged(whole(&error)),
    };
    match store {
        Some(store) if has_begun => {
            let settled = keys.settle(&base, store.store().as_ref()).await;
            KeysSeen::Compared(settled.map_err(|error| whole(&error)))
        }
        _ => KeysSeen::Alone,
    }
}

pub(super) fn membership(data: &DataFolder) -> Result<Membership, NotJoined> {
    let identity = match Identity::open(&data.identity()) {
        Ok(Some(identity)) => Arc::new(identity),
        Ok(None) => return Err(NotJoined::Never),
        Err(error) => return Err(NotJoined::Damaged(whole(&error.into()))),
    };
    let reached = wait_for(reach(data, &identity)).and_then(|reached| reached);
    let (node, range) = (identity.node().to_string(), identity.range());
    Ok(Membership { node, range, expires_at: identity.expires_at(), reached })
}

/// Connects as the agent does, which proves both to each other, and says nothing more.
async fn reach(data: &DataFolder, identity: &Arc<Identity>) -> Result<String, String> {
    let Base { clock, entropy, .. } = Base::new(data.clone(), Settings::default());
    let link = identity.link(LinkSettings::default(), clock, entropy).map_err(|error| whole(&error.into()))?;
    let connected = tokio::time::timeout(CONTROL_PLANE, async {
        loop {
            if let Some(endpoint) = link.endpoint() {
                return endpoint.to_string();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    match connected.await {
        Ok(endpoint) => Ok(endpoint),
        Err(_) => Err(link.trouble().unwrap_or_else(|| "no replica answers".to_owned())),
    }
}
