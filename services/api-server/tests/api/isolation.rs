//! Whose things are whose (A01-A03 of the attack list). Every operation of the document stands in [`rows`]; one without a
//! row fails the test.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wherry_api_server::openapi_text;
use wherry_model::ScopeSet;

use crate::support::{Answer, App, create, join_point, request, spec};

/// What the other tenant owns.
struct Theirs {
    instance: String,
    key: String,
    tenant: String,
    /// A machine of the operator's.
    node: String,
}

/// How an operation is tried with what belongs to another.
enum Reach {
    /// It names an object: these paths name the other tenant's. All of them must be as if nothing was there.
    Object(Vec<String>),
    /// It names no object; its answer must not speak of the other tenant.
    Own,
    /// It belongs to the operator: no scope that a tenant can have is enough.
    Operator,
    /// It needs no token.
    Public,
}

struct Row {
    operation: &'static str,
    method: &'static str,
    /// With one's own object, for the tests of tokens and scopes.
    own: String,
    body: Value,
    reach: Reach,
}

fn row(operation: &'static str, method: &'static str, own: &str, body: Value, reach: Reach) -> Row {
    Row { operation, method, own: own.to_owned(), body, reach }
}

/// The other tenant's instance by name in its project, by id there, and by id in a project of one's own.
fn instance_paths(theirs: &Theirs, rest: &str) -> Reach {
    Reach::Object(vec![
        format!("/v1/projects/vault/instances/web{rest}"),
        format!("/v1/projects/vault/instances/{}{rest}", theirs.instance),
        format!("/v1/projects/default/instances/{}{rest}", theirs.instance),
        format!("/v1/projects/default/instances/web{rest}"),
    ])
}

fn rows(theirs: &Theirs) -> Vec<Row> {
    use Reach::{Object, Operator, Own, Public};
    let null = || Value::Null;
    let key = || json!({"name": "k", "scopes": ["logs:read"]});
    let node = |rest: &str| format!("/v1/admin/nodes/{}{rest}", theirs.node);
    let explain = format!("/v1/admin/explain?tenant={}&project=vault&instance=web", theirs.tenant);
    let mut rows = vec![
        row("token_create", "POST", "/oauth2/token", null(), Public),
        row("jwks_get", "GET", "/.well-known/jwks.json", null(), Public),
        row("authorization_server_get", "GET", "/.well-known/oauth-authorization-server", null(), Public),
        row("project_list", "GET", "/v1/projects", null(), Own),
        row("project_create", "POST", "/v1/projects", json!({"name": "other"}), Own),
        row(
            "instance_list",
            "GET",
            "/v1/projects/default/instances",
            null(),
            Object(vec!["/v1/projects/vault/instances".into()]),
        ),
        row(
            "instance_create",
            "POST",
            "/v1/projects/default/instances",
            create("new"),
            Object(vec!["/v1/projects/vault/instances".into()]),
        ),
        row("instance_get", "GET", "/v1/projects/default/instances/mine", null(), instance_paths(theirs, "")),
        row(
            "instance_put",
            "PUT",
            "/v1/projects/default/instances/put",
            spec(),
            Object(vec!["/v1/projects/vault/instances/web".into()]),
        ),
        row(
            "instance_stop",
            "POST",
            "/v1/projects/default/instances/mine:stop",
            null(),
            instance_paths(theirs, ":stop"),
        ),
        row(
            "instance_start",
            "POST",
            "/v1/projects/default/instances/mine:start",
            null(),
            instance_paths(theirs, ":start"),
        ),
        row(
            "instance_restart",
            "POST",
            "/v1/projects/default/instances/mine:restart",
            null(),
            instance_paths(theirs, ":restart"),
        ),
        row(
            "container_restart",
            "POST",
            "/v1/projects/default/instances/mine/containers/main:restart",
            null(),
            instance_paths(theirs, "/containers/main:restart"),
        ),
        row(
            "instance_patch",
            "PATCH",
            "/v1/projects/default/instances/mine",
            json!({"labels": {"a": "b"}}),
            instance_paths(theirs, ""),
        ),
        row(
            "instance_wait",
            "GET",
            "/v1/projects/default/instances/mine/wait?state=running&timeout=120s",
            null(),
            instance_paths(theirs, "/wait?state=running&timeout=0s"),
        ),
        row(
            "container_exec",
            "POST",
            "/v1/projects/default/instances/mine/containers/main/exec",
            json!({"command": ["true"]}),
            instance_paths(theirs, "/containers/main/exec"),
        ),
        row(
            "container_exec_session",
            "GET",
            "/v1/projects/default/instances/mine/containers/main/exec?command=true",
            null(),
            instance_paths(theirs, "/containers/main/exec?command=true"),
        ),
        row(
            "container_attach",
            "GET",
            "/v1/projects/default/instances/mine/containers/main/attach",
            null(),
            instance_paths(theirs, "/containers/main/attach"),
        ),
        row(
            "instance_port_forward",
            "GET",
            "/v1/projects/default/instances/mine/port-forward?port=80",
            null(),
            instance_paths(theirs, "/port-forward?port=80"),
        ),
        row(
            "project_audit",
            "GET",
            "/v1/projects/default/audit",
            null(),
            Object(vec!["/v1/projects/vault/audit".into()]),
        ),
        row("audit_list", "GET", "/v1/admin/audit", null(), Operator),
        row(
            "container_logs",
            "GET",
            "/v1/projects/default/instances/mine/containers/main/logs",
            null(),
            instance_paths(theirs, "/containers/main/logs"),
        ),
        row(
            "instance_stats",
            "GET",
            "/v1/projects/default/instances/mine/stats",
            null(),
            instance_paths(theirs, "/stats"),
        ),
        row(
            "project_stats",
            "GET",
            "/v1/projects/default/stats",
            null(),
            Object(vec!["/v1/projects/vault/stats".into()]),
        ),
        row(
            "project_metrics",
            "GET",
            "/v1/projects/default/metrics",
            null(),
            Object(vec!["/v1/projects/vault/metrics".into()]),
        ),
        row(
            "instance_usage",
            "GET",
            "/v1/projects/default/instances/mine/usage",
            null(),
            instance_paths(theirs, "/usage"),
        ),
        row(
            "instance_events",
            "GET",
            "/v1/projects/default/instances/mine/events?follow=false",
            null(),
            instance_paths(theirs, "/events?follow=false"),
        ),
        row(
            "project_events",
            "GET",
            "/v1/projects/default/events?follow=false",
            null(),
            Object(vec!["/v1/projects/vault/events".into()]),
        ),
        row("usage_get", "GET", "/v1/usage", null(), Object(vec!["/v1/usage?project=vault".into()])),
        row("key_list", "GET", "/v1/keys", null(), Own),
        row("key_create", "POST", "/v1/keys", key(), Own),
        row(
            "key_revoke",
            "DELETE",
            "/v1/keys/01935700-0000-7000-8000-000000000000",
            null(),
            Object(vec![format!("/v1/keys/{}", theirs.key)]),
        ),
        row("instance_delete", "DELETE", "/v1/projects/default/instances/mine", null(), instance_paths(theirs, "")),
        row("tenant_list", "GET", "/v1/admin/tenants", null(), Operator),
        row("tenant_create", "POST", "/v1/admin/tenants", json!({"name": "new"}), Operator),
        row(
            "tenant_key_create",
            "POST",
            "/v1/admin/tenants/01935700-0000-7000-8000-000000000000/keys",
            key(),
            Operator,
        ),
        row("node_list", "GET", "/v1/admin/nodes", null(), Operator),
        row("fleet_get", "GET", "/v1/admin/fleet", null(), Operator),
        row("fleet_what_if", "POST", "/v1/admin/fleet/what-if", json!({}), Operator),
        row("explain_spec", "POST", "/v1/admin/explain", create("new"), Operator),
        row("explain_instance", "GET", &explain, null(), Operator),
        row("fleet_events", "GET", "/v1/admin/events?follow=false", null(), Operator),
        row("secrets_reseal", "POST", "/v1/admin/secrets:reseal", null(), Operator),
        row("replica_list", "GET", "/v1/admin/replicas", null(), Operator),
        row("join_token_create", "POST", "/v1/admin/join-tokens", json!({}), Operator),
    ];
    let hook = json!({"name": "mine", "url": "https://hooks.example/a"});
    for (operation, method, own, other, body) in [
        ("webhook_create", "POST", "", "", hook),
        ("webhook_list", "GET", "", "", null()),
        ("webhook_get", "GET", "/mine", "/hook", null()),
        ("webhook_patch", "PATCH", "/mine", "/hook", json!({"events": ["failed"]})),
        ("webhook_rotate_secret", "POST", "/mine:rotate-secret", "/hook:rotate-secret", null()),
        ("webhook_test", "POST", "/mine:test", "/hook:test", null()),
        ("webhook_deliveries", "GET", "/mine/deliveries", "/hook/deliveries", null()),
        ("webhook_delivery_get", "GET", "/mine/deliveries/NONE", "/hook/deliveries/NONE", null()),
        ("webhook_redeliver", "POST", "/mine/deliveries/NONE:redeliver", "/hook/deliveries/NONE:redeliver", null()),
        ("webhook_delete", "DELETE", "/mine", "/hook", null()),
    ] {
        let path = |project: &str, rest: &str| {
            let rest = rest.replace("NONE", "01935700-0000-7000-8000-000000000000");
            format!("/v1/projects/{project}/webhooks{rest}")
        };
        let mut paths = vec![path("vault", other)];
        if !other.is_empty() {
            paths.push(path("default", other));
        }
        rows.push(row(operation, method, &path("default", own), body, Object(paths)));
    }
    for (operation, method, rest, body) in [
        ("node_get", "GET", "", null()),
        ("node_cordon", "POST", ":cordon", null()),
        ("node_uncordon", "POST", ":uncordon", null()),
        ("node_drain", "POST", ":drain", json!({"grace_seconds": 3_600})),
        ("node_cancel_drain", "POST", ":cancel-drain", null()),
        ("node_confirm_off", "POST", ":confirm-off", null()),
        ("node_remove", "DELETE", "", null()),
    ] {
        rows.push(row(operation, method, &node(rest), body, Operator));
    }
    rows
}

/// The tenant acme makes a project with an instance in it.
async fn furnish(app: &App) -> Theirs {
    let acme = app.acme().await;
    app.call(&acme, "POST", "/v1/projects", json!({"name": "vault"})).await.expect(201);
    let made = app.call(&acme, "POST", "/v1/projects/vault/instances", create("web")).await.expect(201).json();
    app.call(&acme, "GET", "/v1/projects/vault/instances/web", Value::Null).await.expect(200);
    let hook = json!({"name": "hook", "url": "https://hooks.example/vault"});
    app.call(&acme, "POST", "/v1/projects/vault/webhooks", hook).await.expect(201);
    Theirs {
        instance: made["id"].as_str().unwrap().to_owned(),
        key: app.stack.acme().key.record.id.to_string(),
        tenant: app.stack.acme().record.id.to_string(),
        node: app.stack.agent().node().to_string(),
    }
}

/// Status and body, without what is different in every answer.
fn essence(answer: &Answer) -> (u16, Value) {
    let mut body = answer.json();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("request_id");
    }
    (answer.status.as_u16(), body)
}

#[tokio::test]
async fn every_operation_has_a_row() {
    let document: Value = serde_json::from_str(&openapi_text()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert!(documented.insert(id), "two operations have one id: {method} {path}");
        }
    }
    let none = String::new;
    let nobody = Theirs { instance: none(), key: none(), tenant: none(), node: none() };
    let rows: BTreeSet<String> = rows(&nobody).into_iter().map(|row| row.operation.to_owned()).collect();
    assert_eq!(documented, rows, "every operation of the document needs a row in this table, and no other");
}

#[tokio::test]
async fn what_is_anothers_is_as_if_it_were_not_there() {
    let app = App::start().await;
    let theirs = furnish(&app).await;
    let blue = app.blue().await;
    // The same requests, where acme has made nothing: nobody can tell the difference.
    let empty = App::elsewhere().await;
    let blue_of_empty = empty.blue().await;
    for row in rows(&theirs) {
        match &row.reach {
            Reach::Object(paths) => {
                for path in paths {
                    let found = app.call(&blue, row.method, path, row.body.clone()).await;
                    assert_eq!(found.status, 404, "{}: {path}: {}", row.operation, found.text());
                    let nothing = empty.call(&blue_of_empty, row.method, path, row.body.clone()).await;
                    assert_eq!(essence(&found), essence(&nothing), "{}: {path}", row.operation);
                }
            }
            Reach::Own => {
                let answer = app.call(&blue, row.method, &row.own, row.body.clone()).await;
                assert!(answer.status.is_success(), "{}: {}", row.operation, answer.text());
                let text = answer.text();
                for secret in [&theirs.instance, &theirs.key, &theirs.tenant, &theirs.node, &"vault".to_owned()] {
                    assert!(!text.contains(secret.as_str()), "{} tells of {secret}", row.operation);
                }
            }
            Reach::Operator => {
                let answer = app.call(&blue, row.method, &row.own, row.body.clone()).await;
                answer.expect_problem(403, "insufficient_scope");
            }
            Reach::Public => {}
        }
    }
    let acme = app.acme().await;
    let untouched = app.get(&acme, "/v1/projects/vault/instances/web").await.expect(200).json();
    assert_eq!(untouched["generation"], 1, "nothing had a side effect");
    assert_eq!(untouched["state"], "scheduled");
    app.get(&acme, "/v1/keys").await.expect(200);
}

#[tokio::test]
async fn no_token_is_401_and_a_token_without_the_scope_is_403() {
    let app = App::start().await;
    let theirs = furnish(&app).await;
    let blue = app.blue().await;
    app.call(&blue, "POST", "/v1/projects/default/instances", create("mine")).await.expect(201);
    let document: Value = serde_json::from_str(&openapi_text()).unwrap();
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let operations: Vec<&Value> = operations.collect();
    for row in rows(&theirs) {
        if matches!(row.reach, Reach::Public) {
            continue;
        }
        let documented = operations.iter().find(|operation| operation["operationId"] == row.operation).unwrap();
        let needed = documented["security"][0]["token"][0].as_str().unwrap_or_else(|| panic!("{}", row.operation));

        let answer = app.ask(request(None, row.method, &row.own, &row.body)).await;
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"wherry\"");
        answer.expect_problem(401, "unauthenticated");

        let others: ScopeSet = wherry_model::Scope::ALL.into_iter().filter(|scope| scope.as_str() != needed).collect();
        let key = app.new_key(app.stack.blue().record.id, others).await;
        let token = app.token_of(&key, "").await;
        let answer = app.call(&token, row.method, &row.own, row.body.clone()).await;
        let challenge = answer.headers.get("www-authenticate").cloned();
        assert_eq!(answer.status, 403, "{}: {}", row.operation, answer.text());
        answer.expect_problem(403, "insufficient_scope");
        assert!(challenge.unwrap().to_str().unwrap().contains(needed), "{}", row.operation);
    }
}

#[tokio::test]
async fn with_the_scope_every_operation_does_its_work() {
    let app = App::with(Vec::new(), |settings| settings.join = Some(join_point())).await;
    let theirs = furnish(&app).await;
    let _at_work = app.stack.agent().keep_obeying();
    let token = app.operator().await;
    app.call(&token, "POST", "/v1/projects/default/instances", create("mine")).await.expect(201);
    for row in rows(&theirs) {
        if matches!(row.reach, Reach::Public) {
            continue;
        }
        let answer = app.call(&token, row.method, &row.own, row.body.clone()).await;
        // These name nobody, or a machine that is heard and has instances, or go on as a WebSocket.
        let refused_on_purpose = match row.operation {
            "key_revoke" | "tenant_key_create" | "webhook_delivery_get" | "webhook_redeliver" => Some(404),
            "node_confirm_off" | "node_remove" => Some(409),
            "container_exec_session" | "container_attach" | "instance_port_forward" => Some(426),
            _ => None,
        };
        assert!(
            answer.status.is_success() || refused_on_purpose == Some(answer.status.as_u16()),
            "the refusals above are not for want of the operation itself: {}: {}",
            row.operation,
            answer.text()
        );
    }
}
