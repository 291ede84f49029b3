//! This version and those before it understand each other, in both directions. What stands in `recorded_version_1` and
//! `recorded_version_2` was written by the code of those versions. `recorded_version_3` is what this one writes, for when there is a
//! fourth: a change there is a change of the protocol.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wherry_agent_api::{
    Ack, Call, ControlError, ControlPlane as _, Desired, Heartbeat, NodeError, NodeHello, Report, Surroundings, Welcome,
};
use wherry_model::{Architecture, BootId, Capacity, JournalId, NodeId};

use super::world::{SOON, World, heartbeat, message, node};
use crate::client::encode;
use crate::wire::{PROTOCOL_HEADER, PROTOCOL_HIGHEST_HEADER, path};
use crate::{AgentPortSettings, LinkSettings, refusal};

const HELLO: &str = include_str!("recorded_version_1/hello.json");
const DESIRED: &str = include_str!("recorded_version_1/desired.json");
const REPORT: &str = include_str!("recorded_version_1/report.json");
const REPORT_ANSWER: &str = include_str!("recorded_version_1/report-answer.json");
const HEARTBEAT: &str = include_str!("recorded_version_1/heartbeat.json");
/// The answer to a hello and to a heartbeat.
const NOTHING: &str = include_str!("recorded_version_1/nothing.json");

/// The node in what was recorded.
const RECORDED_NODE: u128 = 0x0193_573e_7a00_7000_8000_0000_0000_0001;

pub(super) fn hello(number: u128) -> NodeHello {
    NodeHello {
        node: node(number),
        name: "one".to_owned(),
        architecture: Architecture::Amd64,
        capacity: Capacity { cpu_millis: 4_000, memory_mib: 8_192, instances: 110 },
        range: ("10.128.1.0".parse().unwrap(), 24),
        boot: BootId::from_uuid(uuid::Uuid::from_u128(5)),
        journal: JournalId::from_uuid(uuid::Uuid::from_u128(6)),
        desired_revision: None,
        underlay: Some("192.0.2.1".parse().unwrap()),
        isolation: wherry_model::IsolationSet::default(),
        zone: None,
        disk_mib: None,
        gpus: wherry_model::GpuOffer::default(),
        images: Vec::new(),
        protocol: wherry_agent_api::PROTOCOL,
    }
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What was recorded is read, and written in version 1 it is the same again.
fn read_and_written<M: DeserializeOwned + Serialize>(recorded: &str) -> M {
    read_and_written_in(1, recorded)
}

fn read_and_written_in<M: DeserializeOwned + Serialize>(version: u32, recorded: &str) -> M {
    let read: M = serde_json::from_str(recorded).unwrap();
    let written: Value = serde_json::from_slice(&encode(&read, version).unwrap()).unwrap();
    assert_eq!(written, value(recorded));
    read
}

#[test]
fn what_version_1_wrote_is_read_and_an_agent_writes_the_same_for_it() {
    let hello: NodeHello = read_and_written(HELLO);
    assert_eq!(hello.underlay, None);
    let heartbeat: Heartbeat = read_and_written(HEARTBEAT);
    assert_eq!(heartbeat.epoch, 0);
    assert_eq!(read_and_written::<Report>(REPORT).observations.len(), 7);
    let newer = NodeHello { underlay: Some("192.0.2.1".parse().unwrap()), ..hello };
    assert_eq!(serde_json::from_slice::<Value>(&encode(&newer, 1).unwrap()).unwrap(), value(HELLO));
    let newer = Heartbeat { epoch: 3, ..heartbeat };
    assert_eq!(serde_json::from_slice::<Value>(&encode(&newer, 1).unwrap()).unwrap(), value(HEARTBEAT));
    assert_eq!(serde_json::from_slice::<Value>(&encode(&newer, 2).unwrap()).unwrap()["epoch"], 3);

    let desired: Desired = serde_json::from_str(DESIRED).unwrap();
    assert_eq!((desired.revision, desired.epoch, desired.instances.len()), (7, 0, 1));
    assert_eq!(desired.instances[0].fence_after_seconds, None);
    assert_eq!(serde_json::from_str::<Ack>(REPORT_ANSWER).unwrap(), Ack { through: 7 });
    let refused = refusal::from_answer(StatusCode::OK, include_bytes!("recorded_version_1/refusal.json"));
    assert_eq!(refused, ControlError::Refused("the message".to_owned()));
    let unknown = refusal::from_answer(StatusCode::OK, include_bytes!("recorded_version_1/unknown-node.json"));
    assert_eq!(unknown, ControlError::UnknownNode);
}

#[test]
fn version_2_is_what_it_was() {
    let hello: NodeHello = read_and_written_in(2, include_str!("recorded_version_2/hello.json"));
    assert!(hello.underlay.is_some());
    read_and_written_in::<Welcome>(2, include_str!("recorded_version_2/welcome.json"));
    let desired: Desired = read_and_written_in(2, include_str!("recorded_version_2/desired.json"));
    assert_eq!((desired.epoch, desired.instances[0].fence_after_seconds), (3, Some(300)));
    let heartbeat: Heartbeat = read_and_written_in(2, include_str!("recorded_version_2/heartbeat.json"));
    assert_eq!(heartbeat.epoch, 3);
    read_and_written_in::<Report>(2, include_str!("recorded_version_2/report.json"));
    read_and_written_in::<Surroundings>(2, include_str!("recorded_version_2/surroundings.json"));
    for recorded in
        [include_str!("recorded_version_2/call-logs.json"), include_str!("recorded_version_2/call-exec.json")]
    {
        read_and_written_in::<Call>(2, recorded);
    }
    for recorded in [include_str!("recorded_version_2/fenced.json"), include_str!("recorded_version_2/forbidden.json")]
    {
        read_and_written_in::<ControlError>(2, recorded);
    }
    read_and_written_in::<NodeError>(2, include_str!("recorded_version_2/node-not-found.json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_serves_an_agent_of_version_1() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let live = world.dial_as(&replica, &machine.identity.credential()).await;
    let recorded_node = NodeId::from_uuid(uuid::Uuid::from_u128(RECORDED_NODE)).to_string();
    let mine = |recorded: &str| recorded.replace(&recorded_node, &node(1).to_string());
    for (path, said, answered) in
        [(path::HELLO, HELLO, NOTHING), (path::REPORT, REPORT, REPORT_ANSWER), (path::HEARTBEAT, HEARTBEAT, NOTHING)]
    {
        let answer = live.exchange(message(Method::POST, path, 1, &mine(said))).await.unwrap();
        assert_eq!((answer.status, answer.headers[PROTOCOL_HEADER].as_bytes()), (StatusCode::OK, b"1".as_slice()));
        assert_eq!(answer.headers[PROTOCOL_HIGHEST_HEADER], "3");
        assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap(), value(answered), "{path}");
        let foreign = live.exchange(message(Method::POST, path, 1, said)).await.unwrap();
        assert_eq!(foreign.status, StatusCode::FORBIDDEN, "{path}: the certificate names another node");
    }
    assert_eq!(world.control.heartbeats.lock().unwrap()[0].epoch, 0);
    assert_eq!(world.control.reports.lock().unwrap()[0].observations.len(), 7);

    // The control plane is told that it fences nothing; what is there it keeps.
    assert_eq!(world.control.hellos.lock().unwrap().iter().map(|hello| hello.protocol).collect::<Vec<_>>(), [1]);
    let mut desired: Desired = serde_json::from_str(DESIRED).unwrap();
    let mut fenced = desired.instances[0].clone();
    fenced.fence_after_seconds = Some(300);
    desired.instances.push(fenced);
    desired.revision = 8;
    world.control.desired.send_replace(desired);
    for (protocol, instances) in [(1, 2), (2, 2), (3, 2)] {
        let answer = live.exchange(message(Method::GET, "/agent/v2/desired?have=7", protocol, "")).await.unwrap();
        let desired: Desired = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((desired.revision, desired.instances.len()), (8, instances), "version {protocol}");
    }
    for path in [path::SURROUNDINGS, path::CALLS] {
        let answer = live.exchange(message(Method::GET, path, 1, "")).await.unwrap();
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    let answer = live.exchange(message(Method::POST, "/agent/v2/answer/x", 1, "")).await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    drop(live);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_replicas_of_both_versions_speak_with_each_other() {
    let world = World::new();
    for (number, agent, replica) in
        [(1, 1, 2), (2, 2, 1), (3, 1, 1), (4, 2, 2), (5, 2, 3), (6, 3, 2), (7, 3, 3), (8, 3, 1)]
    {
        let settings = AgentPortSettings { protocol: replica, ..AgentPortSettings::default() };
        let replica_of_version = world.replica_with(settings).await;
        *world.control.endpoints.lock().unwrap() = vec![replica_of_version.url.clone()];
        let machine = world.machine(&replica_of_version, number).await;
        let settings =
            LinkSettings { protocol: agent, long_poll: Duration::from_millis(300), ..LinkSettings::default() };
        let link = world.link_with(&machine, settings);
        let welcome = link.hello(hello(number)).await.unwrap();
        let spoken = agent.min(replica);
        assert_eq!(world.control.hellos.lock().unwrap().pop().unwrap().protocol, spoken);
        assert_eq!(welcome.endpoints.len(), usize::from(spoken >= 2), "agent {agent}, replica {replica}");
        link.heartbeat(heartbeat(node(number), 4)).await.unwrap();
        let told = world.control.heartbeats.lock().unwrap().pop().unwrap();
        assert_eq!(told.epoch, if agent >= 2 { 4 } else { 0 });
        assert_eq!(link.desired(node(number), None).await.unwrap().unwrap().revision, 7);
        let around = tokio::time::timeout(SOON, link.surroundings(node(number), None)).await.unwrap();
        assert_eq!(around.unwrap(), None);
        let calls = tokio::time::timeout(SOON, link.calls()).await.unwrap();
        assert!(spoken >= 2 || calls == Ok(Vec::new()), "{calls:?}");
        drop(link);
        replica_of_version.end().await;
    }
}

/// What only version 3 knows, after something that all know.
fn report_of_version_3(number: u128) -> Report {
    let report: Report = serde_json::from_str(include_str!("recorded_version_3/report.json")).unwrap();
    Report { node: node(number), ..report }
}

#[test]
fn version_3_is_what_it_was() {
    let desired: Desired = read_and_written_in(3, include_str!("recorded_version_3/desired.json"));
    let web = &desired.instances[0];
    assert_eq!((web.containers.len(), web.containers[1].revision), (2, 4));
    assert_eq!((web.more.max_restarts, web.more.deadline_seconds), (Some(5), Some(3_600)));
    assert!(web.containers[1].spec.probes.readiness.is_some() && web.containers[1].spec.hooks.pre_stop.is_some());
    let report: Report = read_and_written_in(3, include_str!("recorded_version_3/report.json"));
    let least: Vec<u32> = report.observations.iter().map(|observation| observation.fact.least_protocol()).collect();
    assert_eq!(least, [2, 3, 3, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_before_is_told_what_it_understands_and_the_rest_waits() {
    let world = World::new();
    let settings = AgentPortSettings { protocol: 2, ..AgentPortSettings::default() };
    let former = world.replica_with(settings).await;
    *world.control.endpoints.lock().unwrap() = vec![former.url.clone()];
    let machine = world.machine(&former, 1).await;
    let link = world.link_with(&machine, LinkSettings::default());
    link.hello(hello(1)).await.unwrap();
    let report = report_of_version_3(1);
    let first = report.observations[0].seq;
    assert_eq!(link.report(report.clone()).await.unwrap(), Ack { through: first });
    let rest = Report { observations: report.observations[1..].to_vec(), ..report };
    let Err(ControlError::Unavailable(message)) = link.report(rest.clone()).await else { panic!("it was taken") };
    assert!(message.contains("version 2"), "{message}");
    assert_eq!(
        world.control.reports.lock().unwrap().iter().map(|report| report.observations.len()).collect::<Vec<_>>(),
        [1]
    );

    let present = world.replica().await;
    let machine = world.machine(&present, 2).await;
    *world.control.endpoints.lock().unwrap() = vec![present.url.clone()];
    let link = world.link_with(&machine, LinkSettings::default());
    link.hello(hello(2)).await.unwrap();
    let last = rest.observations.last().unwrap().seq;
    let rest = Report { node: node(2), ..rest };
    assert_eq!(link.report(rest).await.unwrap(), Ack { through: last });
    drop(link);
    former.end().await;
    present.end().await;
}
