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
mod stats;
mod update;
mod wait;

pub use create::{CreateInstance, Created};
pub use dry_run::{DryRun, NEXT_RUNS};
pub use exec::ExecRequest;
pub use logs::{LogRequest, LogStream};
pub use put::Put;
pub use read::{InstancePage, ListInstances};
pub use session::InstanceSession;
pub(crate) use start_waits::StartWaits;
pub(crate) use stats::Remembered;
pub use stats::{InstanceUse, ProjectUse};
pub use update::UpdatePreview;
pub use wait::{Awaited, Waited};
