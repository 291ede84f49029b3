//! A question by HTTP/1.1, with or without TLS.
//!
//! With TLS the certificate is not judged, as with Kubernetes: what is asked is whether the program answers, on an address
//! that nobody else has; programs inside have certificates for names of the outside, or signed by themselves.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, client};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use wherry_model::Header;
use wherry_runtime::Connection;

use super::{Finding, Place};

/// Most bytes of a head that are read; bodies are not.
const MOST_HEAD_BYTES: usize = 16 * 1024;
const MOST_HEADERS: usize = 128;

/// Asks once on this connection.
pub(super) async fn ask(
    connection: Connection,
    place: &Place,
    (port, tls): (u16, bool),
    path: &str,
    headers: &[Header],
) -> Finding {
    if !tls {
        return ask_on(connection, place, port, path, headers).await;
    }
    let Some(config) = unjudging() else { return Finding::Nothing("TLS is not to be had here".to_owned()) };
    let name = ServerName::from(IpAddr::V4(place.address));
    match TlsConnector::from(config).connect(name, connection).await {
        Ok(stream) => ask_on(stream, place, port, path, headers).await,
        Err(error) => Finding::Ill(format!("no TLS on port {port}: {error}")),
    }
}

async fn ask_on<S>(stream: S, place: &Place, port: u16, path: &str, headers: &[Header]) -> Finding
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Some(request) = request(place, port, path, headers) else {
        return Finding::Ill("its path or a header of it is not one of HTTP".to_owned());
    };
    let mut builder = client::conn::http1::Builder::new();
    builder.max_buf_size(MOST_HEAD_BYTES).max_headers(MOST_HEADERS);
    let (mut sender, line) = match builder.handshake(TokioIo::new(stream)).await {
        Ok(both) => both,
        Err(error) => return Finding::Ill(format!("no HTTP on port {port}: {error}")),
    };
    let answer = async {
        let answer = sender.send_request(request).await;
        answer.map(|answer| answer.status())
    };
    tokio::pin!(answer);
    // The line ends with this function: only the head of the answer is wanted.
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It may have brought the answer with its last bytes; if not, that is known now too.
        _ended = line => answer.await,
    };
    match answer {
        Ok(status) if (200..400).contains(&status.as_u16()) => Finding::Well,
        Ok(status) => Finding::Ill(format!("HTTP status {}", status.as_u16())),
        Err(error) => Finding::Ill(format!("no answer by HTTP on port {port}: {error}")),
    }
}

fn request(place: &Place, port: u16, path: &str, headers: &[Header]) -> Option<Request<Empty<Bytes>>> {
    let mut request = Request::get(path).body(Empty::new()).ok()?;
    let host = match port {
        80 => place.host.to_string(),
        port => format!("{}:{port}", place.host),
    };
    let map = request.headers_mut();
    map.insert(HOST, HeaderValue::from_str(&host).ok()?);
    map.insert(USER_AGENT, HeaderValue::from_static("wherry-probe"));
    for header in headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = HeaderValue::from_str(&header.value).ok()?;
        if name == HOST || name == USER_AGENT {
            map.insert(name, value);
        } else {
            map.append(name, value);
        }
    }
    Some(request)
}

fn unjudging() -> Option<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    let make = || {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let judge = Arc::new(Unjudging(provider.clone()));
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
        Some(Arc::new(builder.dangerous().with_custom_certificate_verifier(judge).with_no_client_auth()))
    };
    CONFIG.get_or_init(make).clone()
}

/// Takes any certificate, from whoever has its key.
#[derive(Debug)]
struct Unjudging(Arc<CryptoProvider>);

impl ServerCertVerifier for Unjudging {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use wherry_model::InstanceName;
    use wherry_runtime::ContainerId;

    use super::*;

    fn place() -> Place {
        let host = InstanceName::new("web").unwrap();
        Place { container: ContainerId::new("c"), address: [10, 0, 0, 2].into(), host }
    }

    /// What is found when this is answered, and what was asked.
    async fn asked(answer: &'static [u8], headers: &[Header]) -> (Finding, String) {
        let (ours, mut theirs) = duplex(64 * 1024);
        let server = tokio::spawn(async move {
            let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
            while !head.ends_with(b"\r\n\r\n") {
                let count = theirs.read(&mut buffer).await.unwrap();
                head.extend_from_slice(&buffer[..count]);
            }
            drop(theirs.write_all(answer).await);
            String::from_utf8(head).unwrap()
        });
        let finding = ask(Box::new(ours), &place(), (8080, false), "/healthz?deep=1", headers).await;
        (finding, server.await.unwrap())
    }

    #[tokio::test]
    async fn the_status_decides_and_nothing_is_followed() {
        let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.to_owned() };
        let (finding, head) =
            asked(b"HTTP/1.1 204 No Content\r\n\r\n", &[header("x-a", "1"), header("x-a", "2")]).await;
        assert_eq!(finding, Finding::Well);
        assert!(head.starts_with("GET /healthz?deep=1 HTTP/1.1\r\nhost: web:8080\r\n"), "{head}");
        assert!(head.contains("x-a: 1\r\nx-a: 2\r\n"), "{head}");
        let redirect = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\n\r\n";
        let (finding, head) = asked(redirect, &[header("Host", "other.example")]).await;
        assert_eq!(finding, Finding::Well);
        assert!(head.contains("host: other.example\r\n") && !head.contains("web"), "{head}");
        let (finding, _) = asked(b"HTTP/1.1 503 Busy\r\ncontent-length: 5\r\n\r\nsorry", &[]).await;
        assert_eq!(finding, Finding::Ill("HTTP status 503".to_owned()));
    }

    #[tokio::test]
    async fn what_is_not_http_or_has_no_end_is_ill() {
        for answer in [&b"SSH-2.0-x\r\n\r\n"[..], b"", Box::leak(vec![b'a'; 60 * 1024].into_boxed_slice())] {
            let (finding, _) = asked(answer, &[]).await;
            assert!(matches!(finding, Finding::Ill(_)), "{finding:?}");
        }
    }
}
