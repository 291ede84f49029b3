//! What operators do with machines. All of it needs the scope `admin`. A machine is named by its name or id.

use reqwest::Method;
use wherry_api_types::{Fleet, JoinTokenCreate, JoinTokenCreated, Node, NodeDrainRequest, NodeList, ReplicaList};

use crate::error::ClientError;
use crate::transport::{Call, Client, segment};

const NODES: &str = "/v1/admin/nodes";

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

    /// The fleet in numbers.
    pub async fn fleet(&self) -> Result<Fleet, ClientError> {
        self.json(Call::get("/v1/admin/fleet".to_owned())).await
    }
}
