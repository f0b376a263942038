//! What the engine refuses, and whether the words help.

use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::engine::{Engine, EngineError};
use retention_operator::policy::predicate::Predicate;
use rstest::rstest;

use super::{engine, filled, plan, run, target};
use crate::support::postgres::{Postgres, SUPERUSER};

async fn refusal(url: &str) -> EngineError {
    PostgresEngine::new(target(url))
        .unwrap()
        .facts()
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_wrong_password_user_database_or_host_is_named_and_the_password_is_not() {
    let postgres = Postgres::shared();
    let port = postgres.port();
    let closed = crate::support::process::free_port();

    let password = refusal(&format!(
        "postgres://postgres:geheim@127.0.0.1:{port}/postgres"
    ))
    .await;
    let user = refusal(&format!(
        "postgres://nobody:geheim@127.0.0.1:{port}/postgres"
    ))
    .await;
    let database = refusal(&format!(
        "postgres://{SUPERUSER}:{SUPERUSER}@127.0.0.1:{port}/nowhere"
    ))
    .await;
    let host = refusal("postgres://postgres:geheim@no-such-host.invalid/postgres").await;
    let nobody = refusal(&format!(
        "postgres://postgres:geheim@127.0.0.1:{closed}/postgres"
    ))
    .await;
    let plain = refusal(&format!(
        "postgres://postgres:geheim@127.0.0.1:{port}/postgres?sslmode=require"
    ))
    .await;

    for (error, category, part) in [
        (password, "refused", "postgres"),
        (user, "refused", "nobody"),
        (database, "refused", "nowhere"),
        (host, "unreachable", "no-such-host.invalid:5432"),
        (nobody, "unreachable", "127.0.0.1"),
        (plain, "tls", "TLS"),
    ] {
        let words = error.to_string();
        assert_eq!(error.category(), category, "{words}");
        assert!(words.contains(part), "{words}");
        assert!(!words.contains("geheim"), "{words}");
    }
}

#[tokio::test]
async fn a_role_that_lacks_a_right_is_told_what_to_run() {
    let database = Postgres::shared().database("grant").await;
    database.execute(&filled("t", 10)).await;
    let reader = database
        .role("reader", "secret", "GRANT SELECT ON t TO {role}")
        .await;
    let blind = database.role("blind", "secret", "").await;
    let engine = engine(&reader.url);
    let plan = plan(&engine, "t", "at").await;

    let sweep = run(&engine, &plan, 1).await.unwrap_err();
    let count = super::engine(&blind.url)
        .count_rows(&plan.table)
        .await
        .unwrap_err();

    assert_eq!(sweep.category(), "permission");
    assert!(
        sweep.to_string().contains(&format!(
            "GRANT SELECT, DELETE ON \"public\".\"t\" TO \"{}\"",
            reader.name
        )),
        "{sweep}"
    );
    assert_eq!(count.category(), "permission");
    assert!(count.to_string().contains(&blind.name), "{count}");
}

#[rstest]
#[case("id = 'abc'", "invalid input syntax for type bigint")]
#[case("pad = 1", "operator does not exist: text = integer")]
#[case("id", "must be type boolean")]
#[tokio::test]
async fn a_where_that_does_not_fit_is_refused_in_the_databases_words(
    #[case] source: &str,
    #[case] words: &str,
) {
    let database = Postgres::shared().database("misfit").await;
    database.execute(&filled("t", 10)).await;
    let engine = engine(&database.url);
    let mut plan = plan(&engine, "t", "at").await;
    plan.filter = Some(Predicate::parse(source).unwrap());

    let filter = engine.check_plan(&plan).await.unwrap_err();
    plan.holds = vec![plan.filter.take().unwrap()];
    let hold = engine.check_plan(&plan).await.unwrap_err();

    assert_eq!(filter.category(), "predicate");
    assert!(
        filter
            .to_string()
            .starts_with("where does not fit table public.t: "),
        "{filter}"
    );
    assert!(filter.to_string().contains(words), "{filter}");
    assert!(
        hold.to_string()
            .starts_with("the where of hold 1 does not fit"),
        "{hold}"
    );
}

#[tokio::test]
async fn a_table_that_others_refer_to_is_refused_unless_they_are_empty() {
    let database = Postgres::shared().database("refers").await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t VALUES (1, '2020-01-01');
             CREATE TABLE child (t_id int REFERENCES t ON DELETE CASCADE);",
        )
        .await;
    let engine = engine(&database.url);
    let before = plan(&engine, "t", "at").await;
    database.execute("INSERT INTO child VALUES (1)").await;

    let refused = run(&engine, &before, 1).await.unwrap_err();

    assert_eq!(refused.category(), "dependents");
    assert!(refused.to_string().contains("public.child"), "{refused}");
    let left: i64 = database.scalar("SELECT count(*) FROM child").await;
    assert_eq!(left, 1);
}

#[rstest]
#[case("DROP TABLE t")]
#[case("ALTER TABLE t RENAME TO other; CREATE TABLE t (id bigint, at timestamptz, pad text)")]
#[case("ALTER TABLE t RENAME at TO was; ALTER TABLE t ADD at timestamptz")]
#[case("ALTER TABLE t ALTER at TYPE timestamp")]
#[tokio::test]
async fn a_table_that_is_not_the_planned_one_is_refused(#[case] change: &str) {
    let database = Postgres::shared().database("changed").await;
    database.execute(&filled("t", 10)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    database.execute(change).await;

    let outcome = run(&engine, &plan, 1).await;

    match outcome {
        Err(error) => assert_eq!(error.category(), "table_changed", "{error}"),
        // A column that was replaced by one of the same name and type reads as the planned one, and holds nothing.
        Ok(swept) => assert_eq!(swept.rows, 0),
    }
}

#[tokio::test]
async fn a_database_that_was_set_read_only_stays_as_it_is() {
    let database = Postgres::shared().database("readonly").await;
    database.execute(&filled("t", 10)).await;
    database
        .execute(&format!(
            "ALTER DATABASE \"{}\" SET default_transaction_read_only = on",
            database.name
        ))
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;

    let error = run(&engine, &plan, 1).await.unwrap_err();

    assert_eq!(error.category(), "read_only", "{error}");
}
