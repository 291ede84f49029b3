//! Instances: one method per operation, named after it.

use std::time::Duration;

use reqwest::Method;
use wherry_api_types::{
    DryRun, ExecRequest, Instance, InstanceCreate, InstanceList, InstanceSpec, InstanceState, InstanceStats,
    InstanceStatsList, Usage, WaitState, Waited,
};

use crate::error::ClientError;
use crate::output::ExecOutput;
use crate::transport::{Call, Client, segment};

/// Which instances to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// In one of these states; any live one when empty.
    pub states: Vec<InstanceState>,
    /// With all of these labels, `key=value`.
    pub labels: Vec<String>,
    /// After the page that gave this cursor.
    pub cursor: Option<String>,
    /// At most this many.
    pub limit: Option<u32>,
}

/// Which usage to ask for.
#[derive(Debug, Clone, Default)]
pub struct UsageOptions {
    /// Of this project; of all when absent.
    pub project: Option<String>,
    /// From here, RFC 3339.
    pub from: Option<String>,
    /// Up to here, RFC 3339.
    pub to: Option<String>,
}

fn instances(project: &str) -> String {
    format!("/v1/projects/{}/instances", segment(project))
}

pub(crate) fn instance(project: &str, name: &str) -> String {
    format!("{}/{}", instances(project), segment(name))
}

impl Client {
    /// Creates an instance. With an idempotency key it is sent again when there was no answer.
    pub async fn create_instance(
        &self,
        project: &str,
        create: &InstanceCreate,
        idempotency_key: Option<&str>,
    ) -> Result<Instance, ClientError> {
        let mut call = Call::new(Method::POST, instances(project), idempotency_key.is_some()).json(create);
        if let Some(key) = idempotency_key {
            call = call.header("idempotency-key", key);
        }
        self.json(call).await
    }

    /// What a create would cost, and whether it would fit.
    pub async fn dry_run(&self, project: &str, create: &InstanceCreate) -> Result<DryRun, ClientError> {
        self.json(Call::new(Method::POST, instances(project), true).query("dry_run", true).json(create)).await
    }

    /// Makes sure that the instance exists with this spec.
    pub async fn put_instance(&self, project: &str, name: &str, spec: &InstanceSpec) -> Result<Instance, ClientError> {
        self.json(Call::new(Method::PUT, instance(project, name), true).json(spec)).await
    }

    /// One instance, by name or id.
    pub async fn instance(&self, project: &str, name: &str) -> Result<Instance, ClientError> {
        self.json(Call::get(instance(project, name))).await
    }

    /// A page of instances, newest first.
    pub async fn instances(&self, project: &str, options: &ListOptions) -> Result<InstanceList, ClientError> {
        let mut call = Call::get(instances(project));
        for state in &options.states {
            call = call.query("state", state.as_str());
        }
        for label in &options.labels {
            call = call.query("label", label);
        }
        if let Some(cursor) = &options.cursor {
            call = call.query("cursor", cursor);
        }
        if let Some(limit) = options.limit {
            call = call.query("limit", limit);
        }
        self.json(call).await
    }

    /// Asks for a stop.
    pub async fn stop_instance(&self, project: &str, name: &str) -> Result<Instance, ClientError> {
        self.json(Call::new(Method::POST, format!("{}:stop", instance(project, name)), true)).await
    }

    /// Asks for a start.
    pub async fn start_instance(&self, project: &str, name: &str) -> Result<Instance, ClientError> {
        self.json(Call::new(Method::POST, format!("{}:start", instance(project, name)), true)).await
    }

    /// Asks for a restart of all its containers, or of one. With `pull` the registry is asked again. Sent once: each makes a restart.
    pub async fn restart_instance(
        &self,
        project: &str,
        name: &str,
        container: Option<&str>,
        pull: bool,
    ) -> Result<Instance, ClientError> {
        let path = match container {
            Some(container) => format!("{}/containers/{}:restart", instance(project, name), segment(container)),
            None => format!("{}:restart", instance(project, name)),
        };
        let mut call = Call::new(Method::POST, path, false);
        if pull {
            call = call.query("pull", true);
        }
        self.json(call).await
    }

    /// Gives the instance this spec, if it is at this generation.
    pub async fn update_instance(
        &self,
        project: &str,
        name: &str,
        generation: u64,
        spec: &InstanceSpec,
    ) -> Result<Instance, ClientError> {
        let tag = format!("\"{generation}\"");
        let call = Call::new(Method::PUT, instance(project, name), true).header("if-match", &tag);
        self.json(call.json(spec)).await
    }

    /// What that would do.
    pub async fn preview_update(
        &self,
        project: &str,
        name: &str,
        generation: u64,
        spec: &InstanceSpec,
    ) -> Result<DryRun, ClientError> {
        let tag = format!("\"{generation}\"");
        let call = Call::new(Method::PUT, instance(project, name), true).header("if-match", &tag);
        self.json(call.query("dry_run", true).json(spec)).await
    }

    /// Asks for the end of the instance.
    pub async fn delete_instance(&self, project: &str, name: &str) -> Result<Instance, ClientError> {
        self.json(Call::new(Method::DELETE, instance(project, name), true)).await
    }

    /// Waits until one of `states` is true of the instance, at most `timeout` (whole seconds, up to 300).
    pub async fn wait_instance<W: Copy + Into<WaitState> + Sync>(
        &self,
        project: &str,
        name: &str,
        states: &[W],
        timeout: Duration,
    ) -> Result<Waited, ClientError> {
        let mut call = Call::get(format!("{}/wait", instance(project, name)));
        for state in states {
            let wanted: WaitState = (*state).into();
            call = call.query("state", wanted);
        }
        self.json(call.query("timeout", format!("{}s", timeout.as_secs()))).await
    }

    /// Runs a program in a container and waits for its end. Sent once: it may do something that is not to be done twice.
    pub async fn exec(
        &self,
        project: &str,
        name: &str,
        container: &str,
        request: &ExecRequest,
    ) -> Result<ExecOutput, ClientError> {
        let path = format!("{}/containers/{}/exec", instance(project, name), segment(container));
        let result = self.json(Call::new(Method::POST, path, false).json(request)).await?;
        ExecOutput::decode(result).ok_or_else(|| self.understand_failure(200, b"output that is not base64"))
    }

    /// What the instance uses now.
    pub async fn instance_stats(&self, project: &str, name: &str) -> Result<InstanceStats, ClientError> {
        self.json(Call::get(format!("{}/stats", instance(project, name)))).await
    }

    /// What the instances of the project use now.
    pub async fn project_stats(&self, project: &str) -> Result<InstanceStatsList, ClientError> {
        self.json(Call::get(format!("/v1/projects/{}/stats", segment(project)))).await
    }

    /// What the instance used and costs, line by line.
    pub async fn instance_usage(&self, project: &str, name: &str) -> Result<Usage, ClientError> {
        self.json(Call::get(format!("{}/usage", instance(project, name)))).await
    }

    /// What the tenant used and what it costs, line by line.
    pub async fn usage(&self, options: &UsageOptions) -> Result<Usage, ClientError> {
        let mut call = Call::get("/v1/usage".to_owned());
        for (name, value) in [("project", &options.project), ("from", &options.from), ("to", &options.to)] {
            if let Some(value) = value {
                call = call.query(name, value);
            }
        }
        self.json(call).await
    }
}
