//! The five fields of crontab(5), and when a clock on the wall of a time zone shows them.
//!
//! What a field may be: `*`, a number, a name (`jan`, `mon`), a range `a-b`, any of them with a step `/n`, and lists of those
//! with commas; or one of `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly` for all five. When day of month and day of week
//! are both given, either of them is enough, as everywhere since Vixie's cron.
//!
//! Days on which the clock changes, by the rule of that cron:
//! - a schedule that names its hours and minutes runs once for each of them: at a time that the clock skips, it runs that much
//!   later (02:30 becomes 03:30), and at one that it shows twice, the first time;
//! - a schedule with `*` in its hours or minutes follows the clock: it skips what is skipped and repeats what is repeated, so
//!   every five minutes stay five minutes apart.
//!
//! Rejected: croner, which takes `0 2,14 * * *` for following the clock and so runs it twice in a night, and brings derive
//! macros into the core; cronexpr, which leaves these days to chance.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::time::Timestamp;

/// Years in which every possible day comes: a 29th of February on each day of the week, also around a year like 2100.
const YEARS: i32 = 45;

/// No clock is changed by more at once.
const LONGEST_CHANGE: jiff::SignedDuration = jiff::SignedDuration::from_hours(3);

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Numbers of 0 to 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Numbers(u64);

impl Numbers {
    const fn has(self, number: u32) -> bool {
        self.0 & (1 << number) != 0
    }

    fn iter(self) -> impl Iterator<Item = i8> {
        (0..64_i8).filter(move |number| self.0 & (1 << number) != 0)
    }
}

/// When something is to happen, as an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: Numbers,
    hours: Numbers,
    days: Numbers,
    months: Numbers,
    weekdays: Numbers,
    /// Both days must fit, because one of them is `*` or a step of it.
    both_days: bool,
    /// It follows the clock.
    follows_clock: bool,
}

impl Cron {
    /// Reads an expression, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = match text.trim() {
            "@yearly" | "@annually" => vec!["0", "0", "1", "1", "*"],
            "@monthly" => vec!["0", "0", "1", "*", "*"],
            "@weekly" => vec!["0", "0", "*", "*", "0"],
            "@daily" | "@midnight" => vec!["0", "0", "*", "*", "*"],
            "@hourly" => vec!["0", "*", "*", "*", "*"],
            fields => fields.split_ascii_whitespace().collect(),
        };
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(format!(
                "{} fields were given: write minute, hour, day of month, month and day of week, for example \"*/5 * * * *\"",
                fields.len()
            ));
        };
        let both_days = days.starts_with('*') || weekdays.starts_with('*');
        let follows_clock = minutes.starts_with('*') || hours.starts_with('*');
        let weekdays = field("day of week", weekdays, 0, 7, &WEEKDAYS)?;
        let sunday = u64::from(weekdays.has(7));
        let cron = Self {
            minutes: field("minute", minutes, 0, 59, &[])?,
            hours: field("hour", hours, 0, 23, &[])?,
            days: field("day of month", days, 1, 31, &[])?,
            months: field("month", months, 1, 12, &MONTHS)?,
            weekdays: Numbers(weekdays.0 & !(1 << 7) | sunday),
            both_days,
            follows_clock,
        };
        let never = cron.next_after(&TimeZone::UTC, Timestamp::from_seconds(1_704_067_200)).is_none();
        if never { Err("no such day ever comes".to_owned()) } else { Ok(cron) }
    }

    /// The first time after `after` in that zone, in whole minutes of its clock.
    pub(super) fn next_after(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_second(after.grid_second()).ok()?;
        let shown = zone.to_datetime(after);
        // What the clock showed before it was changed may come again, and what it skips is shifted.
        let from = shown.checked_sub(LONGEST_CHANGE).ok()?;
        let last = from.date().year().checked_add(i16::try_from(YEARS).ok()?)?;
        let mut found: Option<jiff::Timestamp> = None;
        let mut until: Option<DateTime> = None;
        let mut date = from.date();
        while date.year() <= last {
            if until.is_some_and(|until| date > until.date()) {
                break;
            }
            if !self.months.has(u32::try_from(date.month()).ok()?) {
                date = date.last_of_month().tomorrow().ok()?;
                continue;
            }
            if self.has_day(date) {
                for shown in self.times(date).skip_while(|shown| *shown < from) {
                    if until.is_some_and(|until| shown > until) {
                        break;
                    }
                    let Some(at) = self.moments(zone, shown).into_iter().flatten().find(|at| *at > after) else {
                        continue;
                    };
                    found = Some(found.map_or(at, |found| found.min(at)));
                    until = until.or_else(|| shown.checked_add(LONGEST_CHANGE).ok());
                }
            }
            date = date.tomorrow().ok()?;
        }
        found.map(|at| Timestamp::from_seconds(at.as_second()))
    }

    fn has_day(&self, date: Date) -> bool {
        let day = u32::try_from(date.day()).is_ok_and(|day| self.days.has(day));
        let weekday = u32::try_from(date.weekday().to_sunday_zero_offset()).is_ok_and(|day| self.weekdays.has(day));
        if self.both_days { day && weekday } else { day || weekday }
    }

    fn times(&self, date: Date) -> impl Iterator<Item = DateTime> {
        self.hours.iter().flat_map(move |hour| self.minutes.iter().map(move |minute| date.at(hour, minute, 0, 0)))
    }

    /// When the clock shows that, in order.
    fn moments(&self, zone: &TimeZone, shown: DateTime) -> [Option<jiff::Timestamp>; 2] {
        let at = zone.to_ambiguous_timestamp(shown);
        match at.offset() {
            AmbiguousOffset::Gap { .. } if self.follows_clock => [None, None],
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => [at.compatible().ok(), None],
            AmbiguousOffset::Fold { .. } if self.follows_clock => [at.earlier().ok(), at.later().ok()],
            AmbiguousOffset::Fold { .. } => [at.earlier().ok(), None],
        }
    }
}

/// One field. Names count from `least`.
fn field(name: &str, text: &str, least: u32, most: u32, names: &[&str]) -> Result<Numbers, String> {
    let wrong = |item: &str| {
        let example = names.get(1).map(|name| format!(", names like {name}")).unwrap_or_default();
        format!("{item:?} is no {name}: give {least} to {most}{example}, *, a range a-b, a step */n, or a list of them")
    };
    let number = |text: &str| -> Option<u32> {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text)).and_then(|at| u32::try_from(at).ok());
        let plain = || text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        named.map(|at| at + least).or_else(plain).filter(|number| (least..=most).contains(number))
    };
    let mut numbers = 0_u64;
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let every = match step {
            Some(step) if step.bytes().all(|byte| byte.is_ascii_digit()) => {
                step.parse::<u8>().ok().filter(|step| *step > 0).ok_or_else(|| wrong(item))?
            }
            Some(_) => return Err(wrong(item)),
            None => 1,
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (least, if names == WEEKDAYS { 6 } else { most }),
            Some((first, last)) => {
                let bounds = number(first).zip(number(last)).ok_or_else(|| wrong(item))?;
                // Until Sunday, by its name, is the end of the week.
                if names == WEEKDAYS && bounds.1 == 0 && bounds.0 > 0 { (bounds.0, 7) } else { bounds }
            }
            None => {
                let first = number(range).ok_or_else(|| wrong(item))?;
                (first, if step.is_some() { most } else { first })
            }
        };
        if first > last {
            return Err(wrong(item));
        }
        for number in (first..=last).step_by(usize::from(every)) {
            numbers |= 1 << number;
        }
    }
    Ok(Numbers(numbers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone(name: &str) -> TimeZone {
        jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap()
    }

    /// The times that follow, as clocks of the zone show them.
    fn shown(cron: &str, name: &str, after: &str, count: usize) -> Vec<String> {
        let (cron, zone) = (Cron::parse(cron).unwrap(), zone(name));
        let mut at: Timestamp = after.parse().unwrap();
        let mut times = Vec::new();
        for _ in 0..count {
            at = cron.next_after(&zone, at).unwrap();
            let moment = jiff::Timestamp::from_second(at.grid_second()).unwrap().to_zoned(zone.clone());
            times.push(moment.strftime("%Y-%m-%d %H:%M %:z").to_string());
        }
        times
    }

    #[test]
    fn fields_mean_what_they_mean_everywhere() {
        let cases = [
            ("*/20 * * * *", ["2026-01-01 00:20", "2026-01-01 00:40", "2026-01-01 01:00"]),
            ("5,10-12/2 8 * * *", ["2026-01-01 08:05", "2026-01-01 08:10", "2026-01-01 08:12"]),
            ("50/5 23 * * *", ["2026-01-01 23:50", "2026-01-01 23:55", "2026-01-02 23:50"]),
            ("0 0 31 * *", ["2026-01-31 00:00", "2026-03-31 00:00", "2026-05-31 00:00"]),
            ("0 0 29 feb *", ["2028-02-29 00:00", "2032-02-29 00:00", "2036-02-29 00:00"]),
            ("0 9 * * MON-fri", ["2026-01-01 09:00", "2026-01-02 09:00", "2026-01-05 09:00"]),
            ("0 0 * * sat-sun", ["2026-01-03 00:00", "2026-01-04 00:00", "2026-01-10 00:00"]),
            ("0 0 * * 7", ["2026-01-04 00:00", "2026-01-11 00:00", "2026-01-18 00:00"]),
            // Either day is enough, unless one begins with a star.
            ("0 0 13 * 5", ["2026-01-02 00:00", "2026-01-09 00:00", "2026-01-13 00:00"]),
            ("0 0 */2 * 5", ["2026-01-09 00:00", "2026-01-23 00:00", "2026-02-13 00:00"]),
            ("@monthly", ["2026-02-01 00:00", "2026-03-01 00:00", "2026-04-01 00:00"]),
            ("@weekly", ["2026-01-04 00:00", "2026-01-11 00:00", "2026-01-18 00:00"]),
        ];
        for (cron, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|time| format!("{time} +00:00")).collect();
            assert_eq!(shown(cron, "UTC", "2026-01-01T00:00:00Z", 3), expected, "{cron}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("* * * *", "4 fields"),
            ("0 * * * * *", "6 fields"),
            ("60 * * * *", "\"60\" is no minute: give 0 to 59"),
            ("* 24 * * *", "no hour"),
            ("* * 0 * *", "no day of month"),
            ("* * * foo *", "names like feb"),
            ("* * * * 8", "no day of week"),
            ("5-1 * * * *", "\"5-1\" is no minute"),
            ("*/0 * * * *", "\"*/0\""),
            ("+5 * * * *", "\"+5\""),
            ("*/+5 * * * *", "\"*/+5\""),
            ("1,,2 * * * *", "\"\" is no minute"),
            ("0 0 31 2 *", "no such day ever comes"),
            ("@reboot", "1 fields"),
        ];
        for (cron, expected) in cases {
            let error = Cron::parse(cron).unwrap_err();
            assert!(error.contains(expected), "{cron}: {error}");
        }
    }

    /// Berlin, 2026-03-29: 02:00 is followed by 03:00.
    #[test]
    fn what_the_clock_skips() {
        let night = "2026-03-28T23:00:00Z";
        let once = ["2026-03-29 03:30 +02:00", "2026-03-30 02:30 +02:00"];
        assert_eq!(shown("30 2 * * *", "Europe/Berlin", night, 2), once, "later by what is skipped");
        let listed = ["2026-03-29 03:30 +02:00", "2026-03-30 02:30 +02:00", "2026-03-30 03:30 +02:00"];
        assert_eq!(shown("30 2,3 * * *", "Europe/Berlin", night, 3), listed, "never twice at one moment");
        let clock = ["2026-03-29 01:30 +01:00", "2026-03-29 03:00 +02:00", "2026-03-29 03:30 +02:00"];
        assert_eq!(shown("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3), clock);
        assert_eq!(shown("*/30 2 * * *", "Europe/Berlin", night, 1), ["2026-03-30 02:00 +02:00"]);
    }

    /// Berlin, 2026-10-25: 03:00 is 02:00 again.
    #[test]
    fn what_the_clock_shows_twice() {
        let night = "2026-10-24T22:00:00Z";
        let once = ["2026-10-25 02:30 +02:00", "2026-10-26 02:30 +01:00"];
        assert_eq!(shown("30 2 * * *", "Europe/Berlin", night, 2), once, "the first time");
        let listed = ["2026-10-25 02:00 +02:00", "2026-10-25 14:00 +01:00", "2026-10-26 02:00 +01:00"];
        assert_eq!(shown("0 2,14 * * *", "Europe/Berlin", night, 3), listed);
        let clock = ["2026-10-25 02:00 +02:00", "2026-10-25 02:30 +02:00", "2026-10-25 02:00 +01:00"];
        assert_eq!(shown("*/30 2 * * *", "Europe/Berlin", night, 3), clock);
    }

    /// Half an hour, and a change at midnight.
    #[test]
    fn clocks_that_are_changed_otherwise() {
        let lord_howe = ["2026-04-05 01:45 +11:00", "2026-04-05 01:45 +10:30"];
        assert_eq!(shown("45 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00:00Z", 2), lord_howe);
        // Cairo, 2026-04-24: midnight is followed by 01:00.
        let cairo = ["2026-04-24 01:00 +03:00", "2026-04-25 00:00 +03:00"];
        assert_eq!(shown("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", 2), cairo);
    }

    proptest! {
        /// Later each time, never by nothing, and the same from wherever in between one looks.
        #[test]
        fn times_follow_each_other(
            cron in prop::sample::select(vec![
                "* * * * *", "*/7 * * * *", "30 2 * * *", "0,30 1-3 * * *", "15 */2 * * 1-5", "0 0 1,15 * *", "59 23 31 12 *",
            ]),
            name in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Havana",
                "Asia/Kathmandu", "Pacific/Apia",
            ]),
            seconds in 1_700_000_000_i64..2_000_000_000,
            between in 0.0..1.0_f64,
        ) {
            let (cron, zone) = (Cron::parse(cron).unwrap(), zone(name));
            let after = Timestamp::from_seconds(seconds);
            let first = cron.next_after(&zone, after).unwrap();
            let second = cron.next_after(&zone, first).unwrap();
            prop_assert!(after < first && first < second);
            prop_assert_eq!(first.grid_second() % 60, 0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a place in between")]
            let place = first.grid_second() + ((second.grid_second() - first.grid_second() - 1) as f64 * between) as i64;
            prop_assert_eq!(cron.next_after(&zone, Timestamp::from_seconds(place)), Some(second));
        }
    }
}
