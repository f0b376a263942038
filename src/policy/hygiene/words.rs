//! Figures in words, rounded so that evidence stays the same while nothing happens.

use jiff::Timestamp;

/// `about 1,200,000 rows`, of two digits.
pub(super) fn rows(rows: f64) -> String {
    format!("about {} rows", grouped(two_digits(rows)))
}

/// `1.2 GiB`, of two digits.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        let size = 1_u64 << shift;
        if bytes >= size {
            let tenths = u128::from(bytes) * 10 / u128::from(size);
            return if tenths < 100 {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            } else {
                format!("{} {unit}", tenths / 10)
            };
        }
    }
    format!("{bytes} bytes")
}

/// `2026-11-20`.
pub(in crate::policy) fn day(at: Timestamp) -> String {
    at.strftime("%F").to_string()
}

/// From seconds since 1970, where the calendar has such a day.
pub(in crate::policy) fn day_of(seconds: f64) -> Option<String> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a number that is too large is held at the end of the range, which is no day"
    )]
    let whole = seconds.floor() as i64;
    Timestamp::from_second(whole).ok().map(day)
}

/// The first few of many, and how many more there are.
pub(super) fn some(names: &[String], most: usize) -> String {
    let shown = names
        .iter()
        .take(most)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn two_digits(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no table has more rows than fit"
    )]
    let whole = number.max(0.0).round() as u64;
    let mut unit = 1;
    while whole / unit >= 100 {
        unit *= 10;
    }
    (whole + unit / 2) / unit * unit
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_two_digits() {
        assert_eq!(rows(7.0), "about 7 rows");
        assert_eq!(rows(1_234_567.0), "about 1,200,000 rows");
        assert_eq!(rows(99_600.0), "about 100,000 rows");
        assert_eq!(bytes(100), "100 bytes");
        assert_eq!(bytes(1_600), "1.5 KiB");
        assert_eq!(bytes(34 * 1024 * 1024 * 1024), "34 GiB");
    }

    #[test]
    fn a_day_is_written_as_such() {
        assert_eq!(day_of(0.0).as_deref(), Some("1970-01-01"));
        assert_eq!(day_of(f64::INFINITY), None);
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(some(&names, 3), "a, b, c");
        assert_eq!(some(&names, 2), "a, b and 1 more");
    }
}
