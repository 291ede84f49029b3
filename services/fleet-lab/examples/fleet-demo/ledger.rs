//! What the service has acknowledged, and between which moments each thing ran as seen from outside: what its answers and its
//! bills are held against.

use anyhow::{Context, Result};
use wherry_api_types::{ContainerSpec, Instance, InstanceCreate, OnNodeLoss, Port, Protocol};

use crate::clock;

/// What an instance asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) cpu_millis: i64,
    pub(crate) memory_mib: i64,
}

/// Something that happened not before the first and not after the second moment, in seconds of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Between(pub(crate) i64, pub(crate) i64);

impl Between {
    pub(crate) const fn holds(self, second: i64) -> bool {
        self.0 <= second && second <= self.1
    }
}

/// One time that it ran.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) began: Between,
    /// Absent while it runs.
    pub(crate) ended: Option<Between>,
}

impl Span {
    /// What begins and ends in the same second has used nothing and is not billed.
    pub(crate) fn may_be_empty(&self) -> bool {
        self.ended.is_some_and(|ended| ended.0 <= self.began.1)
    }
}

/// An instance that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) size: Size,
    pub(crate) on_node_loss: OnNodeLoss,
    pub(crate) idempotency_key: String,
    pub(crate) body: InstanceCreate,
    /// Nothing of it can have run earlier.
    pub(crate) asked_at: i64,
    pub(crate) spans: Vec<Span>,
}

impl Record {
    /// It runs now; nothing of this span can have begun before `earliest`.
    pub(crate) fn runs_since(&mut self, earliest: i64) {
        self.spans.push(Span { began: Between(earliest, clock::now()), ended: None });
    }

    /// Its present span has ended, not before `earliest`.
    pub(crate) fn ended(&mut self, between: Between) -> Result<()> {
        let span = self.spans.last_mut().with_context(|| format!("{} never ran", self.name))?;
        span.ended = Some(between);
        Ok(())
    }
}

/// Everything that was acknowledged, in order.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) records: Vec<Record>,
}

impl Ledger {
    pub(crate) fn record(&mut self, id: &str) -> Result<&mut Record> {
        let found = self.records.iter_mut().find(|record| record.id == id);
        found.with_context(|| format!("{id} was never acknowledged"))
    }

    pub(crate) fn named(&self, name: &str) -> Result<&Record> {
        self.records.iter().find(|record| record.name == name).with_context(|| format!("{name} was never acknowledged"))
    }
}

/// A create that is not sent yet.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) size: Size,
    pub(crate) body: InstanceCreate,
    pub(crate) idempotency_key: String,
}

impl Order {
    pub(crate) fn new(name: &str, image: &str, size: Size, on_node_loss: OnNodeLoss, command: &[&str]) -> Self {
        let container = ContainerSpec {
            image: image.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            cpu: Some(format!("{}m", size.cpu_millis)),
            memory: Some(format!("{}Mi", size.memory_mib)),
            ports: vec![Port::new(80, Protocol::Tcp)],
            ..ContainerSpec::default()
        };
        let body = InstanceCreate {
            name: Some(name.to_owned()),
            containers: vec![container],
            on_node_loss: Some(on_node_loss),
            ..InstanceCreate::default()
        };
        Self { size, body, idempotency_key: format!("fleet-demo-{name}") }
    }

    /// It was acknowledged; it had been asked for at `asked_at`.
    pub(crate) fn acknowledged(self, instance: &Instance, asked_at: i64) -> Record {
        let Self { size, body, idempotency_key } = self;
        Record {
            id: instance.id.clone(),
            name: instance.name.clone(),
            size,
            on_node_loss: body.on_node_loss.unwrap_or_default(),
            idempotency_key,
            body,
            asked_at,
            spans: Vec::new(),
        }
    }
}
