//! How many rows have expired, and how old and new they are, estimated from the column's statistics.

/// The distribution of a time column. Values are seconds since 1970 (see [`Cutoff::epoch_seconds`](super::cutoff::Cutoff::epoch_seconds)), infinities included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnStatistics {
    /// Fraction of the rows that are NULL, 0 to 1.
    pub null_fraction: f64,
    /// Fraction of the rows whose value is not of the column's encoding, 0 to 1; they never expire.
    pub unreadable_fraction: f64,
    /// Bounds of equally filled bins, ascending; the most common values are not in it.
    pub histogram: Vec<f64>,
    /// The most common values with their fraction of all rows.
    pub common: Vec<(f64, f64)>,
}

impl ColumnStatistics {
    /// From values that were decoded; `None` stands for an unreadable one. The bounds come in the order of the stored values,
    /// which need not be that of the times.
    #[must_use]
    pub fn decoded(
        null_fraction: f64,
        bounds: &[Option<f64>],
        common: &[(Option<f64>, f64)],
    ) -> Self {
        let share = |part: f64, of: f64| if of > 0.0 { part / of } else { 0.0 };
        let all: f64 = common.iter().map(|(_, part)| fraction(*part)).sum();
        let unreadable: f64 = common
            .iter()
            .filter(|(value, _)| value.is_none())
            .map(|(_, part)| fraction(*part))
            .sum();
        let mut histogram: Vec<f64> = bounds.iter().copied().flatten().collect();
        // What the common values do not cover is as the bounds are, or without any as the common values are.
        let unreadable_share = if bounds.is_empty() {
            share(unreadable, all)
        } else {
            #[expect(
                clippy::cast_precision_loss,
                reason = "histograms have at most 10,001 bounds"
            )]
            let counts = ((bounds.len() - histogram.len()) as f64, bounds.len() as f64);
            share(counts.0, counts.1)
        };
        let rest = (1.0 - fraction(null_fraction) - all).max(0.0);
        histogram.sort_by(f64::total_cmp);
        Self {
            null_fraction,
            unreadable_fraction: fraction(unreadable + rest * unreadable_share),
            histogram,
            common: common
                .iter()
                .filter_map(|(value, part)| value.map(|value| (value, *part)))
                .collect(),
        }
    }

    /// Fraction of the rows whose value is before `cutoff`, 0 to 1.
    ///
    /// Never decreases with the cutoff. NULL, infinity and unreadable values are never before it, -infinity always is. Without any statistics: 0.
    #[must_use]
    pub fn expired_fraction(&self, cutoff: f64) -> f64 {
        if cutoff.is_nan() {
            return 0.0;
        }
        let not_null =
            (1.0 - fraction(self.null_fraction) - fraction(self.unreadable_fraction)).max(0.0);
        let (mut common, mut common_before) = (0.0, 0.0);
        for &(value, part) in &self.common {
            let part = fraction(part);
            common += part;
            if value < cutoff {
                common_before += part;
            }
        }
        let before = match histogram_fraction_before(&self.histogram, cutoff) {
            Some(inside) => common_before + (not_null - common).max(0.0) * inside,
            // Without a histogram the common values stand for all: what else there is, is spread as they are.
            None if common > 0.0 => common_before / common * not_null,
            None => 0.0,
        };
        before.clamp(0.0, not_null)
    }

    /// The smallest finite value known.
    #[must_use]
    pub fn oldest(&self) -> Option<f64> {
        self.finite_values().reduce(f64::min)
    }

    /// The greatest finite value known.
    #[must_use]
    pub fn newest(&self) -> Option<f64> {
        self.finite_values().reduce(f64::max)
    }

    /// A value is known between two times.
    #[must_use]
    pub fn knows_between(&self, from: f64, until: f64) -> bool {
        self.finite_values()
            .any(|value| (from..until).contains(&value))
    }

    fn finite_values(&self) -> impl Iterator<Item = f64> {
        let common = self.common.iter().map(|(value, _)| *value);
        self.histogram
            .iter()
            .copied()
            .chain(common)
            .filter(|value| value.is_finite())
    }
}

/// A fraction as it should be, whatever the catalog held.
fn fraction(value: f64) -> f64 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, 1.0)
    }
}

/// Fraction of the histogram before `cutoff`, linear inside the bin where it lies; `None`: no histogram.
fn histogram_fraction_before(bounds: &[f64], cutoff: f64) -> Option<f64> {
    let last = bounds.len().checked_sub(1)?;
    let below = bounds.partition_point(|bound| *bound < cutoff);
    let (Some(low), Some(high)) = (
        below.checked_sub(1).and_then(|i| bounds.get(i)),
        bounds.get(below),
    ) else {
        return Some(if below == 0 { 0.0 } else { 1.0 });
    };
    let width = high - low;
    let inside = if width.is_finite() && width > 0.0 {
        ((cutoff - low) / width).clamp(0.0, 1.0)
    } else {
        // One end is infinite: nothing is known about where in the bin the rows lie.
        0.5
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "histograms have at most 10,001 bounds"
    )]
    Some(((below - 1) as f64 + inside) / last as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INFINITE: f64 = f64::INFINITY;

    fn histogram(bounds: &[f64]) -> ColumnStatistics {
        ColumnStatistics {
            histogram: bounds.to_vec(),
            ..ColumnStatistics::default()
        }
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn a_cutoff_inside_a_bin_is_interpolated() {
        let statistics = histogram(&[0.0, 10.0, 100.0]);
        assert!(close(statistics.expired_fraction(5.0), 0.25));
        assert!(close(statistics.expired_fraction(10.0), 0.5));
        assert!(close(statistics.expired_fraction(55.0), 0.75));
    }

    #[test]
    fn outside_the_histogram_nothing_or_everything_has_expired() {
        let statistics = histogram(&[0.0, 10.0]);
        assert_eq!(statistics.expired_fraction(0.0), 0.0);
        assert_eq!(statistics.expired_fraction(-5.0), 0.0);
        assert_eq!(statistics.expired_fraction(10.5), 1.0);
    }

    #[test]
    fn common_values_nulls_and_histogram_share_the_rows() {
        let statistics = ColumnStatistics {
            null_fraction: 0.2,
            unreadable_fraction: 0.0,
            histogram: vec![0.0, 100.0],
            common: vec![(10.0, 0.1), (90.0, 0.3)],
        };
        // 0.1 common before the cutoff, and half of the 0.4 that the histogram covers.
        assert!(close(statistics.expired_fraction(50.0), 0.3));
        assert!(close(statistics.expired_fraction(1e9), 0.8));
    }

    #[test]
    fn infinity_never_expires_and_minus_infinity_has() {
        let statistics = ColumnStatistics {
            null_fraction: 0.0,
            unreadable_fraction: 0.0,
            histogram: vec![],
            common: vec![(-INFINITE, 0.25), (INFINITE, 0.75)],
        };
        assert!(close(statistics.expired_fraction(-1e12), 0.25));
        assert!(close(statistics.expired_fraction(1e12), 0.25));
        assert_eq!(statistics.oldest(), None);
    }

    #[test]
    fn infinite_bounds_give_numbers() {
        let statistics = histogram(&[-INFINITE, 0.0, 10.0, INFINITE, INFINITE]);
        assert!(close(statistics.expired_fraction(-5.0), 0.125));
        assert!(close(statistics.expired_fraction(5.0), 0.375));
        assert!(close(statistics.expired_fraction(50.0), 0.625));
        assert_eq!(statistics.oldest(), Some(0.0));
        assert_eq!(statistics.newest(), Some(10.0));
    }

    #[test]
    fn a_few_distinct_values_stand_for_all_rows() {
        let statistics = ColumnStatistics {
            null_fraction: 0.1,
            unreadable_fraction: 0.0,
            histogram: vec![],
            common: vec![(1.0, 0.4), (2.0, 0.4)],
        };
        assert!(close(statistics.expired_fraction(1.5), 0.45));
    }

    #[test]
    fn unreadable_values_never_count_as_expired() {
        // A tenth NULL; common values: a fifth readable, a tenth not; a quarter of the bounds is unreadable.
        let statistics = ColumnStatistics::decoded(
            0.1,
            &[Some(100.0), None, Some(0.0), Some(50.0)],
            &[(Some(10.0), 0.2), (None, 0.1)],
        );
        assert!(close(statistics.unreadable_fraction, 0.1 + 0.6 * 0.25));
        assert_eq!(statistics.histogram, [0.0, 50.0, 100.0]);
        assert!(close(statistics.expired_fraction(1e9), 0.2 + 0.45));
        assert!(close(statistics.expired_fraction(50.0), 0.2 + 0.225));
    }

    #[test]
    fn without_bounds_the_rest_is_as_readable_as_the_common_values_are() {
        let statistics = ColumnStatistics::decoded(0.0, &[], &[(Some(1.0), 0.3), (None, 0.1)]);
        assert!(close(statistics.unreadable_fraction, 0.25));
        assert!(close(statistics.expired_fraction(2.0), 0.75));
        let unreadable = ColumnStatistics::decoded(0.0, &[None, None], &[]);
        assert!(close(unreadable.unreadable_fraction, 1.0));
        assert_eq!(unreadable.expired_fraction(1e9), 0.0);
    }

    #[test]
    fn nothing_known_is_nothing_expired() {
        let statistics = ColumnStatistics::default();
        assert_eq!(statistics.expired_fraction(0.0), 0.0);
        assert_eq!(statistics.newest(), None);
    }

    #[test]
    fn oldest_and_newest_look_at_common_values_too() {
        let statistics = ColumnStatistics {
            null_fraction: 0.0,
            unreadable_fraction: 0.0,
            histogram: vec![5.0, 6.0],
            common: vec![(1.0, 0.1), (9.0, 0.1)],
        };
        assert_eq!(statistics.oldest(), Some(1.0));
        assert_eq!(statistics.newest(), Some(9.0));
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => -1e10..1e10_f64,
            1 => Just(-INFINITE),
            1 => Just(INFINITE),
            1 => Just(0.0),
            1 => any::<f64>().prop_filter("a number", |value| !value.is_nan()),
        ]
    }

    prop_compose! {
        fn statistics()(
            null_fraction in prop_oneof![0.0..=1.0_f64, any::<f64>()],
            unreadable_fraction in prop_oneof![3 => Just(0.0), 1 => 0.0..=1.0_f64, 1 => any::<f64>()],
            mut histogram in prop::collection::vec(value(), 0..20),
            common in prop::collection::vec((value(), prop_oneof![0.0..0.3_f64, any::<f64>()]), 0..6),
        ) -> ColumnStatistics {
            histogram.sort_by(f64::total_cmp);
            ColumnStatistics { null_fraction, unreadable_fraction, histogram, common }
        }
    }

    proptest! {
        #[test]
        fn the_fraction_is_one_and_never_decreases(statistics in statistics(), a in value(), b in value()) {
            let (early, late) = (a.min(b), a.max(b));
            let before = statistics.expired_fraction(early);
            let after = statistics.expired_fraction(late);
            prop_assert!((0.0..=1.0).contains(&before) && (0.0..=1.0).contains(&after));
            prop_assert!(before <= after + 1e-9, "{before} > {after}");
        }
    }
}
