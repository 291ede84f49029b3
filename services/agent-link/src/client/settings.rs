//! How patient an agent is.

use std::time::Duration;

use wherry_agent_api::PROTOCOL;
use wherry_model::Entropy;

/// How patient an agent is with the control plane. The defaults notice a replica that hangs in less than ten seconds.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// The highest protocol version that is spoken: [`PROTOCOL`], or the one before it to try a rolling upgrade or to roll
    /// back. In version 1 there are no epochs, surroundings and calls.
    pub protocol: u32,
    /// How long connecting may take.
    pub connect: Duration,
    /// How long the TLS handshake may take.
    pub handshake: Duration,
    /// How often a connection is asked whether it is alive.
    pub ping: Duration,
    /// How long that answer may take.
    pub pong: Duration,
    /// Agents that lost the same replica at the same time come back spread over so long.
    pub spread: Duration,
    /// The first wait between attempts to connect. Waits double.
    pub first_wait: Duration,
    /// The longest wait between attempts to connect.
    pub longest_wait: Duration,
    /// How long a replica may answer nothing but 503 before another is tried.
    pub unwell: Duration,
    /// How long the answer to a message may take.
    pub message: Duration,
    /// How long the answer to a long poll may take; the control plane answers after 30 seconds at the latest.
    pub long_poll: Duration,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            protocol: PROTOCOL,
            connect: Duration::from_secs(3),
            handshake: Duration::from_secs(5),
            ping: Duration::from_secs(3),
            pong: Duration::from_secs(4),
            spread: Duration::from_secs(1),
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(5),
            unwell: Duration::from_secs(5),
            message: Duration::from_secs(20),
            long_poll: Duration::from_secs(45),
        }
    }
}

impl LinkSettings {
    /// The wait before attempt number `attempt` after a connection was lost (0 is the first): anything up to `spread`, then
    /// between half and all of a time that doubles with each round through the endpoints.
    pub(super) fn wait(&self, attempt: u32, endpoints: usize, entropy: &dyn Entropy) -> Duration {
        if attempt == 0 {
            return uniform(self.spread, entropy);
        }
        let rounds = attempt / u32::try_from(endpoints.max(1)).unwrap_or(u32::MAX);
        let longest = self.first_wait.saturating_mul(2_u32.saturating_pow(rounds.min(16))).min(self.longest_wait);
        longest / 2 + uniform(longest / 2, entropy)
    }
}

/// Any duration up to `longest`.
pub(crate) fn uniform(longest: Duration, entropy: &dyn Entropy) -> Duration {
    let mut bytes = [0_u8; 8];
    entropy.fill(&mut bytes);
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(u64::from_le_bytes(bytes) % micros.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct All(u8);
    impl Entropy for All {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014), seeded.
    struct Seeded(std::sync::atomic::AtomicU64);
    impl Entropy for Seeded {
        fn fill(&self, bytes: &mut [u8]) {
            for chunk in bytes.chunks_mut(8) {
                let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, std::sync::atomic::Ordering::Relaxed);
                let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
            }
        }
    }

    #[test]
    fn agents_that_lost_the_same_replica_do_not_come_back_at_once() {
        let settings = LinkSettings::default();
        let entropy = Seeded(1.into());
        // 500 agents, the first attempt and one of the longest: how many come in each tenth of the time.
        for (attempt, shortest, span) in [(0, 0, 1_000), (40, 2_500, 2_500)] {
            let mut tenths = [0_u32; 10];
            for _ in 0..500 {
                let wait = u32::try_from(settings.wait(attempt, 2, &entropy).as_millis()).unwrap();
                tenths[usize::try_from((wait - shortest) * 10 / span).unwrap().min(9)] += 1;
            }
            assert!(tenths.iter().all(|agents| (25..=90).contains(agents)), "attempt {attempt}: {tenths:?}");
        }
    }

    #[test]
    fn waits_double_by_round_and_end_at_the_longest() {
        let settings = LinkSettings::default();
        let shortest: Vec<u128> = [1, 2, 3, 4, 40].map(|n| settings.wait(n, 2, &All(0)).as_millis()).to_vec();
        assert_eq!(shortest, [125, 250, 250, 500, 2_500]);
        for attempt in 0..100 {
            for byte in [0, 17, 255] {
                assert!(settings.wait(attempt, 3, &All(byte)) <= settings.longest_wait);
            }
        }
        assert_eq!(settings.wait(0, 3, &All(0)), Duration::ZERO);
    }
}
