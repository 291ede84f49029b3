//! DNS questions over UDP by hand (RFC 1035 section 4): a client that shares no code with the server proves more.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::namespace::Namespace;

const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Names the question; one socket asks one.
const ID: u16 = 7;

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0 no error, 3 no such name.
    pub code: u8,
    /// Addresses of the name.
    pub addresses: Vec<Ipv4Addr>,
}

/// Asks `server` for the A records of `name`, from within the namespace.
pub fn ask_in(namespace: &Namespace, server: SocketAddr, name: &str) -> Result<Answer> {
    namespace.within(|| ask(server, name))?
}

fn ask(server: SocketAddr, name: &str) -> Result<Answer> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("no free UDP port")?;
    socket.set_read_timeout(Some(ANSWER_WITHIN)).context("cannot set a time limit")?;
    socket.connect(server).context("cannot address the DNS server")?;
    socket.send(&question(name)?).with_context(|| format!("cannot ask {server}"))?;
    let mut buffer = [0; 1232];
    let length = socket.recv(&mut buffer).with_context(|| format!("{server} did not answer in {ANSWER_WITHIN:?}"))?;
    read(&buffer[..length]).context("the DNS answer is malformed")
}

fn question(name: &str) -> Result<Vec<u8>> {
    let mut message = Vec::with_capacity(64);
    // Recursion desired: a node's resolver is asked like this.
    for word in [ID, 0x0100, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
        message.push(length.with_context(|| format!("{name} is no domain name"))?);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend([TYPE_A, CLASS_IN].into_iter().flat_map(u16::to_be_bytes));
    Ok(message)
}

fn read(message: &[u8]) -> Result<Answer> {
    let mut reader = Reader { message, position: 0 };
    ensure!(reader.word()? == ID, "it answers another question");
    let flags = reader.word()?;
    let [questions, answers] = [reader.word()?, reader.word()?];
    reader.take(4)?;
    for _ in 0..questions {
        reader.skip_name()?;
        reader.take(4)?;
    }
    let mut addresses = Vec::new();
    for _ in 0..answers {
        reader.skip_name()?;
        let kind = reader.word()?;
        reader.take(6)?;
        let length = usize::from(reader.word()?);
        let data = reader.take(length)?;
        if kind == TYPE_A {
            addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).context("an address without 4 bytes")?));
        }
    }
    let [_, low] = flags.to_be_bytes();
    Ok(Answer { code: low & 0x0f, addresses })
}

struct Reader<'a> {
    message: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.position + count;
        let bytes = self.message.get(self.position..end).context("it ends too early")?;
        self.position = end;
        Ok(bytes)
    }

    fn word(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name ends with an empty label or with a pointer.
    fn skip_name(&mut self) -> Result<()> {
        loop {
            match self.take(1)?[0] {
                0 => return Ok(()),
                pointer if pointer & 0xc0 == 0xc0 => return self.take(1).map(drop),
                label => drop(self.take(usize::from(label))?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_through_compression_and_a_cut_one_is_an_error() {
        let mut message = question("web.test").unwrap();
        message[2] = 0x84;
        message[7] = 1;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 128, 0, 2]);
        assert_eq!(read(&message).unwrap(), Answer { code: 0, addresses: vec![Ipv4Addr::new(10, 128, 0, 2)] });
        for length in 0..message.len() {
            assert!(read(&message[..length]).is_err(), "{length}");
        }
        assert!(question("a..b").is_err());
    }
}
