//! Creates over plain REST, by a client that knows all replicas and goes to the next when one does not answer.
//!
//! Not `wherry-api-client`, which stays with one address: a fleet has a balancer before its replicas, or clients like this one.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, Response};
use serde::Deserialize;
use wherry_api_types::{Instance, InstanceCreate, TokenResponse};
use wherry_fleet_lab::Replica;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const SERVED_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// All replicas, and a token that each of them takes.
#[derive(Clone)]
pub(crate) struct Rest {
    http: Client,
    bases: Vec<String>,
    token: String,
    /// The one that answered last.
    at: usize,
}

/// What a control plane leaves for the clients on its machine.
#[derive(Deserialize)]
struct ClientFile {
    key_id: String,
    key_secret: String,
}

impl Rest {
    /// Takes a token from the first replica.
    pub(crate) async fn connect(replicas: &[Replica]) -> Result<Self> {
        let first = replicas.first().context("there is no replica")?;
        let path = first.data().join("client.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let key: ClientFile =
            serde_json::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))?;
        let http =
            Client::builder().no_proxy().tls_certs_only([]).timeout(ANSWER_WITHIN).build().context("no client")?;
        let request = http
            .post(first.url("/oauth2/token"))
            .basic_auth(&key.key_id, Some(&key.key_secret))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials");
        let answer = request.send().await.context("no token")?;
        ensure!(answer.status().is_success(), "no token: {}", answer.status());
        let token: TokenResponse = answer.json().await.context("no token")?;
        let bases = replicas.iter().map(|replica| replica.url("")).collect();
        Ok(Self { http, bases, token: token.access_token, at: 0 })
    }

    /// The replica that answered last.
    pub(crate) const fn replica(&self) -> usize {
        self.at
    }

    /// Asks one replica after the other until one says yes. The idempotency key makes that safe: whatever an answer that got lost
    /// had said, there is one instance.
    pub(crate) async fn create(&mut self, body: &InstanceCreate, key: &str) -> Result<Instance> {
        let begun = Instant::now();
        loop {
            let request = self
                .http
                .post(format!("{}/v1/projects/default/instances", self.bases[self.at]))
                .bearer_auth(&self.token)
                .header("Idempotency-Key", key)
                .json(body);
            let trouble = match request.send().await {
                Ok(answer) if answer.status().is_success() => match answer.json().await {
                    Ok(instance) => return Ok(instance),
                    Err(error) => format!("the answer broke off: {error}"),
                },
                Ok(answer) if answer.status().as_u16() == 503 => self::text(answer).await,
                Ok(answer) => bail!("a create was refused: {}", self::text(answer).await),
                Err(error) => error.to_string(),
            };
            ensure!(
                begun.elapsed() < SERVED_WITHIN,
                "no replica has taken a create for {SERVED_WITHIN:?}, the last said: {trouble}"
            );
            self.at = (self.at + 1) % self.bases.len();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn text(answer: Response) -> String {
    let status = answer.status();
    format!("{status} {}", answer.text().await.unwrap_or_default())
}
