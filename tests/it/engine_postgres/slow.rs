//! Single rows that take longer than a statement may.

use std::time::Duration;

use retention_operator::engine::DatabaseTarget;
use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::sweep::{Outcome, RuleEnd, SweepReport};
use rstest::rstest;
use serde_json::{Value, json};

use super::resumed::{Policy, expired, rule};
use super::seen::Seen;
use super::target;
use crate::support::postgres::Postgres;

/// A policy on a server whose statements may take half a second.
async fn policy(ledger: &str, more: Value) -> Policy {
    let mut logs = rule("logs", "logs");
    logs["limits"] = json!({"maxPercent": 100});
    for (name, value) in more.as_object().unwrap() {
        logs[name] = value.clone();
    }
    let mut policy = Policy::on(Postgres::shared(), ledger, json!([logs])).await;
    policy.engine = PostgresEngine::new(DatabaseTarget {
        statement_timeout: Duration::from_millis(500),
        ..target(&policy.database.url)
    })
    .unwrap();
    policy
}

async fn swept(policy: &mut Policy) -> SweepReport {
    policy
        .part(&Seen::with_rests_of(Duration::from_millis(5)))
        .await
}

/// Deletes of these rows take two seconds each.
fn slow(table: &str, when: &str) -> String {
    format!(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN OLD; END';
         CREATE TRIGGER slow BEFORE DELETE ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION slow()"
    )
}

const CHILDREN: &str = "\
    ALTER TABLE logs ADD PRIMARY KEY (id); CREATE TABLE item (id bigint REFERENCES logs ON DELETE CASCADE);
    INSERT INTO item SELECT n FROM generate_series(1, 60, 2) n;";

#[rstest]
#[case::a_trigger("Off", json!({}), "", "logs", "OLD.id IN (7, 41)")]
#[case::beside_a_ledger("Auto", json!({}), "", "logs", "OLD.id IN (7, 41)")]
#[case::on_one_page_after_each_other("Auto", json!({}), "", "logs", "OLD.id IN (40, 41)")]
#[case::a_cascade("Off", json!({"dependents": "Cascade"}), CHILDREN, "item", "OLD.id IN (7, 41)")]
#[case::an_archive(
    "Auto",
    json!({"action": "Archive", "archive": {"table": {"name": "public.attic"}}}),
    "",
    "logs",
    "OLD.id IN (7, 41)"
)]
#[tokio::test]
async fn a_row_that_takes_too_long_is_left_and_named_and_all_others_go(
    #[case] ledger: &str,
    #[case] more: Value,
    #[case] children: &str,
    #[case] table: &str,
    #[case] when: &str,
) {
    let mut policy = policy(ledger, more).await;
    policy
        .database
        .execute(&format!(
            "{} {children} {}",
            expired("logs", 150),
            slow(table, when)
        ))
        .await;

    let report = swept(&mut policy).await;

    assert_eq!(report.outcome(), Outcome::Succeeded, "{report:#?}");
    assert!(
        matches!(report.rules[0].end, RuleEnd::Complete { remaining: 2 }),
        "{report:#?}"
    );
    assert_eq!(report.rules[0].blocked_rows, 2);
    assert_eq!(
        report.message(),
        "logs: 2 expired rows are still there, 2 of them because deleting one takes longer than 500ms (database.statementTimeout)"
    );
    let left = format!(
        "SELECT count(*) FROM logs WHERE {}",
        when.replace("OLD.", "")
    );
    assert_eq!(policy.database.scalar::<i64>(&left).await, 2);
    assert_eq!(policy.rows("logs").await, 2);
    if !children.is_empty() {
        // Odd ones to 60; of what is left, those of two rows.
        assert_eq!(policy.rows("item").await, 2);
    }
}

#[tokio::test]
async fn a_server_on_which_every_row_takes_too_long_fails_the_rule() {
    let mut policy = policy("Off", json!({})).await;
    policy
        .database
        .execute(&format!("{} {}", expired("logs", 60), slow("logs", "true")))
        .await;

    let report = swept(&mut policy).await;

    let RuleEnd::Failed(error) = &report.rules[0].end else {
        panic!("{report:#?}");
    };
    assert_eq!(error.category(), "statement_timeout");
    assert_eq!(report.rules[0].blocked_rows, 16);
    assert_eq!(policy.rows("logs").await, 60);
}
