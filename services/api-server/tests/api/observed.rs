//! What is seen from outside of a request: one line in the log, and numbers without names.

use std::io::Write;
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{App, create, request};

/// Lines that were logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_request_is_one_line_with_its_caller_and_its_time() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().json().with_writer(lines.clone()).finish();
    let app = App::start().await;
    let token = app.acme().await;
    let answer = {
        let _logged = tracing::subscriber::set_default(subscriber);
        app.call(&token, "POST", "/v1/projects/default/instances", create("quietname")).await.expect(201)
    };
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let answered: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["fields"]["message"] == "answered")
        .collect();
    assert_eq!(answered.len(), 1, "{text}");
    let fields = &answered[0]["fields"];
    assert_eq!(fields["id"], answer.headers["x-request-id"].to_str().unwrap());
    assert_eq!(fields["tenant"], app.stack.acme().record.id.to_string());
    assert_eq!(fields["method"], "POST");
    assert_eq!(fields["route"], "/v1/projects/{project}/instances");
    assert_eq!(fields["status"], 201);
    assert!(fields["time_ms"].as_str().unwrap().parse::<f64>().is_ok(), "{fields}");
    assert!(!text.contains(&token), "a token is never logged");
}

#[tokio::test]
async fn numbers_have_routes_and_never_names() {
    let app = App::start().await;
    let token = app.acme().await;
    app.call(&token, "POST", "/v1/projects/default/instances", create("quietname")).await.expect(201);
    app.call(&token, "POST", "/v1/projects/default/instances/quietname:stop", Value::Null).await.expect(202);
    app.get(&token, "/nobody/serves/this").await.expect(404);
    app.call(&token, "BREW", "/v1/projects", Value::Null).await.expect(405);
    let scrape = app.operator.clone().oneshot(request(None, "GET", "/metrics", &Value::Null)).await.unwrap();
    assert_eq!(scrape.status(), 200);
    let text = String::from_utf8(scrape.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    for wanted in [
        "http_requests_total{method=\"POST\",route=\"/v1/projects/{project}/instances\",status=\"201\"} 1",
        "http_requests_total{method=\"POST\",route=\"/v1/projects/{project}/instances/{instance}:stop\",status=\"202\"} 1",
        "http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"} 1",
        "http_requests_total{method=\"other\",route=\"/v1/projects\",status=\"405\"} 1",
        "http_requests_in_flight 0",
        "http_streams_open 0",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
    }
    for name in ["quietname", &app.stack.acme().record.id.to_string(), "nobody"] {
        assert!(!text.contains(name), "{name} is a label");
    }
    // The public port does not serve the operator's numbers.
    app.get(&token, "/metrics").await.expect_problem(404, "no_such_route");
}
