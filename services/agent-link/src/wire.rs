//! What stands in requests and answers beside the messages of the contract: `docs/agent-protocol.md`.

use serde::{Deserialize, Serialize};
use wherry_agent_api::Enrolled;

/// In a request: the highest version that the agent speaks. In an answer: the version that the two speak.
pub(crate) const PROTOCOL_HEADER: &str = "wherry-protocol";
/// In an answer: the highest version that the replica speaks.
pub(crate) const PROTOCOL_HIGHEST_HEADER: &str = "wherry-protocol-highest";
/// In an answer 503 of a replica that is about to end: ask another.
pub(crate) const LEAVING_HEADER: &str = "wherry-leaving";

/// In an answer to a question: which instance it is about.
pub(crate) const INSTANCE_HEADER: &str = "wherry-instance";
/// In an answer to a question about one generation of an instance: which one.
pub(crate) const GENERATION_HEADER: &str = "wherry-generation";

/// The oldest version that is understood.
pub(crate) const OLDEST_PROTOCOL: u32 = 1;
/// The first version with epochs, surroundings and calls.
pub(crate) const PROTOCOL_OF_FLEETS: u32 = 2;

pub(crate) mod path {
    pub(crate) const PING: &str = "/agent/v2/ping";
    pub(crate) const ENROL: &str = "/agent/v2/enrol";
    pub(crate) const RENEW: &str = "/agent/v2/renew";
    pub(crate) const HELLO: &str = "/agent/v2/hello";
    pub(crate) const DESIRED: &str = "/agent/v2/desired";
    pub(crate) const REPORT: &str = "/agent/v2/report";
    pub(crate) const HEARTBEAT: &str = "/agent/v2/heartbeat";
    pub(crate) const SURROUNDINGS: &str = "/agent/v2/surroundings";
    pub(crate) const CALLS: &str = "/agent/v2/calls";
    /// The ticket follows.
    pub(crate) const ANSWER: &str = "/agent/v2/answer/";
    pub(crate) const ANSWER_ROUTE: &str = "/agent/v2/answer/{ticket}";
}

/// A machine wants to be a node.
#[derive(Serialize, Deserialize)]
pub(crate) struct EnrolRequest {
    /// `wjt_<id>_<secret>`.
    pub(crate) token: String,
    /// Certificate signing request in PEM form.
    pub(crate) csr: String,
    /// What operators will call it.
    pub(crate) name: String,
}

/// It is one.
#[derive(Serialize, Deserialize)]
pub(crate) struct EnrolAnswer {
    #[serde(flatten)]
    pub(crate) enrolled: Enrolled,
    #[serde(flatten)]
    pub(crate) issued: Issued,
}

/// A node wants its certificate renewed.
#[derive(Serialize, Deserialize)]
pub(crate) struct RenewRequest {
    /// Certificate signing request in PEM form.
    pub(crate) csr: String,
}

/// A certificate.
#[derive(Serialize, Deserialize)]
pub(crate) struct Issued {
    /// The node's certificate and the chain above it, PEM.
    pub(crate) certificate: String,
    /// The certificate that the node trusts, PEM.
    pub(crate) ca: String,
}

/// Where a long poll stands.
#[derive(Serialize, Deserialize)]
pub(crate) struct Have {
    /// The revision or tag that the agent has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) have: Option<u64>,
}

/// Calls that wait.
#[derive(Serialize, Deserialize)]
pub(crate) struct Calls<C> {
    pub(crate) calls: Vec<C>,
}
