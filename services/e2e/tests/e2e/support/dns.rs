//! DNS questions over UDP and TCP, by hand (RFC 1035 section 4): a client that shares no code with the server proves more.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

const TYPE_A: u16 = 1;
const TYPE_SOA: u16 = 6;
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// No such name.
pub(crate) const NAME_ERROR: u8 = 3;

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: u8,
    pub(crate) authoritative: bool,
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// Of the first answer.
    pub(crate) ttl: Option<u32>,
    /// How long a "no" may be kept: the smaller of the SOA's TTL and its minimum (RFC 2308 section 5).
    pub(crate) negative_ttl: Option<u32>,
}

pub(crate) fn over_udp(server: SocketAddr, name: &str) -> Answer {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    socket.connect(server).unwrap();
    socket.send(&question(name)).unwrap();
    let mut buffer = [0; 1232];
    let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{server} does not answer over UDP: {error}"));
    read(&buffer[..length])
}

pub(crate) fn over_tcp(server: SocketAddr, name: &str) -> Answer {
    let mut stream = TcpStream::connect_timeout(&server, ANSWER_WITHIN).unwrap();
    stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    let question = question(name);
    let mut message = u16::try_from(question.len()).unwrap().to_be_bytes().to_vec();
    message.extend(question);
    stream.write_all(&message).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    read(&answer)
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Vec::new();
    for word in [7_u16, 0, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend([TYPE_A, 1].into_iter().flat_map(u16::to_be_bytes));
    message
}

fn read(message: &[u8]) -> Answer {
    let mut reader = Reader { message, position: 2 };
    let flags = reader.word();
    let [_, answers, authorities, _] = [reader.word(), reader.word(), reader.word(), reader.word()];
    reader.skip_name();
    reader.position += 4;
    let [high, low] = flags.to_be_bytes();
    let mut answer = Answer {
        code: low & 0x0f,
        authoritative: high & 0x04 != 0,
        addresses: Vec::new(),
        ttl: None,
        negative_ttl: None,
    };
    for record in 0..answers + authorities {
        reader.skip_name();
        let kind = reader.word();
        reader.position += 2;
        let ttl = reader.double_word();
        let length = usize::from(reader.word());
        let data = &message[reader.position..reader.position + length];
        reader.position += length;
        if record < answers && kind == TYPE_A {
            answer.addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).unwrap()));
            answer.ttl.get_or_insert(ttl);
        }
        if kind == TYPE_SOA {
            let minimum = u32::from_be_bytes(data[length - 4..].try_into().unwrap());
            answer.negative_ttl = Some(ttl.min(minimum));
        }
    }
    answer
}

struct Reader<'a> {
    message: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn word(&mut self) -> u16 {
        let bytes = &self.message[self.position..self.position + 2];
        self.position += 2;
        u16::from_be_bytes(bytes.try_into().unwrap())
    }

    fn double_word(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }

    /// A name ends with an empty label or with a pointer.
    fn skip_name(&mut self) {
        loop {
            let length = self.message[self.position];
            self.position += 1;
            match length {
                0 => return,
                pointer if pointer & 0xc0 == 0xc0 => {
                    self.position += 1;
                    return;
                }
                label => self.position += usize::from(label),
            }
        }
    }
}
