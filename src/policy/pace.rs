//! How fast a sweep may go: the size of the next chunk, and the rest after it.

use std::time::Duration;

mod chunk;
mod throttle;

pub use chunk::ChunkSizer;
pub use throttle::Throttle;

/// The policy's pace with the defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Target length of one transaction.
    pub chunk_duration: Duration,
    /// Percent of the time that a sweep may work, 1 to 100.
    pub max_duty: u8,
    /// Rows per second at most.
    pub max_rows_per_second: Option<u64>,
}
