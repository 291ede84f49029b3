//! Sockets to listen on. UDP and TCP of one address always share the port: a truncated answer sends the client over.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::wire::Transport;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Room for requests that arrive while the server is busy, in bytes. The system may give less.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// With port 0 the system chooses a port for UDP that may be taken for TCP; then it chooses again.
const PORT_TRIES: usize = 16;

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "DNS address {address}/{transport} is in use by another program; stop that one (`ss -lunpt` shows it) or choose another \
         address or port for Wherry's DNS"
    )]
    InUse {
        /// Where.
        address: SocketAddr,
        /// `udp` or `tcp`.
        transport: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Ports below 1024 need a privilege.
    #[error("no permission to listen on DNS address {address}/{transport}; run as root or choose a port above 1023")]
    Permission {
        /// Where.
        address: SocketAddr,
        /// `udp` or `tcp`.
        transport: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The machine does not have the address.
    #[error("this machine does not have the DNS address {address}; choose one that `ip address` shows")]
    NoSuchAddress {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot listen on DNS address {address}/{transport}; check the machine's network and file limits")]
    Other {
        /// Where.
        address: SocketAddr,
        /// `udp` or `tcp`.
        transport: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, transport: Transport, source: io::Error) -> Self {
        let transport = match transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address, transport, source },
            io::ErrorKind::PermissionDenied => Self::Permission { address, transport, source },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { address, source },
            _ => Self::Other { address, transport, source },
        }
    }

    fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

/// Both sockets of one address.
pub(crate) struct Sockets {
    pub(crate) address: SocketAddr,
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
}

/// Whether the address has to exist already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    /// `IP_FREEBIND`: the address may come later, for example with a node's first instance.
    MayComeLater,
}

impl Sockets {
    /// Must be called within a tokio runtime.
    pub(crate) fn bind(asked: SocketAddr, presence: Presence) -> Result<Self, BindError> {
        let mut tries = 1;
        loop {
            let (udp, address) =
                udp(asked, presence).map_err(|source| BindError::new(asked, Transport::Udp, source))?;
            match tcp(address, presence).map_err(|source| BindError::new(address, Transport::Tcp, source)) {
                Ok(tcp) => return Ok(Self { address, udp, tcp }),
                Err(error) if asked.port() == 0 && error.is_in_use() && tries < PORT_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

fn udp(address: SocketAddr, presence: Presence) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = open(address, Type::DGRAM, Protocol::UDP, presence)?;
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
        tracing::debug!(%error, "the DNS socket keeps its receive buffer");
    }
    socket.bind(&address.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

fn tcp(address: SocketAddr, presence: Presence) -> io::Result<TcpListener> {
    let socket = open(address, Type::STREAM, Protocol::TCP, presence)?;
    // Connections of a killed predecessor linger in TIME_WAIT; they must not keep the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol, presence: Presence) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if presence == Presence::MayComeLater {
        if address.is_ipv4() { socket.set_freebind_v4(true)? } else { socket.set_freebind_v6(true)? }
    }
    Ok(socket)
}
