//! Pushing an image over the plain HTTP distribution API (distribution-spec 1.0: monolithic upload, then manifest).

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Response, StatusCode, header};

use crate::OciImage;
use crate::image::{Blob, MANIFEST_MEDIA_TYPE};

const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

impl OciImage {
    /// Pushes to the registry at `address` (`host:port`, plain HTTP) as `name:tag` and returns the reference to pull,
    /// `host:port/name:tag`. Blobs that the registry has are not sent again.
    pub async fn push(&self, address: &str, name: &str, tag: &str) -> Result<String> {
        let client = plain_client()?;
        let base = format!("http://{address}/v2/{name}");
        for blob in self.layers.iter().chain([&self.config]) {
            upload(&client, address, &base, blob)
                .await
                .with_context(|| format!("cannot push {name}:{tag} to the registry at {address}"))?;
        }
        let response = client
            .put(format!("{base}/manifests/{tag}"))
            .header(header::CONTENT_TYPE, MANIFEST_MEDIA_TYPE)
            .body(self.manifest.bytes.clone())
            .send()
            .await
            .with_context(|| format!("cannot push the manifest of {name}:{tag} to the registry at {address}"))?;
        expect(response, StatusCode::CREATED).await?;
        Ok(format!("{address}/{name}:{tag}"))
    }
}

async fn upload(client: &Client, address: &str, base: &str, blob: &Blob) -> Result<()> {
    let known = client.head(format!("{base}/blobs/{}", blob.digest)).send().await?;
    if known.status() == StatusCode::OK {
        return Ok(());
    }
    let started = expect(client.post(format!("{base}/blobs/uploads/")).send().await?, StatusCode::ACCEPTED).await?;
    let location = started
        .headers()
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .context("the registry opened an upload without a Location header: is this a container registry?")?;
    let location = if location.starts_with('/') { format!("http://{address}{location}") } else { location.to_owned() };
    let separator = if location.contains('?') { '&' } else { '?' };
    let stored = client
        .put(format!("{location}{separator}digest={}", blob.digest))
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(blob.bytes.clone())
        .send()
        .await?;
    expect(stored, StatusCode::CREATED).await.map(drop)
}

async fn expect(response: Response, wanted: StatusCode) -> Result<Response> {
    let status = response.status();
    if status == wanted {
        return Ok(response);
    }
    let url = response.url().clone();
    let mut text = response.text().await.unwrap_or_default();
    text.truncate(text.floor_char_boundary(500));
    bail!("{url} answered {status} where {wanted} was due: {text}");
}

/// A client that never uses a proxy from the environment: everything here is on loopback.
pub(crate) fn plain_client() -> Result<Client> {
    Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .timeout(REQUEST_TIMEOUT)
        .build()
        .context("cannot set up an HTTP client")
}
