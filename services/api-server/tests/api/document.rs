//! The OpenAPI document: checked in, whole, and served.

use std::collections::BTreeSet;

use serde_json::Value;
use wherry_api_server::openapi_text;

use crate::support::{App, request};

#[test]
fn the_checked_in_document_is_the_codes() {
    let checked_in = include_str!("../../../../openapi/wherry-v1.json");
    assert!(
        checked_in == openapi_text(),
        "openapi/wherry-v1.json is not what the code says: look at the difference, then run \
         `cargo run -p wherry-api-server --example openapi > openapi/wherry-v1.json`"
    );
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.insert(reference.clone());
            }
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document: Value = serde_json::from_str(&openapi_text()).unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        // These travel inside of a stream or a WebSocket, which the document cannot describe in types.
        let inside = ["CloudEvent", "Event", "FleetEvent", "SessionCommand", "SessionEnd"];
        let used = found.contains(&format!("#/components/schemas/{name}")) || inside.contains(&name.as_str());
        assert!(used, "the schema {name} is not used");
    }
}

#[test]
fn every_operation_is_documented_for_people() {
    let document: Value = serde_json::from_str(&openapi_text()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let place = format!("{method} {path}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(id.contains('_') && id.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{place}: {id}");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{place}");
            assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{place}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].as_str().is_some_and(|text| !text.is_empty()), "{place}: {parameter}");
            }
        }
    }
}

#[tokio::test]
async fn it_is_served_with_a_page_that_loads_nothing_from_elsewhere() {
    let app = App::start().await;
    let served = app.ask(request(None, "GET", "/openapi.json", &Value::Null)).await.expect(200);
    assert_eq!(served.text(), openapi_text());
    for (path, kind) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/page.css", "text/css; charset=utf-8"),
        ("/docs/page.js", "text/javascript; charset=utf-8"),
    ] {
        let asset = app.ask(request(None, "GET", path, &Value::Null)).await.expect(200);
        assert_eq!(asset.headers["content-type"], kind);
        assert!(asset.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
        let text = asset.text();
        assert!(text.len() > 500, "{path} is a page");
        for elsewhere in ["http://", "https://", "//cdn", "innerHTML", "eval("] {
            assert!(!text.contains(elsewhere), "{path} contains {elsewhere}");
        }
    }
}
