//! The network between agents and replicas: delays, loses, doubles, reorders, and is cut, in one direction or both.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use wherry_agent_api::{
    Ack, ControlError, ControlPlane, Desired, Enrolment, Heartbeat, NodeHello, PROTOCOL, Report, Surroundings, Welcome,
};
use wherry_control::Control;
use wherry_model::{NodeId, NodeRecord};

use super::dice::Dice;
use super::grip::Grip;
use super::oracle::Oracle;
use super::replica::Replica;

/// A direction of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Up,
    Down,
}

/// All lines.
pub(super) struct Network {
    pub(super) replicas: Vec<Arc<Replica>>,
    dice: Dice,
    /// (machine, replica, way) → until when nothing passes.
    cuts: Mutex<BTreeMap<(usize, usize, Way), Instant>>,
    /// Machine → until when no report passes, whatever else does.
    stalls: Mutex<BTreeMap<usize, Instant>>,
    /// Messages of a thousand that are lost, and as many that arrive twice.
    lossy: AtomicU32,
    calm: AtomicBool,
    /// Some machine is kept away until it is lost: one at a time, or they would close each other's way back.
    pub(super) keeps_away: AtomicBool,
}

impl Network {
    pub(super) fn new(replicas: Vec<Arc<Replica>>, dice: Dice, lossy: u32) -> Self {
        let (lossy, calm) = (AtomicU32::new(lossy), AtomicBool::new(false));
        Self {
            replicas,
            dice,
            cuts: Mutex::default(),
            stalls: Mutex::default(),
            lossy,
            calm,
            keeps_away: AtomicBool::new(false),
        }
    }

    pub(super) fn cut(&self, machine: usize, replica: usize, way: Way, time: Duration) {
        if self.calm.load(Ordering::SeqCst) {
            return;
        }
        let until = Instant::now() + time;
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).insert((machine, replica, way), until);
    }

    /// The stream of the machine's reports stalls.
    pub(super) fn stall_reports(&self, machine: usize, time: Duration) {
        if self.calm.load(Ordering::SeqCst) {
            return;
        }
        let until = Instant::now() + time;
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner).insert(machine, until);
    }

    fn reports_stall(&self, machine: usize) -> bool {
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        stalls.get(&machine).is_some_and(|until| *until > Instant::now())
    }

    /// Nothing goes wrong any more.
    pub(super) fn heal(&self) {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.calm.store(true, Ordering::SeqCst);
    }

    fn passes(&self, machine: usize, replica: usize, way: Way) -> bool {
        let cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        cuts.get(&(machine, replica, way)).is_none_or(|until| *until <= Instant::now())
    }

    fn loses(&self) -> bool {
        !self.calm.load(Ordering::SeqCst) && self.dice.happens(self.lossy.load(Ordering::SeqCst))
    }

    async fn travel(&self) {
        if self.calm.load(Ordering::SeqCst) {
            return;
        }
        let longest = if self.dice.happens(20) { 3_000 } else { 30 };
        sleep(self.dice.millis(0..longest)).await;
    }
}

/// One machine's line to the control plane.
pub(super) struct Link {
    network: Arc<Network>,
    machine: usize,
    oracle: Arc<Oracle>,
    /// The replica that it talks to; the next one after a failure.
    towards: AtomicUsize,
    frozen: watch::Sender<bool>,
    grip: Arc<Grip>,
    /// Who its certificate says that it is.
    node: NodeId,
    /// The version of the contract that its agent speaks: the present one, or 1, which knows no leases, no epochs and no fence.
    protocol: AtomicU32,
}

type Delivery<T> = dyn Fn(Control) -> BoxFuture<'static, Result<T, ControlError>> + Send + Sync;

impl Link {
    pub(super) fn new(
        network: Arc<Network>,
        machine: usize,
        node: NodeId,
        grip: Arc<Grip>,
        oracle: Arc<Oracle>,
    ) -> Self {
        let towards = AtomicUsize::new(machine);
        Self {
            network,
            machine,
            oracle,
            towards,
            frozen: watch::channel(false).0,
            grip,
            node,
            protocol: AtomicU32::new(PROTOCOL),
        }
    }

    /// The agent that begins next is of this version.
    pub(super) fn set_protocol(&self, protocol: u32) {
        self.protocol.store(protocol, Ordering::SeqCst);
    }

    pub(super) fn protocol(&self) -> u32 {
        self.protocol.load(Ordering::SeqCst)
    }

    fn knows_leases(&self) -> bool {
        self.protocol() >= NodeRecord::PROTOCOL_OF_LEASES
    }

    /// While frozen the agent neither sends nor hears: it is stopped.
    pub(super) fn set_frozen(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    async fn thawed(&self) {
        drop(self.frozen.subscribe().wait_for(|frozen| !frozen).await);
    }

    async fn call<T: Send + 'static>(&self, delivery: Arc<Delivery<T>>) -> Result<T, ControlError> {
        self.thawed().await;
        self.grip.waits().await;
        let outcome = self.attempt(delivery).await;
        if outcome.is_err() {
            self.towards.fetch_add(1, Ordering::SeqCst);
        }
        self.thawed().await;
        self.grip.waits().await;
        outcome
    }

    async fn attempt<T: Send + 'static>(&self, delivery: Arc<Delivery<T>>) -> Result<T, ControlError> {
        let network = &self.network;
        let replica = self.towards.load(Ordering::SeqCst) % network.replicas.len();
        let lost = |what: &str| ControlError::Unavailable(what.to_owned());
        network.travel().await;
        if !network.passes(self.machine, replica, Way::Up) || network.loses() {
            sleep(network.dice.millis(100..20_000)).await;
            return Err(lost("the question was lost"));
        }
        if network.loses() {
            // It arrives once more, later, at whichever replica: after others that were sent after it.
            let (network, again) = (Arc::clone(network), Arc::clone(&delivery));
            let elsewhere = network.dice.index(network.replicas.len());
            tokio::spawn(async move {
                sleep(network.dice.millis(0..12_000)).await;
                if let Some((control, _)) = network.replicas.get(elsewhere).and_then(|replica| replica.control()) {
                    drop(again(control).await);
                }
            });
        }
        let process = network.replicas.get(replica);
        let Some((control, mut dies)) = process.and_then(|replica| replica.control()) else {
            return Err(lost("the replica does not answer"));
        };
        let (process, node) = (process.cloned(), self.node);
        let work = async move {
            if let Some(process) = &process {
                process.thawed().await;
            }
            // As the agents' port does for each connection.
            let answer = match control.is_enrolled(node).await {
                Ok(true) => delivery(control).await,
                Ok(false) => Err(ControlError::Forbidden("it is not enrolled".to_owned())),
                Err(error) => Err(error),
            };
            if let Some(process) = &process {
                process.thawed().await;
            }
            answer
        };
        // A server may go on with a question whose asker hung up, or drop it.
        let work: BoxFuture<'static, Result<T, ControlError>> = if network.dice.happens(300) {
            let task = tokio::spawn(work);
            Box::pin(async move {
                task.await.unwrap_or_else(|_| Err(ControlError::Unavailable("the world has ended".to_owned())))
            })
        } else {
            Box::pin(work)
        };
        let answer = tokio::select! {
            biased;
            _ = dies.wait_for(|dead| *dead) => return Err(lost("the replica died")),
            answer = work => answer,
        };
        if !network.passes(self.machine, replica, Way::Down) || network.loses() {
            sleep(network.dice.millis(100..20_000)).await;
            return Err(lost("the answer was lost"));
        }
        network.travel().await;
        answer
    }
}

macro_rules! deliver {
    ($link:ident, $control:ident, $($value:ident),* => $call:expr) => {
        $link.call(Arc::new(move |$control: Control| {
            $(let $value = $value.clone();)*
            Box::pin(async move { $call.await })
        }))
        .await
    };
}

#[async_trait]
impl ControlPlane for Link {
    async fn hello(&self, hello: NodeHello) -> Result<Welcome, ControlError> {
        let hello = NodeHello { protocol: self.protocol(), ..hello };
        deliver!(self, control, hello => control.hello(hello))
    }

    async fn desired(&self, node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        let protocol = self.protocol();
        let introduced = deliver!(self, control, node, protocol => control.is_introduced(node, protocol));
        introduced?;
        let mut desired = deliver!(self, control, node, have => control.desired(node, have))?;
        self.oracle.machine_is_told(self.machine);
        if let Some(desired) = desired.as_mut().filter(|_| !self.knows_leases()) {
            desired.instances.iter_mut().for_each(|instance| instance.fence_after_seconds = None);
        }
        Ok(desired)
    }

    async fn report(&self, report: Report) -> Result<Ack, ControlError> {
        if self.network.reports_stall(self.machine) {
            sleep(self.network.dice.millis(100..5_000)).await;
            return Err(ControlError::Unavailable("the report was lost".to_owned()));
        }
        deliver!(self, control, report => control.report(report))
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError> {
        if self.knows_leases() {
            return deliver!(self, control, heartbeat => control.heartbeat(heartbeat));
        }
        let heartbeat = Heartbeat { epoch: 0, ..heartbeat };
        match deliver!(self, control, heartbeat => control.heartbeat(heartbeat)) {
            Err(ControlError::Fenced { .. }) => Err(ControlError::Unavailable("it cannot be read".to_owned())),
            answer => answer,
        }
    }

    async fn surroundings(&self, node: NodeId, have: Option<u64>) -> Result<Option<Surroundings>, ControlError> {
        deliver!(self, control, node, have => control.surroundings(node, have))
    }
}
