//! The key that the command line on this machine uses.

use std::net::SocketAddr;

use wherry_control::{Control, TenantKeyRequest};
use wherry_model::{ProjectName, ScopeSet, TenantName};

use crate::client::connection::ClientFile;
use crate::data::{DataFolder, write_private};

/// The tenant of whoever runs Wherry on this machine.
const LOCAL_TENANT: &str = "default";

/// Makes it, unless it is there and works.
pub(super) async fn ensure(data: &DataFolder, control: &Control, api: SocketAddr) -> anyhow::Result<()> {
    let path = data.client_file();
    let server = format!("http://{}", reachable(api));
    let known = ClientFile::read(&path).ok();
    if let Some(known) = known
        && let Ok(id) = known.key_id.parse()
        && control.authenticate_key(id, &known.key_secret).await.is_ok()
    {
        if known.server == server {
            return Ok(());
        }
        return write_private(&path, &ClientFile { server, ..known }.to_json()?);
    }
    let tenant = control.ensure_tenant(TenantName::new(LOCAL_TENANT)?).await?;
    let request = TenantKeyRequest { name: "this machine".to_owned(), scopes: ScopeSet::all(), expires_at: None };
    let key = control.issue_key(tenant.id, request).await?;
    let file = ClientFile {
        server,
        key_id: key.record.id.to_string(),
        key_secret: key.secret,
        project: ProjectName::default_project().to_string(),
    };
    write_private(&path, &file.to_json()?)
}

/// Who listens everywhere is reached on loopback.
fn reachable(mut api: SocketAddr) -> SocketAddr {
    if api.ip().is_unspecified() {
        api.set_ip(match api {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    api
}
