//! What has expired, said in SQL over values of which each has its own type.
//!
//! Everything here is total: whatever a row holds, the condition is true, false or NULL, and no function fails. A value that is not
//! of the stated encoding is unreadable, and an unreadable value never expires.

use super::{sql::column, value::Value};
use crate::{
    engine::EngineError,
    policy::{
        encoding::{EncodedCutoff, EpochCutoff, IsoCutoff, encoded},
        plan::RulePlan,
    },
};

/// Conditions over the time column.
#[derive(Clone, Debug)]
pub(super) struct Expiry {
    /// Readable, and before the cutoff.
    pub(super) expired: String,
    /// Neither NULL nor readable.
    pub(super) unreadable: String,
    /// The cutoff, in the order of the numbers in `expired`.
    pub(super) values: Vec<Value>,
}

/// Two conditions of the same make: what is readable and before the cutoff, and what is readable.
fn both(make: impl Fn(&dyn Fn(&str) -> String) -> String) -> (String, String) {
    (make(&str::to_owned), make(&|_| "1".to_owned()))
}

impl Expiry {
    /// For a plan; `first` is the number of the first value.
    pub(super) fn new(plan: &RulePlan, first: usize) -> Result<Self, EngineError> {
        let Some(encoding) = plan.encoding else {
            return Err(EngineError::NotSupported(format!(
                "{}: the values of column {:?} say nothing of their unit or format: state encoding",
                plan.table.qualified(),
                plan.column
            )));
        };
        let cutoff = encoded(encoding, &plan.cutoff, &plan.column_zone);
        Ok(Self::of(&column(&plan.column), &cutoff, first))
    }

    fn of(column: &str, cutoff: &EncodedCutoff, first: usize) -> Self {
        let mut values = Values {
            first,
            values: Vec::new(),
        };
        let (expired, readable) = match cutoff {
            EncodedCutoff::Number(cutoff) => number(column, *cutoff, &mut values),
            EncodedCutoff::Uuid(cutoff) => uuid(column, cutoff, &mut values),
            EncodedCutoff::Ulid(cutoff) => ulid(column, cutoff, &mut values),
            EncodedCutoff::Compact(cutoff) => compact(column, cutoff, &mut values),
            EncodedCutoff::Iso(cutoff) => iso(column, cutoff, &mut values),
        };
        Self {
            expired,
            // Of what cannot be decided the condition is NULL.
            unreadable: format!(
                "({column} NOTNULL AND NOT (CASE WHEN {readable} THEN 1 ELSE 0 END))"
            ),
            values: values.values,
        }
    }
}

/// Hands out numbers.
struct Values {
    first: usize,
    values: Vec<Value>,
}

impl Values {
    fn add(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("?{}", self.first + self.values.len() - 1)
    }

    fn text(&mut self, text: impl Into<String>) -> String {
        self.add(Value::Text(text.into()))
    }
}

/// Most functions end at a NUL inside a text: what follows it would not be looked at.
fn has_no_nul(c: &str) -> String {
    format!("instr({c}, char(0)) = 0")
}

/// Digits that a number in a text may have before its point, and after it: more would not fit into whole numbers.
const DIGITS: u32 = 18;

/// Numbers since 1970, greater than 0.
fn number(c: &str, cutoff: EpochCutoff, values: &mut Values) -> (String, String) {
    let first_whole = values.add(Value::Integer(cutoff.first_whole()));
    let first_real = values.add(Value::Real(first_real(cutoff)));
    let decimal = cutoff.decimal();
    let (whole, fraction) = decimal.split_once('.').unwrap_or((&decimal, ""));
    let whole = values.add(Value::Integer(whole.parse().unwrap_or(0)));
    let fraction = values.text(fraction);
    // `digits[.digits]`; the parts are empty where the text has none.
    let w = format!("substr({c}, 1, instr({c} || '.', '.') - 1)");
    let f = format!("substr({c}, instr({c} || '.', '.') + 1)");
    let is_readable = format!(
        "{} AND {w} NOT GLOB '*[^0-9]*' AND length({w}) BETWEEN 1 AND {DIGITS} \
         AND (instr({c}, '.') = 0 OR {f} NOT GLOB '*[^0-9]*' AND length({f}) BETWEEN 1 AND {DIGITS}) \
         AND (CAST({w} AS INTEGER) > 0 OR rtrim({f}, '0') <> '')",
        has_no_nul(c)
    );
    // Without their last zeros fractions compare as their letters do.
    let is_before = format!(
        "(CAST({w} AS INTEGER) < {whole} OR CAST({w} AS INTEGER) = {whole} AND rtrim({f}, '0') < {fraction})"
    );
    both(|before| {
        format!(
            "(CASE typeof({c}) WHEN 'integer' THEN {c} > 0 AND {} \
             WHEN 'real' THEN {c} > 0 AND {c} < 9e999 AND {} \
             WHEN 'text' THEN {is_readable} AND {} ELSE 0 END)",
            before(&format!("{c} < {first_whole}")),
            before(&format!("{c} < {first_real}")),
            before(&is_before),
        )
    })
}

/// The smallest binary fraction that is not before the cutoff.
fn first_real(cutoff: EpochCutoff) -> f64 {
    let nearest: f64 = cutoff.decimal().parse().unwrap_or(0.0);
    if is_less(nearest, cutoff) {
        nearest.next_up()
    } else {
        nearest
    }
}

/// Compares exactly; in doubt no.
fn is_less(value: f64, cutoff: EpochCutoff) -> bool {
    let bits = value.to_bits();
    // Normal and not negative: value = mantissa * 2^exponent.
    let mantissa = i128::from((bits & ((1 << 52) - 1)) | (1 << 52));
    let exponent = i64::try_from(bits >> 52).unwrap_or(0) - 1075;
    let micros = mantissa * i128::from(cutoff.unit);
    if value < 1.0 {
        false
    } else if exponent >= 0 {
        u32::try_from(exponent)
            .ok()
            .and_then(|shift| micros.checked_shl(shift))
            .is_some_and(|micros| micros < i128::from(cutoff.micros))
    } else {
        // At most 52 places.
        let shift = u32::try_from(-exponent).unwrap_or(0);
        micros < i128::from(cutoff.micros) << shift
    }
}

/// 36 characters with hyphens, version 7.
fn uuid(c: &str, cutoff: &str, values: &mut Values) -> (String, String) {
    let cutoff = values.text(cutoff);
    let hex = |n: usize| "[0-9a-f]".repeat(n);
    let pattern = format!(
        "{}-{}-7{}-[89ab]{}-{}",
        hex(8),
        hex(4),
        hex(3),
        hex(3),
        hex(12)
    );
    both(|before| {
        format!(
            "(CASE typeof({c}) WHEN 'text' THEN {} AND lower({c}) GLOB '{pattern}' \
             AND substr({c}, 1, 13) <> '00000000-0000' AND {} ELSE 0 END)",
            has_no_nul(c),
            before(&format!("lower({c}) < {cutoff}"))
        )
    })
}

/// 26 characters of Crockford's alphabet, 128 bits.
fn ulid(c: &str, cutoff: &str, values: &mut Values) -> (String, String) {
    let cutoff = values.text(cutoff);
    let pattern = format!("[0-7]{}", "[0-9A-HJKMNP-TV-Z]".repeat(25));
    both(|before| {
        format!(
            "(CASE typeof({c}) WHEN 'text' THEN {} AND upper({c}) GLOB '{pattern}' \
             AND substr({c}, 1, 10) <> '0000000000' AND {} ELSE 0 END)",
            has_no_nul(c),
            before(&format!("upper({c}) < {cutoff}"))
        )
    })
}

/// `YYYY-MM-DD` that the calendar has: `date` goes on counting from the end of a month, and gives another text then.
fn is_date(d: &str) -> String {
    format!("{d} >= '0001' AND date({d}) = {d}")
}

/// Fourteen digits, as a text or a number.
fn compact(c: &str, cutoff: &str, values: &mut Values) -> (String, String) {
    let cutoff = values.text(cutoff);
    let s = format!("({c} || '')");
    let d = format!("(substr({s}, 1, 4) || '-' || substr({s}, 5, 2) || '-' || substr({s}, 7, 2))");
    both(|before| {
        format!(
            "(CASE WHEN typeof({c}) = 'text' OR typeof({c}) = 'integer' AND {c} >= 10000000000000 THEN \
             {} AND {s} GLOB '{}' AND {} \
             AND substr({s}, 9, 2) < '24' AND substr({s}, 11, 2) < '60' AND substr({s}, 13, 2) < '60' AND {} ELSE 0 END)",
            has_no_nul(c),
            "[0-9]".repeat(14),
            is_date(&d),
            before(&format!("{s} < {cutoff}"))
        )
    })
}

/// Seconds and their fraction without its last zeros, as every engine compares them.
const SECONDS: &str = "%Y-%m-%dT%H:%M:%S";
/// Behind all offsets, so that what is far younger is dealt with at once.
const FAR: jiff::SignedDuration = jiff::SignedDuration::from_hours(72);

/// A date, or a date and a time with or without seconds, fraction and offset.
fn iso(c: &str, cutoff: &IsoCutoff, values: &mut Values) -> (String, String) {
    let fraction = |time: jiff::civil::DateTime| {
        let digits = format!(".{:09}", time.subsec_nanosecond());
        digits
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    };
    let seconds = |time: jiff::civil::DateTime| time.strftime(SECONDS).to_string();
    let latest = cutoff.utc.max(cutoff.local);
    let far = latest
        .checked_add(FAR)
        .unwrap_or(jiff::civil::DateTime::MAX);
    let far = values.text(far.date().to_string());
    let local_date = values.text(cutoff.local.date().to_string());
    let local = values.text(seconds(cutoff.local) + &fraction(cutoff.local));
    let utc = values.text(seconds(cutoff.utc));
    let utc_fraction = values.text(fraction(cutoff.utc));

    let d = format!("substr({c}, 1, 10)");
    let has_seconds = format!("substr({c}, 17, 1) = ':'");
    // What follows minutes or seconds: a fraction, an offset.
    let after = format!("substr({c}, CASE WHEN {has_seconds} THEN 20 ELSE 17 END)");
    let has_fraction = format!("({has_seconds} AND substr({c}, 20, 1) = '.')");
    let zone = format!(
        "(CASE WHEN {has_fraction} THEN ltrim(substr({c}, 21), '0123456789') ELSE {after} END)"
    );
    let digits = format!("(length({c}) - 20 - length({zone}))");
    let is_offset = format!(
        "({zone} GLOB '[-+][0-2][0-9]' OR {zone} GLOB '[-+][0-2][0-9][0-5][0-9]' OR {zone} GLOB '[-+][0-2][0-9]:[0-5][0-9]') \
         AND substr({zone}, 2, 2) < '24'"
    );
    let is_time = format!(
        "substr({c}, 11, 6) GLOB '[T ][0-2][0-9]:[0-5][0-9]' AND substr({c}, 12, 2) < '24' \
         AND ({zone} IN ('', 'Z', 'z') OR {is_offset}) \
         AND (NOT {has_seconds} OR substr({c}, 18, 2) GLOB '[0-5][0-9]') \
         AND (NOT {has_fraction} OR {digits} BETWEEN 1 AND 9)"
    );
    // The cutoff on the clock that the value was read from. Without seconds the whole minute has to be over.
    let offset = format!(
        "substr({zone}, 1, 3) || ':' || CASE length({zone}) WHEN 3 THEN '00' ELSE substr({zone}, -2) END"
    );
    let limit = format!(
        "CASE WHEN {zone} = '' THEN {local} WHEN {zone} IN ('Z', 'z') THEN {utc} || {utc_fraction} \
         ELSE strftime('{SECONDS}', {utc}, {offset}) || {utc_fraction} END"
    );
    let time = format!(
        "{d} || 'T' || substr({c}, 12, CASE WHEN {has_seconds} THEN 8 ELSE 5 END) \
         || CASE WHEN {has_fraction} THEN rtrim(rtrim(substr({c}, 20, 1 + {digits}), '0'), '.') ELSE '' END"
    );
    both(|before| {
        format!(
            "(CASE WHEN typeof({c}) <> 'text' THEN 0 WHEN NOT ({}) THEN 0 \
             WHEN {} AND {d} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]' AND {} THEN \
             CASE WHEN length({c}) = 10 THEN {} WHEN {is_time} THEN {} ELSE 0 END ELSE 0 END)",
            before(&format!("{d} < {far}")),
            has_no_nul(c),
            is_date(&d),
            before(&format!("{d} < {local_date}")),
            before(&format!(
                "{time} < substr({limit}, 1, CASE WHEN {has_seconds} THEN 40 ELSE 16 END)"
            )),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_among_binary_fractions_is_exact() {
        for micros in [
            1_700_000_000_250_000,
            1_700_000_000_100_000,
            1_700_000_000_100_001,
            1_700_000_000_900_003,
            123_456_789_012_345_678,
        ] {
            for unit in [1_000_000, 1_000, 1] {
                let cutoff = EpochCutoff { micros, unit };
                let bound = first_real(cutoff);
                assert!(!is_less(bound, cutoff), "{cutoff:?} {bound}");
                assert!(is_less(bound.next_down(), cutoff), "{cutoff:?} {bound}");
            }
        }
    }
}
