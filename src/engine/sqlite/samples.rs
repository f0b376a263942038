//! What ANALYZE remembers of an index: samples of its rows, each with the number of rows that are equal to it and less.

use jiff::tz::TimeZone;

use crate::policy::{
    encoding::{Encoding, Storage, decode},
    estimate::ColumnStatistics,
};

/// One row of `sqlite_stat4`.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Rows with the same first value.
    pub(super) equal: u64,
    /// Rows with a lesser one.
    pub(super) less: u64,
    /// The first value of the index's row.
    pub(super) value: Stored,
}

/// A value as a row holds it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stored {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob,
}

/// Bounds of the histogram less one.
const BINS: u32 = 100;

/// The distribution that `samples` of an index of `rows` rows show, in ascending order; `None`: they show nothing.
pub(super) fn distribution(
    samples: &[Sample],
    rows: u64,
    encoding: Encoding,
    zone: &TimeZone,
) -> Option<ColumnStatistics> {
    if samples.is_empty() || rows == 0 {
        return None;
    }
    let all = to_f64(rows);
    let (mut null, mut unreadable) = (0.0, 0.0);
    let mut common = Vec::new();
    // Rows between the samples, with the time up to which there are so many.
    let mut between: Vec<(f64, f64)> = Vec::new();
    let (mut counted, mut seen) = (0.0, 0);
    for sample in samples {
        let equal = to_f64(sample.equal);
        let before = to_f64(sample.less.saturating_sub(seen));
        seen = sample.less.saturating_add(sample.equal);
        if sample.value == Stored::Null {
            null += equal;
            continue;
        }
        let Some(time) = seconds(&sample.value, encoding, zone) else {
            unreadable += equal + before;
            continue;
        };
        if between.is_empty() {
            between.push((0.0, time));
        }
        counted += before;
        between.push((counted, time));
        common.push((time, equal / all));
    }
    // What lies behind the last sample goes on as it was before it.
    let behind = to_f64(rows.saturating_sub(seen));
    if let (Some((_, first)), Some((_, last))) = (between.first(), between.last()) {
        let end = last + (last - first) * behind / all;
        counted += behind;
        between.push((counted, end));
    }
    let mut histogram: Vec<f64> = if counted > 0.0 {
        (0..=BINS)
            .filter_map(|bin| time_at(&between, counted * f64::from(bin) / f64::from(BINS)))
            .collect()
    } else {
        Vec::new()
    };
    histogram.sort_by(f64::total_cmp);
    Some(ColumnStatistics {
        null_fraction: null / all,
        unreadable_fraction: unreadable / all,
        histogram,
        common,
    })
}

/// The time up to which there are `rows` rows, in a straight line between two that are known.
fn time_at(between: &[(f64, f64)], rows: f64) -> Option<f64> {
    let next = between.partition_point(|(counted, _)| *counted < rows);
    let (to, end) = between.get(next).or(between.last())?;
    let Some((from, start)) = next.checked_sub(1).and_then(|n| between.get(n)) else {
        return Some(*end);
    };
    let share = if to > from {
        ((rows - from) / (to - from)).clamp(0.0, 1.0)
    } else {
        1.0
    };
    Some(start + (end - start) * share)
}

fn seconds(value: &Stored, encoding: Encoding, zone: &TimeZone) -> Option<f64> {
    let text = match value {
        Stored::Integer(value) => value.to_string(),
        Stored::Real(value) => value.to_string(),
        Stored::Text(bytes) => String::from_utf8(bytes.clone()).ok()?,
        Stored::Null | Stored::Blob => return None,
    };
    decode(encoding, Storage::Any, &text, zone)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate needs no more than 53 bits"
)]
fn to_f64(rows: u64) -> f64 {
    rows as f64
}

/// The first value of a row as the file keeps it (<https://www.sqlite.org/fileformat2.html>, 2.1); `None`: it is cut off. Texts of
/// a database in UTF-16 are read as bytes, and so as unreadable.
pub(super) fn first_value(record: &[u8]) -> Option<Stored> {
    let (header, after_size) = varint(record)?;
    let (kind, _) = varint(after_size)?;
    let body = record.get(usize::try_from(header).ok()?..)?;
    Some(match kind {
        0 => Stored::Null,
        1 => integer(body, 1)?,
        2 => integer(body, 2)?,
        3 => integer(body, 3)?,
        4 => integer(body, 4)?,
        5 => integer(body, 6)?,
        6 => integer(body, 8)?,
        7 => Stored::Real(f64::from_be_bytes(body.get(..8)?.try_into().ok()?)),
        8 => Stored::Integer(0),
        9 => Stored::Integer(1),
        kind if kind >= 13 && kind % 2 == 1 => {
            let length = usize::try_from((kind - 13) / 2).ok()?;
            Stored::Text(body.get(..length)?.to_vec())
        }
        _ => Stored::Blob,
    })
}

/// Two's complement, most significant byte first.
fn integer(body: &[u8], bytes: usize) -> Option<Stored> {
    let bytes = body.get(..bytes)?;
    let negative = bytes.first()? & 0x80 != 0;
    let start = if negative { -1 } else { 0 };
    let value = bytes
        .iter()
        .fold(start, |value: i64, byte| (value << 8) | i64::from(*byte));
    Some(Stored::Integer(value))
}

/// Seven bits a byte, most significant first, the ninth byte whole.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (n, byte) in bytes.iter().enumerate().take(9) {
        if n == 8 {
            return Some(((value << 8) | u64::from(*byte), bytes.get(9..)?));
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(n + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[3, 0, 9], Some(Stored::Null))]
    #[case(&[3, 1, 9, 0x85], Some(Stored::Integer(-123)))]
    #[case(&[2, 2, 1, 0], Some(Stored::Integer(256)))]
    #[case(&[2, 3, 0xff, 0xff, 0xfe], Some(Stored::Integer(-2)))]
    #[case(&[2, 4, 0x65, 0x53, 0xf1, 0], Some(Stored::Integer(1_700_000_000)))]
    #[case(&[2, 5, 1, 0x8b, 0xcf, 0xe5, 0x68, 0], Some(Stored::Integer(1_700_000_000_000)))]
    #[case(&[2, 6, 0x80, 0, 0, 0, 0, 0, 0, 0], Some(Stored::Integer(i64::MIN)))]
    #[case(&[2, 7, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0], Some(Stored::Real(1.5)))]
    #[case(&[2, 8], Some(Stored::Integer(0)))]
    #[case(&[2, 9], Some(Stored::Integer(1)))]
    #[case(&[2, 17, b'a', b'b'], Some(Stored::Text(b"ab".to_vec())))]
    #[case(&[2, 14, 1], Some(Stored::Blob))]
    #[case::cut_off(&[2, 6, 0], None)]
    #[case::without_an_end(&[0x80, 0x80], None)]
    #[case::empty(&[], None)]
    fn a_rows_first_value_is_read(#[case] record: &[u8], #[case] value: Option<Stored>) {
        assert_eq!(first_value(record), value);
    }

    fn sample(less: u64, equal: u64, value: i64) -> Sample {
        Sample {
            equal,
            less,
            value: Stored::Integer(value),
        }
    }

    #[test]
    fn samples_show_how_many_rows_are_before_a_time() {
        // 1,000 rows, one a second from 1 to 1,000.
        let samples = [100, 400, 500, 900].map(|second| sample(second - 1, 1, second as i64));

        let shown = distribution(&samples, 1_000, Encoding::EpochSeconds, &TimeZone::UTC).unwrap();

        for (cutoff, fraction) in [(450.0, 0.45), (700.0, 0.7), (5_000.0, 1.0), (50.0, 0.05)] {
            let estimate = shown.expired_fraction(cutoff);
            // What is before the first sample is taken to be near to it.
            assert!((estimate - fraction).abs() < 0.06, "{cutoff}: {estimate}");
        }
    }

    #[test]
    fn null_and_unreadable_rows_are_known_and_never_expired() {
        let samples = [
            Sample {
                equal: 250,
                less: 0,
                value: Stored::Null,
            },
            sample(250, 250, 0),
            sample(500, 100, 7),
            sample(600, 300, 9),
            Sample {
                equal: 100,
                less: 900,
                value: Stored::Text(b"n/a".to_vec()),
            },
        ];

        let shown = distribution(&samples, 1_000, Encoding::EpochSeconds, &TimeZone::UTC).unwrap();

        let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(near(shown.null_fraction, 0.25), "{shown:?}");
        assert!(near(shown.unreadable_fraction, 0.35), "{shown:?}");
        assert!(near(shown.expired_fraction(8.0), 0.1), "{shown:?}");
        assert!(near(shown.expired_fraction(1e9), 0.4), "{shown:?}");
        assert_eq!(
            distribution(&[], 10, Encoding::EpochSeconds, &TimeZone::UTC),
            None
        );
    }
}
