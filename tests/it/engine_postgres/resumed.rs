//! A policy's sweep in several parts: what one part was allowed and took still counts in the next.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use retention_operator::api::RetentionPolicySpec;
use retention_operator::audit::Surroundings;
use retention_operator::engine::Chunk;
use retention_operator::engine::Engine;
use retention_operator::engine::ledger::{Entry, Ledger, OwnHold, Party};
use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::policy::check::{CheckedPolicy, check};
use retention_operator::sweep::{
    Control, ControlError, Order, RuleEnd, RuleProgress, StopReason, SweepError, SweepReport,
    SweepState, Trigger, sweep_policy,
};
use serde_json::{Value, json};

use super::{engine, ledger::usable};
use crate::support::postgres::{Postgres, TestDatabase};

/// Ends the sweep once a rule has taken rows.
#[derive(Default)]
struct Until {
    rule: Option<(&'static str, u64)>,
    taken: Mutex<HashMap<String, u64>>,
}

impl Until {
    fn has_taken(rule: &'static str, rows: u64) -> Self {
        Self {
            rule: Some((rule, rows)),
            ..Self::default()
        }
    }
}

#[async_trait]
impl Control for Until {
    fn stop(&self) -> Option<StopReason> {
        let (rule, rows) = self.rule?;
        let taken = self.taken.lock().unwrap();
        (taken.get(rule).copied() >= Some(rows)).then_some(StopReason::WindowClosed)
    }

    async fn rest(&self, _: Duration) {}

    async fn begun(&self, _: &SweepState) -> Result<(), ControlError> {
        Ok(())
    }

    async fn record(&self, _: &RuleProgress) -> Result<(), ControlError> {
        Ok(())
    }

    fn advanced(&self, progress: &RuleProgress, _: Chunk, _: Duration) {
        let mut taken = self.taken.lock().unwrap();
        taken.insert(progress.name.clone(), progress.rows_done);
    }

    fn waits(&self, _: &RuleProgress, _: &str) {}
}

/// A policy, its database, and the sweep that it is in.
pub(super) struct Policy {
    pub(super) database: TestDatabase,
    pub(super) engine: PostgresEngine,
    checked: CheckedPolicy,
    around: Surroundings,
    pub(super) state: SweepState,
}

impl Policy {
    async fn new(ledger: &str, rules: Value) -> Self {
        Self::on(Postgres::shared(), ledger, rules).await
    }

    pub(super) async fn on(server: &Postgres, ledger: &str, rules: Value) -> Self {
        let database = server.database("resumed").await;
        let spec: RetentionPolicySpec = serde_json::from_value(json!({
            "mode": "Enforce",
            "database": {"secretRef": {"name": "db"}, "ledger": ledger},
            "pace": {"chunkDuration": "1ms", "maxDuty": 100, "maxRowsPerSecond": 500},
            "rules": rules,
        }))
        .unwrap();
        let mut around = Surroundings::alone("shop/orders");
        around.enters = true;
        around.party.sweeper = "test".to_owned();
        Self {
            engine: engine(&database.url),
            database,
            checked: check(&spec),
            around,
            state: new_sweep(),
        }
    }

    /// One part of the sweep, to its end or until `control` stops it.
    pub(super) async fn part(&mut self, control: &dyn Control) -> SweepReport {
        self.try_part(control).await.unwrap()
    }

    pub(super) async fn try_part(
        &mut self,
        control: &dyn Control,
    ) -> Result<SweepReport, SweepError> {
        let order = Order {
            around: &self.around,
            generation: 1,
            spec: "mark",
            approved_plan: None,
            clock: jiff::Timestamp::now,
        };
        sweep_policy(
            &self.engine,
            &self.checked,
            &order,
            &mut self.state,
            control,
        )
        .await
    }

    /// Approves what a rule on the table `logs` would take of this database.
    async fn approve(&mut self, rule: &str) {
        let cutoff = "2024-01-01T00:00:00Z".parse().unwrap();
        let table: i64 = self
            .database
            .scalar("SELECT 'logs'::regclass::oid::int8")
            .await;
        let known = self.state.rule(rule).cloned();
        let mut progress = known.unwrap_or_else(|| RuleProgress::new(rule, cutoff));
        progress.table_id = u32::try_from(table).ok();
        progress.rows_approved = Some(1_000_000);
        self.state.database = Some(self.engine.facts().await.unwrap().identity);
        self.state.put(progress);
    }

    pub(super) async fn rows(&self, table: &str) -> i64 {
        self.database
            .scalar(&format!("SELECT count(*) FROM {table}"))
            .await
    }
}

fn new_sweep() -> SweepState {
    SweepState::begin(Trigger::Request, Timestamp::now(), 1)
}

pub(super) fn rule(name: &str, table: &str) -> Value {
    json!({"name": name, "table": table, "column": "at", "expireAfter": "30d", "action": "Delete"})
}

/// A table of `rows` rows that have all expired.
pub(super) fn expired(table: &str, rows: u32) -> String {
    format!(
        "CREATE TABLE {table} (id bigint, at timestamptz, pad text);
         INSERT INTO {table} SELECT n, now() - interval '40 days', repeat('x', 100) FROM generate_series(1, {rows}) n; ANALYZE {table};"
    )
}

fn end<'a>(report: &'a SweepReport, rule: &str) -> &'a RuleEnd {
    let rule = report.rules.iter().find(|it| it.progress.name == rule);
    &rule.unwrap_or_else(|| panic!("{report:#?}")).end
}

/// Another policy's holds, as that policy enters them.
pub(super) async fn hold(ledger: &dyn Ledger, holds: &[OwnHold]) {
    let party = Party {
        policy: "shop/holder".to_owned(),
        sweeper: "holder".to_owned(),
        ..Party::default()
    };
    let entry = Entry {
        party: &party,
        rules: &[],
        wanted: &[],
        holds: Some(holds),
    };
    ledger.enter(&entry).await.unwrap();
}

fn case(table: &str) -> OwnHold {
    OwnHold {
        name: "case".to_owned(),
        table: table.to_owned(),
        predicate: Some("id <= 10".to_owned()),
        reason: None,
    }
}

#[tokio::test]
async fn a_rule_that_cannot_be_swept_for_a_while_keeps_its_count_against_the_limit() {
    let mut logs = rule("logs", "logs");
    logs["limits"] = json!({"maxRows": 1000, "maxPercent": 100});
    let mut policy = Policy::new("Off", json!([logs, rule("other", "other")])).await;
    let tables = expired("logs", 900) + &expired("other", 5000);
    policy.database.execute(&tables).await;

    policy.part(&Until::has_taken("logs", 300)).await;
    let first = 900 - policy.rows("logs").await;
    policy
        .database
        .execute("ALTER TABLE logs RENAME TO away")
        .await;
    policy.part(&Until::has_taken("other", 1)).await;
    policy
        .database
        .execute(
            "ALTER TABLE away RENAME TO logs;
             INSERT INTO logs SELECT n, now() - interval '40 days', '' FROM generate_series(901, 1200) n; ANALYZE logs",
        )
        .await;
    policy.part(&Until::has_taken("other", 1)).await;

    let taken = 1200 - policy.rows("logs").await;
    assert!((1..900).contains(&first), "{first}");
    assert!(
        (first..=1000).contains(&taken),
        "{taken} rows of one sweep that may take 1000"
    );
}

#[tokio::test]
async fn an_approval_of_before_a_hold_was_removed_is_none_of_the_sweep_that_goes_on() {
    let mut policy = Policy::new(
        "Auto",
        json!([rule("logs", "logs"), rule("other", "other")]),
    )
    .await;
    let tables = expired("logs", 900) + &expired("other", 5000);
    policy.database.execute(&tables).await;
    let ledger = usable(&policy.engine).await;
    hold(&*ledger, &[case("logs")]).await;
    policy.approve("logs").await;
    policy.part(&Until::has_taken("logs", 1)).await;
    hold(&*ledger, &[]).await;

    let asked = policy.part(&Until::has_taken("other", 1)).await;
    let unanswered = policy.part(&Until::has_taken("other", 1)).await;
    let kept = policy.rows("logs").await;
    policy.approve("logs").await;
    let answered = policy.part(&Until::default()).await;

    for report in [asked, unanswered] {
        assert!(
            matches!(
                end(&report, "logs"),
                RuleEnd::Blocked {
                    removed_holds: Some(_),
                    ..
                }
            ),
            "{report:#?}"
        );
    }
    assert!(kept > 10, "{kept}");
    assert!(matches!(
        end(&answered, "logs"),
        RuleEnd::Complete { remaining: 0 }
    ));
    assert_eq!(policy.rows("logs").await, 0);
    let view = ledger.view("shop/orders").await.unwrap();
    assert!(view.holds.is_empty(), "the question was answered: {view:?}");
}

#[tokio::test]
async fn an_answer_for_one_rule_is_none_for_another_on_the_same_table() {
    let mut second = rule("second", "logs");
    second["expireAfter"] = json!("35d");
    let mut policy = Policy::new("Auto", json!([rule("first", "logs"), second])).await;
    policy.database.execute(&expired("logs", 100)).await;
    let ledger = usable(&policy.engine).await;
    hold(&*ledger, &[case("logs")]).await;
    hold(&*ledger, &[]).await;
    policy.part(&Until::default()).await;

    policy.state = new_sweep();
    policy.approve("first").await;
    let report = policy.part(&Until::default()).await;
    let held = ledger.view("shop/orders").await.unwrap().holds.len();
    policy.state = new_sweep();
    let next = policy.part(&Until::default()).await;

    assert!(matches!(end(&report, "first"), RuleEnd::Complete { .. }));
    assert!(matches!(end(&report, "second"), RuleEnd::Blocked { .. }));
    assert_eq!(held, 1);
    assert!(matches!(end(&next, "second"), RuleEnd::Blocked { .. }));
}
