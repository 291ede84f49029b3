//! Projects, keys and tenants.

use reqwest::Method;
use wherry_api_types::{
    KeyCreate, KeyCreated, KeyList, Project, ProjectCreate, ProjectList, Tenant, TenantCreate, TenantList,
};

use crate::error::ClientError;
use crate::transport::{Call, Client, segment};

impl Client {
    /// Makes a project.
    pub async fn create_project(&self, name: &str) -> Result<Project, ClientError> {
        let body = ProjectCreate { name: name.to_owned() };
        self.json(Call::new(Method::POST, "/v1/projects".to_owned(), false).json(&body)).await
    }

    /// The tenant's projects.
    pub async fn projects(&self) -> Result<ProjectList, ClientError> {
        self.json(Call::get("/v1/projects".to_owned())).await
    }

    /// Makes a key; the answer is the only place where its secret is shown.
    pub async fn create_key(&self, key: &KeyCreate) -> Result<KeyCreated, ClientError> {
        self.json(Call::new(Method::POST, "/v1/keys".to_owned(), false).json(key)).await
    }

    /// The tenant's keys.
    pub async fn keys(&self) -> Result<KeyList, ClientError> {
        self.json(Call::get("/v1/keys".to_owned())).await
    }

    /// Ends a key.
    pub async fn revoke_key(&self, id: &str) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, format!("/v1/keys/{}", segment(id)), true)).await.map(drop)
    }

    /// Makes a tenant (scope `admin`).
    pub async fn create_tenant(&self, name: &str) -> Result<Tenant, ClientError> {
        let body = TenantCreate { name: name.to_owned() };
        self.json(Call::new(Method::POST, "/v1/admin/tenants".to_owned(), false).json(&body)).await
    }

    /// A page of tenants by name, after the page that gave this `next` (scope `admin`).
    pub async fn tenants(&self, after: Option<&str>) -> Result<TenantList, ClientError> {
        let mut call = Call::get("/v1/admin/tenants".to_owned());
        if let Some(after) = after {
            call = call.query("after", after);
        }
        self.json(call).await
    }

    /// Makes a key for a tenant (scope `admin`).
    pub async fn create_tenant_key(&self, tenant: &str, key: &KeyCreate) -> Result<KeyCreated, ClientError> {
        let path = format!("/v1/admin/tenants/{}/keys", segment(tenant));
        self.json(Call::new(Method::POST, path, false).json(key)).await
    }
}
