//! Whether a thing is used: three-valued, and honest about what counters cannot know.

use jiff::Timestamp;

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
