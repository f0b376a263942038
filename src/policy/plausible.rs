//! A stated unit that is not the column's, or not that of all its rows: seconds read as milliseconds lie in January 1970, and every
//! such row would have expired. The other way round nothing is amiss: milliseconds read as seconds never expire.

use jiff::Timestamp;

use super::{cutoff::Cutoff, encoding::Encoding, plan::RulePlan};

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

/// What is wrong where some values mean times of the [`spans`]: two services, or two versions of one, may have written two units,
/// three orders of magnitude apart.
#[must_use]
pub fn doubt_of_some(plan: &RulePlan) -> String {
    format!(
        "by encoding {} some values of column {} of {} are of the first weeks of 1970: are they of another unit? Correct them, or approve \
         if they are that old",
        plan.encoding.map_or("-", Encoding::as_str),
        plan.column,
        plan.table.qualified()
    )
}

/// A time, written in a unit a thousand times smaller, from [`PLAUSIBLE_FROM`] to the year 2100: in the stated one it seems to be from
/// the first to before the second of these.
const THOUSANDTH: (Timestamp, Timestamp) = (
    Timestamp::constant(315_532, 800_000_000),
    Timestamp::constant(4_102_444, 800_000_000),
);
const MILLIONTH: (Timestamp, Timestamp) = (
    Timestamp::constant(315, 532_800_000),
    Timestamp::constant(4_102, 444_800_000),
);

/// Between which times those lie that values of a smaller unit seem to be; the latest first.
#[must_use]
pub fn spans(plan: &RulePlan) -> &'static [(Timestamp, Timestamp)] {
    match plan.encoding {
        Some(Encoding::EpochMillis) => &[THOUSANDTH],
        Some(Encoding::EpochMicros) => &[THOUSANDTH, MILLIONTH],
        _ => &[],
    }
}

/// What of a plan's rows is before `time`.
#[must_use]
pub fn before(plan: &RulePlan, time: Timestamp) -> RulePlan {
    let cutoff = match plan.cutoff {
        Cutoff::Instant(cutoff) => cutoff.min(time),
        _ => time,
    };
    RulePlan {
        cutoff: Cutoff::Instant(cutoff),
        ..plan.clone()
    }
}

/// The same from what the statistics know: the newest value, and whether they know one between two times; all in seconds since 1970.
#[must_use]
pub fn doubt_of_known(
    plan: &RulePlan,
    newest: Option<f64>,
    knows: impl Fn(f64, f64) -> bool,
) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "a number of ten digits")]
    let from = PLAUSIBLE_FROM.as_second() as f64;
    if !is_guesswork(plan) {
        return None;
    }
    if newest? < from {
        return Some(doubt(plan));
    }
    let seconds = |time: Timestamp| time.as_duration().as_secs_f64();
    spans(plan)
        .iter()
        .any(|(from, until)| knows(seconds(*from), seconds(*until)))
        .then(|| doubt_of_some(plan))
}
