//! Instances that nobody can have: each is refused with the field at fault and a way out, and nothing is stored.

use serde_json::{Value, json};

use crate::support::{App, create};

const INSTANCES: &str = "/v1/projects/default/instances";

/// The wrong value at `path` (`/`-separated, as JSON pointers are) of a create that is right otherwise.
type Wrong = (&'static str, &'static str, fn() -> Value);

/// The field that the answer names, where the value goes, the value.
const SPECS: &[Wrong] = &[
    ("name", "/name", || json!("Web")),
    ("name", "/name", || json!("a".repeat(64))),
    ("name", "/name", || json!("-web")),
    ("name", "/name", || json!("localhost")),
    ("zone", "/zone", || json!("West")),
    ("zone", "/zone", || json!("a".repeat(32))),
    ("zone", "/zone", || json!("nowhere")),
    ("dedicated", "/dedicated", || json!("yes")),
    ("priority", "/priority", || json!("low")),
    ("placement.spread[0].label", "/placement", || json!({"spread": [{"label": "app"}]})),
    ("placement.spread[0].max_skew", "/placement", || json!({"spread": [{"label": "app", "max_skew": 0}]})),
    ("placement.spread[0].over", "/placement", || json!({"spread": [{"label": "app", "over": "rack"}]})),
    ("placement.near[0]", "/placement", || json!({"near": ["app"]})),
    ("placement.near[0]", "/placement", || json!({"near": ["app=a"], "apart": ["app=a"]})),
    ("placement.apart[0]", "/placement", || json!({"apart": ["a b=c"]})),
    ("placement.apart", "/placement", || json!({"apart": vec!["app=a"; 17]})),
    ("placement.towards", "/placement", || json!({"towards": ["app=a"]})),
    ("containers", "/containers", || json!([])),
    ("containers", "/containers", || Value::Array(many(61))),
    ("containers", "/containers", || json!("web")),
    ("containers[0]", "/containers", || json!([null])),
    ("containers[0].image", "/containers/0/image", || json!("nginx")),
    ("containers[0].image", "/containers/0/image", || json!("")),
    ("containers[0].image", "/containers/0/image", || json!("r.example/UPPER")),
    ("containers[0].image", "/containers/0/image", || json!("r.example/a@sha256:abc")),
    ("containers[0].name", "/containers/0/name", || json!("a_b")),
    ("containers[0].pull_policy", "/containers/0/pull_policy", || json!("sometimes")),
    ("containers[0].cpu", "/containers/0/cpu", || json!("9m")),
    ("containers[0].cpu", "/containers/0/cpu", || json!("0.0001")),
    ("containers[0].cpu", "/containers/0/cpu", || json!("1025")),
    ("containers[0].cpu", "/containers/0/cpu", || json!("-1")),
    ("containers[0].cpu", "/containers/0/cpu", || json!(1)),
    ("containers[0].memory", "/containers/0/memory", || json!("3Mi")),
    ("containers[0].memory", "/containers/0/memory", || json!("1.5Ki")),
    ("containers[0].memory", "/containers/0/memory", || json!("17Ti")),
    ("containers[0].memory", "/containers/0/memory", || json!("lots")),
    ("containers[0].command", "/containers/0/command", || json!(vec!["x"; 257])),
    ("containers[0].command", "/containers/0/args", || json!(["x".repeat(40_000)])),
    ("containers[0].command", "/containers/0/command", || json!(["a\u{0}b"])),
    ("containers[0].command", "/containers/0/command", || json!("sh -c true")),
    ("containers[0].env", "/containers/0/env", || Value::Array((0..257).map(variable).collect())),
    ("containers[0].env", "/containers/0/env", || json!([{"name": "A", "value": "x".repeat(70_000)}])),
    ("containers[0].env[0].name", "/containers/0/env", || json!([{"name": "A=B", "value": ""}])),
    ("containers[0].env[0].name", "/containers/0/env", || json!([{"name": "", "value": ""}])),
    ("containers[0].env[0].value", "/containers/0/env", || json!([{"name": "A", "value": "\u{0}"}])),
    ("containers[0].env[0].value", "/containers/0/env", || json!([{"name": "A", "value": 1}])),
    ("containers[0].env[0].secret", "/containers/0/env", || json!([{"name": "A", "secret": "a\u{0}b"}])),
    ("containers[0].env[0].secret", "/containers/0/env", || json!([{"name": "A", "secret": 1}])),
    ("containers[0].env[0].secret", "/containers/0/env", || json!([{"name": "A", "secret": "x".repeat(40_000)}])),
    ("containers[0].env[0].secret", "/containers/0/env", || json!([{"name": "A", "secret_set": true}])),
    ("containers[0].env[0].value", "/containers/0/env", || json!([{"name": "A", "value": "x", "secret": "y"}])),
    ("containers[0].working_dir", "/containers/0/working_dir", || json!("srv")),
    ("containers[0].user", "/containers/0/user", || json!("a b")),
    ("containers[0].user", "/containers/0/user", || json!("1000:wheel")),
    ("containers[0].user", "/containers/0/user", || json!("99999999999")),
    ("containers[0].ports", "/containers/0/ports", || {
        Value::Array((1..=65).map(|port| json!({"port": port})).collect())
    }),
    ("containers[0].ports[0].port", "/containers/0/ports", || json!([{"port": 0}])),
    ("containers[0].ports[0].port", "/containers/0/ports", || json!([{"port": 65_536}])),
    ("containers[0].ports[0].port", "/containers/0/ports", || json!([{"port": 80.5}])),
    ("containers[0].ports[0].protocol", "/containers/0/ports", || json!([{"port": 80, "protocol": "sctp"}])),
    ("containers[0].ports[0].name", "/containers/0/ports", || json!([{"port": 80, "name": "HTTP"}])),
    ("containers[0].ports[0].host_port", "/containers/0/ports", || json!([{"port": 80, "host_port": 80}])),
    ("containers[0].depends_on[0].container", "/containers/0/depends_on", || json!([{"container": "nobody"}])),
    (
        "containers[0].depends_on[0].condition",
        "/containers/0/depends_on",
        || json!([{"container": "main", "condition": "soon"}]),
    ),
    ("containers[0].depends_on", "/containers/0/depends_on", || json!([{"container": "main"}])),
    ("containers[0].liveness_probe", "/containers/0/liveness_probe", || json!({})),
    (
        "containers[0].liveness_probe",
        "/containers/0/liveness_probe",
        || json!({"tcp": {"port": 80}, "exec": {"command": ["true"]}}),
    ),
    ("containers[0].liveness_probe.tcp.port", "/containers/0/liveness_probe", || json!({"tcp": {"port": 0}})),
    (
        "containers[0].liveness_probe.period_seconds",
        "/containers/0/liveness_probe",
        || json!({"tcp": {"port": 80}, "period_seconds": 0}),
    ),
    (
        "containers[0].liveness_probe.timeout_seconds",
        "/containers/0/liveness_probe",
        || json!({"tcp": {"port": 80}, "timeout_seconds": 3601}),
    ),
    (
        "containers[0].liveness_probe.success_threshold",
        "/containers/0/liveness_probe",
        || json!({"tcp": {"port": 80}, "success_threshold": 2}),
    ),
    (
        "containers[0].liveness_probe.failure_threshold",
        "/containers/0/liveness_probe",
        || json!({"tcp": {"port": 80}, "failure_threshold": 0}),
    ),
    ("isolation", "/isolation", || json!("dedicated")),
    ("isolation", "/isolation", || json!("virtual_machine")),
    ("dns_label", "/dns_label", || json!("Shop")),
    ("dns_label", "/dns_label", || json!("a.b")),
    ("dns_label", "/dns_label", || json!("ns")),
    ("dns_label", "/dns_label", || json!("a".repeat(64))),
    ("dns_reuse_scope", "/dns_reuse_scope", || json!("service")),
    ("containers[0].liveness_probe.every", "/containers/0/liveness_probe", || json!({"tcp": {"port": 80}, "every": 1})),
    (
        "containers[0].readiness_probe.exec.command",
        "/containers/0/readiness_probe",
        || json!({"exec": {"command": []}}),
    ),
    (
        "containers[0].readiness_probe.exec.command",
        "/containers/0/readiness_probe",
        || json!({"exec": {"command": [""]}}),
    ),
    (
        "containers[0].startup_probe.http.path",
        "/containers/0/startup_probe",
        || json!({"http": {"port": 80, "path": "x"}}),
    ),
    (
        "containers[0].startup_probe.http.path",
        "/containers/0/startup_probe",
        || json!({"http": {"port": 80, "path": "/a b"}}),
    ),
    (
        "containers[0].startup_probe.http.scheme",
        "/containers/0/startup_probe",
        || json!({"http": {"port": 80, "scheme": "gopher"}}),
    ),
    (
        "containers[0].startup_probe.http.headers[0]",
        "/containers/0/startup_probe",
        || json!({"http": {"port": 80, "headers": [{"name": "a b", "value": ""}]}}),
    ),
    (
        "containers[0].startup_probe.initial_delay_seconds",
        "/containers/0/startup_probe",
        || json!({"tcp": {"port": 80}, "initial_delay_seconds": -1}),
    ),
    ("containers[0].post_start", "/containers/0/post_start", || json!({})),
    ("containers[0].pre_stop.exec.command", "/containers/0/pre_stop", || json!({"exec": {"command": ["a\u{0}"]}})),
    ("containers[0].stop_signal", "/containers/0/stop_signal", || json!("TERM")),
    ("containers[0].stop_signal", "/containers/0/stop_signal", || json!("SIGNIFICANT")),
    ("containers[0].stdin", "/containers/0/stdin", || json!("yes")),
    ("containers[0].privileged", "/containers/0/privileged", || json!(true)),
    ("containers[0].security_context", "/containers/0/security_context", || json!({})),
    ("init_containers[0].image", "/init_containers", || json!([{"image": "nginx", "name": "first"}])),
    (
        "init_containers[0].liveness_probe",
        "/init_containers",
        || json!([{"image": "r.example/a", "name": "first", "liveness_probe": {"tcp": {"port": 80}}}]),
    ),
    (
        "init_containers[0].depends_on[0].container",
        "/init_containers",
        || json!([{"image": "r.example/a", "name": "first", "depends_on": [{"container": "main"}]}]),
    ),
    ("containers[0].name", "/init_containers", || json!([{"image": "r.example/a"}])),
    (
        "containers[0].volume_mounts[0].volume",
        "/containers/0/volume_mounts",
        || json!([{"volume": "nowhere", "path": "/data"}]),
    ),
    ("volumes[0].name", "/volumes", || json!([{"name": "A", "empty_dir": {}}])),
    ("volumes[0]", "/volumes", || json!([{"name": "a"}])),
    ("volumes[0]", "/volumes", || json!([{"name": "a", "empty_dir": {}, "config": {"files": {"x": ""}}}])),
    ("volumes[0].host_path", "/volumes", || json!([{"name": "a", "host_path": {"path": "/"}}])),
    ("volumes[0].empty_dir.medium", "/volumes", || json!([{"name": "a", "empty_dir": {"medium": "tape"}}])),
    (
        "volumes[0].empty_dir.size",
        "/volumes",
        || json!([{"name": "a", "empty_dir": {"medium": "memory", "size": "0"}}]),
    ),
    ("ephemeral_disk", "/ephemeral_disk", || json!("1Mi")),
    ("gpu", "/gpu", || json!(1)),
    ("gpu", "/gpu", || json!({})),
    ("gpu.count", "/gpu", || json!({"count": 0})),
    ("gpu.count", "/gpu", || json!({"count": 17})),
    ("gpu.count", "/gpu", || json!({"count": 1.5})),
    ("gpu.share_percent", "/gpu", || json!({"share_percent": 0})),
    ("gpu.share_percent", "/gpu", || json!({"share_percent": 101})),
    ("gpu.share_percent", "/gpu", || json!({"count": 1, "share_percent": 50})),
    ("gpu.model", "/gpu", || json!({"model": "A100"})),
    ("gpu.model", "/gpu", || json!({"model": "a".repeat(32)})),
    ("gpu.devices", "/gpu", || json!({"devices": [0]})),
    ("pids", "/pids", || json!(15)),
    ("volumes[0].git.repository", "/volumes", || json!([{"name": "a", "git": {"repository": "ssh://a.example/b"}}])),
    (
        "volumes[0].git.repository",
        "/volumes",
        || json!([{"name": "a", "git": {"repository": "https://u:p@a.example/b"}}]),
    ),
    (
        "volumes[0].git.revision",
        "/volumes",
        || json!([{"name": "a", "git": {"repository": "https://a.example/b", "revision": "-x"}}]),
    ),
    (
        "volumes[0].git.directory",
        "/volumes",
        || json!([{"name": "a", "git": {"repository": "https://a.example/b", "directory": "../c"}}]),
    ),
    ("volumes[0].secret.files", "/volumes", || json!([{"name": "a", "secret": {}}])),
    ("volumes[0].secret.files", "/volumes", || json!([{"name": "a", "secret": {"files": {"a/b": "x"}}}])),
    ("volumes[0].secret.files.x", "/volumes", || json!([{"name": "a", "secret": {"files_set": ["x"]}}])),
    (
        "volumes[0].secret.files.x",
        "/volumes",
        || json!([{"name": "a", "secret": {"files": {"x": "x".repeat(262_145)}}}]),
    ),
    ("volumes[0].secret.mode", "/volumes", || json!([{"name": "a", "secret": {"files": {"x": ""}, "mode": "0999"}}])),
    ("volumes[0].secret.mode", "/volumes", || json!([{"name": "a", "secret": {"files": {"x": ""}, "mode": 256}}])),
    (
        "registry_credentials[0].password",
        "/registry_credentials",
        || json!([{"registry": "r.example", "username": "me"}]),
    ),
    (
        "registry_credentials[0].password",
        "/registry_credentials",
        || json!([{"registry": "r.example", "username": "me", "password_set": true}]),
    ),
    (
        "registry_credentials[0].registry",
        "/registry_credentials",
        || json!([{"registry": "https://r.example", "username": "me", "password": "x"}]),
    ),
    (
        "registry_credentials[0].username",
        "/registry_credentials",
        || json!([{"registry": "r.example", "username": "", "password": "x"}]),
    ),
    ("registry_credentials[1].registry", "/registry_credentials", || {
        let one = json!({"registry": "r.example", "username": "me", "password": "x"});
        json!([one, one])
    }),
    ("registry_credentials", "/registry_credentials", || {
        let one = |n| json!({"registry": format!("r{n}.example"), "username": "me", "password": "x"});
        Value::Array((0..17).map(one).collect())
    }),
    ("volumes[0].config.files", "/volumes", || json!([{"name": "a", "config": {"files": {}}}])),
    ("volumes[0].config.files", "/volumes", || json!([{"name": "a", "config": {"files": {"../x": ""}}}])),
    ("volumes[0].config.files", "/volumes", || json!([{"name": "a", "config": {"files": {"a/b": ""}}}])),
    ("restart_policy", "/restart_policy", || json!("sometimes")),
    ("max_restarts", "/max_restarts", || json!(1_000_001)),
    ("max_restarts", "/max_restarts", || json!(-1)),
    ("architecture", "/architecture", || json!("pdp11")),
    ("stop_grace_seconds", "/stop_grace_seconds", || json!(601)),
    ("deadline_seconds", "/deadline_seconds", || json!(0)),
    ("schedule", "/schedule", || json!("@daily")),
    ("schedule.cron", "/schedule", || json!({})),
    ("schedule.cron", "/schedule", || json!({"cron": "* * * *"})),
    ("schedule.cron", "/schedule", || json!({"cron": "61 * * * *"})),
    ("schedule.cron", "/schedule", || json!({"cron": "*/0 * * * *"})),
    ("schedule.cron", "/schedule", || json!({"cron": "30-10 * * * *"})),
    ("schedule.cron", "/schedule", || json!({"cron": "@reboot"})),
    // No February has thirty days.
    ("schedule.cron", "/schedule", || json!({"cron": "0 0 30 2 *"})),
    ("schedule.cron", "/schedule", || json!({"cron": format!("0 0 * * {}", "1,".repeat(100))})),
    ("schedule.cron", "/schedule", || json!({"cron": 5})),
    ("schedule.time_zone", "/schedule", || json!({"cron": "@daily", "time_zone": "Europe/Atlantis"})),
    ("schedule.time_zone", "/schedule", || json!({"cron": "@daily", "time_zone": "../etc/passwd"})),
    ("schedule.time_zone", "/schedule", || json!({"cron": "@daily", "time_zone": ""})),
    ("schedule.starting_deadline_seconds", "/schedule", || json!({"cron": "@daily", "starting_deadline_seconds": 0})),
    (
        "schedule.starting_deadline_seconds",
        "/schedule",
        || json!({"cron": "@daily", "starting_deadline_seconds": 86_401}),
    ),
    ("schedule.starting_deadline_seconds", "/schedule", || json!({"cron": "@daily", "starting_deadline_seconds": 1.5})),
    ("schedule.on_overlap", "/schedule", || json!({"cron": "@daily", "on_overlap": "queue"})),
    ("schedule.suspended", "/schedule", || json!({"cron": "@daily", "suspended": "no"})),
    ("schedule.every", "/schedule", || json!({"cron": "@daily", "every": "5m"})),
    ("on_node_loss", "/on_node_loss", || json!("pray")),
    ("dns.servers[0]", "/dns", || json!({"servers": ["ns.example"]})),
    ("dns.searches[0]", "/dns", || json!({"searches": ["a b"]})),
    ("dns.options", "/dns", || json!({"options": vec!["ndots:1"; 7]})),
    ("host_aliases[0].address", "/host_aliases", || json!([{"address": "localhost", "names": ["a"]}])),
    ("host_aliases[0].names", "/host_aliases", || json!([{"address": "10.0.0.1", "names": []}])),
    ("host_aliases[0].names", "/host_aliases", || json!([{"address": "10.0.0.1", "names": ["a b"]}])),
    ("publish_unready", "/publish_unready", || json!("no")),
    ("labels", "/labels", || json!({"a b": ""})),
    ("labels.a", "/labels", || json!({"a": "x\ny"})),
    ("node", "/node", || json!("n1")),
    ("tenant", "/tenant", || json!("blue")),
];

fn many(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({"image": "r.example/a", "name": format!("c{number}")})).collect()
}

fn variable(number: usize) -> Value {
    json!({"name": format!("V{number}"), "value": ""})
}

/// The create with the value in its place; folders on the way that are not there are made.
fn with(path: &str, value: Value) -> Value {
    let mut body = create("web");
    let (parent, last) = path.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap();
    parent.as_object_mut().unwrap().insert(last.to_owned(), value);
    body
}

/// Each field alone is right, both together mean nothing.
#[tokio::test]
async fn what_is_started_by_the_clock_ends_by_itself_and_stays() {
    let app = App::start().await;
    let token = app.acme().await;
    for (field, value) in [("restart_policy", json!("always")), ("ttl_seconds", json!(60))] {
        let mut body = with("/schedule", json!({"cron": "@daily"}));
        body[field] = value;
        let problem = app.call(&token, "POST", INSTANCES, body.clone()).await.expect(422).json();
        assert_eq!(problem["field"], field, "{problem}");
        body.as_object_mut().unwrap().remove("schedule");
        app.call(&token, "POST", &format!("{INSTANCES}?dry_run=true"), body).await.expect(200);
    }
}

/// Whoever asks for a kernel of its own does not have a stranger's repository unpacked by the machine's.
#[tokio::test]
async fn a_repository_takes_the_shared_kernel() {
    let app = App::start().await;
    let token = app.acme().await;
    let mut body = with("/volumes", json!([{"name": "a", "git": {"repository": "https://a.example/b"}}]));
    app.call(&token, "POST", &format!("{INSTANCES}?dry_run=true"), body.clone()).await.expect(200);
    body["isolation"] = json!("sandboxed");
    let problem = app.call(&token, "POST", INSTANCES, body).await.expect(422).json();
    assert_eq!(problem["field"], "volumes[0].git", "{problem}");
}

#[tokio::test]
async fn each_names_its_field_and_stores_nothing() {
    assert!(SPECS.len() >= 80, "{} wrong specs", SPECS.len());
    let app = App::start().await;
    let token = app.acme().await;
    let mut wrong = Vec::new();
    for (field, path, value) in SPECS {
        let value = value();
        let shown: String = value.to_string().chars().take(80).collect();
        let answer = app.call(&token, "POST", INSTANCES, with(path, value)).await;
        let status = answer.status.as_u16();
        let problem = answer.json();
        let explained = problem["detail"].as_str().is_some_and(|detail| detail.len() > 10);
        if !matches!(status, 400 | 422) || problem["field"] != *field || !explained {
            wrong.push(format!("{path} = {shown}: {status} {problem}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let list = app.get(&token, INSTANCES).await.expect(200).json();
    assert_eq!(list["items"], json!([]), "nothing was stored");
}
