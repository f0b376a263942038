//! The rest after a chunk.

use std::time::Duration;

use super::Pace;

/// Seconds of its rate that a sweep may save up while it deletes less than it may.
const BURST: f64 = 1.0;

/// No single rest is longer; what is still owed is rested after the next chunk.
const LONGEST_REST: f64 = 24.0 * 3600.0;

/// Keeps a sweep under its duty and its rows per second.
#[derive(Clone, Debug)]
pub struct Throttle {
    /// Rest per time worked.
    rest_ratio: f64,
    rows_per_second: Option<f64>,
    /// Seconds that the rows taken so far are ahead of their rate; negative: saved up.
    debt: f64,
}

impl Throttle {
    /// A throttle for one sweep.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        let duty = f64::from(pace.max_duty.clamp(1, 100));
        Self {
            rest_ratio: 100.0 / duty - 1.0,
            rows_per_second: pace.max_rows_per_second.map(|rows| to_f64(rows.max(1))),
            debt: 0.0,
        }
    }

    /// How long to rest after a chunk of `rows` rows that took `took`. Counts on the rest being taken.
    pub fn rest_after(&mut self, rows: u64, took: Duration) -> Duration {
        let took = took.as_secs_f64();
        let for_duty = (took * self.rest_ratio).min(LONGEST_REST);
        let Some(rate) = self.rows_per_second else {
            return Duration::from_secs_f64(for_duty);
        };
        // What was saved up before the chunk is used first; the time of the chunk and of the rest pays the debt off.
        self.debt += to_f64(rows) / rate - took;
        let rest = self.debt.clamp(for_duty, LONGEST_REST);
        self.debt = (self.debt - rest).max(-BURST);
        Duration::from_secs_f64(rest)
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

    fn throttle(max_duty: u8, max_rows_per_second: Option<u64>) -> Throttle {
        Throttle::new(Pace {
            chunk_duration: Duration::from_millis(20),
            max_duty,
            max_rows_per_second,
        })
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
        fn no_input_panics(duty: u8, rate: Option<u64>, rows: u64, took: Duration) {
            let mut throttle = throttle(duty, rate);
            let first = throttle.rest_after(rows, took);
            let second = throttle.rest_after(rows, took);
            prop_assert!(first.as_secs_f64() <= LONGEST_REST && second.as_secs_f64() <= LONGEST_REST);
        }
    }
}
