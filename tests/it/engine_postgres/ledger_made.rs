//! A ledger that somebody makes while a sweep runs that was planned without one.

use std::time::Duration;

use retention_operator::engine::ledger::OwnHold;
use retention_operator::sweep::{Outcome, RuleEnd, StopReason, SweepError, SweepReport};
use serde_json::json;

use super::engine;
use super::ledger::usable;
use super::resumed::{Policy, expired, hold, rule};
use super::seen::Seen;
use crate::support::postgres::Postgres;

const ROWS: u32 = 20_000;

/// The rows that the walk comes to last.
fn last_rows() -> OwnHold {
    OwnHold {
        name: "case".to_owned(),
        table: "logs".to_owned(),
        predicate: Some("id > 19000".to_owned()),
        reason: None,
    }
}

async fn policy(ledger: &str) -> Policy {
    let mut logs = rule("logs", "logs");
    logs["limits"] = json!({"maxPercent": 100});
    let policy = Policy::on(Postgres::shared(), ledger, json!([logs])).await;
    policy.database.execute(&expired("logs", ROWS)).await;
    policy
}

/// One part of a sweep; once it has begun a ledger is made that holds the last rows, and is `then` changed.
async fn while_a_ledger_is_made(policy: &mut Policy, then: &str) -> SweepReport {
    let seen = Seen::with_rests_of(Duration::from_millis(100));
    let database = policy.database.clone();
    let (report, ()) = tokio::join!(policy.part(&seen), async {
        seen.has_taken(1_000).await;
        let ledger = usable(&engine(&database.url)).await;
        hold(&*ledger, &[last_rows()]).await;
        database.execute(then).await;
    });
    report
}

fn stopped_by(report: &SweepReport) -> StopReason {
    match report.rules[0].end {
        RuleEnd::Stopped(reason) => reason,
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_it_holds_stays_and_the_sweep_goes_on_under_it() {
    let mut policy = policy("Existing").await;

    let first = while_a_ledger_is_made(&mut policy, "").await;
    let (id, taken) = (policy.state.id.clone(), policy.state.rules[0].rows_done);
    let seen = Seen::with_rests_of(Duration::from_millis(5));
    let second = policy.part(&seen).await;

    assert_eq!(stopped_by(&first), StopReason::LedgerMade);
    assert!((1_000..19_000).contains(&taken), "{taken}");
    assert_eq!(second.outcome(), Outcome::Succeeded, "{second:#?}");
    assert_eq!(policy.rows("logs").await, 1_000, "the held rows");
    assert_eq!(
        (policy.state.id, policy.state.rules[0].rows_done),
        (id, 19_000)
    );
    let recorded: i64 = policy
        .database
        .scalar("SELECT rows_deleted FROM retention_operator.sweep_rule")
        .await;
    assert_eq!(recorded, 19_000, "what went before the ledger counts, too");
}

#[tokio::test]
async fn its_pause_binds() {
    let mut policy = policy("Existing").await;

    let pause = "UPDATE retention_operator.control SET paused = true";
    let first = while_a_ledger_is_made(&mut policy, pause).await;
    let kept = policy.rows("logs").await;
    let seen = Seen::with_rests_of(Duration::from_millis(5));
    let second = policy.try_part(&seen).await;

    assert_eq!(stopped_by(&first), StopReason::LedgerMade);
    match second {
        Err(SweepError::Refused(refusal)) => assert_eq!(refusal.reason, "Paused"),
        other => panic!("{other:?}"),
    }
    assert_eq!(policy.rows("logs").await, kept);
}

/// Whoever makes a ledger gives the operator its rights a moment later.
#[tokio::test]
async fn while_it_cannot_be_used_yet_the_sweep_keeps_what_it_stands_at() {
    let mut policy = policy("Existing").await;

    let unusable = "ALTER TABLE retention_operator.claim ADD COLUMN odd int DEFAULT 1";
    let first = while_a_ledger_is_made(&mut policy, unusable).await;
    let before = policy.state.clone();
    let seen = Seen::with_rests_of(Duration::from_millis(5));
    let second = policy.part(&seen).await;
    let unchanged = policy.state.clone();
    let mend = "ALTER TABLE retention_operator.claim DROP COLUMN odd";
    policy.database.execute(mend).await;
    let third = policy.part(&seen).await;

    assert_eq!(stopped_by(&first), StopReason::LedgerMade);
    let barred = second.barred.as_ref().map(|refusal| refusal.reason);
    assert_eq!(barred, Some("LedgerRequired"), "{second:#?}");
    assert_eq!(before, unchanged);
    assert_eq!(third.outcome(), Outcome::Succeeded, "{third:#?}");
    assert_eq!(policy.state.id, before.id);
    assert_eq!(policy.state.rules[0].rows_done, 19_000);
}

#[tokio::test]
async fn a_policy_that_wants_none_is_not_kept_by_it() {
    let mut policy = policy("Off").await;

    let report = while_a_ledger_is_made(&mut policy, "").await;

    assert_eq!(report.outcome(), Outcome::Succeeded, "{report:#?}");
}
