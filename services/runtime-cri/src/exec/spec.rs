//! How a program inside a container is described to the OCI runtime.

use serde_json::{Value, json};
use wherry_runtime::{Result, RuntimeError, StreamExec};

/// As what a description of a process travels.
pub(super) const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// What programs on a terminal take it for when their image does not say.
const TERM: &str = "TERM=xterm";

/// The first process in a container's description.
pub(super) fn first_process(spec: &[u8]) -> Result<Value> {
    let unreadable = |why: String| RuntimeError::Internal { message: format!("a container's description: {why}") };
    let mut spec: Value = serde_json::from_slice(spec).map_err(|error| unreadable(error.to_string()))?;
    let process = spec.get_mut("process").map(Value::take).filter(Value::is_object);
    process.ok_or_else(|| unreadable("it names no process".into()))
}

/// The limit that carries the mark of a program ([`super::tree`]).
const MARK: &str = "RLIMIT_LOCKS";

/// The same process with another command, with a terminal or without, and with its mark.
pub(super) fn process(first: &Value, request: &StreamExec, mark: u64) -> Result<Vec<u8>> {
    let mut process = first.clone();
    let mut limits = process["rlimits"].take().as_array().cloned().unwrap_or_default();
    limits.retain(|limit| limit["type"] != MARK);
    limits.push(json!({ "type": MARK, "hard": mark, "soft": mark }));
    process["rlimits"] = json!(limits);
    process["args"] = json!(request.command);
    process["terminal"] = json!(request.tty.is_some());
    process["consoleSize"] = Value::Null;
    if let Some(size) = request.tty {
        process["consoleSize"] = json!({ "height": size.rows, "width": size.columns });
        let mut environment = process["env"].take();
        let has_term = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("TERM="));
        match environment.as_array_mut() {
            Some(known) if known.iter().any(has_term) => {}
            Some(known) => known.push(json!(TERM)),
            None => environment = json!([TERM]),
        }
        process["env"] = environment;
    }
    if let Some(fields) = process.as_object_mut() {
        fields.remove("commandLine");
        fields.retain(|_, value| !value.is_null());
    }
    serde_json::to_vec(&process).map_err(|error| RuntimeError::Internal { message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use wherry_runtime::TerminalSize;

    use super::*;

    fn described(environment: Value, request: &StreamExec) -> Value {
        let spec = json!({
            "process": {
                "args": ["/server"], "env": environment, "cwd": "/srv", "user": { "uid": 33, "gid": 33 },
                "noNewPrivileges": true, "capabilities": { "bounding": ["CAP_CHOWN"] }, "terminal": true,
                "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 9, "soft": 8 }],
            },
            "root": { "path": "rootfs" },
        });
        let first = first_process(&serde_json::to_vec(&spec).unwrap()).unwrap();
        serde_json::from_slice(&process(&first, request, 7).unwrap()).unwrap()
    }

    #[test]
    fn everything_but_the_command_is_the_first_process() {
        let request = StreamExec { command: vec!["a".into(), "b c".into()], ..StreamExec::default() };
        let expected = json!({
            "args": ["a", "b c"], "env": ["LANG=C.UTF-8"], "cwd": "/srv", "user": { "uid": 33, "gid": 33 },
            "noNewPrivileges": true, "capabilities": { "bounding": ["CAP_CHOWN"] }, "terminal": false,
            "rlimits": [
                { "type": "RLIMIT_NOFILE", "hard": 9, "soft": 8 }, { "type": "RLIMIT_LOCKS", "hard": 7, "soft": 7 },
            ],
        });
        assert_eq!(described(json!(["LANG=C.UTF-8"]), &request), expected);
    }

    #[test]
    fn terminals_have_a_size_and_a_kind() {
        let tty = Some(TerminalSize { columns: 100, rows: 40 });
        let request = StreamExec { command: vec!["sh".into()], stdin: true, tty };
        let on_terminal = described(json!(["A=b"]), &request);
        assert_eq!(on_terminal["consoleSize"], json!({ "height": 40, "width": 100 }));
        assert_eq!(on_terminal["env"], json!(["A=b", "TERM=xterm"]));
        assert_eq!(described(json!(["TERM=vt100"]), &request)["env"], json!(["TERM=vt100"]));
        assert_eq!(described(Value::Null, &request)["env"], json!(["TERM=xterm"]));
    }

    #[test]
    fn a_description_without_a_process_is_none() {
        for text in ["", "{}", r#"{"process": 3}"#] {
            assert!(first_process(text.as_bytes()).is_err(), "{text}");
        }
    }
}
