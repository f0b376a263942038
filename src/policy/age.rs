//! `expireAfter`: how old a row may become.

use std::fmt;

/// An age such as `1y 6mo`, in calendar units. `0s`: the column holds the instant of expiry itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Age {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Weeks.
    pub weeks: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

/// The text is not an age.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AgeError(pub String);

const MAX_YEARS: u64 = 1000;

/// Half hours in a mean Gregorian-like year of 365.25 days, so that a month is a whole number of them.
const HALF_HOURS_PER_YEAR: u64 = 17_532;

impl Age {
    /// `0s`: the column holds the instant of expiry itself.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// The age's length in half hours, months and years taken at their mean length.
    fn half_hours(&self) -> u64 {
        u64::from(self.years) * HALF_HOURS_PER_YEAR
            + u64::from(self.months) * (HALF_HOURS_PER_YEAR / 12)
            + u64::from(self.weeks) * (7 * 48)
            + u64::from(self.days) * 48
            + u64::from(self.hours) * 2
    }

    /// The age in whole days, months and years taken at their mean length.
    #[must_use]
    pub fn whole_days(&self) -> u32 {
        u32::try_from(self.half_hours() / 48).unwrap_or(u32::MAX)
    }

    fn unit(&mut self, unit: &str) -> Option<&mut u32> {
        match unit {
            "y" => Some(&mut self.years),
            "mo" => Some(&mut self.months),
            "w" => Some(&mut self.weeks),
            "d" => Some(&mut self.days),
            "h" => Some(&mut self.hours),
            _ => None,
        }
    }
}

impl std::str::FromStr for Age {
    type Err = AgeError;

    /// Reads `0s`, or numbers with the units y, mo, w, d, h in any order, separated by one space and added up; at most 1000 years in all.
    fn from_str(text: &str) -> Result<Self, AgeError> {
        let mut age = Self::default();
        if text == "0s" {
            return Ok(age);
        }
        for part in text.split(' ') {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = part.split_at(digits);
            if number.is_empty() || number.starts_with('0') {
                return Err(refusal(text));
            }
            let Some(slot) = age.unit(unit) else {
                return Err(refusal(text));
            };
            // A number that does not even fit is over the bound, whatever its unit.
            let number: u32 = number.parse().map_err(|_| too_long(text))?;
            *slot = slot.checked_add(number).ok_or_else(|| too_long(text))?;
        }
        if age.half_hours() > MAX_YEARS * HALF_HOURS_PER_YEAR {
            return Err(too_long(text));
        }
        Ok(age)
    }
}

fn too_long(text: &str) -> AgeError {
    AgeError(format!("`{text}` is longer than {MAX_YEARS} years"))
}

/// Says what to write instead of `text`, as near to it as its mistake allows.
fn refusal(text: &str) -> AgeError {
    let units = "y (years), mo (months), w (weeks), d (days), h (hours), such as `90d` or `1y 6mo`";
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(number.len()..).unwrap_or_default();
    let whole = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let advice = if text.is_empty() {
        "it is empty".to_owned()
    } else if whole && number.bytes().all(|b| b == b'0') {
        "write `0s` where the column holds the instant of expiry itself".to_owned()
    } else if whole && unit == "m" {
        format!("`m` could be months or minutes: write `{number}mo` for months")
    } else if whole && unit.is_empty() {
        format!("the unit is missing: write `{text}d` for days")
    } else if whole && matches!(unit, "s" | "min" | "ms") {
        "hours are the smallest unit (`0s` alone is allowed)".to_owned()
    } else if text.starts_with('-') || text.contains("ago") {
        "an age counts back from now already: write it without a sign or `ago`".to_owned()
    } else if text.starts_with('P') {
        "ISO 8601 durations are not read".to_owned()
    } else if text.contains(['.', ',']) {
        "only whole numbers: use a smaller unit".to_owned()
    } else {
        "units follow their number directly, parts are separated by one space, without leading zeros"
            .to_owned()
    };
    AgeError(format!(
        "`{text}` is not an age: {advice}; units are {units}"
    ))
}

impl fmt::Display for Age {
    /// The text that reads back as the same age, largest unit first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (self.years, "y"),
            (self.months, "mo"),
            (self.weeks, "w"),
            (self.days, "d"),
            (self.hours, "h"),
        ];
        let mut separator = "";
        for (number, unit) in units.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{separator}{number}{unit}")?;
            separator = " ";
        }
        if separator.is_empty() {
            f.write_str("0s")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0s", Age::default())]
    #[case("90d", Age { days: 90, ..Age::default() })]
    #[case("1y 6mo", Age { years: 1, months: 6, ..Age::default() })]
    #[case("2w 3d 4h", Age { weeks: 2, days: 3, hours: 4, ..Age::default() })]
    #[case("4h 2w", Age { weeks: 2, hours: 4, ..Age::default() })]
    #[case("1000y", Age { years: 1000, ..Age::default() })]
    fn reads_calendar_units(#[case] text: &str, #[case] age: Age) {
        assert_eq!(text.parse(), Ok(age));
    }

    #[rstest]
    #[case("6m", "`6mo`")]
    #[case("-90d", "without a sign")]
    #[case("90d ago", "without a sign or `ago`")]
    #[case("1.5d", "whole numbers")]
    #[case("90", "`90d`")]
    #[case("P90D", "ISO 8601")]
    #[case("", "empty")]
    #[case("0d", "`0s`")]
    #[case("0", "`0s`")]
    #[case("01d", "leading zeros")]
    #[case("30s", "smallest unit")]
    #[case("1y  6mo", "one space")]
    #[case(" 1y", "one space")]
    #[case("1y ", "one space")]
    #[case("1 y", "directly")]
    #[case("90D", "units are")]
    #[case("90 days", "directly")]
    #[case("0s 1d", "leading zeros")]
    #[case("4294967295d 1d", "longer than 1000 years")]
    #[case("1001y", "longer than 1000 years")]
    #[case("999y 13mo", "longer than 1000 years")]
    #[case("99999999999999999999h", "longer than 1000 years")]
    #[case("٣d", "units are")]
    fn refuses_with_advice(#[case] text: &str, #[case] says: &str) {
        let error = text.parse::<Age>().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_read_back(
            years in 0u32..400, months in 0u32..1200, weeks in 0u32..5000, days in 0u32..30_000, hours in 0u32..500_000,
        ) {
            let age = Age { years, months, weeks, days, hours };
            prop_assert_eq!(age.to_string().parse::<Age>(), Ok(age));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9ymowdhs ]{0,12}") {
            if let Ok(age) = text.parse::<Age>() {
                prop_assert_eq!(age.to_string().parse::<Age>(), Ok(age));
            }
        }
    }
}
