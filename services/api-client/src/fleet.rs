//! What operators do with machines. All of it needs the scope `admin`. A machine is named by its name or id.

use reqwest::Method;
use wherry_api_types::{
    Explanation, Fleet, InstanceSpec, JoinTokenCreate, JoinTokenCreated, Node, NodeDrainRequest, NodeList, ReplicaList,
    SecretsResealed, WhatIf, WhatIfAnswer,
};

use crate::error::ClientError;
use crate::transport::{Call, Client, segment};

const NODES: &str = "/v1/admin/nodes";
const EXPLAIN: &str = "/v1/admin/explain";

fn of_tenant<'c>(call: Call<'c>, tenant: Option<&str>) -> Call<'c> {
    match tenant {
        Some(tenant) => call.query("tenant", tenant),
        None => call,
    }
}

fn node(name: &str) -> String {
    format!("{NODES}/{}", segment(name))
}

impl Client {
    /// All machines.
    pub async fn nodes(&self) -> Result<NodeList, ClientError> {
        self.json(Call::get(NODES.to_owned())).await
    }

    /// One machine, with the progress of its drain.
    pub async fn node(&self, name: &str) -> Result<Node, ClientError> {
        self.json(Call::get(node(name))).await
    }

    /// Closes a machine for new instances.
    pub async fn cordon_node(&self, name: &str) -> Result<Node, ClientError> {
        self.json(Call::new(Method::POST, format!("{}:cordon", node(name)), true)).await
    }

    /// Opens it again.
    pub async fn uncordon_node(&self, name: &str) -> Result<Node, ClientError> {
        self.json(Call::new(Method::POST, format!("{}:uncordon", node(name)), true)).await
    }

    /// Begins to empty a machine, or changes how.
    pub async fn drain_node(&self, name: &str, drain: &NodeDrainRequest) -> Result<Node, ClientError> {
        self.json(Call::new(Method::POST, format!("{}:drain", node(name)), true).json(drain)).await
    }

    /// Ends that. Sent once: a second time it is refused, because nothing is being emptied any more.
    pub async fn cancel_drain(&self, name: &str) -> Result<Node, ClientError> {
        self.json(Call::new(Method::POST, format!("{}:cancel-drain", node(name)), false)).await
    }

    /// Says that a silent machine is off and what was on it may be given up.
    pub async fn confirm_node_off(&self, name: &str) -> Result<Node, ClientError> {
        self.json(Call::new(Method::POST, format!("{}:confirm-off", node(name)), true)).await
    }

    /// Takes an empty machine out of the fleet. Sent once: a second time it is not there any more.
    pub async fn remove_node(&self, name: &str) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, node(name), false)).await.map(drop)
    }

    /// Makes a token with which one machine can join; the answer is the only place where it is shown.
    pub async fn create_join_token(&self, token: &JoinTokenCreate) -> Result<JoinTokenCreated, ClientError> {
        self.json(Call::new(Method::POST, "/v1/admin/join-tokens".to_owned(), false).json(token)).await
    }

    /// The processes that answer for the service.
    pub async fn replicas(&self) -> Result<ReplicaList, ClientError> {
        self.json(Call::get("/v1/admin/replicas".to_owned())).await
    }

    /// Seals some stored secrets with the newest key: those after `next` of the answer before (scope `admin`).
    pub async fn reseal_secrets(&self, after: Option<&str>) -> Result<SecretsResealed, ClientError> {
        let call = Call::new(Method::POST, "/v1/admin/secrets:reseal".to_owned(), true);
        let call = match after {
            Some(after) => call.query("after", after),
            None => call,
        };
        self.json(call).await
    }

    /// The fleet in numbers.
    pub async fn fleet(&self) -> Result<Fleet, ClientError> {
        self.json(Call::get("/v1/admin/fleet".to_owned())).await
    }

    /// What would become of the fleet if machines were emptied or joined.
    pub async fn what_if(&self, change: &WhatIf) -> Result<WhatIfAnswer, ClientError> {
        self.json(Call::new(Method::POST, "/v1/admin/fleet/what-if".to_owned(), true).json(change)).await
    }

    /// Where an instance of this spec would be placed, and why.
    pub async fn explain_spec(&self, tenant: Option<&str>, spec: &InstanceSpec) -> Result<Explanation, ClientError> {
        let call = Call::new(Method::POST, EXPLAIN.to_owned(), true).json(spec);
        self.json(of_tenant(call, tenant)).await
    }

    /// Where this instance would be placed, and why.
    pub async fn explain_instance(
        &self,
        tenant: Option<&str>,
        project: &str,
        instance: &str,
    ) -> Result<Explanation, ClientError> {
        let call = Call::get(EXPLAIN.to_owned()).query("project", project).query("instance", instance);
        self.json(of_tenant(call, tenant)).await
    }
}
