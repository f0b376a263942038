//! Whether a thing is used: three-valued, and honest about what counters cannot know.
//!
//! Counters of a server say how often a thing was used since they began to count, and a server loses them: in a crash, at a
//! reset, at a failover. So a ledger keeps a [`Window`] of each table and index: since when its counters were watched without a
//! break, and when they last rose. "Unused" is said only of a window that is unbroken and long enough. What the operator's own
//! sweeps added to a counter is taken off it; where that is not known exactly, it breaks the window. Pure: the clock is the
//! sample's.

mod database;
mod log;
mod node;
mod statements;
#[cfg(test)]
mod tests;
pub mod times;
mod window;
mod windows;

use jiff::Timestamp;

pub use database::{Change, Memory, Observed, OwnUse, Swept, observe};
pub use log::{LogQuery, LogSource, Logged, with_log};
pub use node::{Node, State};
pub use statements::{LookedUp, Statements};
pub use window::Window;
pub use windows::Windows;

/// Whether a table or an index is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It was, last at that time, or at an unknown time.
    Used {
        /// The last use, where it is known.
        last: Option<Timestamp>,
    },
    /// No use was seen in an unbroken stretch of samples.
    Unused {
        /// Since when.
        since: Timestamp,
        /// Whole days of it.
        days: u32,
    },
    /// Nothing can be said, and why.
    Unknown(&'static str),
}

impl Default for Usage {
    fn default() -> Self {
        Self::Unknown("no samples over time are kept: that takes a ledger")
    }
}

impl Usage {
    /// Days without use, if that was seen.
    #[must_use]
    pub fn unused_days(&self) -> Option<u32> {
        match self {
            Self::Unused { days, .. } => Some(*days),
            Self::Used { .. } | Self::Unknown(_) => None,
        }
    }
}

/// A [`Usage`], and what it rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Whether it is used.
    pub usage: Usage,
    /// From when on its use was watched.
    pub coverage_since: Option<Timestamp>,
    /// Percent of the time since then in which a use would have been seen.
    pub coverage_percent: Option<u8>,
    /// What else people should know: that it is so on this node only, or that a usage log could not be read.
    pub note: Option<String>,
}

impl Observation {
    /// Nothing can be said.
    #[must_use]
    pub fn unknown(why: &'static str) -> Self {
        Self {
            usage: Usage::Unknown(why),
            ..Self::default()
        }
    }

    /// What is known of a whole from its parts: used if one of them is, unused if all of them are.
    fn of_parts(parts: impl Iterator<Item = Self>) -> Option<Self> {
        parts.reduce(|one, other| match (&one.usage, &other.usage) {
            (Usage::Used { last: a }, Usage::Used { last: b }) => Self {
                usage: Usage::Used { last: *a.max(b) },
                ..one.narrowed(&other)
            },
            (Usage::Used { .. }, _) => one,
            (_, Usage::Used { .. }) => other,
            (Usage::Unknown(_), _) => one,
            (_, Usage::Unknown(_)) => other,
            (Usage::Unused { since: a, days: m }, Usage::Unused { since: b, days: n }) => Self {
                usage: Usage::Unused {
                    since: *a.max(b),
                    days: *m.min(n),
                },
                ..one.narrowed(&other)
            },
        })
    }

    /// With the shorter coverage of the two.
    fn narrowed(&self, other: &Self) -> Self {
        Self {
            usage: self.usage.clone(),
            coverage_since: match (self.coverage_since, other.coverage_since) {
                (Some(one), Some(other)) => Some(one.max(other)),
                _ => None,
            },
            coverage_percent: self.coverage_percent.min(other.coverage_percent),
            note: self.note.clone().or_else(|| other.note.clone()),
        }
    }
}

/// What the server counted of a table or an index since it began to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Scans.
    pub reads: i64,
    /// Rows inserted, updated or deleted.
    pub writes: i64,
    /// When it was last scanned, where the server records that (PostgreSQL 16 and newer).
    pub last_read: Option<Timestamp>,
}

/// Why a window does not reach further back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The thing was not known before.
    FirstSeen,
    /// The database is on another server: a restored copy.
    OtherServer,
    /// Another node became the primary.
    Failover,
    /// The server lost its counters.
    Crash,
    /// Somebody reset the database's counters.
    Reset,
    /// The thing's own counters fell.
    Decrease,
    /// A table of the same name was made anew.
    Recreated,
    /// No sample was taken for too long.
    Missed,
    /// A sweep of the operator moved the counters, and by how much is not known.
    Swept,
}

impl Break {
    const ALL: [Self; 9] = [
        Self::FirstSeen,
        Self::OtherServer,
        Self::Failover,
        Self::Crash,
        Self::Reset,
        Self::Decrease,
        Self::Recreated,
        Self::Missed,
        Self::Swept,
    ];

    /// As ledgers write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstSeen => "FirstSeen",
            Self::OtherServer => "OtherServer",
            Self::Failover => "Failover",
            Self::Crash => "Crash",
            Self::Reset => "Reset",
            Self::Decrease => "Decrease",
            Self::Recreated => "Recreated",
            Self::Missed => "Missed",
            Self::Swept => "Swept",
        }
    }

    /// Reads [`as_str`](Self::as_str). A word that a newer operator wrote is a break all the same.
    #[must_use]
    pub fn read(word: &str) -> Self {
        let known = Self::ALL.into_iter().find(|it| it.as_str() == word);
        known.unwrap_or(Self::Missed)
    }

    /// Why nothing is said yet.
    fn reason(self) -> &'static str {
        match self {
            Self::FirstSeen => "not watched for long enough yet",
            Self::OtherServer => {
                "not watched for long enough since the database was restored on another server"
            }
            Self::Failover => "not watched for long enough since another node became the primary",
            Self::Crash => {
                "not watched for long enough since the server lost its counters, as in a crash"
            }
            Self::Reset => "not watched for long enough since the database's counters were reset",
            Self::Decrease => "not watched for long enough since its counters were reset",
            Self::Recreated => "not watched for long enough since it was made anew",
            Self::Missed => {
                "not watched for long enough since no sample was taken for several days"
            }
            Self::Swept => {
                "not watched for long enough since the operator itself swept the table and did not learn how much of its use was its own (a sweep was killed, a chunk failed, or the server is older than PostgreSQL 15)"
            }
        }
    }
}

/// What one look at counters says without a memory: it proves use, never disuse. `reset`: since when they count.
#[must_use]
pub fn glance(counters: Option<&Counters>, reset: Option<Timestamp>) -> Observation {
    let Some(counters) = counters else {
        return Observation::unknown("the server counts no use of it");
    };
    let counted = counters.reads > 0 || counters.writes > 0;
    match (counters.last_read, reset) {
        (Some(read), _) => Observation {
            usage: Usage::Used { last: Some(read) },
            ..Observation::default()
        },
        (None, Some(since)) if counted => Observation {
            usage: Usage::Used { last: None },
            coverage_since: Some(since),
            ..Observation::default()
        },
        (None, None) if counted => {
            Observation::unknown("used, but since when the counters count is not known")
        }
        _ => Observation::unknown(
            "the counters saw no use; without samples over time that proves nothing",
        ),
    }
}
