//! A JSON merge patch (RFC 7396) on a spec as its tenant reads it: what is given replaces, `null` takes back to the default,
//! lists are replaced whole, and what is not named stays exactly as it was stored.

use serde_json::{Map, Value};
use wherry_api_types as wire;
use wherry_control::Error as ControlError;
use wherry_model as model;
use wherry_model::SpecError;

use super::{Seal, spec_to_model, spec_to_wire};
use crate::error::ApiError;
use crate::extract::parse_json;

/// The spec that `patch` makes of `current`.
pub(crate) fn merged_spec(
    seal: &Seal<'_>,
    name: &model::InstanceName,
    current: &model::InstanceSpec,
    patch: &Map<String, Value>,
) -> Result<model::InstanceSpec, ApiError> {
    let whole = serde_json::to_value(spec_to_wire(current)).map_err(|error| broken(&error))?;
    let whole = merge(whole, &Value::Object(patch.clone()));
    let bytes = serde_json::to_vec(&whole).map_err(|error| broken(&error))?;
    let (named, spec) = parse_json::<wire::InstanceSpec>(&bytes)?.split();
    if named.is_some_and(|named| named != name.as_str()) {
        let error = SpecError::new("name", format!("the name stays {name}: give the same here, or none"));
        return Err(ControlError::from(error).into());
    }
    let merged = spec_to_model(seal, spec)?;
    // What tenants do not read back must not get lost by being read; secrets that are only said to be set are filled in by the
    // use case.
    let names_containers = ["containers", "init_containers"].iter().any(|field| patch.contains_key(*field));
    Ok(model::InstanceSpec {
        containers: if names_containers { merged.containers } else { current.containers.clone() },
        volumes: if patch.contains_key("volumes") { merged.volumes } else { current.volumes.clone() },
        ..merged
    })
}

/// The result of a JSON merge patch.
pub(crate) fn merge(target: Value, patch: &Value) -> Value {
    let Value::Object(fields) = patch else { return patch.clone() };
    let mut merged = match target {
        Value::Object(present) => present,
        _ => Map::new(),
    };
    for (name, value) in fields {
        let before = merged.remove(name).unwrap_or(Value::Null);
        if !value.is_null() {
            merged.insert(name.clone(), merge(before, value));
        }
    }
    Value::Object(merged)
}

fn broken(error: &serde_json::Error) -> ApiError {
    let context = format!("a spec cannot be written as JSON: {error}");
    ControlError::Internal { context, source: None }.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn merges_as_the_rfc_says() {
        for (target, patch, merged) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merge(target.clone(), &patch), merged, "{target} {patch}");
        }
    }
}
