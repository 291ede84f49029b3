//! Promises of the API that outlive the process: idempotency keys, numbered events, tokens of outside issuers.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use wherry_api_types::InstanceState;

use crate::support::{PROJECT, Wherry, World, eventually, plain_client};

#[tokio::test]
async fn an_idempotency_key_means_the_same_after_a_kill() {
    let mut world = World::start().await;
    let body = world.script("once", "sleep 999 & wait");
    let made = world.client.create_instance(PROJECT, &body, Some("key-1")).await.unwrap();
    world.wherry.kill();
    world.wherry.start().await;
    let again = world.client.create_instance(PROJECT, &body, Some("key-1")).await.unwrap();
    assert_eq!(again.id, made.id);
    world.reach(&made.id, InstanceState::Running).await;

    let other = world.script("other", "sleep 999 & wait");
    let error = world.client.create_instance(PROJECT, &other, Some("key-1")).await.unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(409), Some("idempotency_parameter_mismatch")), "{error}");
    // Without the key it is another wish, and the name is taken.
    let error = world.client.create_instance(PROJECT, &body, None).await.unwrap_err();
    assert_eq!(error.code(), Some("name_taken"), "{error}");
    // Also after the instance is gone the key still means it.
    world.delete("once").await;
    let again = world.client.create_instance(PROJECT, &body, Some("key-1")).await.unwrap();
    assert_eq!(again.id, made.id, "an old request made a new instance");
    world.finish().await;
}

/// Number and data of every event after `last`, as they were stored.
async fn events(world: &World, last: Option<u64>) -> Vec<(u64, Value)> {
    let url = world.wherry.url("/v1/projects/default/events?follow=false");
    let mut request = plain_client().get(url).bearer_auth(world.wherry.token().await);
    if let Some(last) = last {
        request = request.header("last-event-id", last.to_string());
    }
    let answer = request.timeout(Duration::from_secs(10)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = answer.text().await.unwrap();
    let field = |block: &str, name: &str| -> Option<String> {
        block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let blocks = text.split("\n\n").filter_map(|block| {
        let (id, data) = (field(block, "id:")?, field(block, "data:")?);
        Some((id.parse().unwrap(), serde_json::from_str(&data).unwrap()))
    });
    blocks.collect()
}

#[tokio::test]
async fn events_are_replayed_from_any_number_after_a_restart() {
    let mut world = World::start().await;
    world.run(&world.script("first", "sleep 999 & wait")).await;
    world.wherry.cli(&["stop", "first"]).await.well();
    let all = events(&world, None).await;
    let kinds: Vec<&str> = all.iter().map(|(_, event)| event["kind"].as_str().unwrap()).collect();
    assert!(all.len() >= 5, "{kinds:?}");
    assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0), "{all:#?}");

    world.wherry.kill();
    world.wherry.start().await;
    let again = events(&world, None).await;
    assert_eq!(again[..all.len()], all[..], "the past has changed");
    for (seen, (last, _)) in again.iter().enumerate() {
        assert_eq!(events(&world, Some(*last)).await, again[seen + 1..], "after {last}");
    }
    // What comes next has a higher number.
    world.run(&world.script("second", "sleep 999 & wait")).await;
    let last = again.last().unwrap().0;
    let new = events(&world, Some(last)).await;
    assert!(!new.is_empty() && new.iter().all(|(number, _)| *number > last), "{new:#?}");
    world.finish().await;
}

#[tokio::test]
async fn the_oldest_events_go_and_who_comes_back_from_before_is_told() {
    // The least that can be set.
    let mut world = World::start_with("[fleet]\nevents_per_instance = 100\n").await;
    world.run(&world.script("busy", "sleep 999 & wait")).await;
    let first = events(&world, None).await[0].0;
    let busy = world.wherry.url("/v1/projects/default/instances/busy");
    let token = world.wherry.token().await;
    for number in 0..120 {
        let patch = json!({"labels": {"number": number.to_string()}});
        let request = plain_client().patch(&busy).bearer_auth(&token).json(&patch);
        let answer = request.header("content-type", "application/merge-patch+json").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }
    // They are counted now and then, and at each start.
    assert!(world.wherry.interrupt().await.success());
    world.wherry.start().await;
    let token = world.wherry.token().await;
    let url = world.wherry.url(&format!("/v1/projects/default/events?follow=false&after={first}"));
    let told = eventually("the oldest are gone", Duration::from_mins(2), async || {
        let answer = plain_client().get(&url).bearer_auth(&token).send().await.unwrap();
        (answer.status() == 410).then_some(answer)
    });
    let told: Value = told.await.json().await.unwrap();
    assert_eq!((&told["code"], &told["field"]), (&json!("events_forgotten"), &json!("after")), "{told}");
    let kept = events(&world, None).await;
    let from = kept[0].0 - 1;
    assert!(told["detail"].as_str().unwrap().contains(&format!("go on after {from}")), "{told} {from}");
    assert_eq!(events(&world, Some(from)).await, kept, "from there on all are there");
    assert!(kept.len() >= 100 && kept.last().unwrap().1["kind"] == "updated", "{kept:#?}");
    let billed = world.get("busy").await;
    assert_eq!((billed.state, billed.containers[0].runs.len()), (InstanceState::Running, 1), "{billed:#?}");
    world.finish().await;
}

#[tokio::test]
async fn a_change_of_what_somebody_else_has_changed_is_refused() {
    let world = World::start().await;
    world.run(&world.script("web", "sleep 999 & wait")).await;
    let (url, token) = (world.wherry.url("/v1/projects/default/instances/web"), world.wherry.token().await);
    let get = plain_client().get(&url).bearer_auth(&token).send().await.unwrap();
    let tag = get.headers()["etag"].to_str().unwrap().to_owned();
    let spec = get.json::<Value>().await.unwrap()["spec"].take();
    let patch = async |team: &str, tag: &str| {
        let request = plain_client().patch(&url).bearer_auth(&token).json(&json!({"labels": {"team": team}}));
        let request = request.header("content-type", "application/merge-patch+json").header("if-match", tag);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, changed) = patch("one", &tag).await;
    assert_eq!((status, &changed["spec"]["labels"]["team"]), (200, &json!("one")), "{changed:#}");
    // Who has seen the one before that is told so, by either verb, and nothing is changed.
    let (status, refused) = patch("two", &tag).await;
    assert_eq!(status, 409, "{refused:#}");
    assert!(refused["detail"].as_str().unwrap().contains("generation"), "{refused:#}");
    let put = plain_client().put(&url).bearer_auth(&token).header("if-match", &tag).json(&spec).send().await.unwrap();
    assert_eq!(put.status(), 409);
    let now = world.get("web").await;
    assert_eq!(now.spec.labels.get("team").map(String::as_str), Some("one"), "{now:#?}");
    assert_eq!(patch("two", &format!("\"{}\"", now.generation)).await.0, 200);
    world.finish().await;
}

/// The key of RFC 8037, appendix A.
const PRIVATE: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
/// What PKCS #8 puts before the 32 bytes of an Ed25519 key (RFC 8410 section 7).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

fn sign(private: &[u8], change: impl FnOnce(&mut Header, &mut Value)) -> String {
    let now = now();
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("outside-1".to_owned());
    let mut claims = json!({
        "iss": "https://login.example", "aud": "wherry-e2e", "sub": "alice", "org": "acme-inc",
        "iat": now, "nbf": now, "exp": now + 600,
    });
    change(&mut header, &mut claims);
    let key = EncodingKey::from_ed_der(&[PKCS8.as_slice(), private].concat());
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "who looks from outside has a clock of its own")]
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn tokens_of_a_trusted_issuer_work_for_their_tenant_only() {
    let mut wherry = Wherry::prepare("");
    let keys = wherry.scratch().join("keys.json");
    let key = json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "outside-1", "x": PUBLIC});
    std::fs::write(&keys, json!({ "keys": [key] }).to_string()).unwrap();
    wherry.write_settings(&format!(
        "[[auth.trusted]]\nissuer = \"https://login.example\"\naudience = \"wherry-e2e\"\njwks_file = \"{}\"\n\
         algorithms = [\"EdDSA\"]\ntenant_claim = \"org\"\ntenants = {{ \"acme-inc\" = \"acme\" }}\n\
         scopes = \"instances:read instances:write\"\n",
        keys.display()
    ));
    wherry.start().await;
    wherry.client().create_tenant("acme").await.unwrap();
    let asked = async |token: &str, path: &str| -> (u16, Value) {
        let answer = plain_client().get(wherry.url(path)).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    };
    let private = BASE64URL_NOPAD.decode(PRIVATE.as_bytes()).unwrap();
    let list = "/v1/projects/default/instances";

    let (status, body) = asked(&sign(&private, |_, _| {}), list).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = asked(&sign(&private, |_, _| {}), "/v1/admin/nodes").await;
    assert_eq!((status, &body["code"]), (403, &json!("insufficient_scope")));

    type Break = fn(&mut Header, &mut Value);
    let cases: [(&str, Break); 7] = [
        ("another tenant's word", |_, claims| claims["org"] = json!("default")),
        ("another audience", |_, claims| claims["aud"] = json!("somebody-else")),
        ("another issuer", |_, claims| claims["iss"] = json!("https://evil.example")),
        ("expired", |_, claims| claims["exp"] = json!(now() - 600)),
        ("not yet", |_, claims| claims["nbf"] = json!(now() + 600)),
        ("an unknown key", |header, _| header.kid = Some("outside-2".to_owned())),
        ("a key of its own", |header, _| header.jku = Some("http://127.0.0.1/keys".to_owned())),
    ];
    for (what, break_it) in cases {
        let (status, body) = asked(&sign(&private, break_it), list).await;
        assert_eq!(status, 401, "{what}: {body}");
    }
    let (status, body) = asked(&sign(&[7; 32], |_, _| {}), list).await;
    assert_eq!(status, 401, "forged: {body}");
    // Signed with a shared secret that everybody knows: the public key.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("outside-1".to_owned());
    let claims =
        json!({"iss": "https://login.example", "aud": "wherry-e2e", "sub": "a", "org": "acme-inc", "exp": now() + 600});
    let confused = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(PUBLIC.as_bytes())).unwrap();
    assert_eq!(asked(&confused, list).await.0, 401);
    wherry.finish().await;
}
