//! From packet to question, and from answer to packet.
//!
//! Invariants: reading is bounded (one question, a few additional records, nothing reserved by a count that the sender
//! claims); a reply never exceeds what the client can take; the question is echoed as asked, in its case.

use hickory_proto::op::{
    Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, Query, ResponseCode, emit_message_parts,
};
use hickory_proto::rr::{Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncoder};

/// What we announce and at most send over UDP, in bytes: it passes every usual path without fragments (DNS flag day 2020).
const MAX_UDP_BYTES: u16 = 1232;
/// What a client without EDNS takes over UDP, in bytes (RFC 1035, section 4.2.1).
const PLAIN_UDP_BYTES: u16 = 512;
/// Additional records read of a request: OPT and a signature are usual.
const MAX_ADDITIONALS: u16 = 4;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// What a packet turned out to be.
pub(crate) enum Request {
    /// Not worth an answer: too short, or itself an answer (which could make two servers talk for ever).
    Ignore,
    /// Wrong in a way that can be told without knowing any zone.
    Reject(Reply),
    /// A question of ordinary form.
    Ask(Question),
}

/// One question and what its asker can take.
pub(crate) struct Question {
    metadata: Metadata,
    pub(crate) query: Query,
    edns: Option<Edns>,
    transport: Transport,
}

/// What to say to a question.
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    pub(crate) authoritative: bool,
    pub(crate) recursion_available: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Answer {
    /// An answer without records.
    pub(crate) fn bare(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            recursion_available: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

/// A packet ready to be sent.
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) code: ResponseCode,
    pub(crate) truncated: bool,
}

impl Request {
    pub(crate) fn read(packet: &[u8], transport: Transport) -> Self {
        let mut decoder = BinDecoder::new(packet);
        let Ok(header) = Header::read(&mut decoder) else { return Self::Ignore };
        if header.metadata.message_type == MessageType::Response {
            return Self::Ignore;
        }
        let mut question = Question { metadata: header.metadata, query: Query::new(), edns: None, transport };
        match question.metadata.op_code {
            OpCode::Query => {}
            OpCode::Update => return question.reject(None, ResponseCode::Refused),
            _ => return question.reject(None, ResponseCode::NotImp),
        }
        if header.counts.queries != 1 {
            return question.reject(None, ResponseCode::FormErr);
        }
        let Ok(query) = Query::read(&mut decoder) else { return question.reject(None, ResponseCode::FormErr) };
        question.query = query;
        let well_formed = question.read_additionals(&mut decoder, header.counts);
        // An IXFR carries a record of authority, so it is refused before records count as malformed.
        if matches!(question.query.query_type(), RecordType::AXFR | RecordType::IXFR) {
            return Self::Reject(question.reply(Answer::bare(ResponseCode::Refused)));
        }
        if !well_formed {
            return Self::Reject(question.reply(Answer::bare(ResponseCode::FormErr)));
        }
        if question.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return Self::Reject(question.reply(Answer::bare(ResponseCode::BADVERS)));
        }
        Self::Ask(question)
    }
}

/// Our side of the client's EDNS: its DO bit goes back (RFC 3225), its options do not. `version` and `max_payload` stay the
/// client's until the reply is written.
fn ours(theirs: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_version(theirs.version()).set_max_payload(theirs.max_payload());
    edns.set_dnssec_ok(theirs.flags().dnssec_ok);
    edns
}

impl Question {
    /// Takes EDNS from the records behind the question; false if they are not what a question has.
    fn read_additionals(&mut self, decoder: &mut BinDecoder<'_>, counts: HeaderCounts) -> bool {
        if counts.answers != 0 || counts.authorities != 0 || counts.additionals > MAX_ADDITIONALS {
            return false;
        }
        match Message::read_records(decoder, usize::from(counts.additionals), true, OpCode::Query) {
            Ok((_, edns, _)) => {
                self.edns = edns.as_ref().map(ours);
                true
            }
            Err(_) => false,
        }
    }

    /// Whether the asker wants us to ask others.
    pub(crate) fn recursion_desired(&self) -> bool {
        self.metadata.recursion_desired
    }

    fn reject(&self, query: Option<&Query>, code: ResponseCode) -> Request {
        Request::Reject(self.encode(query, Answer::bare(code)))
    }

    /// The reply that carries `answer`.
    pub(crate) fn reply(&self, answer: Answer) -> Reply {
        self.encode(Some(&self.query), answer)
    }

    fn encode(&self, query: Option<&Query>, mut answer: Answer) -> Reply {
        let mut metadata = Metadata::response_from_request(&self.metadata);
        metadata.checking_disabled = false;
        metadata.response_code = answer.code;
        metadata.authoritative = answer.authoritative;
        metadata.recursion_available = answer.recursion_available;
        let mut edns = self.edns.clone();
        if let Some(edns) = &mut edns {
            edns.set_version(0).set_max_payload(MAX_UDP_BYTES);
        }
        let packet = Packet { query, edns: edns.as_ref(), limit_bytes: self.limit_bytes() };

        let (mut bytes, mut overflow) = packet.write(metadata, &answer);
        if overflow && !answer.additionals.is_empty() {
            // Additional records are a courtesy: to leave them out is no truncation (RFC 2181, section 9).
            answer.additionals.clear();
            (bytes, overflow) = packet.write(metadata, &answer);
        }
        if overflow {
            // Half a record set would be taken for a whole one by clients that do not look at TC.
            metadata.truncation = true;
            (bytes, _) = packet.write(metadata, &Answer::bare(answer.code));
        }
        Reply { bytes, code: answer.code, truncated: overflow }
    }

    fn limit_bytes(&self) -> u16 {
        match (self.transport, &self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_UDP_BYTES,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_UDP_BYTES, MAX_UDP_BYTES),
        }
    }
}

struct Packet<'question> {
    query: Option<&'question Query>,
    edns: Option<&'question Edns>,
    limit_bytes: u16,
}

impl Packet<'_> {
    /// The bytes, and whether something did not fit.
    fn write(&self, metadata: Metadata, answer: &Answer) -> (Vec<u8>, bool) {
        let mut bytes = Vec::with_capacity(usize::from(PLAIN_UDP_BYTES));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(self.limit_bytes);
        let written = emit_message_parts(
            &metadata,
            &mut self.query.into_iter(),
            &mut answer.answers.iter(),
            &mut answer.authorities.iter(),
            &mut answer.additionals.iter(),
            self.edns,
            None,
            &mut encoder,
        );
        match written {
            Ok(header) => {
                let overflow = header.metadata.truncation && !metadata.truncation;
                (bytes, overflow)
            }
            Err(error) => {
                tracing::warn!(%error, "a DNS answer could not be written; the client gets SERVFAIL");
                (failure(metadata), false)
            }
        }
    }
}

/// A header that says SERVFAIL, written by hand because writing is what failed.
fn failure(metadata: Metadata) -> Vec<u8> {
    const RESPONSE: u8 = 0x80;
    const RECURSION_DESIRED: u8 = 0x01;
    const SERVFAIL: u8 = 0x02;
    let [high, low] = metadata.id.to_be_bytes();
    let flags = RESPONSE | if metadata.recursion_desired { RECURSION_DESIRED } else { 0 };
    vec![high, low, flags, SERVFAIL, 0, 0, 0, 0, 0, 0, 0, 0]
}
