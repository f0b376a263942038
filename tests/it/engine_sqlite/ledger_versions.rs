//! Ledgers that an earlier operator made.

use retention_operator::engine::Engine;
use retention_operator::engine::ledger::LedgerAccess;
use retention_operator::policy::claims::LedgerMode;

use super::{Database, filled, usable};

/// Back to the first version: `hold` had no column for who was asked.
const AGED: &str = "
DROP TABLE retention_operator_hold;
CREATE TABLE retention_operator_hold (id INTEGER PRIMARY KEY, policy TEXT NOT NULL, name TEXT NOT NULL, table_name TEXT NOT NULL, predicate TEXT, reason TEXT, cluster TEXT, since TEXT NOT NULL, removed_at TEXT, asked_at TEXT);
INSERT INTO retention_operator_hold (policy, name, table_name, since) VALUES ('shop/holder', 'case', 'logs', '2026-11-22T03:00:00.000Z');
UPDATE retention_operator_meta SET version = 1";

async fn aged(sql: &str) -> Database {
    let database = Database::new(&filled("logs", 10)).await;
    usable(&database.engine()).await;
    database.execute(sql).await;
    database
}

async fn version(database: &Database) -> i64 {
    database
        .scalar("SELECT version FROM retention_operator_meta")
        .await
}

#[tokio::test]
async fn the_first_version_is_brought_up_to_date_by_a_sweep_and_what_it_knew_stays() {
    let database = aged(AGED).await;
    let engine = database.engine();

    let looked = engine.ledger(LedgerMode::Existing, false).await.unwrap();
    let untouched = version(&database).await;
    let brought = engine.ledger(LedgerMode::Existing, true).await.unwrap();
    let again = engine.ledger(LedgerMode::Existing, false).await.unwrap();

    match looked {
        LedgerAccess::Unusable(why) => {
            assert!(why.contains("of version 1"), "{why}");
            assert!(why.contains("brings it up to date"), "{why}");
        }
        _ => panic!("used"),
    }
    assert_eq!((untouched, version(&database).await), (1, 2));
    let LedgerAccess::Usable(ledger) = brought else {
        panic!("not brought up to date");
    };
    let holds = ledger.view("shop/orders").await.unwrap().holds;
    assert_eq!(holds.len(), 1);
    assert!(
        matches!(again, LedgerAccess::Usable(_)),
        "its tables are as they are made anew"
    );
}

/// Builds in between made the column and did not count it.
#[tokio::test]
async fn one_that_has_the_column_already_is_counted_on() {
    let database = aged("UPDATE retention_operator_meta SET version = 1").await;

    let used = database
        .engine()
        .ledger(LedgerMode::Existing, true)
        .await
        .unwrap();

    assert!(matches!(used, LedgerAccess::Usable(_)));
    assert_eq!(version(&database).await, 2);
}

#[tokio::test]
async fn several_that_bring_it_up_to_date_at_once_do_it_once() {
    let database = aged(AGED).await;
    let engines: Vec<_> = (0..4).map(|_| database.engine()).collect();

    let all = engines
        .iter()
        .map(|engine| engine.ledger(LedgerMode::Auto, true));
    for access in futures::future::join_all(all).await {
        assert!(matches!(access.unwrap(), LedgerAccess::Usable(_)));
    }

    assert_eq!(version(&database).await, 2);
}
