//! Claims and holds in the ledger: whose table it is, and which rows stay.

use std::sync::Arc;
use std::time::Duration;

use retention_operator::engine::Engine;
use retention_operator::engine::ledger::{Entry, Ledger, OwnHold, SweepEnd};
use retention_operator::policy::claims::Wanted;
use retention_operator::policy::plan::RulePlan;
use sqlx::Executor;

use super::ledger::{party, table, usable};
use super::ledger_lease::{begin, opened};
use super::plan;
use crate::support::postgres::Postgres;

pub(super) async fn enter(
    ledger: &dyn Ledger,
    policy: &str,
    wanted: &[Wanted],
    holds: Option<&[OwnHold]>,
) -> retention_operator::engine::ledger::LedgerView {
    let rules: Vec<String> = wanted.iter().map(|it| it.rule.clone()).collect();
    let party = party(policy, "one");
    let entry = Entry {
        party: &party,
        rules: &rules,
        wanted,
        holds,
    };
    ledger.enter(&entry).await.unwrap()
}

fn wants(plan: &RulePlan) -> Wanted {
    Wanted {
        rule: "logs".to_owned(),
        table: plan.table.qualified(),
        parts: plan.table.parts(),
    }
}

#[tokio::test]
async fn of_two_policies_that_want_a_table_at_once_one_gets_it() {
    let (_database, engine) = table(1).await;
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    let wanted = [wants(&plan)];

    let (a, b) = tokio::join!(
        enter(&*ledger, "a/a", &wanted, None),
        enter(&*ledger, "b/b", &wanted, None)
    );

    assert_eq!(a.claims.len().max(b.claims.len()), 1);
    let last = ledger.view("c/c").await.unwrap();
    assert_eq!(last.claims.len(), 1);
    assert_eq!(last.claims[0].parts, plan.table.parts());
}

#[tokio::test]
async fn entering_the_same_again_writes_nothing() {
    let (database, engine) = table(1).await;
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    let wanted = [wants(&plan)];
    let hold = OwnHold {
        name: "case".to_owned(),
        table: "t".to_owned(),
        predicate: None,
        reason: Some("litigation".to_owned()),
    };
    enter(&*ledger, "a/a", &wanted, Some(std::slice::from_ref(&hold))).await;
    let rows = "SELECT string_agg(x, ' ' ORDER BY x) FROM (
        SELECT ctid::text || xmin::text FROM retention_operator.claim UNION ALL
        SELECT ctid::text || xmin::text FROM retention_operator.hold UNION ALL
        SELECT ctid::text || xmin::text FROM retention_operator.control) AS r(x)";
    let before: String = database.scalar(rows).await;

    enter(&*ledger, "a/a", &wanted, Some(&[hold])).await;

    let after: String = database.scalar(rows).await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_hold_that_its_policy_no_longer_has_stays_until_it_is_released() {
    let (_database, engine) = table(1).await;
    let ledger = usable(&engine).await;
    let hold = OwnHold {
        name: "case".to_owned(),
        table: "t".to_owned(),
        predicate: Some("id = 1".to_owned()),
        reason: None,
    };
    enter(&*ledger, "a/a", &[], Some(std::slice::from_ref(&hold))).await;

    let unreadable = enter(&*ledger, "a/a", &[], None).await;
    let removed = enter(&*ledger, "a/a", &[], Some(&[])).await;
    let back = enter(&*ledger, "a/a", &[], Some(std::slice::from_ref(&hold))).await;
    let changed = OwnHold {
        predicate: Some("id = 2".to_owned()),
        ..hold
    };
    let both = enter(&*ledger, "a/a", &[], Some(&[changed])).await;

    assert!(
        !unreadable.holds[0].removed,
        "what cannot be read is not removed"
    );
    assert!(removed.holds[0].removed);
    assert_eq!((back.holds.len(), back.holds[0].removed), (1, false));
    let states: Vec<bool> = both.holds.iter().map(|hold| hold.removed).collect();
    assert_eq!(states, [true, false], "the old condition is a removed hold");
    let end = SweepEnd {
        id: "s1",
        released: vec![both.holds[0].id, both.holds[1].id],
        ..SweepEnd::default()
    };
    ledger.end_sweep(&end).await.unwrap();
    let left = ledger.view("a/a").await.unwrap().holds;
    assert_eq!(left.len(), 1, "what is not removed cannot be released");
}

#[tokio::test]
async fn that_one_policy_was_asked_about_a_removed_hold_is_no_question_to_another() {
    let (_database, engine) = table(1).await;
    let ledger = usable(&engine).await;
    let hold = OwnHold {
        name: "case".to_owned(),
        table: "t".to_owned(),
        predicate: None,
        reason: None,
    };
    enter(&*ledger, "a/a", &[], Some(std::slice::from_ref(&hold))).await;
    let removed = enter(&*ledger, "a/a", &[], Some(&[])).await;
    begin(&*ledger, "s1").await;
    let end = SweepEnd {
        id: "s1",
        asked: vec![removed.holds[0].id],
        ..SweepEnd::default()
    };
    ledger.end_sweep(&end).await.unwrap();
    ledger.end_sweep(&end).await.unwrap();

    let asked = |policy: &'static str| {
        let ledger = Arc::clone(&ledger);
        async move { ledger.view(policy).await.unwrap().holds[0].asked }
    };

    assert!(asked("shop/orders").await);
    assert!(!asked("b/b").await);
    enter(&*ledger, "a/a", &[], Some(std::slice::from_ref(&hold))).await;
    enter(&*ledger, "a/a", &[], Some(&[])).await;
    assert!(
        !asked("shop/orders").await,
        "it was placed again in between"
    );
}

#[tokio::test]
async fn in_a_copy_of_the_database_holds_bind_and_claims_and_leases_are_nobodys() {
    let (database, engine) = table(100).await;
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    let hold = OwnHold {
        name: "case".to_owned(),
        table: "t".to_owned(),
        predicate: None,
        reason: None,
    };
    enter(&*ledger, "a/a", &[wants(&plan)], Some(&[hold])).await;
    begin(&*ledger, "s1").await;
    let sweep = opened(&ledger, &plan, "one").await.unwrap();
    drop(sweep);
    engine.close().await;
    let copy = format!("{}_copy", database.name);
    let mut maintenance = Postgres::shared()
        .database("maintenance")
        .await
        .connect()
        .await;
    let template = format!(r#"CREATE DATABASE "{copy}" TEMPLATE "{}""#, database.name);
    crate::support::wait::eventually(Duration::from_secs(10), "the copy", async || {
        maintenance
            .execute(sqlx::AssertSqlSafe(template.clone()))
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    })
    .await;
    let url = database.url.replace(&database.name, &copy);
    let engine = super::engine(&url);
    let copied = usable(&engine).await;

    let looked = copied.view("shop/orders").await.unwrap();
    let entered = enter(&*copied, "b/b", &[wants(&plan)], None).await;

    assert_eq!((looked.claims.len(), looked.holds.len()), (0, 1));
    assert!(looked.unfinished.is_none());
    assert_eq!(entered.claims[0].policy, "b/b");
    assert!(
        opened(&copied, &plan, "two").await.is_ok(),
        "the lease was another database's"
    );
}
