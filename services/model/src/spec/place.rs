//! Where an instance may be placed, as its tenant asks for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::TenantId;
use crate::terms::{Group, ImageKey, Spread, SpreadOver, Terms};

use super::InstanceSpec;

/// What it may cost others, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// It stays where it is.
    #[default]
    Regular,
    /// It is cheaper, and makes room, after a notice, when a regular instance has no other place.
    Spot,
}

impl Priority {
    /// Whether it is the usual one, which stored records and requests leave out.
    pub fn is_regular(&self) -> bool {
        *self == Self::Regular
    }
}

/// A label and its value: `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelMatch {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

impl FromStr for LabelMatch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
            _ => Err("write KEY=VALUE"),
        }
    }
}

impl TryFrom<String> for LabelMatch {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LabelMatch> for String {
    fn from(label: LabelMatch) -> Self {
        label.to_string()
    }
}

impl fmt::Display for LabelMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// An even distribution of the tenant's instances that carry the same value of a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadRule {
    /// The key of a label of the instance itself.
    pub label: String,
    /// How many more there may be at one place than at that with the fewest; at least 1.
    pub max_skew: u32,
    /// Over machines or zones.
    pub over: SpreadOver,
}

/// Where it is placed, by the tenant's other instances.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PlacementRules {
    /// Evenly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<SpreadRule>,
    /// On a machine with one that carries each of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<LabelMatch>,
    /// On a machine with none that carries any of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<LabelMatch>,
}

impl PlacementRules {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl InstanceSpec {
    /// What it asks about the other instances on its machine, and what they may ask about it, as an instance of `tenant`.
    pub fn terms(&self, tenant: TenantId) -> Terms {
        let group = |label: &LabelMatch| Group::of(tenant, &label.key, &label.value);
        let spread = self.placement.spread.iter().filter_map(|rule| {
            let value = self.labels.get(&rule.label)?;
            Some(Spread { group: Group::of(tenant, &rule.label, value), over: rule.over, max_skew: rule.max_skew })
        });
        Terms {
            groups: self.labels.iter().map(|(key, value)| Group::of(tenant, key, value)).collect(),
            near: self.placement.near.iter().map(group).collect(),
            apart: self.placement.apart.iter().map(group).collect(),
            spread: spread.collect(),
            images: self.containers.iter().map(|container| ImageKey::of(&container.image.to_string())).collect(),
            ..Terms::default()
        }
    }
}
