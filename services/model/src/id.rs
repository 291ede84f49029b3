//! Typed ids. Each noun has its own type, so a node's id cannot be passed where an instance's is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::{Clock, Timestamp};

/// Where randomness comes from. Production asks the operating system; tests hand in a seeded generator.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with unpredictable values.
    fn fill(&self, bytes: &mut [u8]);
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id (UUIDv7, RFC 9562): ordered by creation time, unpredictable in its other 74 bits.
            pub fn generate(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
                Self(time_ordered_uuid(clock.now(), entropy))
            }

            /// Wraps an id that was stored or received.
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The bare UUID, for storing and sending.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

typed_id!(
    /// Who is billed and isolated.
    TenantId
);
typed_id!(
    /// A tenant's folder of instances.
    ProjectId
);
typed_id!(
    /// One instance, for ever: a later instance of the same name has another id.
    InstanceId
);
typed_id!(
    /// A machine of the hidden fleet.
    NodeId
);
typed_id!(
    /// An API key; public, the secret is not part of it.
    ApiKeyId
);
typed_id!(
    /// An agent's journal; a node whose journal was lost begins another with a new id.
    JournalId
);
typed_id!(
    /// A process that answers for the control plane, new at each start.
    ReplicaId
);
typed_id!(
    /// A join token; public, the secret is not part of it.
    TokenId
);
typed_id!(
    /// One entry of the record of who entered an instance.
    AuditId
);
typed_id!(
    /// Where a project's events are told.
    WebhookId
);
typed_id!(
    /// One telling of one event.
    DeliveryId
);
typed_id!(
    /// One boot of one machine, as the kernel names it.
    BootId
);

fn time_ordered_uuid(now: Timestamp, entropy: &dyn Entropy) -> Uuid {
    let mut random = [0_u8; 10];
    entropy.fill(&mut random);
    let millis = u64::try_from(now.as_micros().div_euclid(1_000)).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(i64);
    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0)
        }
    }
    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0xAB);
        }
    }

    #[test]
    fn ids_are_version_7_and_ordered_by_time() {
        let early = InstanceId::generate(&Fixed(1_000_000), &Fixed(0));
        let late = InstanceId::generate(&Fixed(2_000_000), &Fixed(0));
        assert_eq!(early.as_uuid().get_version_num(), 7);
        assert!(early < late);
        assert_eq!(early.to_string().parse::<InstanceId>().unwrap(), early);
    }
}
