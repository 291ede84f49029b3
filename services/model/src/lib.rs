//! The pure core of Wherry: what an instance is and how it may change.
//!
//! Nothing here reads a clock, draws a random number, waits or does I/O. Time comes in through [`Clock`], randomness
//! through [`Entropy`]; both are passed to the code that needs them, so a test can replay any run.
//!
//! The two functions that move an instance are [`lifecycle::intend`] (what a user asked) and [`lifecycle::observe`]
//! (what an agent saw). Everything else in the workspace carries their results from one place to another.

mod fact;
mod fleet;
mod id;
mod instance;
mod isolation;
pub mod lifecycle;
mod money;
mod name;
mod principal;
mod quantity;
mod reference;
pub mod sequence;
mod spec;
mod terms;
mod time;

pub use fact::{ContainerExit, Fact, Observation};
pub use fleet::{Architecture, Capacity, Demand, Drain, DrainThen, NodeRecord, NodeState};
pub use id::{
    ApiKeyId, AuditId, BootId, DeliveryId, Entropy, InstanceId, JournalId, NodeId, ProjectId, ReplicaId, TenantId,
    TokenId, WebhookId,
};
pub use instance::{
    Action, ContainerRun, ContainerStatus, EndReason, Event, EventKind, FinishedRun, Generation, Instance,
    InstanceState, Intent, Leaving, Meter, Revision, Timetable,
};
pub use isolation::{Isolation, IsolationSet};
pub use money::{PicoAmount, PriceBook};
pub use name::{
    ContainerName, DnsLabel, InstanceName, NameError, PortName, ProjectName, TenantName, VolumeName, WebhookName,
};
pub use principal::{Principal, Scope, ScopeError, ScopeSet, Subject};
pub use quantity::{CpuMillis, MemoryMib, QuantityError, Seconds};
pub use reference::{Digest, ImageReference, ReferenceError};
pub use spec::{
    Check, Condition, ContainerKind, ContainerSpec, Dependency, DnsReuseScope, DnsSettings, EnvVar, Header, Hooks,
    HostAlias, InstanceSpec, LabelMatch, Limits, Medium, OnNodeLoss, OnOverlap, PlacementRules, Port, Priority, Probe,
    Probes, Protocol, PullPolicy, RegistryCredential, RestartPolicy, Schedule, Sealed, SecretText, SpecError,
    SpreadRule, Volume, VolumeMount, VolumeSource,
};
pub use terms::{
    Departure, DeviceSet, GpuAmount, GpuDemand, GpuModel, GpuOffer, Gpus, Group, HostPort, ImageKey, NodeOffer,
    Overcommit, Spread, SpreadOver, Stock, Terms, ZoneName,
};
pub use time::{Clock, Timestamp};
