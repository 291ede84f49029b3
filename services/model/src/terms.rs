//! What an instance asks of a machine beyond CPU and memory, and what a machine offers of it.
//!
//! Two halves, by who is the referee. What stands in [`Demand`](crate::Demand) and [`NodeOffer`] is in the node's row, and
//! the row decides. What stands in [`Terms`] is about the other instances on the machine (labels, public ports): placement
//! keeps it by what it knows of them. Names are short texts that are copied, so that a demand stays a plain value.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::TenantId;
use crate::spec::Protocol;

macro_rules! short_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            bytes: [u8; Self::MAX_BYTES],
        }

        impl $name {
            /// The longest, in bytes.
            pub const MAX_BYTES: usize = 31;

            /// The text.
            pub fn as_str(&self) -> &str {
                let length = self.bytes.iter().position(|byte| *byte == 0).unwrap_or(self.bytes.len());
                std::str::from_utf8(&self.bytes[..length]).unwrap_or_default()
            }
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let fits = (1..=Self::MAX_BYTES).contains(&text.len())
                    && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                    && !text.starts_with('-')
                    && !text.ends_with('-');
                if !fits {
                    return Err(concat!(
                        $what,
                        " has 1 to 31 characters: lower-case letters, digits and inner hyphens"
                    ));
                }
                let mut bytes = [0; Self::MAX_BYTES];
                bytes[..text.len()].copy_from_slice(text.as_bytes());
                Ok(Self { bytes })
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    };
}

short_name!(
    /// A part of the fleet that fails by itself: a room, a rack, a data centre. Operators name them.
    ZoneName,
    "a zone's name"
);
short_name!(
    /// A kind of GPU, as the machines report it.
    GpuModel,
    "a GPU model's name"
);

/// How much of GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuAmount {
    /// So many, each for this instance alone.
    Whole(u8),
    /// Thousandths of one, 1 to 1000, beside others.
    Share(u16),
}

/// The GPUs that an instance asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GpuDemand {
    /// How much.
    pub amount: GpuAmount,
    /// Only of this kind; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<GpuModel>,
    /// Which ones it has on its node, once it is placed; empty before. They are given back with it.
    #[serde(default, skip_serializing_if = "DeviceSet::is_empty")]
    pub devices: DeviceSet,
}

/// Some of a machine's GPUs: a bit for each, the first one lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceSet(u16);

impl DeviceSet {
    /// The set of these bits.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// A bit for each.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// None at all.
    pub const fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Each one's number, the least first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..Gpus::MOST).filter(move |device| self.0 & (1 << device) != 0)
    }
}

impl FromIterator<usize> for DeviceSet {
    fn from_iter<I: IntoIterator<Item = usize>>(devices: I) -> Self {
        Self(devices.into_iter().filter(|device| *device < Gpus::MOST).fold(0, |bits, device| bits | (1 << device)))
    }
}

/// The GPUs of a machine, all of one kind, and what is in use of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Gpus {
    /// Their kind.
    pub model: Option<GpuModel>,
    /// How many, at most [`Self::MOST`].
    pub count: u8,
    /// Thousandths in use of each.
    pub used_permille: [u16; Self::MOST],
}

impl Gpus {
    /// More of one machine are not counted.
    pub const MOST: usize = 16;
    /// The same as a count.
    pub const MOST_COUNT: u8 = 16;
    /// All of one GPU.
    pub const WHOLE: u16 = 1_000;

    fn used(&self) -> &[u16] {
        &self.used_permille[..usize::from(self.count).min(Self::MOST)]
    }

    /// How many nobody uses.
    pub fn unused(&self) -> u8 {
        self.used().iter().filter(|used| **used == 0).fold(0, |count, _| count + 1)
    }

    /// Which ones `asked` gets: whole ones the first that nobody uses, a share of the fullest that has room for it. None if
    /// they are of another kind or too little is left. The same for the same machine: the row can decide by it.
    pub fn choose(&self, asked: &GpuDemand) -> Option<DeviceSet> {
        if asked.model.is_some() && asked.model != self.model {
            return None;
        }
        match asked.amount {
            GpuAmount::Whole(count) => {
                let unused = self.used().iter().enumerate().filter(|(_, used)| **used == 0);
                let chosen = unused.take(usize::from(count)).map(|(device, _)| device).collect::<Vec<_>>();
                (count > 0 && chosen.len() == usize::from(count)).then(|| chosen.into_iter().collect())
            }
            GpuAmount::Share(share) => {
                let has_room = |used: u16| used.saturating_add(share) <= Self::WHOLE;
                let fit = self.used().iter().enumerate().filter(|(_, used)| has_room(**used));
                let fullest = fit.max_by_key(|(device, used)| (**used, std::cmp::Reverse(*device)));
                fullest.filter(|_| share > 0).map(|(device, _)| [device].into_iter().collect())
            }
        }
    }

    /// Whether the devices of `asked` have room for it: the right kind, the right number of them, and enough left of each.
    pub fn has_room(&self, asked: &GpuDemand) -> bool {
        let count = match asked.amount {
            GpuAmount::Whole(count) => usize::from(count),
            GpuAmount::Share(_) => 1,
        };
        let has = |device: usize| {
            self.used()
                .get(device)
                .is_some_and(|used| asked.each() > 0 && used.saturating_add(asked.each()) <= Self::WHOLE)
        };
        (asked.model.is_none() || asked.model == self.model)
            && count > 0
            && asked.devices.iter().count() == count
            && asked.devices.iter().all(has)
    }

    /// Takes `asked` from `devices`.
    pub fn take(&mut self, asked: &GpuDemand, devices: DeviceSet) {
        for device in devices.iter() {
            let used = &mut self.used_permille[device];
            *used = used.saturating_add(asked.each());
        }
    }

    /// Gives back what [`Self::take`] took; false, with as much given back as was in use, if that was less.
    pub fn give_back(&mut self, given: &GpuDemand) -> bool {
        let mut all = true;
        for device in given.devices.iter() {
            let used = &mut self.used_permille[device];
            all &= *used >= given.each();
            *used = used.saturating_sub(given.each());
        }
        all
    }
}

impl GpuDemand {
    /// So much, of any kind.
    pub const fn new(amount: GpuAmount) -> Self {
        Self { amount, model: None, devices: DeviceSet(0) }
    }

    /// Thousandths of each device that it has.
    pub const fn each(&self) -> u16 {
        match self.amount {
            GpuAmount::Whole(_) => Gpus::WHOLE,
            GpuAmount::Share(share) => share,
        }
    }
}

/// The GPUs that a machine says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct GpuOffer {
    /// Their kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<GpuModel>,
    /// How many; those beyond [`Gpus::MOST`] are not counted.
    pub count: u8,
}

impl GpuOffer {
    /// Whether there is none.
    pub const fn is_none(&self) -> bool {
        self.count == 0
    }

    /// With what is in use of each.
    pub const fn used(self, used_permille: [u16; Gpus::MOST]) -> Gpus {
        let count = if self.count as usize > Gpus::MOST { Gpus::MOST_COUNT } else { self.count };
        Gpus { model: self.model, count, used_permille }
    }
}

/// An amount of which some is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Stock {
    /// All of it, in MiB.
    pub total_mib: u64,
    /// In use, in MiB.
    pub used_mib: u64,
}

impl Stock {
    /// What is left, in MiB.
    pub const fn free_mib(self) -> u64 {
        self.total_mib.saturating_sub(self.used_mib)
    }
}

/// How much more than it has a node hands out, in percent of what it has. An operator's choice; 100 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Overcommit {
    /// Of CPU.
    pub cpu_percent: u16,
    /// Of memory.
    pub memory_percent: u16,
    /// Of disk.
    pub disk_percent: u16,
}

impl Overcommit {
    /// Of `amount`, at `percent`.
    pub const fn of(amount: u64, percent: u16) -> u64 {
        // The usual case, and what saturates stays whole.
        if percent == 100 { amount } else { amount.saturating_mul(percent as u64) / 100 }
    }
}

impl Default for Overcommit {
    fn default() -> Self {
        Self { cpu_percent: 100, memory_percent: 100, disk_percent: 100 }
    }
}

/// What a node offers beside CPU, memory and places. Everything absent is a machine of the releases before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct NodeOffer {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// Disk for what instances write. Not counted when absent: whatever is asked fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Stock>,
    /// Its GPUs.
    #[serde(default)]
    pub gpus: Gpus,
    /// How many instances its range has addresses for; as many as it has places when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<u32>,
    /// The tenant that has it alone: from the first instance with [`Demand::dedicated`](crate::Demand) on until it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sole_tenant: Option<TenantId>,
    /// How much more than it has it hands out.
    #[serde(default)]
    pub overcommit: Overcommit,
}

/// All instances of one tenant that carry one label, as a number: equal for equal tenant, key and value. Two labels of one
/// tenant may share a number (one pair in 2^64); the labels of two tenants never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group {
    /// Whose.
    pub tenant: TenantId,
    /// Which label.
    pub label: u64,
}

impl Group {
    /// Those of `tenant` that carry `key` with `value`.
    pub fn of(tenant: TenantId, key: &str, value: &str) -> Self {
        Self { tenant, label: number_of([key.as_bytes(), value.as_bytes()]) }
    }
}

/// An image, or a layer of one, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageKey(pub u64);

impl ImageKey {
    /// The one of this name: a digest, or a reference.
    pub fn of(name: &str) -> Self {
        Self(number_of([name.as_bytes()]))
    }
}

/// FNV-1a over the parts with their lengths: the same in every release, so it may be kept.
fn number_of<const PARTS: usize>(parts: [&[u8]; PARTS]) -> u64 {
    let lengths = parts.map(|part| (part.len() as u64).to_le_bytes());
    let bytes = parts.iter().zip(&lengths).flat_map(|(part, length)| length.iter().chain(part.iter()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Over what a group is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpreadOver {
    /// Machines.
    Nodes,
    /// Zones. Machines without one are one zone together.
    Zones,
}

/// The group's members are counted on each machine (in each zone) that is ready and of the kind asked for. Where the
/// instance goes there are then at most `max_skew` more than where there are fewest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Spread {
    /// Who is counted.
    pub group: Group,
    /// Where.
    pub over: SpreadOver,
    /// At least 1.
    pub max_skew: u32,
}

/// A port of the machine itself that leads to an instance: one instance of a machine has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Which.
    pub port: u16,
}

/// What an instance asks about the other instances on its machine, and what they may ask about it. Empty: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// The groups that it belongs to: one for each of its labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// Only a machine with a member of each. The first member of a group that has none yet goes anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<Group>,
    /// Only a machine without a member of any; and no member comes to it later.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<Group>,
    /// Evenly, group by group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<Spread>,
    /// Ports of the machine that it takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<HostPort>,
    /// Its images: rather a machine that has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageKey>,
    /// When it is expected to end. Rather a machine that empties about then.
    #[serde(skip_serializing_if = "Departure::is_unknown")]
    pub departs: Departure,
}

/// When an instance is expected to end, as what it would cost: for each departure class of a machine (0: not known or empty, then
/// the sooner the less) how badly the two suit each other, the least first. All zeros where nothing is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Departure(pub [u8; Departure::CLASSES]);

impl Departure {
    /// How many classes there are.
    pub const CLASSES: usize = 16;

    /// How badly it suits a machine of this class; a class beyond the last counts as the last.
    pub fn gap(&self, class: u8) -> u8 {
        self.0[usize::from(class).min(Self::CLASSES - 1)]
    }

    /// Whether nothing is expected.
    pub fn is_unknown(&self) -> bool {
        self.0 == [0; Self::CLASSES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(permille: u16) -> GpuDemand {
        GpuDemand { amount: GpuAmount::Share(permille), model: None, devices: DeviceSet::default() }
    }

    #[test]
    fn a_share_fills_the_fullest_gpu_and_whole_ones_stay_whole() {
        let mut gpus = Gpus { count: 3, ..Gpus::default() };
        gpus.used_permille[1] = 600;
        assert_eq!(gpus.choose(&share(400)).unwrap().bits(), 0b010);
        assert_eq!(gpus.choose(&share(401)).unwrap().bits(), 0b001);
        let whole = |count| GpuDemand { amount: GpuAmount::Whole(count), ..share(1) };
        let pair = GpuDemand { devices: gpus.choose(&whole(2)).unwrap(), ..whole(2) };
        assert_eq!(pair.devices.bits(), 0b101);
        assert_eq!((gpus.choose(&whole(3)), gpus.choose(&whole(0))), (None, None));
        gpus.take(&pair, pair.devices);
        assert_eq!((gpus.unused(), gpus.choose(&share(401))), (0, None));
        assert!(gpus.give_back(&pair));
        assert!(!gpus.give_back(&pair));
        assert_eq!(gpus.unused(), 2);
        let other = GpuDemand { model: Some("nvidia-a100".parse().unwrap()), ..whole(1) };
        assert_eq!(gpus.choose(&other), None);
    }

    #[test]
    fn room_is_where_the_devices_are_there_and_have_it_left() {
        let offer = GpuOffer { model: Some("nvidia-a100".parse().unwrap()), count: 2 };
        let mut used = [0; Gpus::MOST];
        used[1] = 600;
        let gpus = offer.used(used);
        let on = |bits, asked: GpuDemand| gpus.has_room(&GpuDemand { devices: DeviceSet::from_bits(bits), ..asked });
        let whole = |count| GpuDemand::new(GpuAmount::Whole(count));
        assert!(on(0b01, whole(1)) && on(0b10, share(400)) && on(0b01, GpuDemand { model: offer.model, ..whole(1) }));
        for (bits, asked) in [
            (0b00, whole(1)),
            (0b10, whole(1)),
            (0b11, whole(2)),
            (0b11, whole(1)),
            (0b100, whole(1)),
            (0b10, share(401)),
            (0b11, share(100)),
            (0b01, GpuDemand { model: Some("other".parse().unwrap()), ..whole(1) }),
        ] {
            assert!(!on(bits, asked), "{bits:b} {asked:?}");
        }
        assert_eq!(GpuOffer { count: 200, ..offer }.used(used).count, Gpus::MOST_COUNT);
    }

    #[test]
    fn a_short_name_is_a_text_on_the_wire() {
        let zone: ZoneName = "rack-7".parse().unwrap();
        assert_eq!(serde_json::to_string(&zone).unwrap(), "\"rack-7\"");
        assert_eq!(serde_json::from_str::<ZoneName>("\"rack-7\"").unwrap(), zone);
        let longest = "a".repeat(ZoneName::MAX_BYTES);
        assert_eq!(longest.parse::<ZoneName>().unwrap().to_string(), longest);
        for wrong in ["", "-a", "a-", "A", "a b", &"a".repeat(32)] {
            assert!(wrong.parse::<ZoneName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_group_is_a_tenant_a_key_and_a_value() {
        let [one, other] = [1, 2].map(|number| TenantId::from_uuid(uuid::Uuid::from_u128(number)));
        assert_eq!(Group::of(one, "app", "web"), Group::of(one, "app", "web"));
        for different in [Group::of(other, "app", "web"), Group::of(one, "ap", "pweb"), Group::of(one, "app", "we")] {
            assert_ne!(Group::of(one, "app", "web"), different);
        }
    }

    #[test]
    fn what_is_absent_is_a_machine_of_the_release_before() {
        assert_eq!(serde_json::from_str::<NodeOffer>("{}").unwrap(), NodeOffer::default());
        assert_eq!(serde_json::from_str::<Terms>("{}").unwrap(), Terms::default());
        assert_eq!(serde_json::to_string(&Terms::default()).unwrap(), "{}");
    }
}
