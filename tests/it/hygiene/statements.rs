//! `pg_stat_statements` as support for what counters say: counted on the server, never the texts, and never a proof.

use retention_operator::audit::{Surroundings, audit};
use retention_operator::engine::Engine;
use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::policy::check::CheckedPolicy;
use retention_operator::policy::usage::{LookedUp, Usage};
use serde_json::json;

use super::target;
use super::usage::{audited_by, checked, of_rule, watched};
use crate::support::postgres::Postgres;

/// The extension lives in a schema whose name has to be quoted.
const EXTENSION: &str =
    "CREATE SCHEMA \"odd Schema\"; CREATE EXTENSION pg_stat_statements SCHEMA \"odd Schema\"";

fn server(more: &[(&str, &str)]) -> Postgres {
    let mut settings = vec![
        ("autovacuum", "off"),
        ("shared_preload_libraries", "pg_stat_statements"),
    ];
    settings.extend_from_slice(more);
    Postgres::start_own(&settings)
}

fn policy() -> CheckedPolicy {
    checked(json!({
        "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}, "ledger": "Auto"},
        "rules": [{"name": "t", "table": "t", "column": "at", "expireAfter": "365d", "action": "Delete"}],
    }))
}

#[tokio::test]
async fn statements_are_counted_beside_what_the_counters_say() {
    let server = server(&[("pg_stat_statements.track", "all")]);
    let database = watched(&server, "statements").await;
    database.execute(EXTENSION).await;
    database
        .execute("SELECT \"odd Schema\".pg_stat_statements_reset()")
        .await;
    // A text with a secret in it: constants of utility statements are kept as they are.
    database
        .execute("CREATE ROLE r_secret PASSWORD 'hunter2'; DROP ROLE r_secret; SELECT 1")
        .await;

    let report = audited_by(&database.url, &policy()).await;

    let observation = of_rule(&report);
    assert!(matches!(observation.usage, Usage::Unused { .. }));
    let note = observation.note.clone().unwrap_or_default();
    assert!(note.starts_with("pg_stat_statements: "), "{note}");
    assert!(note.contains(" statements name it since 20"), "{note}");
    let finding = report
        .findings
        .iter()
        .flatten()
        .find(|finding| finding.id == "unused-table:public.t")
        .expect("unused");
    assert!(
        finding.evidence.contains("pg_stat_statements: "),
        "{}",
        finding.evidence
    );
    assert!(!format!("{report:?}").contains("hunter2"));
    assert_eq!(
        report
            .unseen
            .iter()
            .filter(|it| it.contains("pg_stat_statements"))
            .count(),
        0
    );
}

/// The rules by which Rust makes small letters are not those of a collation.
#[tokio::test]
async fn a_name_is_found_whatever_its_letters_and_its_quotes_and_what_was_not_read_is_told() {
    let server = server(&[]);
    let database = server.database("named").await;
    database.execute(EXTENSION).await;
    let tables = ["İstanbul ÄRA", "od\"\"d"];
    for table in tables {
        database
            .execute(&format!("CREATE TABLE \"{table}\" (id int)"))
            .await;
    }
    database
        .execute("SELECT \"odd Schema\".pg_stat_statements_reset()")
        .await;
    for table in tables {
        database
            .execute(&format!("SELECT count(*) FROM \"{table}\""))
            .await;
    }
    let long = format!("SELECT 1 /* {} */ + 1", "x".repeat(20_000));
    database.execute(&long).await;
    let engine = PostgresEngine::new(target(&database.url)).unwrap();

    let asked = [
        (1, "İstanbul ÄRA".to_owned()),
        (2, "od\"d".to_owned()),
        (3, "nobody".to_owned()),
    ];
    let looked = engine.statements_naming(&asked).await.unwrap();

    engine.close().await;
    let LookedUp::Seen(statements) = looked else {
        panic!("{looked:?}");
    };
    assert!(statements.naming[&1] > 0, "{statements:?}");
    assert!(statements.naming[&2] > 0, "{statements:?}");
    assert_eq!(statements.naming[&3], 0, "{statements:?}");
    assert!(statements.cut, "{statements:?}");
}

#[tokio::test]
async fn a_nought_of_statements_turns_nothing_unknown_into_unused() {
    let server = server(&[]);
    let database = server.database("statements").await;
    database.execute(EXTENSION).await;
    database
        .execute("CREATE TABLE untouched (id int PRIMARY KEY, at timestamptz NOT NULL)")
        .await;
    database
        .execute("SELECT \"odd Schema\".pg_stat_statements_reset()")
        .await;
    let engine = PostgresEngine::new(target(&database.url)).unwrap();
    let policy = checked(json!({
        "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}, "ledger": "Off"},
        "rules": [{"name": "t", "table": "untouched", "column": "at", "expireAfter": "365d", "action": "Delete"}],
    }));
    database.execute("SELECT 1").await;

    let report = audit(&engine, &policy, &Surroundings::alone("shop/orders"))
        .await
        .unwrap();

    engine.close().await;
    let observation = of_rule(&report);
    assert!(
        matches!(observation.usage, Usage::Unknown(_)),
        "{observation:?}"
    );
    let note = observation.note.clone().unwrap_or_default();
    assert!(note.starts_with("pg_stat_statements: 0 of "), "{note}");
    // Only what clients send is recorded by default.
    assert!(
        note.ends_with("; those inside functions are not recorded"),
        "{note}"
    );
}

#[tokio::test]
async fn whoever_may_not_see_the_statements_of_others_is_told_so_and_nothing_else_changes() {
    let server = server(&[]);
    let database = watched(&server, "statements").await;
    database.execute(EXTENSION).await;
    let role = database
        .role(
            "auditor",
            "secret",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; GRANT USAGE ON SCHEMA \"odd Schema\" TO {role};
             GRANT USAGE ON SCHEMA retention_operator TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA retention_operator TO {role}",
        )
        .await;

    let report = audited_by(&role.url, &policy()).await;

    assert!(matches!(of_rule(&report).usage, Usage::Unused { .. }));
    assert_eq!(of_rule(&report).note, None);
    let hidden: Vec<&String> = report
        .unseen
        .iter()
        .filter(|it| it.contains("pg_stat_statements"))
        .collect();
    assert_eq!(hidden.len(), 1, "{:?}", report.unseen);
    assert!(hidden[0].contains("pg_read_all_stats"), "{hidden:?}");
}

#[tokio::test]
async fn an_extension_that_the_server_has_not_loaded_or_that_records_nothing_is_as_good_as_none() {
    let nothing = server(&[("pg_stat_statements.track", "none")]);
    for server in [&nothing, Postgres::shared()] {
        let database = watched(server, "statements").await;
        database.execute(EXTENSION).await;

        let report = audited_by(&database.url, &policy()).await;

        assert!(matches!(of_rule(&report).usage, Usage::Unused { .. }));
        assert_eq!(of_rule(&report).note, None);
        assert!(
            !report
                .unseen
                .iter()
                .any(|it| it.contains("pg_stat_statements"))
        );
    }
}
