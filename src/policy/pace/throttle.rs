//! The rest after a chunk.

use std::time::Duration;

use super::Pace;

/// Seconds of its rate that a sweep may save up while it deletes less than it may.
const BURST: f64 = 1.0;

/// No single rest is longer; what is still owed is rested after the next chunk.
const LONGEST_REST: f64 = 24.0 * 3600.0;

/// Keeps a sweep under its duty, its rows per second and its bytes of write-ahead log per second.
#[derive(Clone, Debug)]
pub struct Throttle {
    rows: Option<Rate>,
    wal: Option<Rate>,
}

/// What a chunk took, and how it may be followed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Rows deleted.
    pub rows: u64,
    /// Bytes of write-ahead log written meanwhile.
    pub wal_bytes: u64,
    /// How long the chunk took.
    pub took: Duration,
    /// Percent of the time that the sweep may work just now, 1 to 100.
    pub duty: f64,
}

impl Throttle {
    /// A throttle for one sweep.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self {
            rows: pace.max_rows_per_second.map(Rate::new),
            wal: pace.max_wal_bytes_per_second.map(Rate::new),
        }
    }

    /// How long to rest after a chunk. Counts on the rest being taken.
    pub fn rest_after(&mut self, work: Work) -> Duration {
        let took = work.took.as_secs_f64();
        let for_duty = took * (100.0 / work.duty.clamp(1.0, 100.0) - 1.0);
        let mut rest = for_duty.min(LONGEST_REST);
        let mut rates = [(&mut self.rows, work.rows), (&mut self.wal, work.wal_bytes)];
        for (rate, amount) in &mut rates {
            if let Some(rate) = rate {
                rest = rest.max(rate.owed(*amount, took));
            }
        }
        for (rate, _) in &mut rates {
            if let Some(rate) = rate {
                rate.pay(rest);
            }
        }
        Duration::from_secs_f64(rest)
    }
}

/// An amount per second.
#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: f64,
    /// Seconds that what was taken so far is ahead of the rate; negative: saved up.
    debt: f64,
}

impl Rate {
    fn new(per_second: u64) -> Self {
        Self {
            per_second: to_f64(per_second.max(1)),
            debt: 0.0,
        }
    }

    /// Enters `amount`, taken in `took` seconds, and says how many seconds of rest it asks for. What was saved up before is used
    /// first; the time of the chunk pays debt off, as that of the rest will.
    fn owed(&mut self, amount: u64, took: f64) -> f64 {
        self.debt += to_f64(amount) / self.per_second - took;
        self.debt.clamp(0.0, LONGEST_REST)
    }

    fn pay(&mut self, rest: f64) {
        self.debt = (self.debt - rest).max(-BURST);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "rates and rows are far below 2^52"
)]
fn to_f64(rows: u64) -> f64 {
    rows as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::policy::defaults::defaults;

    /// A throttle and its duty.
    struct Duty(Throttle, u8);

    impl Duty {
        fn rest_after(&mut self, rows: u64, took: Duration) -> Duration {
            self.rest(rows, 0, took)
        }

        fn rest(&mut self, rows: u64, wal_bytes: u64, took: Duration) -> Duration {
            self.0.rest_after(Work {
                rows,
                wal_bytes,
                took,
                duty: f64::from(self.1),
            })
        }
    }

    fn throttle(max_duty: u8, max_rows_per_second: Option<u64>) -> Duty {
        let pace = Pace {
            max_rows_per_second,
            ..defaults().pace
        };
        Duty(Throttle::new(pace), max_duty)
    }

    const CHUNK: Duration = Duration::from_millis(20);

    #[rstest]
    #[case(100, 0)]
    #[case(50, 20)]
    #[case(25, 60)]
    #[case(1, 1980)]
    fn the_duty_is_kept(#[case] duty: u8, #[case] millis: u64) {
        assert_eq!(
            throttle(duty, None).rest_after(1_000_000, CHUNK),
            Duration::from_millis(millis)
        );
    }

    #[test]
    fn the_longer_of_both_rests_counts() {
        let rest = throttle(25, Some(1_000)).rest_after(100, CHUNK);
        assert_eq!(rest, Duration::from_millis(80));
        let rest = throttle(25, Some(1_000_000)).rest_after(100, CHUNK);
        assert_eq!(rest, Duration::from_millis(60));
    }

    #[test]
    fn bytes_of_write_ahead_log_are_kept_under_their_rate_too() {
        let pace = Pace {
            max_rows_per_second: Some(1_000_000),
            max_wal_bytes_per_second: Some(1 << 20),
            ..defaults().pace
        };
        let mut throttle = Duty(Throttle::new(pace), 100);
        let rest = throttle.rest(100, 1 << 20, CHUNK);
        assert_eq!(rest, Duration::from_millis(980));
        assert_eq!(throttle.rest(100, 0, CHUNK), Duration::ZERO);
    }

    #[test]
    fn one_row_a_second_works() {
        let mut throttle = throttle(100, Some(1));
        let rest = throttle.rest_after(3, Duration::from_secs(1));
        assert_eq!(rest, Duration::from_secs(2));
        let rest = throttle.rest_after(0, Duration::from_secs(1));
        assert_eq!(rest, Duration::ZERO);
    }

    #[test]
    fn an_idle_stretch_saves_up_one_second_only() {
        let mut throttle = throttle(100, Some(1_000));
        for _ in 0..500 {
            assert_eq!(throttle.rest_after(0, CHUNK), Duration::ZERO);
        }
        // 1 s saved and 20 ms worked: 1,020 rows are free.
        assert_eq!(throttle.rest_after(1_020, CHUNK), Duration::ZERO);
        let rest = throttle.rest_after(1_020, CHUNK);
        assert!(rest.abs_diff(Duration::from_secs(1)) < Duration::from_micros(1));
    }

    proptest! {
        #[test]
        fn over_any_stretch_the_rate_is_exceeded_by_a_second_at_most(
            rate in 1_u64..100_000,
            duty in 1_u8..=100,
            chunks in prop::collection::vec((0_u64..5_000, 0_u64..200), 1..60),
            from in 0_usize..60,
        ) {
            let mut throttle = throttle(duty, Some(rate));
            let (mut rows_after, mut seconds_after) = (0_u64, 0.0);
            for (i, (rows, millis)) in chunks.into_iter().enumerate() {
                let took = Duration::from_millis(millis);
                let rest = throttle.rest_after(rows, took);
                if i >= from {
                    rows_after += rows;
                    seconds_after += (took + rest).as_secs_f64();
                    let allowed = (seconds_after + BURST) * rate as f64;
                    prop_assert!(rows_after as f64 <= allowed * (1.0 + 1e-6) + 1e-3);
                }
            }
        }

        #[test]
        fn no_input_panics(duty: u8, wal: u64, rate: Option<u64>, rows: u64, took: Duration) {
            let mut throttle = throttle(duty, rate);
            let first = throttle.rest(rows, wal, took);
            let second = throttle.rest(rows, wal, took);
            prop_assert!(first.as_secs_f64() <= LONGEST_REST && second.as_secs_f64() <= LONGEST_REST);
        }
    }
}
