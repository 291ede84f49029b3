//! What a zone says to a question: a pure function of both.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, HINFO, NS, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::handle::ZoneHandle;
use crate::name::NameKey;
use crate::wire::{Answer, Question};
use crate::zone::{NEGATIVE_TTL_SECONDS, Node, Zone};

/// The zone's answer; `None` if the question is not about the zone.
pub(crate) fn answer(zones: &ZoneHandle, question: &Question) -> Option<Answer> {
    let query = &question.query;
    let key = NameKey::of(query.name())?;
    let own = key.relative_to(&zones.apex().key)?;
    if query.query_class() != DNSClass::IN {
        return Some(Answer::bare(ResponseCode::Refused));
    }
    let loaded = zones.load();
    let Some(zone) = loaded.as_ref() else { return Some(Answer::bare(ResponseCode::ServFail)) };
    let asked = Asked { zone, name: query.name(), kind: query.query_type(), at_apex: own.is_empty() };
    Some(asked.answer(zone.find(own)))
}

/// A question about a name at or under the zone's apex.
struct Asked<'question> {
    zone: &'question Zone,
    name: &'question Name,
    kind: RecordType,
    at_apex: bool,
}

impl Asked<'_> {
    fn answer(&self, node: Option<&Node>) -> Answer {
        let Some(node) = node else { return self.negative(ResponseCode::NXDomain) };
        let mut answer = Answer::bare(ResponseCode::NoError);
        answer.authoritative = true;
        match self.kind {
            RecordType::A => answer.answers = self.ipv4(self.name, node),
            RecordType::AAAA => answer.answers = self.ipv6(self.name, node),
            RecordType::SRV => {
                answer.answers = self.services(node);
                answer.additionals = self.targets(node);
            }
            RecordType::SOA if self.at_apex => answer.answers = vec![self.zone.soa(self.apex(), self.zone.ttl_seconds)],
            RecordType::NS if self.at_apex => {
                answer.answers = vec![self.record(self.apex(), RData::NS(NS(self.zone.name_server.clone())))];
                answer.additionals = self.addresses(&self.zone.name_server);
            }
            RecordType::ANY if self.at_apex || !node.is_empty() => answer.answers = vec![self.minimal_any()],
            _ => {}
        }
        if answer.answers.is_empty() { self.negative(ResponseCode::NoError) } else { answer }
    }

    /// "No such name" or "no data", with the SOA that says how long it may be remembered (RFC 2308, section 3).
    fn negative(&self, code: ResponseCode) -> Answer {
        let mut answer = Answer::bare(code);
        answer.authoritative = true;
        answer.authorities = vec![self.zone.soa(self.apex(), NEGATIVE_TTL_SECONDS)];
        answer
    }

    /// The apex as it ends the question's name: it is compressed to a pointer then, and keeps the asker's case.
    fn apex(&self) -> Name {
        self.name.trim_to(self.zone.apex.key.labels())
    }

    fn record(&self, name: Name, data: RData) -> Record {
        Record::from_rdata(name, self.zone.ttl_seconds, data)
    }

    fn ipv4(&self, name: &Name, node: &Node) -> Vec<Record> {
        node.ipv4.iter().map(|address| self.record(name.clone(), RData::A(A(*address)))).collect()
    }

    fn ipv6(&self, name: &Name, node: &Node) -> Vec<Record> {
        node.ipv6.iter().map(|address| self.record(name.clone(), RData::AAAA(AAAA(*address)))).collect()
    }

    fn services(&self, node: &Node) -> Vec<Record> {
        let data = node.services.iter().map(|one| SRV::new(one.priority, one.weight, one.port, one.target.clone()));
        data.map(|data| self.record(self.name.clone(), RData::SRV(data))).collect()
    }

    fn targets(&self, node: &Node) -> Vec<Record> {
        let mut seen: Vec<&Name> = Vec::new();
        for service in &node.services {
            if !seen.contains(&&service.target) {
                seen.push(&service.target);
            }
        }
        seen.into_iter().flat_map(|target| self.addresses(target)).collect()
    }

    fn addresses(&self, name: &Name) -> Vec<Record> {
        let key = NameKey::of(name);
        let own = key.as_ref().and_then(|key| key.relative_to(&self.zone.apex.key));
        let Some(node) = own.and_then(|own| self.zone.find(own)) else { return Vec::new() };
        let mut records = self.ipv4(name, node);
        records.extend(self.ipv6(name, node));
        records
    }

    /// ANY gets one small record that says so (RFC 8482, section 4.2): it serves nobody but amplifiers.
    fn minimal_any(&self) -> Record {
        self.record(self.name.clone(), RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new())))
    }
}
