//! Webhooks and their deliveries.

use reqwest::Method;
use wherry_api_types::{Delivery, DeliveryList, Webhook, WebhookCreate, WebhookList, WebhookPatch, WebhookWithSecret};

use crate::error::ClientError;
use crate::transport::{Call, Client, segment};

fn path(project: &str, rest: &str) -> String {
    format!("/v1/projects/{}/webhooks{rest}", segment(project))
}

fn one(project: &str, name: &str, rest: &str) -> String {
    path(project, &format!("/{}{rest}", segment(name)))
}

impl Client {
    /// Makes a webhook; the answer is the only place where its secret is shown.
    pub async fn create_webhook(&self, project: &str, body: &WebhookCreate) -> Result<WebhookWithSecret, ClientError> {
        self.json(Call::new(Method::POST, path(project, ""), false).json(body)).await
    }

    /// The project's webhooks.
    pub async fn webhooks(&self, project: &str) -> Result<WebhookList, ClientError> {
        self.json(Call::get(path(project, ""))).await
    }

    /// One webhook.
    pub async fn webhook(&self, project: &str, name: &str) -> Result<Webhook, ClientError> {
        self.json(Call::get(one(project, name, ""))).await
    }

    /// Changes a webhook.
    pub async fn update_webhook(
        &self,
        project: &str,
        name: &str,
        patch: &WebhookPatch,
    ) -> Result<Webhook, ClientError> {
        self.json(Call::new(Method::PATCH, one(project, name, ""), true).json(patch)).await
    }

    /// Gives a webhook another secret, which only the answer shows.
    pub async fn rotate_webhook_secret(&self, project: &str, name: &str) -> Result<WebhookWithSecret, ClientError> {
        self.json(Call::new(Method::POST, one(project, name, ":rotate-secret"), false)).await
    }

    /// Deletes a webhook with its log.
    pub async fn delete_webhook(&self, project: &str, name: &str) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, one(project, name, ""), true)).await.map(drop)
    }

    /// Sends a ping.
    pub async fn test_webhook(&self, project: &str, name: &str) -> Result<Delivery, ClientError> {
        self.json(Call::new(Method::POST, one(project, name, ":test"), false)).await
    }

    /// A page of deliveries, newest first, after the page that gave this `next`.
    pub async fn deliveries(
        &self,
        project: &str,
        name: &str,
        cursor: Option<&str>,
    ) -> Result<DeliveryList, ClientError> {
        let mut call = Call::get(one(project, name, "/deliveries"));
        if let Some(cursor) = cursor {
            call = call.query("cursor", cursor);
        }
        self.json(call).await
    }

    /// One delivery.
    pub async fn delivery(&self, project: &str, name: &str, id: &str) -> Result<Delivery, ClientError> {
        self.json(Call::get(one(project, name, &format!("/deliveries/{}", segment(id))))).await
    }

    /// Makes a delivery again.
    pub async fn redeliver(&self, project: &str, name: &str, id: &str) -> Result<Delivery, ClientError> {
        let rest = format!("/deliveries/{}:redeliver", segment(id));
        self.json(Call::new(Method::POST, one(project, name, &rest), true)).await
    }
}
