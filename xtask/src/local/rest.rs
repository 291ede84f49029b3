//! The REST calls of the demo, as plainly as a user would write them: one call, one function, typed bodies.
//!
//! Not `wherry-api-client`: the tour shows that a token and HTTP are all one needs.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wherry_api_types::{Instance, InstanceCreate, InstanceState, Problem, TokenResponse, Usage, Waited};

const PROJECT: &str = "default";

/// The service with a token for it.
pub(crate) struct Rest {
    client: Client,
    base: String,
    token: TokenResponse,
}

/// What `wherry up` leaves for the clients of this machine.
#[derive(Deserialize)]
pub(crate) struct ClientFile {
    pub(crate) key_id: String,
    pub(crate) key_secret: String,
}

impl ClientFile {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
    }
}

impl Rest {
    /// Takes a token (OAuth 2.0 client credentials) with the key in `client_file`.
    pub(super) async fn connect(base: &str, client_file: &Path) -> Result<Self> {
        let key = ClientFile::read(client_file)?;
        let client = plain_client()?;
        let request = client
            .post(format!("{base}/oauth2/token"))
            .basic_auth(&key.key_id, Some(&key.key_secret))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials");
        let token = json(request).await.context("no token")?;
        Ok(Self { client, base: base.to_owned(), token })
    }

    pub(crate) const fn token(&self) -> &TokenResponse {
        &self.token
    }

    pub(crate) async fn create(&self, body: &InstanceCreate) -> Result<Instance> {
        json(self.authorized(self.client.post(self.instances()).json(body))).await
    }

    pub(crate) async fn instance(&self, name: &str) -> Result<Instance> {
        json(self.get(&format!("{}/{name}", self.instances()))).await
    }

    /// Waits on the server's side, at most 30 s.
    pub(crate) async fn wait(&self, name: &str, state: InstanceState) -> Result<Waited> {
        json(self.get(&format!("{}/{name}/wait?state={state}&timeout=30s", self.instances()))).await
    }

    pub(crate) async fn logs(&self, name: &str, container: &str) -> Result<String> {
        let response = send(self.get(&format!("{}/{name}/containers/{container}/logs", self.instances()))).await?;
        response.text().await.context("the log broke off")
    }

    /// Sends a body to a path below the instances.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> Result<T> {
        json(self.authorized(self.client.post(format!("{}{path}", self.instances())).json(body))).await
    }

    pub(crate) async fn stop(&self, name: &str) -> Result<()> {
        send(self.authorized(self.client.post(format!("{}/{name}:stop", self.instances())))).await.map(drop)
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        send(self.authorized(self.client.delete(format!("{}/{name}", self.instances())))).await.map(drop)
    }

    /// The bill of everything so far.
    pub(crate) async fn usage(&self) -> Result<Usage> {
        json(self.get(&format!("{}/v1/usage", self.base))).await
    }

    fn instances(&self) -> String {
        format!("{}/v1/projects/{PROJECT}/instances", self.base)
    }

    fn get(&self, url: &str) -> RequestBuilder {
        self.authorized(self.client.get(url))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(&self.token.access_token)
    }
}

/// A client that never uses a proxy from the environment: everything here is on this machine.
pub(crate) fn plain_client() -> Result<Client> {
    builder().build().context("cannot set up an HTTP client")
}

/// A client that takes `address` for `host`, as the system's resolver would if it asked Wherry's DNS.
pub(crate) fn client_that_resolves(host: &str, address: SocketAddr) -> Result<Client> {
    builder().resolve(host, address).build().context("cannot set up an HTTP client")
}

fn builder() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(40))
}

async fn json<T: DeserializeOwned>(request: RequestBuilder) -> Result<T> {
    send(request).await?.json().await.context("the service answered something else than its document says")
}

/// Sends, and turns a refusal into an error with the service's own words.
async fn send(request: RequestBuilder) -> Result<Response> {
    let response = request.send().await.context("the service does not answer")?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let path = response.url().path().to_owned();
    let text = response.text().await.unwrap_or_default();
    match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => bail!("{path} answered {status}, {}: {}", problem.code, problem.detail),
        Err(_) => bail!("{path} answered {status}: {text}"),
    }
}
