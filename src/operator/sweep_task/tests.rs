//! What becomes of a sweep that ended before its end.

use rstest::rstest;

use super::*;
use crate::{
    engine::EngineError,
    policy::{check::Refusal, cutoff::Cutoff},
};

#[rstest]
#[case::paused(Refusal::new(reason::PAUSED, "").into(), true)]
#[case::before_the_failover_is_over(Refusal::new(reason::NOT_PRIMARY, "").into(), true)]
#[case::clocks_differ(Refusal::new(reason::CLOCK_SKEW, "").into(), false)]
#[case::a_standby(EngineError::NotPrimary(String::new()).into(), true)]
#[case::set_read_only(EngineError::ReadOnly(String::new()).into(), false)]
fn a_sweep_that_did_not_begin_is_taken_up_again_where_time_may_heal_it(
    #[case] error: SweepError,
    #[case] goes_on: bool,
) {
    assert_eq!(Failure::Sweep(error).goes_on(), goes_on);
}

fn sweep(rows_done: u64, rows_approved: Option<u64>) -> SweepState {
    let mut sweep = SweepState::begin(Trigger::Schedule, Timestamp::UNIX_EPOCH, 1);
    sweep.put(RuleProgress {
        rows_done,
        rows_approved,
        ..RuleProgress::new("logs", Cutoff::Instant(Timestamp::UNIX_EPOCH))
    });
    sweep
}

fn read_only() -> Result<SweepReport, Failure> {
    Err(SweepError::from(EngineError::ReadOnly(String::new())).into())
}

fn refused(reason: &'static str) -> Result<SweepReport, Failure> {
    Err(SweepError::from(Refusal::new(reason, "")).into())
}

fn barred(reason: &'static str) -> Result<SweepReport, Failure> {
    Ok(SweepReport {
        barred: Some(Refusal::new(reason, "")),
        ..SweepReport::default()
    })
}

#[rstest]
#[case::set_read_only_under_way(read_only(), sweep(7, None), true)]
#[case::set_read_only_after_an_approval(read_only(), sweep(0, Some(9)), true)]
#[case::read_only_all_along(read_only(), sweep(0, None), false)]
#[case::its_login_is_refused_after_an_approval(Err(DatabaseError::Broken.into()), sweep(0, Some(9)), true)]
#[case::its_login_was_never_good(Err(DatabaseError::Broken.into()), sweep(0, None), false)]
#[case::the_clocks_differ_now(refused(reason::CLOCK_SKEW), sweep(7, None), true)]
#[case::its_policy_is_deleted(
    Err(Failure::Stopped(StopReason::PolicyDeleted)),
    sweep(7, Some(9)),
    false
)]
#[case::its_policy_changed(Err(Failure::Stopped(StopReason::PolicyChanged)), sweep(7, None), true)]
#[case::the_address_leads_elsewhere(refused(reason::ANOTHER_DATABASE), sweep(7, Some(9)), false)]
#[case::its_ledger_takes_nothing_any_more(barred(reason::LEDGER_REQUIRED), sweep(7, None), true)]
#[case::its_ledger_never_did(barred(reason::LEDGER_REQUIRED), sweep(0, None), false)]
#[case::its_ledger_is_on_a_standby(barred(reason::NOT_PRIMARY), sweep(0, None), true)]
#[case::it_has_nothing_to_sweep(Ok(SweepReport::default()), sweep(7, None), false)]
fn a_sweep_that_took_rows_outlasts_a_database_that_takes_no_writes(
    #[case] result: Result<SweepReport, Failure>,
    #[case] sweep: SweepState,
    #[case] expected: bool,
) {
    assert_eq!(goes_on(&result, &sweep), expected);
}
