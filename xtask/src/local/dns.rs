//! One DNS question over UDP and what came back, by hand (RFC 1035 section 4).
//!
//! By hand because hickory's one home is `wherry-dns-server`, and because a client that shares no code with the server
//! proves more.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0 no error, 3 no such name.
    pub(crate) code: u8,
    /// AA: the server speaks for the zone.
    pub(crate) authoritative: bool,
    pub(crate) addresses: Vec<Ipv4Addr>,
}

/// Asks `server` for the A records of `name`.
pub(crate) fn ask(server: SocketAddr, name: &str, id: u16) -> Result<Answer> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no free UDP port on loopback")?;
    socket.set_read_timeout(Some(ANSWER_WITHIN)).context("cannot set a time limit")?;
    socket.connect(server).context("cannot address the DNS server")?;
    socket.send(&question(name, id)?).with_context(|| format!("cannot ask {server}"))?;
    let mut buffer = [0; 1232];
    let length = socket.recv(&mut buffer).with_context(|| format!("{server} did not answer in {ANSWER_WITHIN:?}"))?;
    read(&buffer[..length], id).context("the DNS answer is malformed")
}

fn question(name: &str, id: u16) -> Result<Vec<u8>> {
    let mut message = Vec::with_capacity(64);
    for word in [id, 0, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
        message.push(length.with_context(|| format!("{name} is no domain name"))?);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(TYPE_A.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    Ok(message)
}

fn read(message: &[u8], id: u16) -> Result<Answer> {
    let mut reader = Reader { message, position: 0 };
    ensure!(reader.word()? == id, "it answers another question");
    let flags = reader.word()?;
    let [questions, answers] = [reader.word()?, reader.word()?];
    reader.skip(4)?;
    for _ in 0..questions {
        reader.skip_name()?;
        reader.skip(4)?;
    }
    let mut addresses = Vec::new();
    for _ in 0..answers {
        reader.skip_name()?;
        let kind = reader.word()?;
        reader.skip(6)?;
        let data = usize::from(reader.word()?);
        let data = reader.take(data)?;
        if kind == TYPE_A {
            addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).context("an address without 4 bytes")?));
        }
    }
    let [high, low] = flags.to_be_bytes();
    Ok(Answer { code: low & 0x0f, authoritative: high & 0x04 != 0, addresses })
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

    fn skip(&mut self, count: usize) -> Result<()> {
        self.take(count).map(drop)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn word(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// A name ends with an empty label or with a pointer.
    fn skip_name(&mut self) -> Result<()> {
        loop {
            match self.byte()? {
                0 => return Ok(()),
                pointer if pointer & 0xc0 == 0xc0 => return self.skip(1),
                label => self.skip(usize::from(label))?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The question for `web.test`, answered with one A record by a compressed name.
    fn answered() -> Vec<u8> {
        let mut message = question("web.test", 7).unwrap();
        message[2] = 0x84;
        message[7] = 1;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 79, 0, 2]);
        message
    }

    #[test]
    fn an_answer_is_read_through_compression() {
        let answer = read(&answered(), 7).unwrap();
        assert_eq!(answer, Answer { code: 0, authoritative: true, addresses: vec![Ipv4Addr::new(10, 79, 0, 2)] });
    }

    #[test]
    fn cut_or_foreign_answers_are_errors() {
        let message = answered();
        assert!(read(&message, 8).is_err());
        for length in 0..message.len() {
            assert!(read(&message[..length], 7).is_err(), "{length}");
        }
    }

    #[test]
    fn impossible_names_are_refused() {
        assert!(question("a..b", 1).is_err());
        assert!(question(&"x".repeat(64), 1).is_err());
        assert_eq!(question("a.b.", 1).unwrap(), question("a.b", 1).unwrap());
    }
}
