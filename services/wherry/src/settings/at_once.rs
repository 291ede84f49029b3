//! `[node]`: how much goes on inside of the instances of a machine at the same time.

use serde::Deserialize;
use wherry_node_agent::AtOnce;

/// What the agent does at the same time; of each, one tenant gets half.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Inside {
    /// Programs that are run to their end.
    pub(crate) programs: Option<u16>,
    /// Conversations with programs and ports, and who is attached.
    pub(crate) conversations: Option<u16>,
    /// Programs that probes run.
    pub(crate) probe_programs: Option<u16>,
    /// Connections that probes make.
    pub(crate) probe_connections: Option<u16>,
}

impl Inside {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for (name, value, most) in [
            ("programs", self.programs, 256),
            ("conversations", self.conversations, 4_096),
            ("probe_programs", self.probe_programs, 1_024),
            ("probe_connections", self.probe_connections, 16_384),
        ] {
            let is_allowed = value.is_none_or(|value| (2..=most).contains(&value));
            anyhow::ensure!(is_allowed, "at_once.{name}: it is 2 to {most}, of which one tenant gets half");
        }
        Ok(())
    }

    /// As the agent takes them.
    pub(crate) fn bounds(&self) -> AtOnce {
        let usual = AtOnce::default();
        AtOnce {
            programs: self.programs.map_or(usual.programs, usize::from),
            conversations: self.conversations.map_or(usual.conversations, usize::from),
            probe_programs: self.probe_programs.map_or(usual.probe_programs, usize::from),
            probe_connections: self.probe_connections.map_or(usual.probe_connections, usize::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_in_force_and_the_rest_is_as_usual() {
        let set: Inside = toml::from_str("programs = 20\nprobe_connections = 1000\n").unwrap();
        set.check().unwrap();
        let expected = AtOnce { programs: 20, probe_connections: 1_000, ..AtOnce::default() };
        assert_eq!((set.bounds(), Inside::default().bounds()), (expected, AtOnce::default()));
        for (wrong, named) in [("programs = 1", "at_once.programs"), ("conversations = 5000", "at_once.conversations")]
        {
            let refused = toml::from_str::<Inside>(wrong).unwrap().check().unwrap_err().to_string();
            assert!(refused.starts_with(named), "{refused}");
        }
    }
}
