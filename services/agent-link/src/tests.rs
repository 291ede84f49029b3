//! The whole path over real TLS on loopback: a machine joins, then speaks as its node.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{
    Ack, Applicant, Call, CallBoard, ControlError, ControlPlane, Desired, Enrolled, Enrolment, ExecOutcome, ExecQuery,
    Heartbeat, LogQuery, LogStream, NodeDirectory as _, NodeError, NodeHello, NodeServices, Report, Surroundings,
    Welcome,
};
use wherry_model::{BootId, Clock, Entropy, Generation, InstanceId, JournalId, NodeId, Timestamp};

use crate::client::{dial, request};
use crate::wire::{EnrolAnswer, EnrolRequest, path};
use crate::{
    AgentPort, AgentPortSettings, Answerer, Authority, DialBack, EndpointKeeper, Fingerprint, LinkClient, LinkSettings,
    Lives, NodeCredential, Services, tls,
};

const TOKEN: &str = "wjt_token_secret";

/// Stands at noon of some day and moves when told.
struct Hands(AtomicU64);
impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_790_000_000 + i64::try_from(self.0.load(Ordering::SeqCst)).unwrap())
    }
}

struct Counting(AtomicU64);
impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.fetch_add(151, Ordering::Relaxed).to_le_bytes()[0];
        }
    }
}

struct Forgets;
impl EndpointKeeper for Forgets {
    fn keep(&self, _endpoints: &[String]) {}
}

fn node(number: u128) -> NodeId {
    NodeId::from_uuid(uuid::Uuid::from_u128(number))
}

/// A control plane that writes down what it is told.
#[derive(Default)]
struct Control {
    heartbeats: Mutex<Vec<Heartbeat>>,
    removed: AtomicBool,
    calls: Mutex<Vec<Call>>,
    called: tokio::sync::Notify,
}

#[async_trait]
impl ControlPlane for Control {
    async fn hello(&self, _hello: NodeHello) -> Result<Welcome, ControlError> {
        Ok(Welcome { endpoints: Vec::new() })
    }
    async fn desired(&self, _node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        Ok((have != Some(7)).then(|| Desired { revision: 7, epoch: 1, instances: Vec::new() }))
    }
    async fn report(&self, report: Report) -> Result<Ack, ControlError> {
        Ok(Ack { through: u64::try_from(report.observations.len()).unwrap() })
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
        self.calls.lock().unwrap().push(call);
        self.called.notify_one();
        Ok(())
    }
    async fn calls(&self, _node: NodeId) -> Result<Vec<Call>, ControlError> {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.called.notified()).await;
        Ok(std::mem::take(&mut *self.calls.lock().unwrap()))
    }
}

#[async_trait]
impl Enrolment for Control {
    async fn enrol(&self, applicant: Applicant) -> Result<Enrolled, ControlError> {
        if applicant.token != TOKEN {
            return Err(ControlError::Forbidden("the token is not known".to_owned()));
        }
        Ok(Enrolled { node: node(1), range: (Ipv4Addr::new(10, 128, 0, 0), 24), apex: "local.test".to_owned() })
    }
    async fn is_enrolled(&self, _node: NodeId) -> Result<bool, ControlError> {
        Ok(!self.removed.load(Ordering::SeqCst))
    }
}

struct World {
    control: Arc<Control>,
    clock: Arc<Hands>,
    entropy: Arc<Counting>,
    fingerprint: Fingerprint,
    url: String,
    dial_back: Arc<DialBack>,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    _keys: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let keys = tempfile::tempdir().unwrap();
        let (clock, entropy) = (Arc::new(Hands(AtomicU64::new(0))), Arc::new(Counting(AtomicU64::new(1))));
        let control = Arc::new(Control::default());
        let open = || Authority::open_or_create(keys.path(), Lives::default(), clock.clone(), entropy.clone()).unwrap();
        let authority = Arc::new(open());
        assert_eq!(open().fingerprint(), authority.fingerprint(), "opened again it is the same");
        let shutdown = CancellationToken::new();
        let settings = AgentPortSettings::default();
        let fingerprint = authority.fingerprint();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let dial_back = DialBack::new(control.clone(), url.clone(), clock.clone(), entropy.clone());
        let services = Services {
            control: control.clone(),
            board: control.clone(),
            dial_back: dial_back.clone(),
            enrolment: control.clone(),
        };
        let port = AgentPort::new(services, authority, settings, clock.clone(), shutdown.clone()).unwrap();
        let served = tokio::spawn(async move { port.serve(listener).await });
        Self { control, clock, entropy, fingerprint, url, dial_back, shutdown, served, _keys: keys }
    }

    /// Joins, trusting `fingerprint`.
    async fn join(&self, fingerprint: Fingerprint, token: &str) -> Result<NodeCredential, String> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        // A name that nobody gave it.
        let names = CertificateParams::new(vec![tls::CONTROL_NAME.to_owned()]).unwrap();
        let csr = names.serialize_request(&key).unwrap().pem().unwrap();
        let asked = EnrolRequest { token: token.to_owned(), csr, name: "one".to_owned() };
        let config = tls::joining_config(fingerprint, self.clock.clone()).unwrap();
        let live = dial(&self.url.parse().unwrap(), config, &LinkSettings::default()).await;
        let live = live.map_err(|error| error.to_string())?;
        let body = Full::from(serde_json::to_vec(&asked).unwrap()).map_err(|never| match never {}).boxed_unsync();
        let answer = live.exchange(request(Method::POST, path::ENROL, 2, body)).await.unwrap();
        if answer.status != StatusCode::OK {
            return Err(answer.status.to_string());
        }
        let answer: EnrolAnswer = serde_json::from_slice(&answer.body).unwrap();
        Ok(NodeCredential::from_pem(&answer.issued.certificate, &key.serialize_pem(), &answer.issued.ca).unwrap())
    }

    fn link(&self, credential: &NodeCredential) -> LinkClient {
        let endpoints = [self.url.clone()];
        let settings = LinkSettings::default();
        LinkClient::new(credential, &endpoints, settings, Arc::new(Forgets), self.clock.clone(), self.entropy.clone())
            .unwrap()
    }

    async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_mins(1), self.served).await.expect("the port ends").unwrap();
    }
}

fn heartbeat(of: NodeId, epoch: u64) -> Heartbeat {
    let boot = BootId::from_uuid(uuid::Uuid::from_u128(5));
    Heartbeat { node: of, boot, epoch, at: Timestamp::from_seconds(3), running: Vec::new(), pulls: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_joins_and_speaks_as_its_node_and_as_no_other() {
    let world = World::new().await;
    let credential = world.join(world.fingerprint, TOKEN).await.unwrap();
    assert_eq!(credential.node(), node(1), "the certificate names what the control plane says, not what was asked for");
    let link = world.link(&credential);
    link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    assert_eq!(*world.control.heartbeats.lock().unwrap(), [heartbeat(node(1), 1)]);
    assert_eq!(link.desired(node(1), None).await.unwrap().unwrap().revision, 7);
    assert_eq!(link.desired(node(1), Some(7)).await.unwrap(), None);
    assert_eq!(link.surroundings(node(1), Some(1)).await.unwrap(), None);
    assert_eq!(link.calls().await.unwrap(), Vec::<serde_json::Value>::new());
    let journal = JournalId::from_uuid(uuid::Uuid::from_u128(6));
    let report = |of| Report { node: of, journal, observations: Vec::new() };
    assert_eq!(link.report(report(node(1))).await.unwrap(), Ack { through: 0 });
    assert_eq!(link.heartbeat(heartbeat(node(1), 9)).await, Err(ControlError::Fenced { epoch: 10 }));

    assert!(matches!(link.heartbeat(heartbeat(node(2), 1)).await, Err(ControlError::Forbidden(_))));
    assert!(matches!(link.report(report(node(2))).await, Err(ControlError::Forbidden(_))));
    assert_eq!(world.control.heartbeats.lock().unwrap().len(), 1);

    world.control.removed.store(true, Ordering::SeqCst);
    assert!(matches!(link.desired(node(1), None).await, Err(ControlError::Forbidden(_))));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_token_no_certificate_or_another_authority_gets_nothing() {
    let world = World::new().await;
    let (other, config) = (World::new().await, tls::joining_config(world.fingerprint, world.clock.clone()).unwrap());
    assert_eq!(world.join(world.fingerprint, "wjt_token_guess").await.unwrap_err(), "403 Forbidden");
    assert!(world.join(other.fingerprint, TOKEN).await.unwrap_err().contains("do not trust each other"));

    let live = dial(&world.url.parse().unwrap(), config, &LinkSettings::default()).await.unwrap();
    let body = || Full::default().map_err(|never| match never {}).boxed_unsync();
    let bare = live.exchange(request(Method::GET, path::DESIRED, 2, body())).await.unwrap();
    assert_eq!(bare.status, StatusCode::FORBIDDEN);
    let old = live.exchange(request(Method::GET, path::DESIRED, 0, body())).await.unwrap();
    assert_eq!(old.status, StatusCode::UPGRADE_REQUIRED);
    drop(live);
    world.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expires_opens_nothing_on_a_connection_that_is_open() {
    let world = World::new().await;
    let credential = world.join(world.fingerprint, TOKEN).await.unwrap();
    let link = world.link(&credential);
    link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    world.clock.0.store(Lives::default().node.as_secs() + 1, Ordering::SeqCst);
    assert!(matches!(link.heartbeat(heartbeat(node(1), 1)).await, Err(ControlError::Forbidden(_))));
    assert_eq!(world.control.heartbeats.lock().unwrap().len(), 1);
    world.end().await;
}

/// A node that says what it was asked.
struct Echo;
#[async_trait]
impl NodeServices for Echo {
    async fn logs(&self, query: LogQuery) -> Result<LogStream, NodeError> {
        if query.run == Some(404) {
            return Err(NodeError::NotFound("the run 404".to_owned()));
        }
        let lines = [b"one\n".to_vec(), b"two\n".to_vec()].map(Ok);
        Ok(futures_util::stream::iter(lines).boxed())
    }
    async fn exec(&self, query: ExecQuery) -> Result<ExecOutcome, NodeError> {
        let stdout = vec![b'x'; ExecOutcome::MAX_OUTPUT_BYTES + 1];
        Ok(ExecOutcome { exit_code: 3, stdout, stderr: query.command.concat().into_bytes(), truncated: false })
    }
}

fn log_query(run: Option<u32>) -> LogQuery {
    let instance = InstanceId::from_uuid(uuid::Uuid::from_u128(8));
    let container = "main".parse().unwrap();
    LogQuery { instance, container, run, tail: None, follow: false, timestamps: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_listens_on_nothing_answers() {
    let world = World::new().await;
    let credential = world.join(world.fingerprint, TOKEN).await.unwrap();
    let link = Arc::new(world.link(&credential));
    let stop = CancellationToken::new();
    let answering = Answerer::start(Arc::clone(&link), Arc::new(Echo), stop.clone());
    let there = world.dial_back.services(node(1));
    let printed: Vec<_> = there.logs(log_query(None)).await.unwrap().collect().await;
    assert_eq!(printed, [Ok(b"one\n".to_vec()), Ok(b"two\n".to_vec())]);
    let missing = there.logs(log_query(Some(404))).await.err();
    assert_eq!(missing, Some(NodeError::NotFound("the run 404".to_owned())));
    let query = ExecQuery {
        instance: InstanceId::from_uuid(uuid::Uuid::from_u128(8)),
        generation: Generation(4),
        container: "main".parse().unwrap(),
        command: vec!["a".to_owned(), "b".to_owned()],
        timeout_seconds: 5,
    };
    let outcome = there.exec(query).await.unwrap();
    assert_eq!((outcome.exit_code, outcome.stderr.as_slice(), outcome.truncated), (3, b"ab".as_slice(), true));
    assert_eq!(outcome.stdout.len(), ExecOutcome::MAX_OUTPUT_BYTES);
    assert_eq!(world.dial_back.waiting(), 0);
    stop.cancel();
    tokio::time::timeout(Duration::from_mins(1), answering).await.expect("answering ends").unwrap();
    drop(link);
    world.end().await;
}
