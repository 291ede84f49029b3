//! The public API of one replica, as plainly as a load generator should.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wherry_api_types::{
    ContainerSpec, Instance, InstanceCreate, InstanceList, JoinTokenCreated, NodeList, TokenResponse,
};

use crate::plane::Replica;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// One replica and a token.
#[derive(Clone)]
pub(crate) struct Api {
    http: Client,
    base: String,
    token: String,
}

/// What a control plane leaves for the clients on its machine.
#[derive(Deserialize)]
struct ClientFile {
    key_id: String,
    key_secret: String,
}

/// A client that keeps its connections.
pub(crate) fn http() -> Result<Client> {
    Client::builder().no_proxy().tls_certs_only([]).timeout(ANSWER_WITHIN).build().context("no HTTP client")
}

impl Api {
    /// Takes a token with the replica's own key.
    pub(crate) async fn connect(replica: &Replica) -> Result<Self> {
        let text = fs::read_to_string(replica.client_file()).context("the replica has left no key")?;
        let key: ClientFile = serde_json::from_str(&text).context("the replica's key is not as expected")?;
        let (http, base) = (http()?, replica.base());
        let request = http
            .post(format!("{base}/oauth2/token"))
            .basic_auth(&key.key_id, Some(&key.key_secret))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials");
        let token: TokenResponse = json(request).await.context("no token")?;
        Ok(Self { http, base, token: token.access_token })
    }

    /// The same caller at another replica.
    pub(crate) fn at(&self, replica: &Replica) -> Self {
        Self { base: replica.base(), ..self.clone() }
    }

    /// Creates the smallest instance that there is.
    pub(crate) async fn create(&self, key: &str) -> Result<Instance> {
        let container = ContainerSpec {
            image: "registry.invalid/bench/none:1".to_owned(),
            cpu: Some("10m".to_owned()),
            memory: Some("4Mi".to_owned()),
            ..ContainerSpec::default()
        };
        let body = InstanceCreate { containers: vec![container], ..InstanceCreate::default() };
        let request = self.http.post(format!("{}/v1/projects/default/instances", self.base));
        json(request.bearer_auth(&self.token).header("Idempotency-Key", key).json(&body)).await
    }

    /// A page of instances.
    pub(crate) async fn instances(&self, limit: usize) -> Result<InstanceList> {
        self.get(&format!("/v1/projects/default/instances?limit={limit}")).await
    }

    /// One instance.
    pub(crate) async fn instance(&self, id: &str) -> Result<Instance> {
        self.get(&format!("/v1/projects/default/instances/{id}")).await
    }

    /// All machines.
    pub(crate) async fn nodes(&self) -> Result<NodeList> {
        self.get("/v1/admin/nodes").await
    }

    /// A token for one machine.
    pub(crate) async fn join_token(&self) -> Result<JoinTokenCreated> {
        let request = self.http.post(format!("{}/v1/admin/join-tokens", self.base));
        json(request.bearer_auth(&self.token).json(&serde_json::json!({}))).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        json(self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token)).await
    }
}

async fn json<T: DeserializeOwned>(request: RequestBuilder) -> Result<T> {
    let answer = request.send().await.context("no answer")?;
    let status = answer.status();
    let body = answer.bytes().await.context("the answer broke off")?;
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).context("the answer is not as expected")
}
