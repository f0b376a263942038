//! Tables of many parts, and tables that refer to themselves.

use retention_operator::engine::Engine;
use retention_operator::policy::dependents::Dependents;
use retention_operator::policy::predicate::Predicate;
use rstest::rstest;

use super::dependents::{hold, ids, planned, sweep};
use super::{engine, run};
use crate::support::postgres::{Postgres, TestDatabase};

#[rstest]
#[case::skip(Dependents::Skip)]
#[case::cascade(Dependents::Cascade)]
#[tokio::test]
async fn keys_bind_rows_through_partitions_on_both_sides(#[case] dependents: Dependents) {
    let database = Postgres::shared().database("partitions").await;
    database
        .execute(
            "CREATE TABLE parent (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
             CREATE TABLE p23 PARTITION OF parent FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
             CREATE TABLE p_rest PARTITION OF parent DEFAULT;
             INSERT INTO parent SELECT n, '2022-12-15'::timestamptz + n * interval '1 day' FROM generate_series(1, 100) n;
             CREATE TABLE item (parent_id int, parent_at timestamptz, FOREIGN KEY (parent_id, parent_at) REFERENCES parent ON DELETE CASCADE)
               PARTITION BY LIST (parent_id);
             CREATE TABLE item_7 PARTITION OF item FOR VALUES IN (7); CREATE TABLE item_rest PARTITION OF item DEFAULT;
             INSERT INTO item SELECT id, at FROM parent WHERE id IN (7, 50);
             CREATE TABLE stone (parent_id int, parent_at timestamptz, FOREIGN KEY (parent_id, parent_at) REFERENCES p23);
             INSERT INTO stone SELECT id, at FROM parent WHERE id = 60;",
        )
        .await;

    let engine = engine(&database.url);
    let plan = planned(&engine, dependents).await;
    let foretold = engine.count_along(&plan).await.unwrap();
    let swept = run(&engine, &plan, 1).await.unwrap();
    assert_eq!(foretold, swept.cascaded);

    let left = ids(&database, "SELECT id FROM parent").await;
    if dependents == Dependents::Skip {
        assert_eq!((swept.rows, swept.cascaded, swept.blocked), (97, 0, 3));
        assert_eq!(left, "7 50 60");
    } else {
        assert_eq!((swept.rows, swept.cascaded, swept.blocked), (99, 2, 1));
        assert_eq!(left, "60");
    }
}

#[tokio::test]
async fn rows_of_inheritance_children_are_bound_by_no_key_of_their_parent() {
    let database = Postgres::shared().database("inherits").await;
    database
        .execute(
            "CREATE TABLE parent (id int PRIMARY KEY, at timestamptz); CREATE TABLE more () INHERITS (parent);
             INSERT INTO parent VALUES (1, '2020-01-01'), (2, '2020-01-01'); INSERT INTO more VALUES (1, '2020-01-01');
             CREATE TABLE item (parent_id int REFERENCES parent ON DELETE CASCADE); CREATE TABLE items_too () INHERITS (item);
             INSERT INTO item VALUES (1); INSERT INTO items_too VALUES (2);",
        )
        .await;

    let swept = sweep(&database, Dependents::Skip, 1).await.unwrap();

    assert_eq!((swept.rows, swept.blocked), (2, 1));
    let left: i64 = database
        .scalar("SELECT count(*) FROM ONLY parent WHERE id = 1")
        .await;
    assert_eq!(left, 1);
}

/// A forest in one table: `(id, up)`.
async fn forest(on_delete: &str, rows: &str) -> TestDatabase {
    let database = Postgres::shared().database("forest").await;
    database
        .execute(&format!(
            "CREATE TABLE parent (id int PRIMARY KEY, up int REFERENCES parent {on_delete}, at timestamptz DEFAULT '2020-01-01');
             INSERT INTO parent (id, up) VALUES {rows};"
        ))
        .await;
    database
}

#[rstest]
#[case::itself_only("(1, 1), (2, NULL)", "", "")]
#[case::a_chain("(1, NULL), (2, 1), (3, 2), (4, 3)", "", "")]
#[case::a_tree("(1, NULL), (2, 1), (3, 1), (4, 3), (5, 3)", "", "")]
#[case::a_circle(
    "(1, NULL), (2, 1), (3, 2)",
    "UPDATE parent SET up = 3 WHERE id = 1",
    "1 2 3"
)]
#[case::kept_by_a_fresh_row(
    "(1, NULL), (2, 1), (3, 2), (4, 1)",
    "UPDATE parent SET at = '2030-01-01' WHERE id = 3",
    "1 2 3"
)]
#[tokio::test]
async fn skip_takes_rows_that_refer_to_each_other_from_the_last_to_the_first(
    #[case] rows: &str,
    #[case] change: &str,
    #[case] left: &str,
) {
    for on_delete in ["", "ON DELETE CASCADE", "ON DELETE SET NULL"] {
        let database = forest(on_delete, rows).await;
        database.execute(change).await;

        let swept = sweep(&database, Dependents::Skip, 1).await.unwrap();

        assert_eq!(ids(&database, "SELECT id FROM parent").await, left);
        assert_eq!(swept.cascaded, 0);
    }
}

#[tokio::test]
async fn cascade_within_a_table_counts_no_row_twice_and_takes_fresh_rows_along() {
    let database = forest(
        "ON DELETE CASCADE",
        "(1, NULL), (2, 1), (3, 2), (4, NULL), (5, NULL)",
    )
    .await;
    database
        .execute("UPDATE parent SET at = '2030-01-01' WHERE id IN (3, 5)")
        .await;

    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;

    let foretold = engine.count_along(&plan).await.unwrap();
    let swept = run(&engine, &plan, 1).await.unwrap();

    assert_eq!(foretold, 1);
    assert_eq!((swept.rows, swept.cascaded), (3, 1));
    assert_eq!(ids(&database, "SELECT id FROM parent").await, "5");
}

#[tokio::test]
async fn a_hold_on_the_table_itself_binds_what_would_cascade_within_it() {
    let database = forest("ON DELETE CASCADE", "(1, NULL), (2, 1), (3, NULL), (4, 3)").await;
    let engine = engine(&database.url);
    let mut plan = planned(&engine, Dependents::Cascade).await;
    plan.holds = vec![Predicate::parse("id = 2").unwrap()];
    plan.held_tables = vec![hold(&database, "parent", Some("id = 2")).await];

    let swept = run(&engine, &plan, 1).await.unwrap();

    assert_eq!((swept.rows, swept.cascaded), (2, 0));
    assert_eq!(ids(&database, "SELECT id FROM parent").await, "1 2");
}
