//! The public API `/v1` on the wire: requests, answers, errors, each with its OpenAPI schema.
//!
//! These types are a promise to clients, so they stand apart from the model: the server converts between the two in one
//! place, and a change of the model cannot change the API by accident. Requests refuse unknown fields; answers may grow
//! fields, so clients ignore what they do not know. Quantities are texts in the Kubernetes syntax, amounts of money
//! decimal texts, times RFC 3339.

mod event;
mod exec;
mod fleet;
mod instance;
mod number;
mod problem;
mod room;
mod session;
mod spec;
mod state;
mod stats;
mod tenant;
pub mod text;
mod token;
mod usage;
mod webhook;

pub use event::{Event, EventMessage};
pub use exec::{DEFAULT_EXEC_TIMEOUT_SECONDS, ExecRequest, ExecResult, MAX_EXEC_TIMEOUT_SECONDS, OutputEncoding};
pub use fleet::{
    DEFAULT_JOIN_TOKEN_TTL_SECONDS, Fleet, FleetEvent, FleetEventMessage, FleetGpus, JoinTokenCreate, JoinTokenCreated,
    Node, NodeCapacity, NodeCounts, NodeDisk, NodeDrain, NodeDrainRequest, NodeGpus, NodeList, Overcommit, Packing,
    Replica, ReplicaList, SecretsResealed,
};
pub use instance::{
    Container, ContainerRestart, ContainerRun, Cost, DryRun, FinishedRun, Instance, InstanceList, Progress, Updated,
    Waited, WaitingRun,
};
pub use problem::{PROBLEM_MEDIA_TYPE, Problem};
pub use room::{
    Candidate, ExpectedLife, Explanation, Move, NodesToAdd, PlacedOn, RefusedBy, Room, ScorePart, ShapeRoom, WhatIf,
    WhatIfAnswer,
};
pub use session::{
    AuditEntry, AuditKind, AuditList, AuditState, BEARER_PROTOCOL, Channel, MAX_SESSION_MESSAGE_BYTES,
    SESSION_PROTOCOL, SessionCommand, SessionEnd, TerminalSize,
};
pub use spec::{
    Condition, ConfigVolume, ContainerSpec, DEFAULT_CONTAINER_NAME, DEFAULT_CPU, DEFAULT_MEMORY,
    DEFAULT_STARTING_DEADLINE_SECONDS, DEFAULT_STOP_GRACE_SECONDS, Dependency, DnsSettings, EmptyDirVolume, EnvVar,
    ExecCheck, GitVolume, Gpu, Hook, HostAlias, HttpCheck, HttpHeader, HttpScheme, InstanceCreate, InstancePatch,
    InstanceSpec, MAX_SECRET_CHARACTERS, Medium, OnOverlap, Placement, Port, Priority, Probe, PullPolicy,
    RegistryCredential, ResourceLimits, Schedule, SchedulePatch, SecretText, SecretVolume, Spread, SpreadOver,
    TcpCheck, Volume, VolumeMount,
};
pub use state::{
    Architecture, ContainerState, DnsReuseScope, DrainThen, EndReason, EventKind, FleetEventKind, InstanceState,
    Isolation, MeterKind, NodeState, OnNodeLoss, Protocol, RestartPolicy, Scope, WaitState,
};
pub use stats::{ContainerStats, InstanceStats, InstanceStatsList, NetworkStats};
pub use tenant::{
    Key, KeyCreate, KeyCreated, KeyList, Project, ProjectCreate, ProjectList, Tenant, TenantCreate, TenantList,
};
pub use token::{
    AuthorizationServer, GrantType, JsonWebKey, JsonWebKeySet, TokenError, TokenErrorCode, TokenRequest, TokenResponse,
};
pub use usage::{Resource, Usage, UsageLine, UsageUnit};
pub use webhook::{
    CloudEvent, CloudEventData, Delivery, DeliveryList, DeliveryState, INSTANCE_EVENT_TYPE, Webhook, WebhookCreate,
    WebhookDisabledReason, WebhookList, WebhookPatch, WebhookSpec, WebhookWithSecret,
};
