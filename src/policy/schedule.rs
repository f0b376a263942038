//! When sweeps may run: cron, time zone and window.

use std::time::Duration;

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

use super::near::near;

/// A cron schedule in a time zone, with an optional window after each tick.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    window: Option<Duration>,
}

/// The schedule cannot be used; the message names the field and says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(pub String);

/// An IANA zone by name.
///
/// # Errors
/// When there is no such zone; names a near one.
pub fn time_zone(field: &str, name: &str) -> Result<TimeZone, ScheduleError> {
    let advice = "write an IANA name such as `Europe/Berlin` or `UTC`";
    // These are files of the zone database, not zones: counts of leap seconds, placeholders, the machine's own setting.
    let lower = name.to_ascii_lowercase();
    let is_zone = !lower.starts_with("right/")
        && !lower.starts_with("posix/")
        && !["localtime", "posixrules", "factory", "etc/unknown", "local"]
            .contains(&lower.as_str());
    if is_zone && let Ok(zone) = TimeZone::get(name) {
        return Ok(zone);
    }
    let known: Vec<String> = jiff::tz::db()
        .available()
        .map(|name| name.to_string())
        .collect();
    let distance = if name.len() < 8 { 1 } else { 3 };
    let hint = match near(name, known.iter().map(String::as_str), 1, distance).first() {
        Some(meant) if is_zone => format!("did you mean `{meant}`?"),
        _ if known.is_empty() => {
            "this machine has no time zone database (package tzdata)".to_owned()
        }
        _ => advice.to_owned(),
    };
    Err(ScheduleError(format!(
        "{field}: there is no time zone `{name}`: {hint}"
    )))
}

/// A duration such as `20ms`, `15m` or `4h`: one number, one unit (ms, s, m, h, d).
///
/// # Errors
/// When it is not one; names the field.
pub fn duration(field: &str, text: &str) -> Result<Duration, ScheduleError> {
    let refuse = || {
        ScheduleError(format!(
            "{field}: `{text}` is not a duration: write one number and one unit (ms, s, m, h, d), such as `20ms`, `15m` or `4h`"
        ))
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.starts_with('0') {
        return Err(refuse());
    }
    let millis_per_unit: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(refuse()),
    };
    let number: u64 = number.parse().map_err(|_| refuse())?;
    // Longer than any clock of ours reaches: additions to the current time must not overflow.
    let longest = 1000 * 365 * 86_400_000;
    match number.checked_mul(millis_per_unit) {
        Some(millis) if millis <= longest => Ok(Duration::from_millis(millis)),
        _ => Err(ScheduleError(format!(
            "{field}: `{text}` is longer than 1000 years"
        ))),
    }
}

impl Schedule {
    /// Five-field cron in `zone`; `window` is how long work may go on after a tick.
    ///
    /// Ticks in the hour that a clock change skips run once, together, at the change; one in the hour that comes twice runs once,
    /// in its first pass.
    ///
    /// # Errors
    /// When the expression is not cron or never fires.
    pub fn new(
        cron: &str,
        zone: TimeZone,
        window: Option<Duration>,
    ) -> Result<Self, ScheduleError> {
        let refuse = |reason: &str| {
            ScheduleError(format!(
                "schedule.cron: `{cron}` {reason}; write five fields: minute hour day-of-month month day-of-week, such as `0 3 * * *`"
            ))
        };
        let fields = cron.split_ascii_whitespace().count();
        if fields != 5 {
            return Err(refuse(&format!("has {fields} fields")));
        }
        let parsed = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(cron)
            .map_err(|error| refuse(&format!("is not cron ({error})")))?;
        let schedule = Self {
            cron: parsed,
            zone,
            window,
        };
        // From an arbitrary but fixed instant: the answer must not depend on the day it is asked.
        if schedule.next_after(Timestamp::UNIX_EPOCH).is_none() {
            return Err(refuse("never fires: no such date comes"));
        }
        Ok(schedule)
    }

    /// The first tick after `instant`.
    #[must_use]
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        self.instant_of(self.wall_tick_after(instant)?)
    }

    /// The last tick at or before `instant`.
    #[must_use]
    pub fn last_at(&self, instant: Timestamp) -> Option<Timestamp> {
        let next = self.wall_tick_after(instant)?;
        let last = self.cron.find_previous_occurrence(&next, false).ok()?;
        self.instant_of(last)
    }

    /// The first tick on the wall clock that stands for an instant after `instant`.
    fn wall_tick_after(&self, instant: Timestamp) -> Option<DateTime> {
        let instant = whole_second(instant);
        let mut wall = self.zone.to_datetime(instant);
        loop {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            // In the second pass of a repeated hour the wall clock shows times that have had their tick.
            if self.instant_of(wall)? > instant {
                return Some(wall);
            }
        }
    }

    /// The instant of a tick on the wall clock; grows with it, so that ticks keep their order.
    fn instant_of(&self, wall: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(wall);
        match ambiguous.offset() {
            AmbiguousOffset::Gap { after, .. } => {
                // Read with the offset after the change, a skipped time lies just before the change.
                let before_change = after.to_timestamp(wall).ok()?;
                let change = self.zone.following(before_change).next()?;
                Some(change.timestamp())
            }
            _ => ambiguous.earlier().ok(),
        }
    }

    /// Until when work that runs at `now` may go on: the end of the open window, `None` when no window is open. Without a
    /// window in the policy nothing ends it: `Timestamp::MAX` after any tick.
    #[must_use]
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let tick = self.last_at(now)?;
        let Some(window) = self.window else {
            return Some(Timestamp::MAX);
        };
        let end = SignedDuration::try_from(window)
            .ok()
            .and_then(|window| tick.checked_add(window).ok())
            .unwrap_or(Timestamp::MAX);
        (now < end).then_some(end)
    }
}

/// Ticks are whole seconds: the second in which `instant` lies has begun.
fn whole_second(instant: Timestamp) -> Timestamp {
    let second = instant.as_nanosecond().div_euclid(1_000_000_000);
    i64::try_from(second)
        .ok()
        .and_then(|second| Timestamp::from_second(second).ok())
        .unwrap_or(instant)
}

#[cfg(test)]
mod tests;
