//! A certificate is renewed after two thirds of its life, and nothing breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{ControlPlane as _, Desired, NodeDirectory as _};
use wherry_model::Clock as _;

use super::answering::{Answering, FOLLOWED};
use super::tickets::log_query;
use super::world::{Line, Machine, SOON, World, heartbeat, node, token, until};
use crate::{Authority, Identity, LinkClient, Lives};

/// Eight tenths of the life of a certificate, in seconds.
fn late() -> u64 {
    Lives::default().node.as_secs() * 8 / 10
}

/// Speaks until it is heard: the connection with the former certificate may be given up a moment after the new one is there.
async fn until_heard(link: &LinkClient) {
    let speaking = async { while link.heartbeat(heartbeat(node(1), 1)).await.is_err() {} };
    tokio::time::timeout(SOON, speaking).await.expect("the renewed certificate is taken");
}

struct Renewing {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Renewing {
    fn start(world: &World, machine: &Machine, link: &Arc<LinkClient>) -> Self {
        let stop = CancellationToken::new();
        let renewing = machine.identity.clone().keep_renewed(
            link.clone(),
            world.clock.clone(),
            world.entropy.clone(),
            stop.clone(),
        );
        Self { stop, task: tokio::spawn(renewing) }
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("renewing ends").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_breaks_nothing_that_is_open() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    let link = answering.link.clone();
    let there = replica.dial_back.services(node(1));
    let mut followed = tokio::time::timeout(SOON, there.logs(log_query(FOLLOWED))).await.unwrap().unwrap();
    let polling = tokio::spawn({
        let link = link.clone();
        async move { link.desired(node(1), Some(7)).await }
    });
    let first = machine.identity.expires_at();
    let mut expiry = machine.identity.watch_expiry();
    let renewing = Renewing::start(&world, &machine, &link);
    assert_eq!(machine.identity.expires_at(), first, "it is not renewed before its time");
    world.clock.at(late());
    let renewed = tokio::time::timeout(SOON, expiry.wait_for(|moment| *moment > first)).await.unwrap().unwrap();
    drop(renewed);

    answering.scripted.lines.send(b"still here\n".to_vec()).unwrap();
    assert_eq!(tokio::time::timeout(SOON, followed.next()).await.unwrap(), Some(Ok(b"still here\n".to_vec())));
    world.control.desired.send_replace(Desired { revision: 8, epoch: 1, instances: Vec::new(), kept: Vec::new() });
    let polled = tokio::time::timeout(SOON, polling).await.unwrap().unwrap();
    assert_eq!(polled.unwrap().unwrap().revision, 8, "the long poll went on");

    // The first certificate is over: what is spoken now is spoken with the second.
    world.clock.at(Lives::default().node.as_secs() + 1);
    replica.port.renew_certificate().unwrap();
    until_heard(&link).await;
    let opened = Identity::open(machine.folder.path()).unwrap().unwrap();
    assert_eq!(opened.expires_at(), machine.identity.expires_at());
    opened.check(world.clock.now()).unwrap();
    let file = |name| std::fs::read_to_string(machine.folder.path().join(name)).unwrap();
    let join_key: String = file("join.key").lines().nth(1).unwrap().to_owned();
    assert!(!file("identity.json").contains(&join_key), "the renewed certificate has a key of its own");
    drop(followed);
    renewing.end().await;
    answering.end().await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_whose_answer_is_lost_is_asked_for_again() {
    let world = World::new();
    let replica = world.replica().await;
    let line = Line::to(&replica).await;
    let folder = tempfile::tempdir().unwrap();
    let identity = world.join(folder.path(), world.order(&line.url, &token(1))).await.unwrap();
    let machine = Machine { identity: Arc::new(identity), folder };
    let link = world.link(&machine);
    link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    let first = machine.identity.expires_at();
    let mut expiry = machine.identity.watch_expiry();
    // It is asked whether the node is enrolled when a request arrives and again just before the certificate is made: then
    // the line is cut, the first three times.
    let (asked, cut) = (Arc::new(AtomicU32::new(0)), line.cutter());
    let count = asked.clone();
    *world.control.when_asked.lock().unwrap() = Some(Box::new(move || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        if number % 2 == 1 && number < 6 {
            cut();
        }
    }));
    let renewing = Renewing::start(&world, &machine, &link);
    world.clock.at(late());
    tokio::time::timeout(SOON, expiry.wait_for(|moment| *moment > first)).await.unwrap().unwrap();
    assert!(asked.load(Ordering::SeqCst) >= 8, "the answer was lost three times");
    *world.control.when_asked.lock().unwrap() = None;
    world.clock.at(Lives::default().node.as_secs() + 1);
    replica.port.renew_certificate().unwrap();
    until_heard(&link).await;
    renewing.end().await;
    drop(line);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_was_away_renews_what_has_not_expired() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let address = replica.url.strip_prefix("https://").unwrap().to_owned();
    let link = world.link(&machine);
    let first = machine.identity.expires_at();
    let mut expiry = machine.identity.watch_expiry();
    replica.end().await;
    let renewing = Renewing::start(&world, &machine, &link);
    world.clock.at(late());
    until("it is tried", || link.trouble().is_some()).await;
    assert_eq!(machine.identity.expires_at(), first);
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let replica = world.replica_at(listener, crate::AgentPortSettings::default());
    tokio::time::timeout(SOON, expiry.wait_for(|moment| *moment > first)).await.unwrap().unwrap();
    link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    renewing.end().await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_not_shown_before_it_is_on_the_disk() {
    // Waits between attempts are a part of the life.
    let hour = Duration::from_hours(1);
    let world = World::with(|keys, clock, entropy| {
        let lives = Lives { node: hour, ..Lives::default() };
        Authority::open_or_create(keys, lives, clock, entropy).unwrap()
    });
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let link = world.link(&machine);
    link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    let first = machine.identity.expires_at();
    let mut expiry = machine.identity.watch_expiry();
    let aside = tempfile::tempdir().unwrap();
    let (folder, away) = (machine.folder.path(), aside.path().join("identity"));
    std::fs::rename(folder, &away).unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    *world.control.when_asked.lock().unwrap() = Some(Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    let renewing = Renewing::start(&world, &machine, &link);
    world.clock.at(hour.as_secs() * 8 / 10);
    // Two questions for each certificate: the second was asked for because the first could not be written.
    until("it was asked for again", || asked.load(Ordering::SeqCst) >= 4).await;
    assert_eq!(machine.identity.expires_at(), first);
    link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    std::fs::rename(&away, folder).unwrap();
    tokio::time::timeout(SOON, expiry.wait_for(|moment| *moment > first)).await.unwrap().unwrap();
    assert_eq!(Identity::open(folder).unwrap().unwrap().expires_at(), machine.identity.expires_at());
    renewing.end().await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_while_it_renews_has_one_certificate_or_the_other() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let first = machine.identity.expires_at();
    world.clock.at(Lives::default().node.as_secs() * 9 / 10);
    let mut kills = 0;
    for polls in 1..100 {
        let identity = Arc::new(Identity::open(machine.folder.path()).unwrap().unwrap());
        if identity.expires_at() > first {
            break;
        }
        let started = Machine { identity: identity.clone(), folder: tempfile::tempdir().unwrap() };
        let link = world.link(&started);
        let mut expiry = identity.watch_expiry();
        let renewing =
            identity.keep_renewed(link, world.clock.clone(), world.entropy.clone(), CancellationToken::new());
        let renewed = expiry.wait_for(|moment| *moment > first);
        tokio::select! {
            biased;
            _ = super::joining::killed_after(polls, renewing) => kills += 1,
            _ = renewed => {}
        }
    }
    assert!(kills > 0);
    let identity = Identity::open(machine.folder.path()).unwrap().unwrap();
    assert!(identity.expires_at() > first, "at some time it was not killed early enough");
    let restarted = Machine { identity: Arc::new(identity), folder: tempfile::tempdir().unwrap() };
    world.link(&restarted).heartbeat(heartbeat(node(1), 1)).await.unwrap();
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_expired_does_not_pass_for_a_connection() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    world.clock.at(Lives::default().node.as_secs() + 1);
    replica.port.renew_certificate().unwrap();
    let link = world.link(&machine);
    let says_so = || link.trouble().is_some_and(|trouble| trouble.to_lowercase().contains("expired"));
    until("it is said why", says_so).await;
    assert_eq!(link.endpoint(), None);
    replica.end().await;
}
