//! Identities of simulated nodes: made once, by the real enrolment (an operator's token, a signing request, a certificate), kept in a
//! folder, and used again as long as they are good.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use wherry_agent_link::{Identity, JoinOrder};
use wherry_api_client::Client;
use wherry_api_types::JoinTokenCreate;
use wherry_model::Clock as _;

use crate::system::{KernelEntropy, WallClock};

/// Joins at once.
const AT_ONCE: usize = 24;
const PATIENCE: Duration = Duration::from_mins(2);
const RETRY_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn all(client: &Client, folder: &Path, count: u32, bar: &ProgressBar) -> Result<Vec<Arc<Identity>>> {
    bar.set_message("simulated nodes join");
    bar.set_length(u64::from(count));
    bar.set_position(0);
    stream::iter(0..count)
        .map(|number| {
            let (client, folder, bar) = (client.clone(), folder.join(format!("node-{number:05}")), bar.clone());
            async move {
                let identity = one(&client, folder, number).await?;
                bar.inc(1);
                anyhow::Ok(Arc::new(identity))
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

async fn one(client: &Client, folder: PathBuf, number: u32) -> Result<Identity> {
    let kept = Identity::open(&folder).with_context(|| format!("the identity in {}", folder.display()))?;
    if let Some(identity) = kept.filter(|identity| identity.check(WallClock.now()).is_ok()) {
        return Ok(identity);
    }
    // A range of its own, as an operator of so many would give: a search for the next free one reads all there are.
    let order = JoinTokenCreate { address_range: Some(range(number)), ..JoinTokenCreate::default() };
    let begun = Instant::now();
    let token = loop {
        match client.create_join_token(&order).await {
            Ok(token) => break token,
            Err(error) if begun.elapsed() > PATIENCE => return Err(error).context("no join token"),
            Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
    };
    let order = JoinOrder {
        endpoint: token.join_url,
        token: token.token,
        ca_fingerprint: token.ca_fingerprint.parse().context("the fingerprint is none")?,
        name: format!("simulated-{number:05}"),
    };
    Identity::join(&folder, order, Arc::new(WallClock), Arc::new(KernelEntropy))
        .await
        .with_context(|| format!("simulated node {number} cannot join"))
}

/// The /24 of a node in 10.0.0.0/8.
fn range(number: u32) -> String {
    let [_, second, third, _] = (number << 8).to_be_bytes();
    format!("10.{second}.{third}.0/24")
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_do_not_meet() {
        assert_eq!(
            [range(0), range(255), range(256), range(9_999)].join(" "),
            "10.0.0.0/24 10.0.255.0/24 10.1.0.0/24 10.39.15.0/24"
        );
    }
}
