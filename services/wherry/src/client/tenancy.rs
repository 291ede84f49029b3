//! `wherry key` and `wherry admin tenant`.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use wherry_api_types::{Key, KeyCreate, Scope};

use super::connection::ClientFile;
use super::failure::Failure;
use super::output::{self, column, whole};
use super::session::Session;
use super::text::{clean, short_time};
use crate::cli::{KeyCommand, KeyCreateArgs, TenantCommand};

/// Everything that a tenant may do; `admin` is an operator's.
const TENANT_SCOPES: [Scope; 6] = [
    Scope::InstancesRead,
    Scope::InstancesWrite,
    Scope::InstancesExec,
    Scope::LogsRead,
    Scope::UsageRead,
    Scope::KeysWrite,
];

pub(super) async fn key(session: &Session, command: &KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::Create(args) => create_key(session, args).await,
        KeyCommand::List(_) => {
            let keys = session.keys().await?.items;
            output::raw(render_keys(&keys, output::terminal_width()).as_bytes())
        }
        KeyCommand::Revoke(args) => {
            session.revoke_key(&args.id).await?;
            output::line(&format!("{} is revoked", args.id))
        }
    }
}

async fn create_key(session: &Session, args: &KeyCreateArgs) -> Result<(), Failure> {
    // A secret that is made and cannot be kept is lost, so the file comes first.
    let file = args.save.as_deref().map(reserve).transpose()?;
    let scopes = if args.scopes.is_empty() { TENANT_SCOPES.to_vec() } else { args.scopes.clone() };
    let body = KeyCreate { name: args.name.clone(), scopes, expires_at: args.expires_at.clone() };
    let made = match &args.tenant {
        Some(tenant) => session.create_tenant_key(tenant, &body).await,
        None => session.create_key(&body).await,
    };
    let made = made.inspect_err(|_| {
        if let Some(path) = &args.save {
            drop(std::fs::remove_file(path));
        }
    })?;
    let (Some(file), Some(path)) = (file, &args.save) else {
        output::line(&format!("WHERRY_SERVER={}", session.server()))?;
        output::line(&format!("WHERRY_KEY_ID={}", made.key.id))?;
        output::line(&format!("WHERRY_KEY_SECRET={}", made.secret))?;
        eprintln!("This is the only time that the secret is shown.");
        return Ok(());
    };
    // A project of one tenant says nothing about another's.
    let project = if args.tenant.is_some() { "default" } else { session.project() }.to_owned();
    let (id, server) = (made.key.id.clone(), session.server().to_owned());
    let content = ClientFile { server, key_id: made.key.id, key_secret: made.secret, project };
    fill(file, &content).map_err(|error| {
        Failure::failed(format!(
            "{} cannot be written ({error}): revoke the key with `wherry key revoke {id}` and make another one",
            path.display()
        ))
    })?;
    output::line(&format!("key {id} is in {0}: use it with --key {0}", path.display()))
}

fn fill(mut file: File, content: &ClientFile) -> std::io::Result<()> {
    file.write_all(&content.to_json()?)?;
    file.sync_all()
}

/// Makes the file that a key goes into, readable by its owner only; never overwrites one.
fn reserve(path: &Path) -> Result<File, Failure> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::failed(format!("{} exists and is not overwritten: choose another file", path.display()))
        }
        _ => Failure::failed(format!("{} cannot be made: {error}", path.display())),
    })
}

fn render_keys(keys: &[Key], width: Option<u16>) -> String {
    let row = |key: &Key| {
        let scopes: Vec<String> = key
            .scopes
            .iter()
            .filter_map(|scope| serde_json::to_value(scope).ok())
            .filter_map(|scope| scope.as_str().map(str::to_owned))
            .collect();
        let state = match (&key.revoked_at, &key.expires_at) {
            (Some(revoked), _) => format!("revoked {}", short_time(revoked)),
            (None, Some(expires)) => format!("until {}", short_time(expires)),
            (None, None) => "works".to_owned(),
        };
        vec![clean(&key.id), clean(&key.name), state, short_time(&key.created_at), scopes.join(" ")]
    };
    let columns = [whole("ID"), column("NAME"), column("STATE"), column("CREATED"), column("SCOPES")];
    output::table(&columns, keys.iter().map(row).collect(), width)
}

pub(super) async fn tenant(session: &Session, command: &TenantCommand) -> Result<(), Failure> {
    match command {
        TenantCommand::Create(args) => {
            let tenant = session.create_tenant(&args.name).await?;
            output::line(&format!("{} is tenant {}", clean(&tenant.name), clean(&tenant.id)))
        }
        TenantCommand::List(_) => {
            let mut rows = Vec::new();
            let mut after = None;
            loop {
                let page = session.tenants(after.as_deref()).await?;
                rows.extend(
                    page.items
                        .iter()
                        .map(|tenant| vec![clean(&tenant.name), clean(&tenant.id), short_time(&tenant.created_at)]),
                );
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let columns = [whole("NAME"), whole("ID"), column("CREATED")];
            output::raw(output::table(&columns, rows, output::terminal_width()).as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let key = |id: &str, revoked_at: Option<&str>| Key {
            id: id.into(),
            name: "ci".into(),
            scopes: vec![Scope::InstancesRead, Scope::LogsRead],
            created_at: "2026-03-01T00:00:00Z".into(),
            expires_at: None,
            revoked_at: revoked_at.map(str::to_owned),
        };
        let expected = "\
ID  NAME  STATE                        CREATED              SCOPES
1   ci    works                        2026-03-01 00:00:00  instances:read logs:read
2   ci    revoked 2026-03-02 00:00:00  2026-03-01 00:00:00  instances:read logs:read
";
        assert_eq!(render_keys(&[key("1", None), key("2", Some("2026-03-02T00:00:00Z"))], None), expected);
    }

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        drop(reserve(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let Failure::Told { message, .. } = reserve(&path).unwrap_err() else { panic!("nothing was printed") };
        assert!(message.contains("not overwritten"), "{message}");
    }
}
