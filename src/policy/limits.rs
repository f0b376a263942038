//! The blast-radius cap: how much one sweep of one rule may take.

/// What a small decision says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing stands against it.
    Go,
    /// Not now.
    Wait {
        /// Why, for status.
        reason: String,
    },
    /// Not without somebody's approval or change.
    Block {
        /// Why, for status.
        reason: String,
    },
}

/// A rule's limits with the defaults filled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Rows a sweep may take at most; `None`: no cap.
    pub max_rows: Option<u64>,
    /// Percent of the rows at the sweep's start that it may take at most, 1 to 100; `None`: the default (50 for tables over 10,000 rows).
    pub max_percent: Option<u8>,
}

/// Limits applied to one sweep of one rule, over all its resumptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Rows that may be taken in all; `None`: no cap.
    pub rows: Option<u64>,
}

impl Limits {
    /// Rows that a sweep may take in all of a table that has `rows_at_start` rows.
    #[must_use]
    pub fn allowance(&self, rows_at_start: u64) -> Allowance {
        let _ = rows_at_start;
        todo!()
    }
}

impl Allowance {
    /// May a sweep that has taken `done` rows (and is expected to, or does) take `next` more?
    #[must_use]
    pub fn admits(&self, done: u64, next: u64) -> Verdict {
        let _ = (done, next);
        todo!()
    }
}
