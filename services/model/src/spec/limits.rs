//! Bounds on a spec. Everything a tenant can make larger has one.

/// The bounds; the service's own settings can only be narrower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits;

impl Limits {
    /// Containers in one instance, those of the beginning counted too.
    pub const MAX_CONTAINERS: usize = 60;
    /// Ports of one container.
    pub const MAX_PORTS: usize = 64;
    /// Environment variables of one container.
    pub const MAX_ENV_VARS: usize = 256;
    /// Bytes of all names and values of the environment of one container.
    pub const MAX_ENV_BYTES: usize = 64 * 1024;
    /// Words of `command` and `args` together, of an exec, and of a probe or hook.
    pub const MAX_COMMAND_WORDS: usize = 256;
    /// Bytes of those words.
    pub const MAX_COMMAND_BYTES: usize = 32 * 1024;
    /// Labels of one instance.
    pub const MAX_LABELS: usize = 64;
    /// Bytes of a label's key or value.
    pub const MAX_LABEL_BYTES: usize = 255;
    /// The longest stop grace, in seconds.
    pub const MAX_STOP_GRACE_SECONDS: u32 = 600;
    /// Bytes of any path.
    pub const MAX_PATH_BYTES: usize = 4096;
    /// Volumes of one instance.
    pub const MAX_VOLUMES: usize = 32;
    /// Mounts of one container.
    pub const MAX_MOUNTS: usize = 64;
    /// Files of one `secret` or `config` volume.
    pub const MAX_VOLUME_FILES: usize = 64;
    /// Bytes of all files of all `secret` and `config` volumes of one instance.
    pub const MAX_VOLUME_FILE_BYTES: usize = 256 * 1024;
    /// The least and the most processes of an instance that can be asked for: a start itself takes some.
    pub const PIDS: (u32, u32) = (16, 16_384);
    /// Bytes of the URL of a repository.
    pub const MAX_REPOSITORY_BYTES: usize = 2048;
    /// Bytes of the name of a revision.
    pub const MAX_REVISION_BYTES: usize = 255;
    /// Containers that one waits for.
    pub const MAX_DEPENDENCIES: usize = 16;
    /// Seconds of any timing of a probe.
    pub const MAX_PROBE_SECONDS: u32 = 3600;
    /// Failures or successes in a row that a probe can be asked to wait for.
    pub const MAX_PROBE_THRESHOLD: u32 = 1000;
    /// Restarts that can be asked for.
    pub const MAX_RESTARTS: u32 = 1_000_000;
    /// The longest deadline and the longest time to keep what has ended, in seconds: a year.
    pub const MAX_LONG_SECONDS: u32 = 366 * 24 * 3600;
    /// Bytes of a cron expression or the name of a time zone.
    pub const MAX_SCHEDULE_BYTES: usize = 128;
    /// The longest time after which a run that was missed is still begun: a day.
    pub const MAX_STARTING_DEADLINE_SECONDS: u32 = 24 * 3600;
    /// The shortest such time. Schedules are looked at each second, and some seconds later when another replica takes over.
    pub const MIN_STARTING_DEADLINE_SECONDS: u32 = 10;
    /// Entries of `/etc/hosts` that can be asked for.
    pub const MAX_HOST_ALIASES: usize = 64;
    /// Name servers, and search domains, that can be asked for.
    pub const MAX_DNS_ENTRIES: usize = 6;
    /// Rules of even distribution.
    pub const MAX_SPREADS: usize = 4;
    /// The largest skew that can be asked for.
    pub const MAX_SKEW: u32 = 1000;
    /// Labels of others that an instance is placed near, or apart from.
    pub const MAX_NEIGHBOURS: usize = 16;
    /// Registries with credentials.
    pub const MAX_REGISTRIES: usize = 16;
    /// Characters of the name of a user of a registry.
    pub const MAX_USER_NAME_CHARACTERS: usize = 255;
    /// Bytes of the password or token of a registry, sealed.
    pub const MAX_SEALED_PASSWORD_BYTES: usize = 64 * 1024;
}
