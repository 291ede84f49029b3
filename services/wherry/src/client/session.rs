//! What the commands ask of the service: `/v1` for one project, its errors already sentences.

use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use wherry_api_client::{
    Client, ClientError, Credentials, EventOptions, ExecOptions, ListOptions, LogOptions, SessionReader, SessionWriter,
    UsageOptions,
};
use wherry_api_types::{
    DryRun, Event, Instance, InstanceCreate, InstanceList, InstanceSpec, InstanceState, InstanceStats,
    InstanceStatsList, KeyCreate, KeyCreated, KeyList, Tenant, TenantList, TerminalSize, Usage, WaitState, Waited,
};
use wherry_model::Entropy as _;

use super::connection::ClientFile;
use super::failure::{Exit, Failure};
use super::text::clean;
use crate::system::SystemEntropy;

/// Instances on one page of a list: the most that the service gives.
const PAGE: u32 = 200;

/// A service, a key, a project.
pub(super) struct Session {
    client: Client,
    project: String,
}

impl Session {
    /// Asks nothing of the service yet.
    pub(super) fn new(found: ClientFile) -> Result<Self, Failure> {
        let ClientFile { server, key_id, key_secret, project } = found;
        let client = Client::new(&server, Credentials { key_id, key_secret })?;
        Ok(Self { client, project })
    }

    pub(super) fn server(&self) -> &str {
        self.client.server()
    }

    pub(super) fn project(&self) -> &str {
        &self.project
    }

    /// Creates. Without a key of the caller's one is made up, so that an answer that is lost makes no second instance.
    pub(super) async fn create(&self, body: &InstanceCreate, key: Option<&str>) -> Result<Instance, Failure> {
        let key = key.map_or_else(random_key, str::to_owned);
        Ok(self.client.create_instance(&self.project, body, Some(&key)).await?)
    }

    pub(super) async fn dry_run(&self, body: &InstanceCreate) -> Result<DryRun, Failure> {
        Ok(self.client.dry_run(&self.project, body).await?)
    }

    pub(super) async fn get(&self, name: &str) -> Result<Instance, Failure> {
        Ok(self.client.instance(&self.project, name).await?)
    }

    pub(super) async fn list(
        &self,
        states: &[InstanceState],
        labels: &[(String, String)],
        cursor: Option<String>,
    ) -> Result<InstanceList, Failure> {
        let labels = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let options = ListOptions { states: states.to_vec(), labels, cursor, limit: Some(PAGE) };
        Ok(self.client.instances(&self.project, &options).await?)
    }

    pub(super) async fn stop(&self, name: &str) -> Result<Instance, Failure> {
        Ok(self.client.stop_instance(&self.project, name).await?)
    }

    pub(super) async fn start(&self, name: &str) -> Result<Instance, Failure> {
        Ok(self.client.start_instance(&self.project, name).await?)
    }

    pub(super) async fn restart(&self, name: &str, container: Option<&str>, pull: bool) -> Result<Instance, Failure> {
        Ok(self.client.restart_instance(&self.project, name, container, pull).await?)
    }

    pub(super) async fn update(&self, name: &str, generation: u64, spec: &InstanceSpec) -> Result<Instance, Failure> {
        Ok(self.client.update_instance(&self.project, name, generation, spec).await?)
    }

    pub(super) async fn preview(&self, name: &str, generation: u64, spec: &InstanceSpec) -> Result<DryRun, Failure> {
        Ok(self.client.preview_update(&self.project, name, generation, spec).await?)
    }

    pub(super) async fn delete(&self, name: &str) -> Result<Instance, Failure> {
        Ok(self.client.delete_instance(&self.project, name).await?)
    }

    pub(super) async fn instance_stats(&self, name: &str) -> Result<InstanceStats, Failure> {
        Ok(self.client.instance_stats(&self.project, name).await?)
    }

    pub(super) async fn project_stats(&self) -> Result<InstanceStatsList, Failure> {
        Ok(self.client.project_stats(&self.project).await?)
    }

    /// Waits in whole seconds, rounded down.
    pub(super) async fn wait<W: Copy + Into<WaitState> + Sync>(
        &self,
        name: &str,
        states: &[W],
        timeout: Duration,
    ) -> Result<Waited, Failure> {
        Ok(self.client.wait_instance(&self.project, name, states, timeout).await?)
    }

    pub(super) async fn logs(
        &self,
        name: &str,
        container: &str,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<Vec<u8>, Failure>>, Failure> {
        let pieces = self.client.logs(&self.project, name, container, options).await?;
        Ok(pieces.map_err(Failure::from).boxed())
    }

    pub(super) async fn exec_session(
        &self,
        name: &str,
        container: &str,
        options: &ExecOptions,
    ) -> Result<(SessionWriter, SessionReader), Failure> {
        Ok(self.client.exec_session(&self.project, name, container, options).await?)
    }

    pub(super) async fn attach(
        &self,
        name: &str,
        container: &str,
        stdin: bool,
        tty: Option<TerminalSize>,
    ) -> Result<(SessionWriter, SessionReader), Failure> {
        Ok(self.client.attach(&self.project, name, container, stdin, tty).await?)
    }

    pub(super) async fn port_forward(&self, name: &str, port: u16) -> Result<(SessionWriter, SessionReader), Failure> {
        Ok(self.client.port_forward(&self.project, name, port).await?)
    }

    pub(super) async fn events(
        &self,
        instance: Option<&str>,
        after: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Event, Failure>>, Failure> {
        let options = EventOptions { instance: instance.map(str::to_owned), after, past_only: !follow };
        let events = self.client.events(&self.project, &options).await?;
        Ok(events.map_err(Failure::from).boxed())
    }

    pub(super) async fn instance_usage(&self, name: &str) -> Result<Usage, Failure> {
        Ok(self.client.instance_usage(&self.project, name).await?)
    }

    /// Of the project.
    pub(super) async fn usage(&self, from: Option<&str>, to: Option<&str>) -> Result<Usage, Failure> {
        let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
        let options = UsageOptions { project: Some(self.project.clone()), from, to };
        Ok(self.client.usage(&options).await?)
    }

    pub(super) async fn create_key(&self, body: &KeyCreate) -> Result<KeyCreated, Failure> {
        Ok(self.client.create_key(body).await?)
    }

    pub(super) async fn create_tenant_key(&self, tenant: &str, body: &KeyCreate) -> Result<KeyCreated, Failure> {
        Ok(self.client.create_tenant_key(tenant, body).await?)
    }

    pub(super) async fn keys(&self) -> Result<KeyList, Failure> {
        Ok(self.client.keys().await?)
    }

    pub(super) async fn revoke_key(&self, id: &str) -> Result<(), Failure> {
        Ok(self.client.revoke_key(id).await?)
    }

    pub(super) async fn create_tenant(&self, name: &str) -> Result<Tenant, Failure> {
        Ok(self.client.create_tenant(name).await?)
    }

    pub(super) async fn tenants(&self, after: Option<&str>) -> Result<TenantList, Failure> {
        Ok(self.client.tenants(after).await?)
    }

    /// For what operators do, which belongs to no project.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }
}

fn random_key() -> String {
    let mut bytes = [0; 16];
    SystemEntropy.fill(&mut bytes);
    format!("cli-{:032x}", u128::from_be_bytes(bytes))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Problem(problem) => Self::refused(problem),
            ClientError::Away { server, source } => {
                // The innermost cause is the one that says something: "connection refused".
                let mut cause: &dyn std::error::Error = source;
                while let Some(deeper) = cause.source() {
                    cause = deeper;
                }
                Self::away(server, &cause.to_string())
            }
            ClientError::Token(_) => Self::failed(format!(
                "{}; `wherry up` makes a new key for this machine when its old one does not work any more",
                clean(&error.to_string())
            )),
            ClientError::Unexpected { status: 502..=504, .. } => Self::new(Exit::ServerAway, clean(&error.to_string())),
            ClientError::Unexpected { .. } | ClientError::BrokenOff { .. } | ClientError::Tls { .. } => {
                Self::failed(clean(&error.to_string()))
            }
            ClientError::Address(_) => Self::new(Exit::Usage, clean(&error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(server: &str) -> Result<Session, Failure> {
        Session::new(ClientFile {
            server: server.to_owned(),
            key_id: "id".to_owned(),
            key_secret: "secret".to_owned(),
            project: "default".to_owned(),
        })
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_told_in_one_sentence() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let failure = session(&format!("http://127.0.0.1:{port}")).unwrap().create_tenant("t").await.unwrap_err();
        let Failure::Told { exit, message } = failure else { panic!("nothing was printed") };
        assert_eq!(exit, Exit::ServerAway);
        assert!(message.contains("`wherry up` running") && message.contains("refused"), "{message}");
    }

    #[test]
    fn an_address_that_is_none_is_a_usage_error() {
        let Some(Failure::Told { exit, message }) = session("here").err() else { panic!("it was accepted") };
        assert_eq!(exit, Exit::Usage);
        assert!(message.contains("http://"), "{message}");
    }

    #[test]
    fn made_up_keys_differ() {
        assert_ne!(random_key(), random_key());
        assert_eq!(random_key().len(), 36);
    }
}
