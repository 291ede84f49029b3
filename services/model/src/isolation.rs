//! How far an instance is kept apart from what else runs on its machine.
//!
//! The classes are few and have a meaning, so that a spec means the same on every fleet; which program keeps that promise on a
//! machine is its operator's word. Rejected: names that each operator makes up, of which a tenant learns nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces, cgroups and a filter of system calls on the machine's own kernel: runc, crun. Every machine has it.
    #[default]
    Shared,
    /// A kernel of its own in user space, which answers its system calls: gVisor's runsc.
    Sandboxed,
    /// A virtual machine of its own: Kata Containers.
    VirtualMachine,
}

impl Isolation {
    /// Every class, the weakest first.
    pub const ALL: [Self; 3] = [Self::Shared, Self::Sandboxed, Self::VirtualMachine];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Sandboxed => "sandboxed",
            Self::VirtualMachine => "virtual_machine",
        }
    }

    /// Whether it is the usual one, which stored records and messages leave out.
    pub fn is_shared(&self) -> bool {
        *self == Self::Shared
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Shared => 1,
            Self::Sandboxed => 2,
            Self::VirtualMachine => 4,
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Isolation {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|class| class.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no isolation class; there is shared, sandboxed and virtual_machine"))
    }
}

/// The classes that a machine offers; the shared one is always among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<Isolation>")]
pub struct IsolationSet(u8);

impl IsolationSet {
    /// Whether `class` is among them.
    pub const fn has(self, class: Isolation) -> bool {
        self.0 & class.bit() != 0
    }

    /// Those of either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it is the shared class alone.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// One bit for each class, the shared one lowest: as the store keeps it.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// What [`Self::bits`] gave; bits that mean no class here are left out.
    pub fn from_bits(bits: u8) -> Self {
        Isolation::ALL.into_iter().filter(|class| bits & class.bit() != 0).collect()
    }

    /// Each, the weakest first.
    pub fn iter(self) -> impl Iterator<Item = Isolation> {
        Isolation::ALL.into_iter().filter(move |class| self.has(*class))
    }
}

impl Default for IsolationSet {
    fn default() -> Self {
        Self(Isolation::Shared.bit())
    }
}

impl FromIterator<Isolation> for IsolationSet {
    fn from_iter<I: IntoIterator<Item = Isolation>>(classes: I) -> Self {
        classes.into_iter().fold(Self::default(), |set, class| Self(set.0 | class.bit()))
    }
}

impl From<Vec<String>> for IsolationSet {
    /// A class that is not known here was offered by a later release, and is not offered.
    fn from(names: Vec<String>) -> Self {
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }
}

impl From<IsolationSet> for Vec<Isolation> {
    fn from(set: IsolationSet) -> Self {
        set.iter().collect()
    }
}

impl fmt::Display for IsolationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, class) in self.iter().enumerate() {
            write!(f, "{}{class}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_a_list_on_the_wire_and_bits_in_the_store() {
        let set: IsolationSet = [Isolation::VirtualMachine].into_iter().collect();
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["shared","virtual_machine"]"#);
        assert_eq!(serde_json::from_str::<IsolationSet>(r#"["virtual_machine","of_a_later_release"]"#).unwrap(), set);
        assert_eq!((set.bits(), IsolationSet::from_bits(0b1000_0100)), (5, set));
        assert!(set.has(Isolation::Shared) && !set.has(Isolation::Sandboxed));
        assert_eq!(set.to_string(), "shared, virtual_machine");
        assert_eq!(IsolationSet::from_bits(0), IsolationSet::default());
        for class in Isolation::ALL {
            assert_eq!(class.as_str().parse(), Ok(class));
        }
    }
}
