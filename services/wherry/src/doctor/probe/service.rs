//! What a running Wherry says about itself.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::super::host::Health;
use crate::cli::Role;
use crate::client::connection::ClientFile;
use crate::data::DataFolder;
use crate::settings::Settings;

const LIMIT: Duration = Duration::from_secs(2);
const ANSWER_MOST_BYTES: u64 = 4096;
const BODY_SHOWN_CHARACTERS: usize = 200;

/// Asks only where something listens: a Wherry that does not run is no finding.
pub(super) fn health(role: Role, data: &DataFolder, settings: &Settings) -> Vec<Health> {
    // Flags of the running process may have moved the API; the client file knows.
    let published = ClientFile::read(&data.client_file()).ok().and_then(|file| file.address());
    let address = match role {
        Role::Node => settings.listen.operator,
        Role::Up | Role::Control => published.unwrap_or(settings.listen.api),
    };
    let address = reachable(address);
    if TcpStream::connect_timeout(&address, LIMIT).is_err() {
        return Vec::new();
    }
    let ask = |path: &str| Health { url: format!("http://{address}{path}"), answer: get(address, path) };
    vec![ask("/healthz"), ask("/readyz")]
}

/// Who listens everywhere listens on loopback too.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// One request of HTTP/1.0, whose answer ends with the connection: what a health check needs, without an HTTP client.
fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let exchange = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        // In one write: a server that answers after the first piece and closes would reset the connection over the rest.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MOST_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| error.to_string())?;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| "what answers there does not speak HTTP".to_owned())
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let shown = body.chars().map(|character| if character.is_control() { ' ' } else { character });
    Some((status, shown.take(BODY_SHOWN_CHARACTERS).collect::<String>().trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_health_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut piece = [0; 256];
                let length = stream.read(&mut piece).unwrap();
                assert_ne!(length, 0, "the request ended early");
                request.extend_from_slice(&piece[..length]);
            }
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\nthe store\nis away").unwrap();
            String::from_utf8(request).unwrap()
        });
        assert_eq!(get(address, "/readyz"), Ok((503, "the store is away".to_owned())));
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.0\r\n"));
    }

    #[test]
    fn something_else_on_the_port() {
        assert_eq!(parse("SSH-2.0-OpenSSH_9.2\r\n"), None);
        assert_eq!(parse("HTTP/1.1 200 OK\r\n\r\nok"), Some((200, "ok".to_owned())));
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap()), "127.0.0.1:1".parse().unwrap());
    }
}
