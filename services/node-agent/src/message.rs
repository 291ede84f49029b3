//! What a tenant is told when something fails: what it means for them and what they can do. Never the machine's name,
//! paths or inner workings; those go to the operator's log.

use wherry_runtime::RuntimeError;

/// Folders of the machine that engines mention in their errors.
const HOST_FOLDERS: [&str; 6] = ["/run/", "/var/", "/sys/", "/proc/", "/tmp/", "/root/"];

/// The sentence for an error of the engine.
pub(crate) fn for_tenant(error: &RuntimeError) -> String {
    match error {
        RuntimeError::ImageNotFound { .. }
        | RuntimeError::RegistryUnavailable { .. }
        | RuntimeError::Unauthorized { .. }
        | RuntimeError::ImageRefused { .. }
        | RuntimeError::CannotStart { .. } => without_host_paths(&error.to_string()),
        RuntimeError::InvalidArgument { message } => {
            format!("the container cannot be made as described: {}", without_host_paths(message))
        }
        RuntimeError::DiskFull { .. } => {
            "there is no disk space left for images where it is placed; it is tried again, or delete it and create it anew"
                .to_owned()
        }
        RuntimeError::Timeout { after, .. } => format!("it was not done within {} s", after.as_secs()),
        RuntimeError::ProgramTimeout { .. } | RuntimeError::Detached { .. } | RuntimeError::NothingListens { .. } => error.to_string(),
        RuntimeError::Unavailable { .. } => "the container engine is being restarted".to_owned(),
        RuntimeError::NotFound { .. }
        | RuntimeError::NotRunning { .. }
        | RuntimeError::AlreadyExists { .. }
        | RuntimeError::Internal { .. } => {
            "the container engine failed".to_owned()
        }
    }
}

/// The text with every path of the machine replaced.
fn without_host_paths(text: &str) -> String {
    let ends_path = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | ')' | ']' | '`');
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    let next_path = |text: &str| HOST_FOLDERS.iter().filter_map(|folder| text.find(folder)).min();
    while let Some(start) = next_path(rest) {
        let (before, path) = rest.split_at(start);
        let end = path.find(ends_path).unwrap_or(path.len());
        clean.push_str(before);
        clean.push_str("(a path)");
        rest = path.get(end..).unwrap_or_default();
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_machine_are_replaced_and_the_rest_is_kept() {
        assert_eq!(
            without_host_paths("open \"/var/lib/x/y\": /run/z: no such file; exec /srv/app failed"),
            "open \"(a path)\": (a path) no such file; exec /srv/app failed"
        );
        let error = RuntimeError::DiskFull { message: "write /var/lib/containerd/x: no space left".into() };
        assert!(!for_tenant(&error).contains("/var"));
    }
}
