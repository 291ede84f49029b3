//! The fleet, as its operator works on it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{App, create, fields, join_point};

const INSTANCES: &str = "/v1/projects/default/instances";

#[tokio::test]
async fn machines_are_found_by_name_and_by_id() {
    let app = App::start().await;
    let operator = app.operator().await;
    let nodes = app.get(&operator, "/v1/admin/nodes").await.expect(200).json();
    let node = &nodes["items"][0];
    let (id, name) = (node["id"].as_str().unwrap(), node["name"].as_str().unwrap());
    assert_eq!((node["state"].as_str(), node.get("drain"), node.get("silent_seconds")), (Some("ready"), None, None));
    for named in [id, name] {
        let found = app.get(&operator, &format!("/v1/admin/nodes/{named}")).await.expect(200).json();
        assert_eq!(found["id"], id);
    }
    for unknown in ["nobody", "01935700-0000-7000-8000-000000000000", &"x".repeat(400), "a%0Ab"] {
        let path = format!("/v1/admin/nodes/{unknown}");
        let problem = app.get(&operator, &path).await.expect_problem(404, "not_found");
        assert!(problem["detail"].as_str().unwrap().len() < 300, "{problem}");
        app.call(&operator, "POST", &format!("{path}:cordon"), Value::Null).await.expect_problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_cordoned_machine_takes_nothing_new() {
    let app = App::start().await;
    let (operator, acme) = (app.operator().await, app.acme().await);
    let path = format!("/v1/admin/nodes/{}", app.stack.agent().node());
    let closed = app.call(&operator, "POST", &format!("{path}:cordon"), Value::Null).await.expect(200).json();
    assert_eq!(closed["state"], "cordoned");
    app.call(&acme, "POST", INSTANCES, create("web")).await.expect_problem(503, "capacity_unavailable");
    let open = app.call(&operator, "POST", &format!("{path}:uncordon"), Value::Null).await.expect(200).json();
    assert_eq!(open["state"], "ready");
    app.call(&acme, "POST", INSTANCES, create("web")).await.expect(201);
}

#[tokio::test]
async fn a_machine_is_emptied_and_removed() {
    let app = App::start().await;
    let (operator, acme) = (app.operator().await, app.acme().await);
    let path = format!("/v1/admin/nodes/{}", app.stack.agent().node());
    app.call(&acme, "POST", INSTANCES, create("web")).await.expect(201);
    app.stack.agent().obey().await;
    app.call(&operator, "DELETE", &path, Value::Null).await.expect_problem(409, "node_not_empty");
    app.call(&operator, "POST", &format!("{path}:cancel-drain"), Value::Null)
        .await
        .expect_problem(409, "node_not_draining");
    let drain = format!("{path}:drain");
    app.call(&operator, "POST", &drain, json!({"then": "explode"})).await.expect_problem(400, "invalid_request");
    app.call(&operator, "POST", &drain, json!({"grace_seconds": 604_801})).await.expect_problem(422, "invalid_field");

    let waiting = app.call(&operator, "POST", &drain, json!({"grace_seconds": 3_600})).await.expect(200).json();
    assert_eq!((&waiting["state"], &waiting["drain"]["then"]), (&json!("draining"), &json!("move")));
    assert_eq!((&waiting["drain"]["left"], &waiting["drain"]["staying"]), (&json!(1), &json!(1)));
    app.call(&operator, "POST", &format!("{path}:uncordon"), Value::Null).await.expect_problem(409, "node_draining");
    let again = app.call(&operator, "POST", &format!("{path}:cancel-drain"), Value::Null).await.expect(200).json();
    assert_eq!((again["state"].as_str(), again.get("drain")), (Some("ready"), None));

    app.call(&operator, "POST", &drain, json!({"then": "stop"})).await.expect(200);
    app.stack.background().await;
    app.stack.agent().obey().await;
    let empty = app.get(&operator, &path).await.expect(200).json();
    assert_eq!((&empty["drain"]["left"], &empty["drain"]["then"]), (&json!(0), &json!("stop")), "{empty}");
    let stopped = app.get(&acme, &format!("{INSTANCES}/web")).await.expect(200).json();
    assert_eq!((&stopped["state"], &stopped["reason"]), (&json!("stopped"), &json!("evicted")));
    assert!(!stopped.to_string().contains("node-"), "a tenant is told of no machine: {stopped}");
    app.call(&operator, "DELETE", &path, Value::Null).await.expect(204);
    app.get(&operator, &path).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn only_a_silent_machine_is_confirmed_to_be_off() {
    let app = App::start().await;
    let (operator, acme) = (app.operator().await, app.acme().await);
    let path = format!("/v1/admin/nodes/{}", app.stack.agent().node());
    let off = format!("{path}:confirm-off");
    app.call(&acme, "POST", INSTANCES, create("keeps")).await.expect(201);
    let mut replaced = create("moves");
    replaced["on_node_loss"] = json!("replace");
    let made = app.call(&acme, "POST", INSTANCES, replaced).await.expect(201).json();
    assert_eq!(made["spec"]["on_node_loss"], "replace");
    app.stack.agent().obey().await;
    app.call(&operator, "POST", &off, Value::Null).await.expect_problem(409, "node_heard");
    app.stack.let_pass(Duration::from_secs(16)).await;
    let lost = app.call(&operator, "POST", &off, Value::Null).await.expect(200).json();
    assert_eq!(lost["used"]["instances"], 0, "{lost}");
    assert!(lost["silent_seconds"].as_u64().unwrap() >= 15, "{lost}");
    let state = async |name: &str| {
        let instance = app.get(&acme, &format!("{INSTANCES}/{name}")).await.expect(200).json();
        (instance["state"].clone(), instance["reason"].clone())
    };
    assert_eq!(state("keeps").await, (json!("failed"), json!("node_lost")));
    assert_eq!(state("moves").await.0, "pending");
    let fleet = app.get(&operator, "/v1/admin/fleet").await.expect(200).json();
    assert_eq!(fleet["pending_instances"], 1, "{fleet}");
}

#[tokio::test]
async fn the_fleet_in_numbers() {
    let app = App::start().await;
    let (operator, acme) = (app.operator().await, app.acme().await);
    let before = app.get(&operator, "/v1/admin/fleet").await.expect(200).json();
    assert_eq!(before["nodes"], json!({"ready": 1, "cordoned": 0, "draining": 0, "silent": 0}));
    assert_eq!(before["packing"], json!({"cpu_permille": 0, "memory_permille": 0, "instances_permille": 0}));
    let mut body = create("web");
    body["containers"][0]["cpu"] = json!("1");
    app.call(&acme, "POST", INSTANCES, body).await.expect(201);
    let after = app.get(&operator, "/v1/admin/fleet").await.expect(200).json();
    assert_eq!((&after["used"]["cpu_millis"], &after["packing"]["cpu_permille"]), (&json!(1_000), &json!(250)));
    assert!(after.get("brake").is_none(), "{after}");
    let replicas = app.get(&operator, "/v1/admin/replicas").await.expect(200).json();
    assert!(replicas["items"].is_array(), "{replicas}");
}

#[tokio::test]
async fn a_join_token_is_shown_once_with_all_that_a_machine_needs() {
    let app = App::start().await;
    let operator = app.operator().await;
    let path = "/v1/admin/join-tokens";
    app.call(&operator, "POST", path, json!({})).await.expect_problem(409, "no_agents_port");

    let app = App::with(Vec::new(), |settings| settings.join = Some(join_point())).await;
    let operator = app.operator().await;
    let body = json!({"ttl_seconds": 600, "address_range": "10.128.7.0/24"});
    let answer = app.call(&operator, "POST", path, body).await.expect(201);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let made = answer.json();
    assert_eq!(
        (&made["join_url"], &made["address_range"]),
        (&json!("https://192.0.2.1:7443"), &json!("10.128.7.0/24"))
    );
    assert_eq!(made["ca_fingerprint"], join_point().ca_fingerprint);
    assert!(made["token"].as_str().unwrap().starts_with(&format!("wjt_{}_", made["id"].as_str().unwrap())), "{made}");
    for (wrong, field) in [
        (json!({"ttl_seconds": 59}), "ttl_seconds"),
        (json!({"ttl_seconds": 604_801}), "ttl_seconds"),
        (json!({"address_range": "10.128.7.1/24"}), "address_range"),
        (json!({"address_range": "here"}), "address_range"),
    ] {
        let problem = app.call(&operator, "POST", path, wrong).await.expect_problem(422, "invalid_field");
        assert_eq!(problem["field"], field);
    }
}

#[tokio::test]
async fn events_of_the_fleet_are_told_from_a_number_on() {
    let app = App::start().await;
    let operator = app.operator().await;
    let path = format!("/v1/admin/nodes/{}", app.stack.agent().node());
    app.call(&operator, "POST", &format!("{path}:cordon"), Value::Null).await.expect(200);
    app.call(&operator, "POST", &format!("{path}:uncordon"), Value::Null).await.expect(200);
    let past = app.get(&operator, "/v1/admin/events?follow=false").await.expect(200);
    assert_eq!(past.headers["content-type"], "text/event-stream");
    let text = past.text();
    let (ids, kinds) = (fields(&text, "id"), fields(&text, "event"));
    assert!(kinds.iter().filter(|kind| **kind == "asked").count() >= 2, "{text}");
    let first: Value = serde_json::from_str(fields(&text, "data")[0]).unwrap();
    assert_eq!((first["seq"].to_string().as_str(), first["kind"].as_str()), (ids[0], Some(kinds[0])));
    let rest = app.get(&operator, &format!("/v1/admin/events?follow=false&after={}", ids[0])).await.text();
    assert_eq!(fields(&rest, "id"), ids[1..]);
    // A number of another replica, which this one has not reached: nothing is left out.
    let all = app.get(&operator, "/v1/admin/events?follow=false&after=1000000").await.text();
    assert_eq!(fields(&all, "id"), ids);
}
