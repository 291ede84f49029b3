//! The reading half of an OCI registry on loopback: enough for containerd to pull from, and able to be slow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use wherry_runtime_cri::oci::{MANIFEST_TYPE, OciImage};

#[derive(Debug, Default)]
struct Shelf {
    /// URL path → media type and bytes.
    documents: BTreeMap<String, (&'static str, Vec<u8>)>,
    /// Name of an image → the header that alone opens it.
    private: BTreeMap<String, String>,
    /// Pause after each 64 KiB of a blob.
    pause: Duration,
}

/// The registry; it ends with the test's runtime.
pub(crate) struct Registry {
    port: u16,
    shelf: Arc<Mutex<Shelf>>,
}

impl Registry {
    pub(crate) async fn serve() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let served = Arc::clone(&shelf);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&served)));
            }
        });
        Self { port, shelf }
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}:1", self.port)
    }

    pub(crate) fn publish(&self, name: &str, image: &OciImage) {
        let mut shelf = self.shelf.lock().unwrap();
        for blob in [&image.config, &image.layer] {
            let path = format!("/v2/{name}/blobs/{}", blob.digest);
            shelf.documents.insert(path, ("application/octet-stream", blob.bytes.clone()));
        }
        for version in ["1", image.manifest.digest.as_str()] {
            let path = format!("/v2/{name}/manifests/{version}");
            shelf.documents.insert(path, (MANIFEST_TYPE, image.manifest.bytes.clone()));
        }
    }

    /// Serves it to who sends exactly this header `Authorization` only.
    pub(crate) fn publish_private(&self, name: &str, image: &OciImage, authorization: &str) {
        self.publish(name, image);
        self.shelf.lock().unwrap().private.insert(name.to_owned(), authorization.to_owned());
    }

    pub(crate) fn slow_down(&self, pause: Duration) {
        self.shelf.lock().unwrap().pause = pause;
    }
}

async fn answer(mut stream: TcpStream, shelf: Arc<Mutex<Shelf>>) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    let request = lines.next_line().await?.unwrap_or_default();
    let mut authorization = None;
    while let Some(line) = lines.next_line().await?.filter(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("authorization")
        {
            authorization = Some(value.trim().to_owned());
        }
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let (found, pause, is_open) = {
        let shelf = shelf.lock().unwrap();
        let name = path.split('/').nth(2).unwrap_or_default();
        let is_open = shelf.private.get(name).is_none_or(|wanted| authorization.as_ref() == Some(wanted));
        (shelf.documents.get(path).cloned(), shelf.pause, is_open)
    };
    if !is_open {
        let head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return write.write_all(head.as_bytes()).await;
    }
    let Some((media_type, bytes)) = found else {
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#;
        let head = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        return write.write_all(format!("{head}{body}").as_bytes()).await;
    };
    let digest = path.rsplit('/').next().filter(|last| last.starts_with("sha256:"));
    let digest = digest.map(|digest| format!("Docker-Content-Digest: {digest}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n{digest}Content-Length: {}\r\nConnection: close\r\n\r\n",
        bytes.len()
    );
    write.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        for chunk in bytes.chunks(64 << 10) {
            write.write_all(chunk).await?;
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}
