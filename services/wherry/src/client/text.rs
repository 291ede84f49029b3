//! Amounts as people read them, and text from tenants made safe for a terminal.

use std::time::Duration;

use wherry_model::Timestamp;

/// `512 B`, `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// `42s`, `12m`, `5h`, `3d`: the largest unit of which there are at least two, as container people know it.
pub(crate) fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long ago `moment` (RFC 3339) was; `-` when it is no time.
pub(crate) fn age_of(moment: &str, now: Timestamp) -> String {
    moment.parse().map_or_else(|_| "-".to_owned(), |moment| age(now.since(moment)))
}

/// `2026-03-01 12:00:00` of an RFC 3339 time in UTC, which is all that a table has room for.
pub(crate) fn short_time(moment: &str) -> String {
    match moment.parse::<Timestamp>() {
        Ok(moment) => moment.to_string().get(..19).unwrap_or_default().replace('T', " "),
        Err(_) => clean(moment),
    }
}

/// Text from a tenant on one line, without anything that a terminal would act on.
pub(crate) fn clean(text: &str) -> String {
    let is_harmless = |character: char| {
        // Direction marks can make a line read as something else.
        let is_direction =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        !character.is_control() && !is_direction
    };
    let mut cleaned = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => cleaned.push(' '),
            harmless if is_harmless(harmless) => cleaned.push(harmless),
            other => cleaned.extend(other.escape_unicode()),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (1_572_864, "1.5 MiB"),
            (1 << 40, "1.0 TiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX), "16383.9 PiB");
    }

    #[test]
    fn ages() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
        let now = "2026-03-01T00:01:00Z".parse().unwrap();
        assert_eq!(age_of("2026-03-01T00:00:00Z", now), "60s");
        assert_eq!(age_of("soon", now), "-");
    }

    #[test]
    fn what_a_terminal_would_act_on_is_shown_instead() {
        assert_eq!(clean("a\u{1b}[2Jb\r\nc\td"), "a\\u{1b}[2Jb\\u{d} c d");
        assert_eq!(clean("\u{202e}evil"), "\\u{202e}evil");
        assert_eq!(clean("naïve ✓ 名"), "naïve ✓ 名");
    }

    #[test]
    fn times_of_tables() {
        assert_eq!(short_time("2026-03-01T12:00:00.123456Z"), "2026-03-01 12:00:00");
        assert_eq!(short_time("2026-03-01T12:00:00+02:00"), "2026-03-01 10:00:00");
    }
}
