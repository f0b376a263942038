//! Figures as evidence shows them: rounded down, so that a status is not written anew for each transaction.

pub(in crate::policy) use super::words::day;

/// Down to two digits: `2144000000` becomes `2100 million`, `83` stays.
pub(in crate::policy) fn about(number: u64) -> String {
    let mut unit = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    let rounded = number / unit * unit;
    match rounded {
        0..10_000 => rounded.to_string(),
        10_000..1_000_000 => format!("{} thousand", rounded / 1_000),
        1_000_000..100_000_000_000 => format!("{} million", rounded / 1_000_000),
        _ => format!("{} billion", rounded / 1_000_000_000),
    }
}

/// Down to a power of two: `more than 4 GiB`.
pub(super) fn more_than(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let power = bytes.checked_ilog2().unwrap_or(0);
    let unit = usize::try_from(power / 10).unwrap_or(0).min(5);
    let number = 1_u64 << (power - 10 * u32::try_from(unit).unwrap_or(0));
    format!("more than {number} {}", UNITS.get(unit).unwrap_or(&"B"))
}

/// A setting of bytes in the largest unit that it is a whole number of.
pub(super) fn bytes(bytes: u64) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(power, _)| bytes > 0 && bytes.trailing_zeros() >= *power)
        .map_or_else(
            || format!("{bytes} B"),
            |(power, unit)| format!("{} {unit}", bytes >> power),
        )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "0")]
    #[case(83, "83")]
    #[case(8_399, "8300")]
    #[case(83_999, "83 thousand")]
    #[case(263_000_000, "260 million")]
    #[case(2_147_483_647, "2100 million")]
    #[case(u64::MAX, "18000000000 billion")]
    fn a_number_is_rounded_down_to_two_digits(#[case] number: u64, #[case] text: &str) {
        assert_eq!(about(number), text);
    }

    #[rstest]
    #[case(0, "more than 1 B")]
    #[case(1_023, "more than 512 B")]
    #[case(50_000_000, "more than 32 MiB")]
    #[case(5_000_000_000, "more than 4 GiB")]
    #[case(u64::MAX, "more than 8192 PiB")]
    fn bytes_are_rounded_down_to_a_power_of_two(#[case] number: u64, #[case] text: &str) {
        assert_eq!(more_than(number), text);
    }

    #[rstest]
    #[case(1 << 30, "1 GiB")]
    #[case(1536 << 20, "1536 MiB")]
    #[case(1000, "1000 B")]
    #[case(0, "0 B")]
    fn a_setting_is_shown_as_it_was_written(#[case] number: u64, #[case] text: &str) {
        assert_eq!(bytes(number), text);
    }
}
