//! One rule's sweep: limits first, then chunk after chunk, then the proof.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use limits::{check_limits, count_rows_at_start};
use passes::Passes;
use referred::Referred;
use reservation::{reserve, reserve_all};
use slow::Slow;

use super::{
    Control, RuleEnd, RuleProgress, RuleReport, StopReason,
    pacer::Pacer,
    unit::{at_most, would_go},
};
use crate::{
    engine::{
        Chunk, CommitOutcome, Counted, Cursor, Engine, EngineError, TableSweep,
        ledger::{Ledger, RuleRecord, SweepEntry},
    },
    policy::{
        limits::{Allowance, Verdict},
        pace::{Pace, Veto},
        plan::RulePlan,
    },
};

/// How often a sweep tries again after a transient error before it gives up; the waits add up to about four minutes.
const MAX_RETRIES: u32 = 12;
/// The same, where the smallest chunk takes too long.
const MAX_RETRIES_AT_THE_LEAST: u32 = 5;

/// While sweeps are paused in the database, it is looked at this often.
const PAUSE_GLANCE: Duration = Duration::from_secs(2);
/// A sweep that is paused for longer ends, and goes on another time: it must not keep others from their turn.
const PAUSE_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// A count looks up this often whether the sweep has to stop.
const GLANCE: Duration = Duration::from_millis(200);

/// A rule's turn in a sweep.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Where the rule stands.
    pub progress: RuleProgress,
    /// Rows that are expected to go; blocks early. `None`: nothing is known, they are counted first.
    pub estimate: Option<u64>,
    /// The sweep, this rule or another of it, took rows or is approved to: it does not end where nothing can be written for a while.
    pub begun: bool,
}

/// What the runner has counted so far.
pub(super) struct Tally {
    pub(super) report: RuleReport,
    began: Instant,
    allowance: Allowance,
    /// See [`Turn::begun`].
    begun: bool,
    slow: Slow,
}

impl Tally {
    fn has_begun(&self) -> bool {
        self.begun || self.report.progress.has_begun()
    }

    /// The ledger's count, when a walk begins: it also knows the chunk whose outcome nobody could tell.
    fn take_in(&mut self, recorded: Option<u64>, archives: bool) {
        let progress = &mut self.report.progress;
        let missed = recorded.unwrap_or(0).saturating_sub(progress.rows_done);
        progress.rows_done += missed;
        // Nothing goes along with rows that are archived: each of them was.
        let archived = if archives { missed } else { 0 };
        progress.rows_archived += archived;
        self.report.rows_deleted += missed;
        self.report.rows_archived += archived;
    }
}

/// Why the loop over the chunks ended.
enum Stop {
    End(RuleEnd),
    /// The next chunk would have passed the limit; its rows came back.
    OverLimit,
    /// What was expected is done, and chunk after chunk finds nothing: a count may spare the rest of the walk.
    PerhapsDone,
    /// The walk is over.
    WalkedThrough,
}

/// What a sweep has to do with a ledger.
#[derive(Clone, Copy)]
pub enum Books<'a> {
    /// It is entered in one.
    Under(&'a Under),
    /// There was none when it was planned; one that somebody makes meanwhile may hold rows, or pause all sweeps.
    Missing,
    /// The policy wants to know of none.
    Off,
}

/// The ledger that a sweep is entered in.
#[derive(Clone)]
pub struct Under {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The sweep's id.
    pub sweep_id: String,
    /// The policy, `namespace/name`.
    pub policy: String,
    /// Who sweeps.
    pub sweeper: String,
    /// The state of the holds that the sweep was planned with.
    pub revision: i64,
}

impl Under {
    async fn open(
        &self,
        plan: &RulePlan,
        cursor: Option<Cursor>,
        progress: &RuleProgress,
    ) -> Result<Box<dyn TableSweep>, EngineError> {
        let entry = SweepEntry {
            sweep_id: self.sweep_id.clone(),
            policy: self.policy.clone(),
            sweeper: self.sweeper.clone(),
            revision: self.revision,
            rule: RuleRecord {
                rule: plan.rule.clone(),
                table_id: plan.table.id,
                table: plan.table.qualified(),
                cutoff: plan.cutoff.to_string(),
                rows_at_start: progress.rows_at_start,
                rows_total: progress.rows_total,
                rows_approved: progress.rows_approved,
                rows_deleted: progress.rows_done,
                rows_archived: progress.rows_archived,
                done: false,
            },
        };
        self.ledger.open_sweep(plan, cursor, &entry).await
    }
}

/// Sweeps one rule from where its turn says to its end, or to the first reason to stop.
pub async fn sweep_rule(
    engine: &dyn Engine,
    plan: &RulePlan,
    pace: Pace,
    turn: Turn,
    control: &dyn Control,
    books: Books<'_>,
) -> RuleReport {
    let Turn {
        progress,
        estimate,
        begun,
    } = turn;
    let mut tally = Tally {
        report: RuleReport::not_begun(progress, RuleEnd::Complete { remaining: 0 }),
        began: Instant::now(),
        allowance: Allowance::unlimited(),
        begun,
        slow: Slow::default(),
    };
    let end = match run(engine, plan, pace, estimate, control, &mut tally, books).await {
        Ok(end) => end,
        Err(error) => ended_by(error, tally.has_begun()),
    };
    let mut report = tally.report;
    report.took = tally.began.elapsed();
    report.progress.done = matches!(end, RuleEnd::Complete { .. });
    report.progress.release();
    report.end = end;
    report
}

async fn run(
    engine: &dyn Engine,
    plan: &RulePlan,
    pace: Pace,
    estimate: Option<u64>,
    control: &dyn Control,
    tally: &mut Tally,
    books: Books<'_>,
) -> Result<RuleEnd, EngineError> {
    if let Some(reason) = control.stop() {
        return Ok(RuleEnd::Stopped(reason));
    }
    if let Some(blocked) = check_limits(engine, plan, estimate, control, tally).await? {
        return Ok(blocked);
    }
    let mut referred = Referred::new(plan);
    let stop = walk(engine, &mut referred, pace, estimate, control, tally, books).await?;
    let mut left = None;
    if matches!(stop, Stop::WalkedThrough) {
        match counted(engine, plan, tally.report.rows_deleted, control).await? {
            Ok(counted) if counted.attached > 0 => {
                // A part came meanwhile with rows that have expired. Somebody may hold or own it, which a new plan will know.
                tracing::info!(
                    rule = plan.rule,
                    rows = counted.attached,
                    "a part was attached"
                );
                return Ok(RuleEnd::Stopped(StopReason::PartsChanged));
            }
            Ok(counted) => left = Some(counted),
            Err(reason) => return Ok(RuleEnd::Stopped(reason)),
        }
    }
    match stop {
        Stop::End(end) => Ok(end),
        // `walk` has dealt with the second.
        Stop::OverLimit | Stop::PerhapsDone => {
            // What is asked for is what the sweep needs, not what the chunk at hand would have taken.
            let left =
                match counted_with_all(engine, plan, tally.report.rows_deleted, control).await? {
                    Ok(left) => left,
                    Err(reason) => return Ok(RuleEnd::Stopped(reason)),
                };
            let spent = tally.report.progress.spent();
            let reason = match tally.allowance.admits(spent, left) {
                Verdict::Block { reason } | Verdict::Wait { reason } => reason,
                Verdict::Go => "rows changed while the sweep ran: it came to its limit".to_owned(),
            };
            Ok(RuleEnd::Blocked {
                reason,
                expected: spent.saturating_add(left),
                removed_holds: None,
            })
        }
        Stop::WalkedThrough => {
            let left = match left {
                Some(left) => left,
                None => match counted(engine, plan, tally.report.rows_deleted, control).await? {
                    Ok(left) => left,
                    Err(reason) => return Ok(RuleEnd::Stopped(reason)),
                },
            };
            Ok(complete(tally, left))
        }
    }
}

/// The walk is over, and this was counted afterwards.
fn complete(tally: &mut Tally, left: Counted) -> RuleEnd {
    tally.report.unreadable_rows = left.unreadable;
    tally.report.undecided_rows = left.undecided;
    RuleEnd::Complete {
        remaining: left.expired,
    }
}

/// Counts what is expired, unless the sweep has to stop: counting reads the whole table.
async fn counted(
    engine: &dyn Engine,
    plan: &RulePlan,
    deleted: u64,
    control: &dyn Control,
) -> Result<Result<Counted, StopReason>, EngineError> {
    unless_stopped(engine.count_left(plan, deleted), control).await
}

/// Counts what the sweep may take at most: what is expired, and what would go along.
async fn counted_at_most(
    engine: &dyn Engine,
    plan: &RulePlan,
    control: &dyn Control,
) -> Result<Result<u64, StopReason>, EngineError> {
    unless_stopped(at_most(engine, plan, 0), control).await
}

/// Counts what the sweep would take: what is expired and not kept, and what would go along.
async fn counted_with_all(
    engine: &dyn Engine,
    plan: &RulePlan,
    deleted: u64,
    control: &dyn Control,
) -> Result<Result<u64, StopReason>, EngineError> {
    unless_stopped(would_go(engine, plan, deleted), control).await
}

async fn unless_stopped<T>(
    counting: impl Future<Output = Result<T, EngineError>>,
    control: &dyn Control,
) -> Result<Result<T, StopReason>, EngineError> {
    tokio::pin!(counting);
    loop {
        tokio::select! {
            counted = &mut counting => return counted.map(Ok),
            () = tokio::time::sleep(GLANCE) => {
                if let Some(reason) = control.stop() {
                    return Ok(Err(reason));
                }
            }
        }
    }
}

async fn walk(
    engine: &dyn Engine,
    referred: &mut Referred<'_>,
    pace: Pace,
    estimate: Option<u64>,
    control: &dyn Control,
    tally: &mut Tally,
    books: Books<'_>,
) -> Result<Stop, EngineError> {
    let mut pacer = Pacer::new(pace, &referred.plan.table, engine.walk_page(), estimate);
    if matches!(books, Books::Missing) {
        pacer.look_for_a_ledger();
    }
    let mut cursor: Option<Cursor> = None;
    let mut failures = 0;
    let mut passes = Passes::new(&referred.plan, &tally.report);
    loop {
        let plan = referred.plan.as_ref();
        let opened = match books {
            Books::Under(under) => {
                under
                    .open(plan, cursor.clone(), &tally.report.progress)
                    .await
            }
            Books::Missing | Books::Off => engine.open_sweep(plan, cursor.clone()).await,
        };
        let result = match opened {
            Ok(mut sweep) => {
                referred.has_begun = true;
                tally.take_in(sweep.recorded(), plan.archive.is_some());
                let result = chunks(
                    sweep.as_mut(),
                    plan,
                    &mut pacer,
                    control,
                    tally,
                    &mut failures,
                )
                .await;
                cursor = sweep.cursor();
                sweep.close().await;
                result
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(Stop::PerhapsDone) => {
                pacer.has_looked();
                let deleted = tally.report.rows_deleted;
                match counted(engine, plan, deleted, control).await? {
                    Ok(left) if left.expired == 0 => return Ok(Stop::End(complete(tally, left))),
                    Ok(_) => {}
                    Err(reason) => return Ok(Stop::End(RuleEnd::Stopped(reason))),
                }
            }
            Ok(Stop::OverLimit) if tally.report.progress.rows_at_start.is_none() => {
                // It is the limit of what was known of the table; now it is counted.
                let before = tally.allowance.rows;
                if let Some(reason) = count_rows_at_start(engine, plan, control, tally).await? {
                    return Ok(Stop::End(RuleEnd::Stopped(reason)));
                }
                if tally.allowance.rows == before {
                    return Ok(Stop::OverLimit);
                }
            }
            Ok(Stop::WalkedThrough) if passes.another(&mut tally.report) => cursor = None,
            Ok(stop) => return Ok(stop),
            Err(EngineError::HoldsChanged) => {
                return Ok(Stop::End(RuleEnd::Stopped(StopReason::HoldsChanged)));
            }
            Err(EngineError::PartsChanged { .. }) => {
                return Ok(Stop::End(RuleEnd::Stopped(StopReason::PartsChanged)));
            }
            Err(error)
                if (error.is_transient() || takes_no_writes(&error, tally.has_begun()))
                    && failures < patience(&error, &pacer) =>
            {
                failures += 1;
                tracing::warn!(rule = plan.rule, %error, failures, "the sweep waits and tries again");
                let reason = if takes_no_writes(&error, tally.has_begun()) {
                    Veto::NotPrimary.as_str()
                } else {
                    error.category()
                };
                control.waits(&tally.report.progress, reason);
                rest(control, tally, backoff(failures)).await;
                if let Some(reason) = control.stop() {
                    return Ok(Stop::End(RuleEnd::Stopped(reason)));
                }
            }
            Err(error) => referred.keeps_rows(error)?,
        }
    }
}

/// How often it is tried again. A chunk that takes too long becomes smaller, down to a row.
fn patience(error: &EngineError, pacer: &Pacer) -> u32 {
    match error {
        EngineError::StatementTimeout { .. } if pacer.is_at_its_least() => MAX_RETRIES_AT_THE_LEAST,
        _ => MAX_RETRIES,
    }
}

/// The database takes no writes any more, as after a failover: nothing that anybody did wrong. One that was read-only before the
/// sweep's first row went, and before anybody approved that they go, is a matter of its settings.
fn takes_no_writes(error: &EngineError, begun: bool) -> bool {
    match error {
        EngineError::NotPrimary(_) => true,
        EngineError::ReadOnly(_) => begun,
        _ => false,
    }
}

/// How a rule ends on which an error put an end to the work. `begun`: see [`Turn::begun`].
pub(super) fn ended_by(error: EngineError, begun: bool) -> RuleEnd {
    if takes_no_writes(&error, begun) {
        return RuleEnd::Stopped(StopReason::NotPrimary);
    }
    match error {
        // A part went while it was counted.
        EngineError::PartsChanged { .. } => RuleEnd::Stopped(StopReason::PartsChanged),
        error => RuleEnd::Failed(error),
    }
}

/// Chunk after chunk over one connection.
async fn chunks(
    sweep: &mut dyn TableSweep,
    plan: &RulePlan,
    pacer: &mut Pacer,
    control: &dyn Control,
    tally: &mut Tally,
    failures: &mut u32,
) -> Result<Stop, EngineError> {
    let mut paused: Option<Instant> = None;
    loop {
        if let Some(reason) = pacer.wait(sweep, control, tally).await? {
            return Ok(Stop::End(RuleEnd::Stopped(reason)));
        }
        let target = pacer.next(tally.report.rows_deleted, sweep.progress());
        let expected = pacer.expected(target.pages).max(1);
        let counted = sweep.recorded().is_some();
        let progress = &tally.report.progress;
        let reserved = if counted {
            reserve_all(control, tally).await
        } else if progress.rows_reserved
            < progress.spent().saturating_add(expected).min(tally.most())
        {
            reserve(control, tally, expected).await
        } else {
            Ok(())
        };
        if let Err(unrecorded) = reserved {
            return Ok(Stop::End(unrecorded));
        }
        let started = Instant::now();
        let chunk = match sweep.delete_next(target).await {
            Err(EngineError::Paused(why)) => {
                if let Some(reason) = wait_out(control, tally, &mut paused, &why).await {
                    return Ok(Stop::End(RuleEnd::Stopped(reason)));
                }
                continue;
            }
            Err(error @ EngineError::StatementTimeout { .. }) => {
                if pacer.gave_way(target) {
                    // What is tried next is less: it has its own tries.
                    *failures = 0;
                    tally.slow.goes_on(0);
                    return Err(error);
                }
                let took = started.elapsed();
                let is_left = tally.slow.is_left_after(took);
                // It was work like any other, whatever came of it.
                rest(control, tally, pacer.rest_after(Chunk::default(), took)).await;
                if !is_left {
                    return Err(error);
                }
                slow::leave(sweep, tally, error).await?;
                *failures = 0;
                continue;
            }
            chunk => chunk?,
        };
        paused = None;
        let Some(chunk) = chunk else {
            return Ok(Stop::WalkedThrough);
        };
        let spent = tally.report.progress.spent();
        if tally.allowance.admits(spent, chunk.taken()) != Verdict::Go {
            sweep.rollback().await?;
            return Ok(Stop::OverLimit);
        }
        if !counted && spent.saturating_add(chunk.taken()) > tally.report.progress.rows_reserved {
            // Rare: the chunk found more than was reserved. Its rows come back, and are taken once the reservation is durable.
            sweep.rollback().await?;
            if let Err(unrecorded) = reserve(control, tally, chunk.taken()).await {
                return Ok(Stop::End(unrecorded));
            }
            continue;
        }
        match sweep.commit().await {
            Ok(CommitOutcome::Committed) => {}
            Ok(CommitOutcome::RolledBack) => continue,
            Err(error) => {
                if error.is_transient() && !counted {
                    // Nobody could say whether they are gone: not reported, but counted against the limits.
                    tally.report.progress.rows_unknown += chunk.taken();
                }
                return Err(error);
            }
        }
        let took = started.elapsed();
        *failures = 0;
        tally.slow.goes_on(chunk.taken());
        count(tally, chunk, took);
        pacer.observe(target, chunk, took);
        control.advanced(&tally.report.progress, chunk, took);
        tracing::debug!(
            rule = plan.rule,
            rows = chunk.rows,
            cascaded = chunk.cascaded_rows,
            pages = chunk.pages,
            ?took,
            "chunk"
        );
        if chunk.waiters > 0 {
            control.waits(&tally.report.progress, Veto::WaitersBehindUs.as_str());
        }
        rest(control, tally, pacer.rest_after(chunk, took)).await;
        if pacer.is_perhaps_done(tally.report.rows_deleted, sweep.progress()) {
            return Ok(Stop::PerhapsDone);
        }
    }
}

fn count(tally: &mut Tally, chunk: Chunk, took: Duration) {
    let report = &mut tally.report;
    report.progress.rows_done += chunk.taken();
    report.progress.rows_archived += chunk.archived_rows;
    report.rows_deleted += chunk.taken();
    report.rows_archived += chunk.archived_rows;
    report.blocked_rows += chunk.blocked_rows;
    report.chunks += 1;
    report.longest_chunk = report.longest_chunk.max(took);
}

pub(super) async fn rest(control: &dyn Control, tally: &mut Tally, rest: Duration) {
    if rest.is_zero() {
        return;
    }
    let began = Instant::now();
    control.rest(rest).await;
    tally.report.rested += began.elapsed();
}

/// Sweeps are paused in the database: looks again in a while. The reason to stop, if there is one by then.
async fn wait_out(
    control: &dyn Control,
    tally: &mut Tally,
    since: &mut Option<Instant>,
    why: &str,
) -> Option<StopReason> {
    if since.is_none() {
        tracing::info!(rule = tally.report.progress.name, why, "sweeps are paused");
    }
    let waited = since.get_or_insert_with(Instant::now).elapsed();
    if waited > PAUSE_PATIENCE {
        return Some(StopReason::Paused);
    }
    control.waits(&tally.report.progress, "Paused");
    rest(control, tally, PAUSE_GLANCE).await;
    control.stop()
}

/// 1, 2, 4 … 30 seconds.
fn backoff(failures: u32) -> Duration {
    Duration::from_secs(
        1_u64
            .checked_shl(failures.saturating_sub(1))
            .unwrap_or(30)
            .min(30),
    )
}

pub(super) fn rounded(rows: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what fits"
    )]
    let rows = rows.clamp(0.0, 9e18).round() as u64;
    rows
}

mod limits;
mod passes;
mod referred;
mod reservation;
mod slow;
#[cfg(test)]
mod tests;
