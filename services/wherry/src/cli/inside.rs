//! The commands that go inside of an instance.

use std::time::Duration;

use clap::Args;

use super::{ConnectionArgs, value};

/// `wherry exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Which container, when the instance has several
    #[arg(long, short = 'c', value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Give it this command's input, to its end
    #[arg(long, short = 'i')]
    pub(crate) stdin: bool,
    /// Give it a terminal: this one
    #[arg(long, short = 't')]
    pub(crate) tty: bool,
    /// After this time the program is killed [default: never]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub(crate) timeout: Option<Duration>,
    /// Name or id of the instance
    pub(crate) name: String,
    /// Program and arguments; no shell is added. After `--` where an option could be meant
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry attach`. Ctrl-P Ctrl-Q leaves a terminal, and the program runs on.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Name or id of the instance
    pub(crate) name: String,
    /// Which container, when the instance has several
    #[arg(long, short = 'c', value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Give it this command's input; it must run with an input of its own
    #[arg(long, short = 'i')]
    pub(crate) stdin: bool,
    /// Its terminal is this one, and Ctrl-P Ctrl-Q leaves it; it must run with a terminal of its own
    #[arg(long, short = 't')]
    pub(crate) tty: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// A port here and the port inside that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortPair {
    /// 0: any that is free.
    pub(crate) here: u16,
    pub(crate) inside: u16,
}

/// `wherry port-forward`.
#[derive(Debug, Args)]
pub(crate) struct PortForwardArgs {
    /// Name or id of the instance
    pub(crate) name: String,
    /// HERE:INSIDE, or one port for both; `:INSIDE` takes any that is free here
    #[arg(required = true, value_name = "PORTS", value_parser = value::port_pair)]
    pub(crate) ports: Vec<PortPair>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A path on this machine.
    Here(std::path::PathBuf),
    /// A path in a container of the instance.
    Inside {
        /// Name or id.
        instance: String,
        path: String,
    },
}

/// `wherry cp`.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// What: a path here, or INSTANCE:PATH
    #[arg(value_parser = value::place)]
    pub(crate) from: Place,
    /// Where to: the other one of the two
    #[arg(value_parser = value::place)]
    pub(crate) to: Place,
    /// Which container, when the instance has several
    #[arg(long, short = 'c', value_name = "NAME")]
    pub(crate) container: Option<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
