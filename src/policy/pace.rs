//! How fast a sweep may go: the size of the next chunk, and the rest after it.

use std::time::Duration;

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

/// Sizes chunks so that the next one, at its worst, stays near the target.
#[derive(Clone, Debug)]
pub struct ChunkSizer {
    _private: (),
}

impl ChunkSizer {
    /// Starts small: nothing is known of the table's cost yet.
    #[must_use]
    pub fn new(target: Duration) -> Self {
        let _ = target;
        todo!()
    }

    /// temp
    #[must_use]
    pub fn with_rows_per_page(self, rows: f64) -> Self {
        let _ = rows;
        todo!()
    }

    /// Pages for the next chunk, at least one.
    #[must_use]
    pub fn next_pages(&self) -> u32 {
        todo!()
    }

    /// Learns from a chunk.
    pub fn observe(&mut self, pages: u32, rows: u64, took: Duration) {
        let _ = (pages, rows, took);
        todo!()
    }
}

/// Keeps a sweep under its duty and its rows per second.
#[derive(Clone, Debug)]
pub struct Throttle {
    _private: (),
}

impl Throttle {
    /// A throttle for one sweep.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        let _ = pace;
        todo!()
    }

    /// How long to rest after a chunk of `rows` rows that took `took`.
    pub fn rest_after(&mut self, rows: u64, took: Duration) -> Duration {
        let _ = (rows, took);
        todo!()
    }
}
