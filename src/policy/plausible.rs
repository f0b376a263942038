//! A stated unit that is not the column's: seconds read as milliseconds all lie in January 1970, and every row would have expired.

use jiff::Timestamp;

use super::{encoding::Encoding, plan::RulePlan};

/// 1980: later than every time that a number of today means in too small a unit, and earlier than what services keep.
pub const PLAUSIBLE_FROM: Timestamp = Timestamp::constant(315_532_800, 0);

/// Whether a wrong unit would go unseen: every number means some time in every unit. Other encodings tell by their form.
#[must_use]
pub fn is_guesswork(plan: &RulePlan) -> bool {
    matches!(
        plan.encoding,
        Some(Encoding::EpochSeconds | Encoding::EpochMillis | Encoding::EpochMicros)
    )
}

/// What is wrong where no value means a time from [`PLAUSIBLE_FROM`] on.
#[must_use]
pub fn doubt(plan: &RulePlan) -> String {
    format!(
        "by encoding {} every value of column {} of {} is a time before 1980: state the unit that its values have",
        plan.encoding.map_or("-", Encoding::as_str),
        plan.column,
        plan.table.qualified()
    )
}

/// The same from the newest value that the statistics know, in seconds since 1970.
#[must_use]
pub fn doubt_of_newest(plan: &RulePlan, newest: Option<f64>) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "a number of ten digits")]
    let from = PLAUSIBLE_FROM.as_second() as f64;
    newest
        .filter(|newest| is_guesswork(plan) && *newest < from)
        .map(|_| doubt(plan))
}
