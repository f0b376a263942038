//! Rows are reserved, durably, before they are taken: a kill then leaves known how many may have gone.

use super::{Control, RuleEnd, Tally};

/// Rows are reserved in steps of this part of the allowance, so that a kill wastes little of it.
const RESERVATIONS_PER_ALLOWANCE: u64 = 50;
/// Without a limit that bounds it, one reservation covers this many rows.
const UNLIMITED_RESERVATION: u64 = 1_000_000;
/// The first reservation, and the least.
const LEAST_RESERVATION: u64 = 1_000;

impl Tally {
    /// Rows that the sweep may take in all.
    pub(super) fn most(&self) -> u64 {
        self.allowance.rows.unwrap_or(u64::MAX)
    }
}

/// Under a ledger all that may be taken is reserved once: nothing is lost count of while the ledger is there, and should it be
/// gone when the sweep goes on, the whole allowance counts as spent.
pub(super) async fn reserve_all(control: &dyn Control, tally: &mut Tally) -> Result<(), RuleEnd> {
    let most = tally.allowance.rows.unwrap_or(0);
    let progress = &mut tally.report.progress;
    if progress.rows_reserved >= most {
        return Ok(());
    }
    let before = std::mem::replace(&mut progress.rows_reserved, most);
    control.record(progress).await.map_err(|error| {
        progress.rows_reserved = before;
        RuleEnd::Unrecorded(error.to_string())
    })
}

/// Makes room for at least `rows` more, durably.
pub(super) async fn reserve(
    control: &dyn Control,
    tally: &mut Tally,
    rows: u64,
) -> Result<(), RuleEnd> {
    let step = match tally.allowance.rows {
        Some(allowance) => allowance / RESERVATIONS_PER_ALLOWANCE,
        None => UNLIMITED_RESERVATION,
    };
    let step = step.max(LEAST_RESERVATION).max(rows.saturating_mul(3));
    let most = tally.most();
    let progress = &mut tally.report.progress;
    let spent = progress.spent();
    // Up to the limit, but never less than the chunk at hand: whether that may be taken is the limit's own question.
    let reserved = spent
        .saturating_add(step)
        .min(most.max(spent.saturating_add(rows)));
    let before = progress.rows_reserved;
    progress.rows_reserved = reserved;
    control.record(progress).await.map_err(|error| {
        progress.rows_reserved = before;
        RuleEnd::Unrecorded(error.to_string())
    })
}
