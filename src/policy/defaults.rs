//! What a policy means where it says nothing. The only place that knows: the API itself defaults `mode` and `suspend` only,
//! so that a stored object does not freeze the defaults of the day on which it was written.

use std::time::Duration;

use super::{claims::LedgerMode, pace::Pace};

/// Defaults of a policy, as `plan` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `database.ledger`
    pub ledger: LedgerMode,
    /// `database.maxConnections`
    pub max_connections: u32,
    /// `database.lockTimeout`
    pub lock_timeout: Duration,
    /// `database.statementTimeout`
    pub statement_timeout: Duration,
    /// `audit.interval`
    pub audit_interval: Duration,
    /// `audit.unusedAfter`, in days
    pub unused_after_days: u32,
    /// `pace.chunkDuration` and `pace.maxDuty`; no other limit.
    pub pace: Pace,
    /// `limits.maxPercent`
    pub max_percent: u8,
    /// The default of `limits.maxPercent` counts for tables with more rows than this.
    pub max_percent_from_rows: u64,
    /// Clocks of database and operator may differ by this much before a sweep is refused.
    pub max_clock_skew: Duration,
}

/// The defaults of this version.
#[must_use]
pub const fn defaults() -> Defaults {
    Defaults {
        ledger: LedgerMode::Existing,
        max_connections: 2,
        lock_timeout: Duration::from_millis(100),
        statement_timeout: Duration::from_secs(30),
        audit_interval: Duration::from_secs(15 * 60),
        unused_after_days: 90,
        pace: Pace {
            chunk_duration: Duration::from_millis(20),
            max_duty: 25,
            eases: true,
            max_rows_per_second: None,
            max_replica_lag: None,
            max_wal_bytes_per_second: None,
        },
        max_percent: 50,
        max_percent_from_rows: 10_000,
        max_clock_skew: Duration::from_secs(5 * 60),
    }
}
