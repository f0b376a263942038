//! How fast a sweep may go: the size of the next chunk, and the rest after it.

use std::time::Duration;

mod chunk;
mod pressure;
mod throttle;

pub use chunk::ChunkSizer;
pub use pressure::{
    Archiver, EASED_CHUNK, EASED_DUTY, MOST_KEPT_BY_SLOT, MOST_UNARCHIVED, OLDEST_SNAPSHOT,
    OPEN_CHUNK, Openness, Pressure, ReplicaLag, Slots, Veto, veto,
};
pub use throttle::{Throttle, Work};

/// The policy's pace with the defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Target length of one transaction.
    pub chunk_duration: Duration,
    /// Percent of the time that a sweep may work, 1 to 100.
    pub max_duty: u8,
    /// The policy states neither length nor duty: the sweep may ease off below them while the service is at work.
    pub eases: bool,
    /// Rows per second at most.
    pub max_rows_per_second: Option<u64>,
    /// Lag of the slowest replica from which on a sweep waits.
    pub max_replica_lag: Option<Duration>,
    /// Bytes of write-ahead log per second at most, as far as they are written while a chunk works.
    pub max_wal_bytes_per_second: Option<u64>,
}
