//! How many rows a chunk may have where rows are dear: a chunk locks the whole file, and a page of the walk has 10,000 rows.

use std::time::Duration;

use super::catalog::ROWS_PER_PAGE;

/// A lock that is held for longer is felt by everybody who writes.
const LONG: Duration = Duration::from_millis(500);
/// What the next chunks should take then.
const WANTED: Duration = Duration::from_millis(100);
/// Below that a chunk's commit costs more than its rows, however dear.
const LEAST: u64 = 200;

/// The most rows of a chunk; without one a page is the least that the pace asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Brief(Option<u64>);

impl Brief {
    /// So many of `rows`.
    pub(super) fn of(self, rows: u64) -> u64 {
        self.0.map_or(rows, |most| most.min(rows))
    }

    /// A chunk over so many rows had the lock for so long.
    pub(super) fn learn(&mut self, rows: u64, held: Duration) {
        if self.0.is_none() && held <= LONG {
            return;
        }
        let held = held.as_micros().max(1);
        let fitting = u128::from(rows.max(1)) * WANTED.as_micros() / held;
        // It grows by doubling: what comes next may be as dear as what was.
        let grown = self.0.map_or(u128::MAX, |most| u128::from(most) * 2);
        let most = u64::try_from(fitting.min(grown))
            .unwrap_or(u64::MAX)
            .max(LEAST);
        self.0 = Some(most).filter(|most| *most < u64::from(ROWS_PER_PAGE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = ROWS_PER_PAGE as u64;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn rows_that_are_not_dear_change_nothing() {
        let mut brief = Brief::default();

        brief.learn(PAGE, millis(500));

        assert_eq!(brief.of(40 * PAGE), 40 * PAGE);
    }

    #[test]
    fn after_a_long_chunk_the_next_ones_fit_into_a_tenth_of_a_second() {
        let mut brief = Brief::default();

        brief.learn(PAGE, millis(2_000));

        assert_eq!(brief.of(PAGE), 500);
        assert_eq!(brief.of(3), 3);
        brief.learn(500, millis(200));
        assert_eq!(brief.of(PAGE), 250);
        brief.learn(250, millis(60_000));
        assert_eq!(brief.of(PAGE), LEAST);
    }

    #[test]
    fn cheap_rows_let_it_grow_back_to_whole_pages() {
        let mut brief = Brief::default();
        brief.learn(PAGE, millis(2_000));

        let mut sizes = Vec::new();
        for _ in 0..6 {
            sizes.push(brief.of(PAGE));
            brief.learn(brief.of(PAGE), millis(1));
        }

        assert_eq!(sizes, [500, 1_000, 2_000, 4_000, 8_000, PAGE]);
        assert_eq!(brief.of(2 * PAGE), 2 * PAGE);
    }

    #[test]
    fn a_chunk_in_no_time_is_no_division_by_zero() {
        let mut brief = Brief(Some(300));

        brief.learn(0, Duration::ZERO);

        assert!(brief.of(PAGE) >= LEAST);
    }
}
