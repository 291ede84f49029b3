//! Webhooks: a receiver hears of all that happens, signed, of each instance in order, also when it fails and when the service is
//! killed in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{PROJECT, World, eventually, plain_client};

/// On a machine that is busy with other tests; nothing here is about speed.
const PATIENCE: Duration = Duration::from_mins(2);

/// One request, as it came.
#[derive(Debug, Clone)]
struct Request {
    headers: BTreeMap<String, String>,
    body: String,
    /// Whether it was answered with 2xx.
    taken: bool,
}

impl Request {
    fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// As a receiver checks it (Standard Webhooks).
    fn assert_signed(&self, secret: &str) {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let (id, at) = (&self.headers["webhook-id"], &self.headers["webhook-timestamp"]);
        mac.update(format!("{id}.{at}.{}", self.body).as_bytes());
        let wanted = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let signatures = &self.headers["webhook-signature"];
        assert!(signatures.split(' ').any(|one| one == wanted), "{self:?}");
        assert_eq!(self.event()["id"], id.as_str());
    }
}

/// What becomes of the next requests.
#[derive(Debug, Default)]
struct Plan {
    /// So many are answered with 500.
    failures: u32,
    /// None is answered.
    holds: bool,
    held: u32,
    heard: Vec<Request>,
}

#[derive(Clone)]
struct Receiver {
    plan: Arc<Mutex<Plan>>,
    url: String,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let receiver = Self { plan: Arc::default(), url };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = serving.clone();
                tokio::spawn(async move { receiver.answer(stream).await });
            }
        });
        receiver
    }

    /// One request of a connection. One that breaks off was not heard.
    async fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut bytes = Vec::new();
        let mut piece = [0_u8; 4096];
        let (headers, body) = loop {
            let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
            bytes.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let headers: BTreeMap<String, String> = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            if body.len() >= headers["content-length"].parse::<usize>().unwrap() {
                break (headers, body.to_owned());
            }
        };
        let status = {
            let mut plan = self.plan.lock().unwrap();
            if plan.holds {
                plan.held += 1;
                None
            } else {
                let fails = plan.failures > 0;
                plan.failures = plan.failures.saturating_sub(1);
                plan.heard.push(Request { headers, body, taken: !fails });
                Some(if fails { "500 Internal Server Error" } else { "204 No Content" })
            }
        };
        let Some(status) = status else {
            // Until the other side goes away.
            while stream.read(&mut piece).await.ok().is_some_and(|read| read > 0) {}
            return None;
        };
        let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.ok()
    }

    fn heard(&self) -> Vec<Request> {
        self.plan.lock().unwrap().heard.clone()
    }

    fn taken(&self) -> BTreeSet<u64> {
        let taken = self.heard().into_iter().filter(|request| request.taken);
        taken.filter_map(|request| request.event()["data"]["seq"].as_u64()).collect()
    }
}

/// The numbers of all events, as the API tells them.
async fn events(world: &World) -> BTreeSet<u64> {
    let url = world.wherry.url("/v1/projects/default/events?follow=false");
    let answer = plain_client().get(url).bearer_auth(world.wherry.token().await).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.map(|data| serde_json::from_str::<Value>(data).unwrap()["seq"].as_u64().unwrap()).collect()
}

async fn all_is_taken(world: &World, receiver: &Receiver) {
    eventually("everything that happened is taken", PATIENCE, async || {
        (receiver.taken() == events(world).await).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_hears_of_a_life_once_signed_and_in_order_whatever_fails() {
    let settings = "[webhooks]\nallow_http = true\nallow = [\"127.0.0.0/8\"]\nfirst_retry_seconds = 1\n";
    let mut world = World::start_with(settings).await;
    let receiver = Receiver::start().await;
    receiver.plan.lock().unwrap().failures = 2;
    let made = world.wherry.cli(&["webhook", "create", "all", &receiver.url]).await.well();
    let secret = made.trim().to_owned();

    let sleeper = world.script("web", "sleep 999 & wait");
    world.run(&sleeper).await;
    world.delete("web").await;
    all_is_taken(&world, &receiver).await;

    // Killed while it waits for an answer: who comes back sends again.
    receiver.plan.lock().unwrap().holds = true;
    let job = world.create(&world.script("job", "exit 3")).await;
    eventually("a delivery waits for its answer", PATIENCE, async || {
        (receiver.plan.lock().unwrap().held > 0).then_some(())
    })
    .await;
    world.wherry.kill();
    receiver.plan.lock().unwrap().holds = false;
    world.wherry.start().await;
    world.reach(&job.id, wherry_api_types::InstanceState::Failed).await;
    all_is_taken(&world, &receiver).await;

    let heard = receiver.heard();
    let mut ids: BTreeMap<String, u64> = BTreeMap::new();
    let mut latest: BTreeMap<String, u64> = BTreeMap::new();
    for request in &heard {
        request.assert_signed(&secret);
        assert_eq!(request.headers["content-type"], "application/cloudevents+json; charset=utf-8");
        let event = request.event();
        assert_eq!((&event["specversion"], &event["datacontenttype"]), (&"1.0".into(), &"application/json".into()));
        let data = &event["data"];
        assert_eq!(event["type"], format!("wherry.instance.{}", data["kind"].as_str().unwrap()));
        assert_eq!(event["subject"], format!("{PROJECT}/{}", data["instance"].as_str().unwrap()));
        assert_eq!(event["time"], data["at"]);
        let seq = data["seq"].as_u64().unwrap();
        let id = event["id"].as_str().unwrap().to_owned();
        assert_eq!(*ids.entry(id).or_insert(seq), seq, "an id names one event");
        let instance = data["instance_id"].as_str().unwrap().to_owned();
        let before = latest.insert(instance, seq);
        assert!(before.is_none_or(|before| before <= seq), "{before:?} before {seq}: out of order");
    }
    assert_eq!(ids.len(), events(&world).await.len(), "each event has one id");
    assert_eq!(heard.iter().filter(|request| !request.taken).count(), 2);

    let taken = world.wherry.cli(&["webhook", "test", "all"]).await.well();
    assert!(taken.starts_with("taken: 204"), "{taken}");
    let log = world.wherry.cli(&["webhook", "deliveries", "all"]).await.well();
    assert!(log.contains("wherry.webhook.ping") && log.contains("wherry.instance.failed"), "{log}");
    let first = heard[0].headers["webhook-id"].clone();
    let before = receiver.heard().len();
    world.wherry.cli(&["webhook", "redeliver", "all", &first]).await.well();
    eventually("it is delivered again", PATIENCE, async || {
        let heard = receiver.heard();
        heard[before..].iter().any(|request| request.headers["webhook-id"] == first).then_some(())
    })
    .await;
    world.wherry.cli(&["webhook", "create", "here", "http://10.0.0.1/"]).await.badly(6, &["no public address"]);
    world.wherry.cli(&["webhook", "delete", "all"]).await.well();
    world.finish().await;
}
