//! The window of one thing: how long its counters have been watched, and when they last rose.

use jiff::{SignedDuration, Timestamp};

use super::{Break, Counters, Observation, State, Usage, node::LONGEST_GAP};

/// The row of a thing that is used all the time is written no more often than this. Its last use is late by as much at most,
/// which is on the safe side.
const LAZY: SignedDuration = SignedDuration::from_hours(6);
const SECONDS_OF_A_DAY: i64 = 86_400;

/// Counters of which nobody knows yet what they were without the operator's own part.
const UNSETTLED: i64 = i64::MIN;

/// What is remembered of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The database's own number for it.
    pub id: u32,
    /// Since when it has been watched without a break of its own.
    pub since: Timestamp,
    /// What was before that.
    pub broken_by: Break,
    /// Scans, as the server counted them then, without the operator's own.
    pub reads: i64,
    /// Rows written, as the server counted them then, without the operator's own.
    pub writes: i64,
    /// When they were counted.
    pub counted: Timestamp,
    /// When a use was last seen.
    pub last_use: Option<Timestamp>,
    /// Seconds up to the last sample in which a sweep of the operator was at the table, so that its part is not known yet.
    pub blind_seconds: i64,
}

/// One sample of one thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) id: u32,
    /// Without the operator's own part.
    pub(super) counters: Counters,
    /// Another number means another thing. Not so for an index, which gets one with every REINDEX CONCURRENTLY and keeps its
    /// counters.
    pub(super) by_number: bool,
    /// Our own sweeps go to it: the server's time of the last scan may be that of one of them.
    pub(super) swept: bool,
    /// One of them is at it, or was a moment ago: what it added is not all written down, neither by us nor by the server.
    pub(super) moving: bool,
    /// One that is over since the last sample does not know what it added.
    pub(super) unclear: bool,
}

impl Sample {
    /// With what the next samples are compared.
    fn baseline(&self) -> (i64, i64) {
        if self.moving {
            (UNSETTLED, UNSETTLED)
        } else {
            (self.counters.reads, self.counters.writes)
        }
    }
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
        let (reads, writes) = sample.baseline();
        let counted = Self {
            id: sample.id,
            reads,
            writes,
            counted: now,
            blind_seconds: 0,
            ..before.clone()
        };
        let begun = |broken_by| Advanced {
            window: Self {
                since: now,
                broken_by,
                ..counted.clone()
            },
            changed: true,
        };
        // Counters of before and after have nothing to do with each other.
        if broken.is_some() {
            return Advanced {
                changed: counted
                    != Self {
                        counted: now,
                        ..before.clone()
                    },
                window: counted,
            };
        }
        if sample.by_number && sample.id != before.id {
            return begun(Break::Recreated);
        }
        if before.reads == UNSETTLED {
            return if sample.moving {
                before.unmoved(sample)
            } else {
                begun(before.broken_by)
            };
        }
        let seen = (sample.counters.reads, sample.counters.writes);
        let same = seen == (before.reads, before.writes);
        if sample.unclear && !same {
            return begun(Break::Swept);
        }
        if sample.moving {
            if same {
                return before.unmoved(sample);
            }
            // What the counters were before the sweep is kept: when it is over, and its part known, they are compared with that.
            let from = previous.unwrap_or(before.counted).max(before.since);
            let seconds = now.duration_since(from).as_secs().max(1);
            return Advanced {
                window: Self {
                    id: sample.id,
                    blind_seconds: before.blind_seconds.saturating_add(seconds),
                    ..before.clone()
                },
                changed: true,
            };
        }
        if seen.0 < before.reads || seen.1 < before.writes {
            return begun(Break::Decrease);
        }
        if same {
            return Advanced {
                changed: sample.id != before.id || before.blind_seconds > 0,
                window: Self {
                    id: sample.id,
                    blind_seconds: 0,
                    ..before.clone()
                },
            };
        }
        // Reads alone: the server may know when, and does not say who.
        let read = sample.counters.last_read.filter(|read| {
            !sample.swept
                && writes == before.writes
                && *read <= now
                && Some(*read) > before.last_use
        });
        let due = now.duration_since(before.counted) >= LAZY;
        Advanced {
            changed: sample.swept || due || before.last_use.is_none() || before.blind_seconds > 0,
            window: Self {
                last_use: Some(read.unwrap_or(now)),
                ..counted
            },
        }
    }

    /// Nothing is learned from a sample.
    fn unmoved(&self, sample: &Sample) -> Advanced {
        Advanced {
            changed: sample.id != self.id,
            window: Self {
                id: sample.id,
                ..self.clone()
            },
        }
    }

    fn first(sample: &Sample, now: Timestamp) -> Self {
        let (reads, writes) = sample.baseline();
        let last_read = sample.counters.last_read;
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
        if self.reads == UNSETTLED || days < after_days {
            return observed(Usage::Unknown(broken_by.reason()));
        }
        if self.blind_seconds == 0 {
            return observed(Usage::Unused { since: quiet, days });
        }
        // Up to the sweep that is at it nothing was; what is since then shows when it is over.
        let all = now.duration_since(quiet).as_secs().max(1);
        let seen = all.saturating_sub(self.blind_seconds).max(0);
        let days = u32::try_from(seen / SECONDS_OF_A_DAY).unwrap_or(u32::MAX);
        let usage = if self.blind_seconds > LONGEST_GAP.as_secs() || days < after_days {
            Usage::Unknown(
                "no use was seen but while the operator itself sweeps the table: whose that is shows when no sweep was at it for a while",
            )
        } else {
            Usage::Unused { since: quiet, days }
        };
        Observation {
            coverage_since: Some(quiet),
            coverage_percent: u8::try_from(seen.saturating_mul(100) / all).ok(),
            ..observed(usage)
        }
    }
}

fn whole_days(from: Timestamp, to: Timestamp) -> u32 {
    u32::try_from(to.duration_since(from).as_hours().max(0) / 24).unwrap_or(u32::MAX)
}
