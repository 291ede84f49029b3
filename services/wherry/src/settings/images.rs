//! `[images]`: when images that nobody uses leave a machine.

use std::time::Duration;

use serde::Deserialize;
use wherry_node_agent::ImageLimits;

/// Marks of the file system that images are on, in hundredths.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Images {
    /// Fuller than this, they are removed.
    pub(crate) high_percent: u8,
    /// Until it is not fuller than this.
    pub(crate) low_percent: u8,
    /// What was not used for less than this stays.
    pub(crate) min_age_seconds: u64,
    /// How often that is looked at.
    pub(crate) check_seconds: u64,
}

impl Default for Images {
    fn default() -> Self {
        let limits = ImageLimits::default();
        Self {
            high_percent: limits.high_percent,
            low_percent: limits.low_percent,
            min_age_seconds: limits.min_age.as_secs(),
            check_seconds: limits.check_every.as_secs(),
        }
    }
}

impl Images {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.high_percent <= 100, "high_percent: the most is 100, which is never reached");
        anyhow::ensure!(self.low_percent <= self.high_percent, "low_percent: the most is high_percent");
        anyhow::ensure!(self.min_age_seconds <= 366 * 86_400, "min_age_seconds: the most is {}", 366 * 86_400);
        anyhow::ensure!((1..=86_400).contains(&self.check_seconds), "check_seconds: it is 1 to 86400");
        Ok(())
    }

    /// As the agent takes them.
    pub(crate) fn limits(&self) -> ImageLimits {
        ImageLimits {
            high_percent: self.high_percent,
            low_percent: self.low_percent,
            min_age: Duration::from_secs(self.min_age_seconds),
            check_every: Duration::from_secs(self.check_seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_agents_and_allowed() {
        let images = Images::default();
        images.check().unwrap();
        assert_eq!(images.limits(), ImageLimits::default());
        let wrong = Images { low_percent: 86, ..Images::default() };
        assert!(wrong.check().unwrap_err().to_string().starts_with("low_percent"));
        assert!(Images { check_seconds: 0, ..Images::default() }.check().is_err());
    }
}
