//! Keeps log files within their bounds while containers write them.

use std::io;
use std::sync::Arc;

use wherry_model::InstanceId;
use wherry_runtime::{ContainerId, ContainerRuntime};

use super::files::RunFiles;
use crate::config::AgentConfig;
use crate::observer::Observer;

/// Looks at every running container's file from time to time, for ever.
pub(crate) async fn keep_bounded(
    config: Arc<AgentConfig>,
    runtime: Arc<dyn ContainerRuntime>,
    observer: Arc<Observer>,
) {
    loop {
        tokio::time::sleep(config.logs.check_every).await;
        let Some(snapshot) = observer.latest() else { continue };
        for (instance, container) in snapshot.running() {
            let files = RunFiles::new(&config.logs_of(instance), &container.name, container.run);
            if let Err(error) = bound(&config, &*runtime, &files, &container.id).await {
                complain(instance, &error);
            }
        }
    }
}

async fn bound(
    config: &AgentConfig,
    runtime: &dyn ContainerRuntime,
    files: &RunFiles,
    container: &ContainerId,
) -> io::Result<()> {
    let must_reopen = match std::fs::metadata(files.path(0)) {
        Ok(found) if found.len() <= config.logs.file_bytes => false,
        Ok(_) => {
            files.put_aside(config.logs.files_per_run)?;
            true
        }
        // Put aside before, but the engine was not told, or did not hear.
        Err(error) if error.kind() == io::ErrorKind::NotFound => files.path(1).exists(),
        Err(error) => return Err(error),
    };
    if must_reopen {
        runtime.reopen_log(container).await.map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(())
}

fn complain(instance: InstanceId, error: &io::Error) {
    tracing::warn!(%instance, %error, "a log file could not be put aside; it is tried again");
}
