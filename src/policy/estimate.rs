//! How many rows have expired, and how old and new they are, estimated from the column's statistics.

/// The distribution of a time column. Values are seconds since 1970 (see [`Cutoff::epoch_seconds`](super::cutoff::Cutoff::epoch_seconds)), infinities included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnStatistics {
    /// Fraction of the rows that are NULL, 0 to 1.
    pub null_fraction: f64,
    /// Bounds of equally filled bins, ascending; the most common values are not in it.
    pub histogram: Vec<f64>,
    /// The most common values with their fraction of all rows.
    pub common: Vec<(f64, f64)>,
}

impl ColumnStatistics {
    /// Fraction of the rows whose value is before `cutoff`, 0 to 1.
    #[must_use]
    pub fn expired_fraction(&self, cutoff: f64) -> f64 {
        let _ = cutoff;
        todo!()
    }

    /// The smallest finite value known.
    #[must_use]
    pub fn oldest(&self) -> Option<f64> {
        todo!()
    }

    /// The greatest finite value known.
    #[must_use]
    pub fn newest(&self) -> Option<f64> {
        todo!()
    }
}
