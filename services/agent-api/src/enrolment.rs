//! How a machine becomes a node: a one-time token buys a short-lived certificate, which renews itself.
//!
//! The control plane decides who may have one ([`crate::Enrolment`]); signing is the transport's. The token is bound at its
//! first use to the public key that came with it: the same machine may ask again after a lost answer, nobody else may.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use wherry_model::NodeId;

/// What a machine shows to become a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// The token as the operator gave it, `wjt_<id>_<secret>`.
    pub token: String,
    /// SHA-256 of the public key that will be certified.
    pub public_key: [u8; 32],
    /// What operators will call it; unique in the fleet.
    pub name: String,
}

/// What it is from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its id, for ever.
    pub node: NodeId,
    /// First address and prefix length of the range of its instances, which no other node has.
    pub range: (Ipv4Addr, u8),
    /// The apex of the zone.
    pub apex: String,
}
