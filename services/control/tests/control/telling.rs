//! The loop that tells webhooks, on a store in memory whose calls are counted and can fail: all time is tokio's, and paused.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use wherry_agent_api::{ControlPlane, Heartbeat, NodeHello};
use wherry_control::{
    Background, Control, ControlConfig, DeliveryPageRequest, DeliveryState, Outgoing, SendOutcome, WebhookRequest,
    WebhookSender,
};
use wherry_model::{
    Architecture, BootId, Capacity, Clock, IsolationSet, JournalId, NodeId, Principal, ProjectName, ScopeSet, Subject,
    TenantName,
};
use wherry_sealing::{Keyring, SealingKey};
use wherry_store::StoreError;
use wherry_testkit::{ManualClock, MemoryStore, RecordingZone, SeededEntropy, Trouble, sized};

use crate::support::{asked, seconds};

/// The call by which the loop looks for what to send.
const LOOK: &str = "looking for webhooks with work";

/// Counts calls, and refuses to settle deliveries while it is told so.
#[derive(Default)]
struct Counting {
    calls: Mutex<BTreeMap<&'static str, usize>>,
    settles_fail: AtomicBool,
}

impl Counting {
    fn count(&self, call: &str) -> usize {
        self.calls.lock().unwrap().get(call).copied().unwrap_or(0)
    }
}

#[async_trait]
impl Trouble for Counting {
    async fn before(&self, call: &'static str) -> Result<(), StoreError> {
        *self.calls.lock().unwrap().entry(call).or_default() += 1;
        if call == "settling a delivery" && self.settles_fail.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable { context: "the test wants it so".to_owned(), source: None });
        }
        Ok(())
    }

    async fn after(&self, _call: &'static str, _wrote: bool) -> Result<(), StoreError> {
        Ok(())
    }

    async fn wakes(&self) -> bool {
        true
    }
}

/// Takes a moment for each delivery, or never answers.
struct Receiver {
    answers: bool,
    sent: AtomicUsize,
}

#[async_trait]
impl WebhookSender for Receiver {
    fn check_url(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    async fn send(&self, _: Outgoing) -> SendOutcome {
        self.sent.fetch_add(1, Ordering::SeqCst);
        if !self.answers {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        SendOutcome { status: Some(204), error: None }
    }
}

/// A project with webhooks, in which one instance has just been created.
struct Project {
    control: Control,
    trouble: Arc<Counting>,
    receiver: Arc<Receiver>,
    principal: Principal,
}

impl Project {
    async fn with(webhooks: u32, answers: bool) -> Self {
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1)));
        clock.run();
        let trouble = Arc::new(Counting::default());
        let store = Arc::new(MemoryStore::new().handle(Arc::clone(&trouble) as Arc<dyn Trouble>));
        let mut config = ControlConfig::new([7; 32]);
        config.sealing = Keyring::of(SealingKey::generate("1", entropy.as_ref()));
        config.webhooks.most_per_project = 1_000;
        let zone = Arc::new(RecordingZone::default());
        let control = Control::open(store, clock.clone(), entropy.clone(), zone, config).await.unwrap();
        let receiver = Arc::new(Receiver { answers, sent: AtomicUsize::new(0) });
        control.set_webhook_sender(receiver.clone());
        let (node, boot) = (NodeId::generate(&*clock, &*entropy), BootId::generate(&*clock, &*entropy));
        let hello = NodeHello {
            node,
            name: "node".to_owned(),
            architecture: Architecture::Amd64,
            capacity: Capacity { cpu_millis: 1_000, memory_mib: 1_000, instances: 10 },
            range: (Ipv4Addr::new(10, 200, 0, 0), 24),
            boot,
            journal: JournalId::generate(&*clock, &*entropy),
            desired_revision: None,
            underlay: None,
            isolation: IsolationSet::default(),
            zone: None,
            disk_mib: None,
            gpus: wherry_model::GpuOffer::default(),
            images: Vec::new(),
            protocol: wherry_agent_api::PROTOCOL,
        };
        control.hello(hello).await.unwrap();
        let life = Heartbeat { node, boot, epoch: 0, at: clock.now(), running: Vec::new(), pulls: Vec::new() };
        control.heartbeat(life).await.unwrap();
        let tenant = control.ensure_tenant(TenantName::new("acme").unwrap()).await.unwrap().id;
        let subject = Subject::External { issuer: "test".to_owned(), subject: "somebody".to_owned() };
        let principal = Principal { tenant, subject, scopes: ScopeSet::all() };
        for number in 0..webhooks {
            let request = WebhookRequest {
                url: "https://hooks.example/a".to_owned(),
                kinds: Vec::new(),
                instance: None,
                labels: BTreeMap::new(),
                enabled: true,
            };
            let name = format!("w-{number}").parse().unwrap();
            control.create_webhook(&principal, &ProjectName::default_project(), name, request).await.unwrap();
        }
        control.create_instance(&principal, asked(Some("web"), sized(10, 4))).await.unwrap();
        Self { control, trouble, receiver, principal }
    }

    /// How many deliveries of the first webhook were taken.
    async fn taken(&self) -> usize {
        let (project, name) = (ProjectName::default_project(), "w-0".parse().unwrap());
        let request = DeliveryPageRequest { cursor: None, limit: 100 };
        let page = self.control.deliveries(&self.principal, &project, &name, &request).await.unwrap();
        page.deliveries.iter().filter(|one| one.state == DeliveryState::Delivered).count()
    }
}

#[tokio::test(start_paused = true)]
async fn many_webhooks_that_can_do_nothing_are_looked_at_now_and_then() {
    let project = Project::with(250, false).await;
    let background = Background::start(&project.control);
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(project.receiver.sent.load(Ordering::SeqCst), 8, "as many as a tenant may have under way");
    let before = project.trouble.count(LOOK);
    tokio::time::sleep(seconds(60)).await;
    let looks = project.trouble.count(LOOK) - before;
    // Three pages a round, and a round a second.
    assert!((60..=240).contains(&looks), "{looks} looks in a minute");
    background.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_and_could_not_be_stored_is_not_sent_again_at_once() {
    let project = Project::with(1, true).await;
    project.trouble.settles_fail.store(true, Ordering::SeqCst);
    let background = Background::start(&project.control);
    tokio::time::sleep(seconds(60)).await;
    let sent = project.receiver.sent.load(Ordering::SeqCst);
    assert!((10..=61).contains(&sent), "sent {sent} times in a minute");
    assert_eq!(project.taken().await, 0);
    project.trouble.settles_fail.store(false, Ordering::SeqCst);
    tokio::time::sleep(seconds(10)).await;
    // The second event: the machine has said nothing for so long that it is silent.
    let taken = project.taken().await;
    assert!((1..=2).contains(&taken), "{taken} taken");
    background.stop().await;
}
