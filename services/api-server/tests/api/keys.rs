//! Projects, keys and tenants.

use serde_json::{Value, json};

use crate::support::{App, create, request, token_request};

#[tokio::test]
async fn projects_are_folders() {
    let app = App::start().await;
    let token = app.acme().await;
    app.call(&token, "POST", "/v1/projects", json!({"name": "shop"})).await.expect(201);
    app.call(&token, "POST", "/v1/projects", json!({"name": "shop"})).await.expect_problem(409, "name_taken");
    app.call(&token, "POST", "/v1/projects", json!({"name": "Shop"})).await.expect_problem(422, "invalid_field");
    let list = app.get(&token, "/v1/projects").await.expect(200).json();
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "shop"]);
    // The same name in two projects is two instances.
    app.call(&token, "POST", "/v1/projects/default/instances", create("web")).await.expect(201);
    app.call(&token, "POST", "/v1/projects/shop/instances", create("web")).await.expect(201);
}

#[tokio::test]
async fn a_secret_is_shown_once_and_a_revoked_key_ends() {
    let app = App::start().await;
    let token = app.acme().await;
    let body = json!({"name": "ci", "scopes": ["instances:read"]});
    let answer = app.call(&token, "POST", "/v1/keys", body).await.expect(201);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let made = answer.json();
    let (id, secret) = (made["key"]["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let list = app.get(&token, "/v1/keys").await.expect(200).text();
    assert!(list.contains(id) && !list.contains(secret) && !list.contains("secret"), "{list}");

    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let grant = app.ask(token_request(&form)).await.expect(200).json();
    let narrow = grant["access_token"].as_str().unwrap();
    app.get(narrow, "/v1/projects").await.expect(200);
    app.get(narrow, "/v1/keys").await.expect_problem(403, "insufficient_scope");

    app.call(&token, "DELETE", &format!("/v1/keys/{id}"), Value::Null).await.expect(204);
    app.call(&token, "DELETE", &format!("/v1/keys/{id}"), Value::Null).await.expect(204);
    app.get(narrow, "/v1/projects").await.expect_problem(401, "unauthenticated");
    app.ask(token_request(&form)).await.expect(401);
    let list = app.get(&token, "/v1/keys").await.expect(200).json();
    let revoked = list["items"].as_array().unwrap().iter().find(|key| key["id"] == id).unwrap();
    assert!(revoked["revoked_at"].is_string());
}

#[tokio::test]
async fn no_key_can_do_more_than_who_makes_it() {
    let app = App::start().await;
    let token = app.token_of(&app.stack.acme().key, "keys:write instances:read").await;
    for scopes in [json!(["admin"]), json!(["instances:write"]), json!(["instances:read", "logs:read"])] {
        let body = json!({"name": "more", "scopes": scopes});
        app.call(&token, "POST", "/v1/keys", body).await.expect_problem(403, "insufficient_scope");
    }
    app.call(&token, "POST", "/v1/keys", json!({"name": "k", "scopes": ["instances:read"]})).await.expect(201);
    let past = json!({"name": "k", "scopes": ["instances:read"], "expires_at": "2020-01-01T00:00:00Z"});
    app.call(&token, "POST", "/v1/keys", past).await.expect_problem(422, "invalid_field");
    let unknown = json!({"name": "k", "scopes": ["root"]});
    app.call(&token, "POST", "/v1/keys", unknown).await.expect_problem(400, "invalid_request");
}

#[tokio::test]
async fn an_operator_makes_tenants_and_their_first_keys() {
    let app = App::start().await;
    let operator = app.operator().await;
    let tenant = app.call(&operator, "POST", "/v1/admin/tenants", json!({"name": "corp"})).await.expect(201).json();
    app.call(&operator, "POST", "/v1/admin/tenants", json!({"name": "corp"})).await.expect_problem(409, "name_taken");
    let page = app.get(&operator, "/v1/admin/tenants?limit=2").await.expect(200).json();
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let next = page["next"].as_str().unwrap();
    let rest = app.get(&operator, &format!("/v1/admin/tenants?after={next}")).await.expect(200).json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 2, "acme, blue | corp, operator: {rest}");

    let path = format!("/v1/admin/tenants/{}/keys", tenant["id"].as_str().unwrap());
    let body = json!({"name": "first", "scopes": ["instances:read", "instances:write"]});
    let made = app.call(&operator, "POST", &path, body).await.expect(201).json();
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        made["key"]["id"].as_str().unwrap(),
        made["secret"].as_str().unwrap()
    );
    let grant = app.ask(token_request(&form)).await.expect(200).json();
    let token = grant["access_token"].as_str().unwrap();
    app.call(token, "POST", "/v1/projects/default/instances", create("web")).await.expect(201);
    let nodes = app.get(&operator, "/v1/admin/nodes").await.expect(200).json();
    assert_eq!(nodes["items"][0]["used"]["instances"], 1, "{nodes}");
    app.ask(request(None, "GET", "/v1/admin/nodes", &Value::Null)).await.expect_problem(401, "unauthenticated");
}
