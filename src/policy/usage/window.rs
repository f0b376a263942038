//! The window of one thing: how long its counters have been watched, and when they last rose.

use jiff::{SignedDuration, Timestamp};

use super::{Break, Counters, Observation, State, Usage};

/// The row of a thing that is used all the time is written no more often than this. Its last use is late by as much at most,
/// which is on the safe side.
const LAZY: SignedDuration = SignedDuration::from_hours(6);

/// What is remembered of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The database's own number for it.
    pub id: u32,
    /// Since when it has been watched without a break of its own.
    pub since: Timestamp,
    /// What was before that.
    pub broken_by: Break,
    /// Scans, as the server counted them then.
    pub reads: i64,
    /// Rows written, as the server counted them then.
    pub writes: i64,
    /// When they were counted.
    pub counted: Timestamp,
    /// When a use was last seen.
    pub last_use: Option<Timestamp>,
    /// Since the last use: seconds between samples in which counters rose while the operator's own sweeps were at the table.
    pub blind_seconds: i64,
}

/// One sample of one thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) id: u32,
    pub(super) counters: Counters,
    /// Another number means another thing. Not so for an index, which gets one with every REINDEX CONCURRENTLY and keeps its
    /// counters.
    pub(super) by_number: bool,
    /// Our own sweeps go to it: each rise is written down at once, so that theirs can be told from others'.
    pub(super) swept: bool,
    /// One of them was at it since the last sample.
    pub(super) blind: bool,
}

/// A window after a sample.
#[derive(Debug)]
pub(super) struct Advanced {
    pub(super) window: Window,
    /// It has to be written down.
    pub(super) changed: bool,
}

impl Window {
    /// The window after `sample`, taken at `now`. `previous`: when the last sample was taken; `broken`: what broke every window
    /// since then.
    pub(super) fn advance(
        before: Option<&Self>,
        sample: &Sample,
        now: Timestamp,
        previous: Option<Timestamp>,
        broken: Option<Break>,
    ) -> Advanced {
        let Some(before) = before else {
            return Advanced {
                window: Self::first(sample, now),
                changed: true,
            };
        };
        let Counters { reads, writes, .. } = sample.counters;
        let same = (reads, writes) == (before.reads, before.writes);
        let counted = Self {
            id: sample.id,
            reads,
            writes,
            counted: now,
            ..before.clone()
        };
        // Counters of before and after have nothing to do with each other.
        if broken.is_some() {
            return Advanced {
                changed: !same || sample.id != before.id || before.blind_seconds > 0,
                window: Self {
                    blind_seconds: 0,
                    ..counted
                },
            };
        }
        let own = if sample.by_number && sample.id != before.id {
            Some(Break::Recreated)
        } else if reads < before.reads || writes < before.writes {
            Some(Break::Decrease)
        } else {
            None
        };
        if let Some(own) = own {
            return Advanced {
                window: Self {
                    since: now,
                    broken_by: own,
                    blind_seconds: 0,
                    ..counted
                },
                changed: true,
            };
        }
        if same {
            return Advanced {
                changed: sample.id != before.id,
                window: Self {
                    id: sample.id,
                    ..before.clone()
                },
            };
        }
        if sample.blind {
            let from = previous.unwrap_or(before.counted).max(before.since);
            let seconds = now.duration_since(from).as_secs().max(1);
            return Advanced {
                window: Self {
                    blind_seconds: before.blind_seconds.saturating_add(seconds),
                    ..counted
                },
                changed: true,
            };
        }
        // Reads alone: the server may know when.
        let read = sample.counters.last_read.filter(|read| {
            writes == before.writes && *read <= now && Some(*read) > before.last_use
        });
        let due = now.duration_since(before.counted) >= LAZY;
        Advanced {
            changed: sample.swept || due || before.last_use.is_none() || before.blind_seconds > 0,
            window: Self {
                last_use: Some(read.unwrap_or(now)),
                blind_seconds: 0,
                ..counted
            },
        }
    }

    fn first(sample: &Sample, now: Timestamp) -> Self {
        let Counters {
            reads,
            writes,
            last_read,
        } = sample.counters;
        Self {
            id: sample.id,
            since: now,
            broken_by: Break::FirstSeen,
            reads,
            writes,
            counted: now,
            last_use: last_read.filter(|read| *read <= now && !sample.swept),
            blind_seconds: 0,
        }
    }

    /// What the window says at the time of `state`; `after_days`: from how many days without use on a thing is called unused.
    pub(super) fn judge(&self, state: &State, after_days: u32) -> Observation {
        let now = state.node.at;
        let (since, broken_by) = if self.since >= state.since {
            (self.since, self.broken_by)
        } else {
            (state.since, state.broken_by)
        };
        let quiet = self.last_use.map_or(since, |last| last.max(since));
        let days = whole_days(quiet, now);
        let observed = |usage| Observation {
            usage,
            coverage_since: Some(since),
            coverage_percent: Some(100),
            note: None,
        };
        if let Some(last) = self.last_use
            && whole_days(last, now) < after_days
        {
            return observed(Usage::Used { last: Some(last) });
        }
        if days < after_days {
            return observed(Usage::Unknown(broken_by.reason()));
        }
        if self.blind_seconds > 0 {
            let all = now.duration_since(quiet).as_secs().max(1);
            let seen = all.saturating_sub(self.blind_seconds).max(0);
            return Observation {
                coverage_since: Some(quiet),
                coverage_percent: u8::try_from(seen.saturating_mul(100) / all).ok(),
                ..observed(Usage::Unknown(
                    "no use was seen but while the operator itself swept the table: whose that was cannot be told",
                ))
            };
        }
        observed(Usage::Unused { since: quiet, days })
    }
}

fn whole_days(from: Timestamp, to: Timestamp) -> u32 {
    u32::try_from(to.duration_since(from).as_hours().max(0) / 24).unwrap_or(u32::MAX)
}
