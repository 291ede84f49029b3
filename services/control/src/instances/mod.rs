//! What tenants do with instances. One use case per file.

mod create;
mod dry_run;
mod exec;
mod life;
mod logs;
mod put;
mod read;
mod restart;
mod session;
mod start_waits;
mod update;
mod wait;

pub use create::{CreateInstance, Created};
pub use dry_run::DryRun;
pub use exec::ExecRequest;
pub use logs::{LogRequest, LogStream};
pub use put::Put;
pub use read::{InstancePage, ListInstances};
pub use session::InstanceSession;
pub(crate) use start_waits::StartWaits;
pub use update::UpdatePreview;
pub use wait::Waited;
