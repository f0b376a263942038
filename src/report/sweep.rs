//! A sweep as status: what it did, what it is doing, and what it goes on with.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    packed,
    rules::{expired_rows, measured_rows},
};
use crate::{
    api::{
        CountedRows, CurrentSweep, RetentionPolicyStatus, RuleStatus, SweepStatus, Totals,
        UnfinishedRule, UnfinishedSweep,
        conditions::{MAX_MESSAGE_BYTES, shorten},
        whole_seconds,
    },
    audit::{Measured, Method},
    sweep::{RuleEnd, RuleProgress, RuleReport, SweepReport, SweepState, Trigger},
};

/// Writes what a sweep did into `status`. `now` is the operator's clock.
pub fn apply_sweep(
    status: &mut RetentionPolicyStatus,
    state: &mut SweepState,
    report: &SweepReport,
    now: Timestamp,
) {
    let mut deleted = 0;
    let mut archived = 0;
    for rule in &mut state.rules {
        // Also what was done before a stop or a kill, and recorded since.
        let fresh = rule.rows_done.saturating_sub(rule.rows_counted);
        rule.rows_counted = rule.rows_done;
        deleted += fresh;
        let fresh_archived = rule.rows_archived.saturating_sub(rule.archived_counted);
        rule.archived_counted = rule.rows_archived;
        archived += fresh_archived;
        let entry = rule_entry(&mut status.rules, &rule.name);
        entry.rows_deleted = Some(
            entry
                .rows_deleted
                .unwrap_or(0)
                .saturating_add(signed(fresh)),
        );
        if rule.rows_archived > 0 {
            entry.rows_archived = Some(
                entry
                    .rows_archived
                    .unwrap_or(0)
                    .saturating_add(signed(fresh_archived)),
            );
        }
    }
    let totals = status.totals.get_or_insert_with(Totals::default);
    totals.rows_deleted = Some(
        totals
            .rows_deleted
            .unwrap_or(0)
            .saturating_add(signed(deleted)),
    );
    totals.rows_archived = Some(
        totals
            .rows_archived
            .unwrap_or(0)
            .saturating_add(signed(archived)),
    );
    if let Some(all) = report.totals {
        totals.rows_deleted = Some(signed(all.rows_deleted));
        totals.rows_archived = Some(signed(all.rows_archived));
    }
    for rule in &report.rules {
        apply_rule(
            rule_entry(&mut status.rules, &rule.progress.name),
            state,
            rule,
            now,
        );
    }
    status.expired_rows = expired_rows(&status.rules);
    // A sweep that was resumed is one sweep: what its earlier parts did is added to.
    let earlier = status
        .last_sweep
        .take()
        .filter(|earlier| earlier.id.as_deref() == Some(state.id.as_str()))
        .unwrap_or_default();
    let longest = report
        .rules
        .iter()
        .map(|rule| rule.longest_chunk)
        .max()
        .unwrap_or_default();
    let rested: Duration = report.rules.iter().map(|rule| rule.rested).sum();
    let chunks: u64 = report.rules.iter().map(|rule| rule.chunks).sum();
    status.last_sweep = Some(SweepStatus {
        id: Some(state.id.clone()),
        trigger: Some(state.trigger.as_str().to_owned()),
        start_time: Some(whole_seconds(state.started)),
        completion_time: Some(whole_seconds(now)),
        outcome: Some(report.outcome().as_str().to_owned()),
        rows_deleted: Some(signed(state.rules.iter().map(|rule| rule.rows_done).sum())),
        rows_archived: Some(signed(
            state.rules.iter().map(|rule| rule.rows_archived).sum(),
        )),
        objects: None,
        chunks: Some(earlier.chunks.unwrap_or(0).saturating_add(signed(chunks))),
        longest_chunk_millis: Some(
            earlier
                .longest_chunk_millis
                .unwrap_or(0)
                .max(millis(longest)),
        ),
        throttled_seconds: Some(
            earlier
                .throttled_seconds
                .unwrap_or(0)
                .saturating_add(signed(rested.as_secs())),
        ),
        message: Some(shorten(&report.message(), MAX_MESSAGE_BYTES)),
    });
}

fn apply_rule(entry: &mut RuleStatus, state: &SweepState, rule: &RuleReport, now: Timestamp) {
    entry.cutoff = Some(rule.progress.cutoff.to_string());
    let RuleEnd::Complete { remaining } = rule.end else {
        return;
    };
    let count = |rows: u64| {
        measured_rows(Measured {
            value: signed(rows),
            method: Method::Count,
            exact: true,
            as_of: Some(now),
        })
    };
    let counted = count(remaining);
    entry.last_count = Some(CountedRows {
        value: counted.value,
        cutoff: entry.cutoff.clone(),
        as_of: counted.as_of.clone(),
    });
    entry.unreadable_rows = rule.unreadable_rows.map(count);
    entry.blocked_rows = (remaining > 0).then(|| counted.clone());
    entry.expired_rows = Some(counted);
    entry.watermark = state.database_time.map(|time| time.to_string());
}

fn rule_entry<'a>(rules: &'a mut Vec<RuleStatus>, name: &str) -> &'a mut RuleStatus {
    let position = rules
        .iter()
        .position(|rule| rule.name == name)
        .unwrap_or_else(|| {
            rules.push(RuleStatus {
                name: name.to_owned(),
                ..RuleStatus::default()
            });
            rules.len() - 1
        });
    &mut rules[position]
}

/// The running sweep.
#[must_use]
pub fn current_sweep(
    state: &SweepState,
    resumed: Timestamp,
    rule: Option<&RuleProgress>,
    waiting: Option<&str>,
) -> CurrentSweep {
    CurrentSweep {
        id: Some(state.id.clone()),
        start_time: Some(whole_seconds(resumed)),
        rule: rule.map(|rule| rule.name.clone()),
        rows_done: rule.map(|rule| signed(rule.rows_done)),
        rows_expected: rule.and_then(|rule| rule.rows_total).map(signed),
        throttled_by: waiting.map(str::to_owned),
    }
}

/// What a stopped sweep goes on with.
#[must_use]
pub fn write_unfinished(state: &SweepState) -> UnfinishedSweep {
    UnfinishedSweep {
        id: Some(state.id.clone()),
        trigger: Some(state.trigger.as_str().to_owned()),
        start_time: Some(whole_seconds(state.started)),
        database_time: state.database_time.map(|time| time.to_string()),
        generation: Some(state.generation),
        database: state.database.clone(),
        rules: state
            .rules
            .iter()
            .map(|rule| UnfinishedRule {
                name: rule.name.clone(),
                cutoff: Some(rule.cutoff.to_string()),
                table_id: rule.table_id.map(i64::from),
                rows_at_start: rule.rows_at_start.map(signed),
                rows_done: Some(signed(rule.rows_done)),
                rows_archived: (rule.rows_archived > 0).then(|| signed(rule.rows_archived)),
                rows_unknown: (rule.rows_unknown > 0).then(|| signed(rule.rows_unknown)),
                rows_reserved: Some(signed(rule.rows_reserved)),
                rows_total: rule.rows_total.map(signed),
                rows_counted: (rule.rows_counted > 0).then(|| signed(rule.rows_counted)),
                archived_counted: (rule.archived_counted > 0)
                    .then(|| signed(rule.archived_counted)),
                rows_approved: rule.rows_approved.map(signed),
                done: Some(rule.done),
            })
            .collect(),
        packed: Vec::new(),
    }
}

/// Reads what [`write_unfinished`] wrote, packed or not; `None` when somebody else wrote something else.
#[must_use]
pub fn read_unfinished(unfinished: &UnfinishedSweep) -> Option<SweepState> {
    let rules = packed::rules(unfinished)?
        .iter()
        .map(|rule| {
            Some(RuleProgress {
                cutoff: rule.cutoff.as_deref()?.parse().ok()?,
                name: rule.name.clone(),
                table_id: match rule.table_id {
                    Some(id) => Some(u32::try_from(id).ok()?),
                    None => None,
                },
                rows_at_start: unsigned(rule.rows_at_start),
                rows_done: unsigned(rule.rows_done).unwrap_or(0),
                rows_archived: unsigned(rule.rows_archived).unwrap_or(0),
                rows_unknown: unsigned(rule.rows_unknown).unwrap_or(0),
                rows_reserved: unsigned(rule.rows_reserved).unwrap_or(0),
                rows_total: unsigned(rule.rows_total),
                rows_counted: unsigned(rule.rows_counted).unwrap_or(0),
                archived_counted: unsigned(rule.archived_counted).unwrap_or(0),
                rows_approved: unsigned(rule.rows_approved),
                done: rule.done.unwrap_or(false),
            })
        })
        .collect::<Option<Vec<_>>>()?;
    Some(SweepState {
        id: unfinished.id.clone()?,
        trigger: Trigger::from_status(unfinished.trigger.as_deref()?),
        started: unfinished.start_time.as_ref()?.0,
        database_time: match &unfinished.database_time {
            Some(time) => Some(time.parse().ok()?),
            None => None,
        },
        generation: unfinished.generation?,
        database: unfinished.database.clone(),
        rules,
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: Option<i64>) -> Option<u64> {
    number.and_then(|number| u64::try_from(number).ok())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::cutoff::Cutoff;

    fn state() -> SweepState {
        let now = "2026-11-22T03:00:00Z".parse().expect("an instant");
        let mut state = SweepState::begin(Trigger::Request, now, 4);
        state.database_time = Some(now);
        state.database = Some("7436/16384".into());
        state.put(RuleProgress {
            rows_at_start: Some(100),
            rows_done: 20,
            rows_archived: 18,
            archived_counted: 4,
            rows_unknown: 3,
            rows_reserved: 40,
            rows_total: Some(50),
            rows_approved: Some(60),
            rows_counted: 5,
            table_id: Some(16_400),
            ..RuleProgress::new("logs", Cutoff::Instant(now))
        });
        state
    }

    #[test]
    fn an_unfinished_sweep_is_read_as_it_was_written() {
        let state = state();
        assert_eq!(read_unfinished(&write_unfinished(&state)), Some(state));
    }

    #[test]
    fn a_complete_sweep_proves_what_is_left_and_moves_the_watermark() {
        let mut state = state();
        let mut status = RetentionPolicyStatus::default();
        let report = SweepReport {
            rules: vec![RuleReport {
                progress: state.rules[0].clone(),
                end: RuleEnd::Complete { remaining: 2 },
                rows_deleted: 20,
                rows_archived: 18,
                blocked_rows: 2,
                slow: None,
                unreadable_rows: Some(3),
                undecided_rows: 1,
                chunks: 4,
                longest_chunk: Duration::from_millis(31),
                rested: Duration::from_secs(3),
                took: Duration::from_secs(5),
            }],
            ..SweepReport::default()
        };
        let now = state.started;
        apply_sweep(&mut status, &mut state, &report, now);
        let rule = &status.rules[0];
        assert_eq!(
            rule.expired_rows
                .as_ref()
                .map(|rows| (rows.value, rows.exact)),
            Some((2, true))
        );
        assert_eq!(rule.blocked_rows.as_ref().map(|rows| rows.value), Some(2));
        assert_eq!(
            rule.unreadable_rows
                .as_ref()
                .map(|rows| (rows.value, rows.method.as_str())),
            Some((3, "Count"))
        );
        assert_eq!(rule.watermark.as_deref(), Some("2026-11-22T03:00:00Z"));
        assert_eq!(
            status
                .totals
                .as_ref()
                .and_then(|totals| totals.rows_deleted),
            Some(15),
            "5 of the 20 were counted at an earlier stop"
        );
        assert_eq!(
            (
                status.totals.and_then(|totals| totals.rows_archived),
                rule.rows_archived
            ),
            (Some(14), Some(14)),
            "4 of the 18 were counted at an earlier stop"
        );
        let sweep = status.last_sweep.expect("a sweep");
        assert_eq!(sweep.outcome.as_deref(), Some("Succeeded"));
        assert_eq!(sweep.longest_chunk_millis, Some(31));
    }
}
