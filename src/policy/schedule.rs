//! When sweeps may run: cron, time zone and window.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

/// A cron schedule in a time zone, with an optional window after each tick.
#[derive(Clone, Debug)]
pub struct Schedule {
    _private: (),
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
    let _ = (field, name);
    todo!()
}

impl Schedule {
    /// Five-field cron in `zone`; `window` is how long work may go on after a tick.
    ///
    /// # Errors
    /// When the expression is not cron or never fires.
    pub fn new(
        cron: &str,
        zone: TimeZone,
        window: Option<Duration>,
    ) -> Result<Self, ScheduleError> {
        let _ = (cron, zone, window);
        todo!()
    }

    /// The first tick after `instant`.
    #[must_use]
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let _ = instant;
        todo!()
    }

    /// The last tick at or before `instant`.
    #[must_use]
    pub fn last_at(&self, instant: Timestamp) -> Option<Timestamp> {
        let _ = instant;
        todo!()
    }

    /// Until when work that runs at `now` may go on: the end of the open window, `None` when no window is open. Without a
    /// window in the policy nothing ends it: `Timestamp::MAX` after any tick.
    #[must_use]
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let _ = now;
        todo!()
    }
}

/// temp
pub fn duration(field: &str, text: &str) -> Result<Duration, ScheduleError> {
    let _ = (field, text);
    todo!()
}
