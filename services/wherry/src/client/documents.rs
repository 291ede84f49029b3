//! Specs from a file, or from standard input: YAML or JSON, any number of documents, the fields of the API and no others.
//!
//! All of them are read before anything is asked of a server, and what is wrong is said with its line. Rejected: to read them
//! by way of a tree of values, which knows no lines.

use std::io::Read as _;
use std::path::Path;

use serde::Deserialize as _;
use wherry_api_types::InstanceSpec;

use super::failure::{Exit, Failure};
use super::text::clean;

/// The largest file: a spec is at most 1 MiB for the API, and some of them may stand in one.
const MOST_BYTES: u64 = 16 << 20;

/// Most documents of one file.
const MOST_DOCUMENTS: usize = 500;

/// Reads all of `path`; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<Vec<InstanceSpec>, Failure> {
    let is_input = path == Path::new("-");
    let name = if is_input { "standard input".to_owned() } else { clean(&path.to_string_lossy()) };
    let mut text = String::new();
    let taken = if is_input {
        std::io::stdin().take(MOST_BYTES + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text))
    };
    taken.map_err(|error| Failure::new(Exit::Usage, format!("{name} cannot be read: {error}")))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MOST_BYTES) {
        return Err(Failure::new(Exit::Usage, format!("{name} is larger than {} MiB", MOST_BYTES >> 20)));
    }
    parse(&name, &text).map_err(|message| Failure::new(Exit::Usage, message))
}

fn parse(name: &str, text: &str) -> Result<Vec<InstanceSpec>, String> {
    let documents = if text.trim_start().starts_with('{') { json(name, text)? } else { yaml(name, text)? };
    if documents.is_empty() {
        return Err(format!("{name} says nothing: write at least `containers: [{{image: …}}]`"));
    }
    if documents.len() > MOST_DOCUMENTS {
        return Err(format!("{name} has {} documents, the most is {MOST_DOCUMENTS}", documents.len()));
    }
    let mut names: Vec<&str> = documents.iter().filter_map(|spec| spec.name.as_deref()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("{name} has two instances of the name {}", clean(pair[0]))),
        None => Ok(documents),
    }
}

fn yaml(name: &str, text: &str) -> Result<Vec<InstanceSpec>, String> {
    serde_saphyr::from_multiple(text).map_err(|error| {
        let location = error.location();
        let plain = error.without_snippet().to_string();
        let Some(location) = location else { return format!("{name}: {}", clean(&plain)) };
        let place = format!(" at line {}, column {}", location.line(), location.column());
        let what = plain.strip_suffix(&place).unwrap_or(&plain);
        let line = usize::try_from(location.line()).unwrap_or(0);
        let field = field_at(text, line).filter(|field| !what.contains(&format!("`{field}`")));
        let field = field.map(|field| format!("{}: ", clean(field))).unwrap_or_default();
        format!("{name}, line {line}: {field}{}", clean(what))
    })
}

/// The key of a line: what is wrong with its value is said without it.
fn field_at(text: &str, line: usize) -> Option<&str> {
    let line = text.lines().nth(line.checked_sub(1)?)?;
    let (key, _) = line.trim_start_matches([' ', '-']).split_once(':')?;
    let is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_plain.then_some(key)
}

fn json(name: &str, text: &str) -> Result<Vec<InstanceSpec>, String> {
    let mut documents = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    while reader.end().is_err() {
        match InstanceSpec::deserialize(&mut reader) {
            Ok(spec) => documents.push(spec),
            Err(error) => {
                let (line, plain) = (error.line(), error.to_string());
                let what = plain.rsplit_once(" at line ").map_or(plain.as_str(), |(what, _)| what);
                return Err(format!("{name}, line {line}: {}", clean(what)));
            }
        }
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse("web.yaml", text).unwrap_err()
    }

    #[test]
    fn the_same_in_yaml_and_in_json() {
        let yaml = "\
# the front
name: web
containers:
- image: r.example/web:1
  cpu: 0.25
  env: [{name: A, value: 010}]
  ports: [{port: 80}]
  readiness_probe:
    http: {port: 80, path: /ok}
labels: {team: net, release: 1.10}
---
name: job
restart_policy: never
containers: [{image: r.example/job:7}]
";
        let json = r#"{"name":"web","containers":[{"image":"r.example/web:1","cpu":"0.25","env":[{"name":"A","value":"010"}],
            "ports":[{"port":80}],"readiness_probe":{"http":{"port":80,"path":"/ok"}}}],"labels":{"team":"net","release":"1.10"}}
            {"name":"job","restart_policy":"never","containers":[{"image":"r.example/job:7"}]}"#;
        let read = parse("x", yaml).unwrap();
        assert_eq!(read, parse("x", json).unwrap());
        assert_eq!((read.len(), read[1].name.as_deref()), (2, Some("job")));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, wanted) in [
            (
                "containers:\n- image: r/a\n  cpuu: 1\n",
                "web.yaml, line 3: unknown field `cpuu`, expected one of name, image",
            ),
            ("containers:\n- image: [1]\n", "web.yaml, line 2: image: expected string scalar"),
            ("name: a\ncontainers: 3\n", "web.yaml, line 2: containers: expected sequence start"),
            ("containers:\n- image: r/a\n  ports:\n  - port: http\n", "web.yaml, line 4: port: "),
            (
                "name: a\ncontainers: []\n---\nrestart_policy: often\ncontainers: []\n",
                "web.yaml, line 4: restart_policy: unknown variant `often`, expected one of",
            ),
            ("name: a\nname: b\ncontainers: []\n", "web.yaml, line 2: name: duplicate"),
            ("containers:\n  - image: x\n   cpu: 1\n", "web.yaml, line 3: cpu: "),
            ("name: web\n", "web.yaml, line 1: name: missing field `containers`"),
            (
                "{\"containers\":[{\"image\":\"r/a\",\n\"cpuu\":1}]}",
                "web.yaml, line 2: unknown field `cpuu`, expected one of",
            ),
            ("{\"containers\":[{\"image\":\"r/a\"}]", "web.yaml, line 1: EOF"),
            ("# nothing\n---\n", "web.yaml says nothing"),
            ("name: a\ncontainers: []\n---\nname: a\ncontainers: []\n", "web.yaml has two instances of the name a"),
        ] {
            let message = refused(text);
            assert!(message.starts_with(wanted), "{text}\n{message}\n{wanted}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }

    #[test]
    fn a_value_is_not_repeated() {
        let message =
            refused("registry_credentials:\n- {registry: r, username: u, password: [hush]}\ncontainers: []\n");
        assert!(!message.contains("hush"), "{message}");
    }

    #[test]
    fn aliases_do_not_grow_without_bound() {
        let mut text = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (name, before) in ('b'..='i').zip('a'..) {
            let nine = vec![format!("*{before}"); 9].join(", ");
            text = format!("{text}{name}: &{name} [{nine}]\n");
        }
        assert!(parse("bomb", &text).is_err());
    }

    #[test]
    fn a_file_that_is_not_there_is_a_usage_error() {
        let Err(Failure::Told { exit, message }) = read(Path::new("/not/there.yaml")) else { panic!("it was read") };
        assert_eq!(exit, Exit::Usage);
        assert!(message.contains("/not/there.yaml"), "{message}");
    }
}
