//! Images between CRI and the contract.

use std::collections::BTreeMap;

use serde::Deserialize;
use wherry_runtime::{Image, Labels};

use crate::generated::runtime::v1;

/// The part of containerd's verbose image information that holds the image's configuration.
#[derive(Debug, Default, Deserialize)]
struct Info {
    #[serde(rename = "imageSpec", default)]
    image_spec: ImageSpec,
}

#[derive(Debug, Default, Deserialize)]
struct ImageSpec {
    #[serde(default)]
    config: ImageConfig,
}

#[derive(Debug, Default, Deserialize)]
struct ImageConfig {
    #[serde(rename = "Labels", default)]
    labels: Option<Labels>,
}

pub(crate) fn image(image: v1::Image, info: &BTreeMap<String, String>) -> Image {
    let user = match (image.uid, image.username) {
        (Some(uid), _) => Some(uid.value.to_string()),
        (None, name) if !name.is_empty() => Some(name),
        (None, _) => None,
    };
    Image {
        id: image.id,
        tags: image.repo_tags,
        digests: image.repo_digests,
        size_bytes: image.size,
        labels: labels(info),
        user,
    }
}

/// Labels from the verbose information; an engine that gives none gives no labels.
fn labels(info: &BTreeMap<String, String>) -> Labels {
    let parsed: Option<Info> = info.get("info").and_then(|text| serde_json::from_str(text).ok());
    parsed.and_then(|info| info.image_spec.config.labels).unwrap_or_default()
}

/// The registry that credentials are for, as containerd compares it with whom it asks: a mirror that the operator has put before the
/// registry, or where a registry leads to, is not told a tenant's password.
pub(crate) fn server_address(reference: &str) -> String {
    let registry = match reference.split('/').next().unwrap_or_default() {
        // Nobody serves images by the name that everybody writes.
        "docker.io" => "registry-1.docker.io",
        other => other,
    };
    // Without a scheme it would be read as a path.
    format!("https://{registry}")
}

/// The pinned reference among an image's digests that belongs to the repository of `reference`.
///
/// Two manifests of one repository may share a configuration and so be one image here; then either means the same bytes.
pub(crate) fn pinned_reference(reference: &str, image: &Image) -> Option<String> {
    let repository = repository(reference);
    let wanted = reference.split_once('@').map(|(_, digest)| digest);
    let of_repository = |candidate: &&String| {
        candidate
            .split_once('@')
            .is_some_and(|(name, digest)| name == repository && wanted.is_none_or(|wanted| wanted == digest))
    };
    image.digests.iter().rfind(of_repository).cloned()
}

fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_from_the_configuration() {
        let text = r#"{"chainID":"sha256:1","imageSpec":{"architecture":"amd64","config":{"Labels":{"a":"b"}}}}"#;
        assert_eq!(labels(&BTreeMap::from([("info".into(), text.into())]))["a"], "b");
        let bare = r#"{"imageSpec":{"config":{"Labels":null}}}"#;
        assert!(labels(&BTreeMap::from([("info".into(), bare.into())])).is_empty());
    }

    #[test]
    fn credentials_are_for_the_registry_of_the_reference_alone() {
        for (reference, address) in [
            ("r.example:5000/team/web:1", "https://r.example:5000"),
            ("127.0.0.1:5000/web@sha256:1", "https://127.0.0.1:5000"),
            ("docker.io/library/busybox:1", "https://registry-1.docker.io"),
        ] {
            assert_eq!(server_address(reference), address);
        }
    }

    #[test]
    fn pin_is_of_the_same_repository() {
        let image = Image {
            digests: vec!["127.0.0.1:5000/other@sha256:1".into(), "127.0.0.1:5000/web@sha256:2".into()],
            ..Image::default()
        };
        let pin = Some("127.0.0.1:5000/web@sha256:2".to_owned());
        assert_eq!(pinned_reference("127.0.0.1:5000/web:1", &image), pin);
        assert_eq!(pinned_reference("127.0.0.1:5000/web@sha256:2", &image), pin);
        assert_eq!(pinned_reference("127.0.0.1:5000/nothing:1", &image), None);
    }
}
