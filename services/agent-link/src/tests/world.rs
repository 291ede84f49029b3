//! An authority, a control plane that writes down what it is told, replicas of it on loopback, and machines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{
    Ack, Applicant, Call, CallBoard, ControlError, ControlPlane, Desired, Enrolled, Enrolment, Heartbeat, NodeHello,
    Report, Surroundings, Welcome,
};
use wherry_model::{BootId, Clock, Entropy, NodeId, Timestamp};

use crate::client::{Live, dial, request};
use crate::wire::{GENERATION_HEADER, INSTANCE_HEADER, path};
use crate::{
    AgentPort, AgentPortSettings, Authority, DialBack, Identity, IdentityError, JoinOrder, LinkClient, LinkSettings,
    Lives, NodeCredential, Services, tls,
};

/// How long anything may take that must happen.
pub(super) const SOON: Duration = Duration::from_mins(1);

/// Stands at noon of some day and moves when told.
pub(super) struct Hands(AtomicU64);

impl Hands {
    pub(super) fn at(&self, seconds: u64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_790_000_000 + i64::try_from(self.0.load(Ordering::SeqCst)).unwrap())
    }
}

pub(super) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.fetch_add(151, Ordering::Relaxed).to_le_bytes()[0];
        }
        self.0.fetch_add(7_919, Ordering::Relaxed);
    }
}

pub(super) fn node(number: u128) -> NodeId {
    NodeId::from_uuid(uuid::Uuid::from_u128(number))
}

/// The token that makes node `number`.
pub(super) fn token(number: u128) -> String {
    format!("wjt_{number}_secret")
}

pub(super) fn heartbeat(of: NodeId, epoch: u64) -> Heartbeat {
    let boot = BootId::from_uuid(uuid::Uuid::from_u128(5));
    Heartbeat { node: of, boot, epoch, at: Timestamp::from_seconds(3), running: Vec::new(), pulls: Vec::new() }
}

/// A control plane that writes down what it is told.
pub(super) struct Control {
    pub(super) heartbeats: Mutex<Vec<Heartbeat>>,
    pub(super) hellos: Mutex<Vec<NodeHello>>,
    pub(super) reports: Mutex<Vec<Report>>,
    pub(super) desired: watch::Sender<Desired>,
    pub(super) endpoints: Mutex<Vec<String>>,
    pub(super) removed: Mutex<BTreeSet<NodeId>>,
    /// Nodes of which nothing is on record, as in a store that was put back.
    pub(super) unknown: Mutex<BTreeSet<NodeId>>,
    /// Keys that tokens were used with.
    pub(super) used: Mutex<BTreeMap<String, BTreeSet<[u8; 32]>>>,
    /// Calls that wait, and how many there were.
    pub(super) calls: Mutex<Vec<Call>>,
    called: watch::Sender<u64>,
    /// So many calls are lost after they were posted.
    pub(super) lose_calls: AtomicU64,
    /// Done when it is asked whether a node is enrolled.
    pub(super) when_asked: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

#[async_trait]
impl ControlPlane for Control {
    async fn hello(&self, hello: NodeHello) -> Result<Welcome, ControlError> {
        self.hellos.lock().unwrap().push(hello);
        Ok(Welcome { endpoints: self.endpoints.lock().unwrap().clone() })
    }
    async fn desired(&self, _node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        let mut desired = self.desired.subscribe();
        let newer = desired.wait_for(|desired| have.is_none_or(|have| desired.revision > have)).await;
        Ok(Some(newer.unwrap().clone()))
    }
    async fn report(&self, report: Report) -> Result<Ack, ControlError> {
        let through = report.observations.last().map_or(0, |observation| observation.seq);
        self.reports.lock().unwrap().push(report);
        Ok(Ack { through })
    }
    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError> {
        if heartbeat.epoch == 9 {
            return Err(ControlError::Fenced { epoch: 10 });
        }
        self.heartbeats.lock().unwrap().push(heartbeat);
        Ok(())
    }
    async fn surroundings(&self, _node: NodeId, _have: Option<u64>) -> Result<Option<Surroundings>, ControlError> {
        Ok(None)
    }
}

#[async_trait]
impl CallBoard for Control {
    async fn post_call(&self, call: Call) -> Result<(), ControlError> {
        let lost = self.lose_calls.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if lost.is_ok() {
            return Ok(());
        }
        self.calls.lock().unwrap().push(call);
        self.called.send_modify(|count| *count += 1);
        Ok(())
    }
    async fn calls(&self, node: NodeId) -> Result<Vec<Call>, ControlError> {
        let mut called = self.called.subscribe();
        loop {
            let mine: Vec<Call> = self.calls.lock().unwrap().extract_if(.., |call| call.node == node).collect();
            if !mine.is_empty() {
                return Ok(mine);
            }
            if tokio::time::timeout(Duration::from_secs(1), called.changed()).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }
}

#[async_trait]
impl Enrolment for Control {
    async fn enrol(&self, applicant: Applicant) -> Result<Enrolled, ControlError> {
        let refused = || ControlError::Forbidden("the join token is wrong".to_owned());
        let number = applicant.token.strip_prefix("wjt_").and_then(|rest| rest.strip_suffix("_secret"));
        let number: u8 = number.and_then(|number| number.parse().ok()).ok_or_else(refused)?;
        let mut used = self.used.lock().unwrap();
        let keys = used.entry(applicant.token).or_default();
        keys.insert(applicant.public_key);
        if keys.len() > 1 {
            return Err(refused());
        }
        let range = (Ipv4Addr::new(10, 128, number, 0), 24);
        Ok(Enrolled { node: node(number.into()), range, apex: "local.test".to_owned() })
    }
    async fn is_enrolled(&self, node: NodeId) -> Result<bool, ControlError> {
        if let Some(action) = self.when_asked.lock().unwrap().as_mut() {
            action();
        }
        Ok(!self.removed.lock().unwrap().contains(&node) && !self.unknown.lock().unwrap().contains(&node))
    }
    async fn is_removed(&self, node: NodeId) -> Result<bool, ControlError> {
        Ok(self.removed.lock().unwrap().contains(&node))
    }
}

/// What all replicas share.
pub(super) struct World {
    pub(super) control: Arc<Control>,
    pub(super) clock: Arc<Hands>,
    pub(super) entropy: Arc<Counting>,
    pub(super) authority: Arc<Authority>,
    keys: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|keys, clock, entropy| Authority::open_or_create(keys, Lives::default(), clock, entropy).unwrap())
    }

    pub(super) fn with(open: impl Fn(&Path, Arc<dyn Clock>, Arc<dyn Entropy>) -> Authority) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let (clock, entropy) = (Arc::new(Hands(AtomicU64::new(0))), Arc::new(Counting(AtomicU64::new(1))));
        let control = Control {
            heartbeats: Mutex::default(),
            hellos: Mutex::default(),
            reports: Mutex::default(),
            desired: watch::Sender::new(Desired { revision: 7, epoch: 1, instances: Vec::new(), kept: Vec::new() }),
            endpoints: Mutex::default(),
            removed: Mutex::default(),
            unknown: Mutex::default(),
            used: Mutex::default(),
            calls: Mutex::default(),
            called: watch::Sender::new(0),
            lose_calls: AtomicU64::new(0),
            when_asked: Mutex::default(),
        };
        let authority = Arc::new(open(keys.path(), clock.clone(), entropy.clone()));
        Self { control: Arc::new(control), clock, entropy, authority, keys }
    }

    pub(super) fn keys(&self) -> &Path {
        self.keys.path()
    }

    /// One more replica of the control plane.
    pub(super) async fn replica(&self) -> Replica {
        self.replica_with(AgentPortSettings::default()).await
    }

    pub(super) async fn replica_with(&self, settings: AgentPortSettings) -> Replica {
        self.replica_at(TcpListener::bind("127.0.0.1:0").await.unwrap(), settings)
    }

    pub(super) fn replica_at(&self, listener: TcpListener, settings: AgentPortSettings) -> Replica {
        let url = format!("https://{}", listener.local_addr().unwrap());
        let control = self.control.clone();
        let dial_back = DialBack::new(control.clone(), url.clone(), self.clock.clone(), self.entropy.clone());
        let services = Services {
            control: control.clone(),
            board: control.clone(),
            dial_back: dial_back.clone(),
            enrolment: control,
        };
        let shutdown = CancellationToken::new();
        let port = AgentPort::new(services, self.authority.clone(), settings, self.clock.clone(), shutdown.clone());
        let port = Arc::new(port.unwrap());
        let serving = port.clone();
        let served = tokio::spawn(async move { serving.serve(listener).await });
        Replica { url, dial_back, port, shutdown, served }
    }

    pub(super) fn order(&self, url: &str, token: &str) -> JoinOrder {
        let ca_fingerprint = self.authority.fingerprint();
        JoinOrder { endpoint: url.to_owned(), token: token.to_owned(), ca_fingerprint, name: "one".to_owned() }
    }

    pub(super) async fn join(&self, folder: &Path, order: JoinOrder) -> Result<Identity, IdentityError> {
        Identity::join(folder, order, self.clock.clone(), self.entropy.clone()).await
    }

    /// A machine that has joined as node `number`.
    pub(super) async fn machine(&self, replica: &Replica, number: u128) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let identity = self.join(folder.path(), self.order(&replica.url, &token(number))).await.unwrap();
        Machine { identity: Arc::new(identity), folder }
    }

    pub(super) fn link(&self, machine: &Machine) -> Arc<LinkClient> {
        self.link_with(machine, LinkSettings::default())
    }

    pub(super) fn link_with(&self, machine: &Machine, settings: LinkSettings) -> Arc<LinkClient> {
        machine.identity.link(settings, self.clock.clone(), self.entropy.clone()).unwrap()
    }

    /// A bare connection as the node of `credential`.
    pub(super) async fn dial_as(&self, replica: &Replica, credential: &NodeCredential) -> Live {
        let shown = Arc::new(tls::Credential::new(credential.certified_key()));
        let config = tls::client_config(credential.anchor(), shown, self.clock.clone()).unwrap();
        dial(&replica.url.parse().unwrap(), config, &LinkSettings::default()).await.unwrap()
    }
}

/// One replica.
pub(super) struct Replica {
    pub(super) url: String,
    pub(super) dial_back: Arc<DialBack>,
    pub(super) port: Arc<AgentPort>,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Replica {
    pub(super) async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(SOON, self.served).await.expect("the port ends").unwrap();
    }
}

/// A line to a replica that can be cut.
pub(super) struct Line {
    pub(super) url: String,
    cut: Arc<Mutex<CancellationToken>>,
    _accepting: tokio_util::sync::DropGuard,
}

impl Line {
    pub(super) async fn to(replica: &Replica) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let target = replica.url.strip_prefix("https://").unwrap().to_owned();
        let cut = Arc::new(Mutex::new(CancellationToken::new()));
        let end = CancellationToken::new();
        let (ended, is_cut) = (end.clone(), cut.clone());
        tokio::spawn(ended.run_until_cancelled_owned(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let cut = is_cut.lock().unwrap().clone();
                let target = target.clone();
                tokio::spawn(async move {
                    let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        biased;
                        () = cut.cancelled() => {}
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        }));
        Self { url, cut, _accepting: end.drop_guard() }
    }

    /// Cuts what is open. Nothing that was sent and not received arrives.
    pub(super) fn cutter(&self) -> impl Fn() + Send + use<> {
        let cut = self.cut.clone();
        move || std::mem::take(&mut *cut.lock().unwrap()).cancel()
    }
}

/// One machine.
pub(super) struct Machine {
    pub(super) identity: Arc<Identity>,
    pub(super) folder: tempfile::TempDir,
}

/// Some JSON, or nothing, as a request of an agent that speaks `protocol`.
pub(super) fn message(method: Method, path: &str, protocol: u32, json: &str) -> Request<crate::client::LinkBody> {
    let body = Full::from(json.to_owned()).map_err(|never| match never {}).boxed_unsync();
    request(method, path, protocol, body)
}

/// Shows a ticket and gives the frames as the answer. What is returned is the status and, after a refusal, its body.
pub(super) async fn show_ticket(
    live: &Live,
    ticket: &str,
    instance: &str,
    generation: Option<&str>,
    frames: Vec<Bytes>,
) -> (StatusCode, Bytes) {
    let frames = stream::iter(frames.into_iter().map(|frame| Ok(http_body::Frame::data(frame))));
    let body = http_body_util::StreamBody::new(frames).boxed_unsync();
    let mut request = request(Method::POST, &format!("{}{ticket}", path::ANSWER), 2, body);
    request.headers_mut().insert(INSTANCE_HEADER, HeaderValue::from_str(instance).unwrap());
    if let Some(generation) = generation {
        request.headers_mut().insert(GENERATION_HEADER, HeaderValue::from_str(generation).unwrap());
    }
    let response = tokio::time::timeout(SOON, live.open(request)).await.unwrap().unwrap();
    let status = response.status();
    (status, tokio::time::timeout(SOON, response.into_body().collect()).await.unwrap().unwrap().to_bytes())
}

/// Waits until something is so.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("it never was so: {what}"));
}
