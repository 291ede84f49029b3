//! What tenants do with instances. One use case per file.

mod create;
mod dry_run;
mod life;
mod logs;
mod put;
mod read;
mod wait;

pub use create::{CreateInstance, Created};
pub use dry_run::DryRun;
pub use logs::{LogRequest, LogStream};
pub use put::Put;
pub use read::{InstancePage, ListInstances};
pub use wait::Waited;
