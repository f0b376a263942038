//! The count after a walk is the proof of a sweep: what it cannot see, or what the plan did not know, is no proof.

use retention_operator::engine::{Counted, Engine, EngineError};
use retention_operator::policy::encoding::Encoding;
use retention_operator::policy::plausible::PLAUSIBLE_FROM;
use rstest::rstest;

use super::{engine, filled, plan, run};
use crate::support::postgres::Postgres;

#[rstest]
#[case::switched_on("", "ALTER TABLE t ENABLE ROW LEVEL SECURITY")]
#[case::no_longer_passed_by(
    "ALTER ROLE {role} BYPASSRLS; ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    "ALTER ROLE {role} NOBYPASSRLS"
)]
#[tokio::test]
async fn rows_that_are_hidden_since_are_no_proof_that_there_are_none(
    #[case] before: &str,
    #[case] after: &str,
) {
    let database = Postgres::shared().database("hidden").await;
    database.execute(&filled("t", 200)).await;
    let role = database
        .role(
            "sweeper",
            "secret",
            &format!("GRANT SELECT, DELETE ON t TO {{role}}; {before}"),
        )
        .await;
    let engine = engine(&role.url);
    let plan = plan(&engine, "t", "at").await;
    assert_eq!(run(&engine, &plan, 8).await.unwrap().rows, 100);
    let seen = engine.count_left(&plan, 100).await.unwrap();
    database
        .execute("INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 7) n")
        .await;

    database
        .execute(&after.replace("{role}", &format!("\"{}\"", role.name)))
        .await;
    let hidden = engine.count_left(&plan, 100).await;

    assert_eq!(seen.expired, 0);
    let error = hidden.unwrap_err();
    assert_eq!(error.category(), "table_changed", "{error}");
    assert!(error.to_string().contains("row-level security"), "{error}");
}

#[tokio::test]
async fn a_part_that_is_attached_after_the_walk_is_counted_and_told_apart() {
    let database = Postgres::shared().database("attached").await;
    database
        .execute(
            "CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF t FOR VALUES IN (1);
             INSERT INTO t VALUES (1, '2020-01-01'); CREATE TABLE p2 (LIKE t); CREATE TABLE p3 (LIKE t);
             INSERT INTO p2 VALUES (2, '2020-01-01'), (3, '2020-01-01'), (2, now()); INSERT INTO p3 VALUES (4, now())",
        )
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    assert_eq!(run(&engine, &plan, 8).await.unwrap().rows, 1);

    database
        .execute("ALTER TABLE t ATTACH PARTITION p3 FOR VALUES IN (4)")
        .await;
    let fresh = engine.count_left(&plan, 1).await.unwrap();
    database
        .execute("ALTER TABLE t ATTACH PARTITION p2 FOR VALUES IN (2, 3)")
        .await;
    let expired = engine.count_left(&plan, 1).await.unwrap();
    let stale = run(&engine, &plan, 8).await.unwrap_err();
    let plan = super::plan(&engine, "t", "at").await;
    let again = run(&engine, &plan, 8).await.unwrap();
    let left = engine.count_left(&plan, 3).await.unwrap();

    assert_eq!(fresh, Counted::default());
    assert_eq!((expired.expired, expired.attached), (2, 2));
    assert_eq!(stale.category(), "parts_changed", "{stale}");
    assert_eq!((again.rows, left), (2, Counted::default()));
}

#[rstest]
#[case::dropped("DROP TABLE t")]
#[case::replaced("ALTER TABLE t RENAME TO u; CREATE TABLE t (at timestamptz)")]
#[tokio::test]
async fn another_table_proves_nothing(#[case] change: &str) {
    let database = Postgres::shared().database("replaced").await;
    database.execute(&filled("t", 10)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;

    database.execute(change).await;
    let counted = engine.count_left(&plan, 0).await;

    assert!(
        matches!(counted, Err(EngineError::TableChanged { .. })),
        "{counted:?}"
    );
}

#[rstest]
#[case::seconds("bigint", Encoding::EpochSeconds, 1)]
#[case::seconds_in_a_text("text", Encoding::EpochSeconds, 1)]
#[case::seconds_with_a_fraction("numeric", Encoding::EpochSeconds, 1)]
#[case::seconds_in_floating_point("float8", Encoding::EpochSeconds, 1)]
#[case::milliseconds("bigint", Encoding::EpochMillis, 1_000)]
#[case::microseconds("bigint", Encoding::EpochMicros, 1_000_000)]
#[tokio::test]
async fn a_unit_is_plausible_as_soon_as_one_value_of_it_is(
    #[case] kind: &str,
    #[case] encoding: Encoding,
    #[case] unit: i64,
) {
    let database = Postgres::shared().database("unit").await;
    let from = PLAUSIBLE_FROM.as_second() * unit;
    database
        .execute(&format!(
            "CREATE TABLE t (at {kind}); INSERT INTO t VALUES (NULL), ('0'), ('-1'), ('1'), ('{}')",
            from - 1
        ))
        .await;
    let engine = engine(&database.url);
    let mut plan = plan(&engine, "t", "at").await;
    plan.encoding = Some(encoding);

    let before = engine.has_times_from(&plan, PLAUSIBLE_FROM).await.unwrap();
    database
        .execute(&format!("INSERT INTO t VALUES ('{from}')"))
        .await;
    let after = engine.has_times_from(&plan, PLAUSIBLE_FROM).await.unwrap();

    assert_eq!((before, after), (false, true));
}
