//! Rows that cannot be set to NULL or to a default for a reason further on: a key to what is set, a domain. They keep what they refer to, and no
//! other row.

use retention_operator::policy::dependents::Dependents;
use rstest::rstest;

use super::archive_table::archiving;
use super::dependents::{expired_left, ids, parents, planned, sweep};
use super::{engine, run};
use crate::support::postgres::{Postgres, TestDatabase};

/// Parents 1 to 10, of which the tenth has not expired, with one child each.
async fn with_children(children: &str) -> TestDatabase {
    let database = Postgres::shared().database("beyond").await;
    database
        .execute(&format!("{} {children}", parents(10)))
        .await;
    database
}

#[rstest]
#[case::a_key_to_what_is_set(
    "CREATE TABLE child (parent_id int UNIQUE REFERENCES parent ON DELETE SET NULL); INSERT INTO child SELECT id FROM parent;
     CREATE TABLE stone (child_id int REFERENCES child (parent_id)); INSERT INTO stone VALUES (7)"
)]
#[case::a_deferred_key_to_what_is_set(
    "CREATE TABLE child (parent_id int UNIQUE REFERENCES parent ON DELETE SET NULL); INSERT INTO child SELECT id FROM parent;
     CREATE TABLE stone (child_id int REFERENCES child (parent_id) DEFERRABLE INITIALLY DEFERRED); INSERT INTO stone VALUES (7)"
)]
#[case::a_key_one_step_down(
    "CREATE TABLE between_them (id int PRIMARY KEY REFERENCES parent ON DELETE CASCADE); INSERT INTO between_them SELECT id FROM parent;
     CREATE TABLE child (parent_id int UNIQUE REFERENCES between_them ON DELETE SET NULL); INSERT INTO child SELECT id FROM parent;
     CREATE TABLE stone (child_id int REFERENCES child (parent_id) ON UPDATE RESTRICT); INSERT INTO stone VALUES (7)"
)]
#[case::a_key_to_what_is_generated(
    "CREATE TABLE child (parent_id int REFERENCES parent ON DELETE SET NULL, g int GENERATED ALWAYS AS (coalesce(parent_id, 0) * 10) STORED UNIQUE);
     INSERT INTO child SELECT id FROM parent WHERE id IN (3, 7); CREATE TABLE stone (child_g int REFERENCES child (g)); INSERT INTO stone VALUES (70)"
)]
#[case::a_domain_without_nulls(
    "CREATE DOMAIN number AS int NOT NULL; CREATE TABLE child (parent_id number REFERENCES parent ON DELETE SET NULL); INSERT INTO child VALUES (7)"
)]
#[case::a_domain_with_a_check(
    "CREATE DOMAIN number AS int CHECK (VALUE IS NOT NULL); CREATE TABLE child (parent_id number REFERENCES parent ON DELETE SET NULL);
     INSERT INTO child VALUES (7)"
)]
#[case::a_domain_without_the_default(
    "CREATE DOMAIN number AS int CHECK (VALUE < 10); CREATE TABLE child (parent_id number DEFAULT 10 REFERENCES parent ON DELETE SET DEFAULT);
     INSERT INTO child VALUES (7)"
)]
#[tokio::test]
async fn a_row_that_cannot_be_set_for_a_reason_further_on_keeps_its_parent_and_no_other(
    #[case] children: &str,
) {
    let database = with_children(children).await;

    let swept = sweep(&database, Dependents::Cascade, 8).await.unwrap();
    let again = sweep(&database, Dependents::Cascade, 8).await.unwrap();

    assert_eq!((swept.rows, swept.blocked), (8, 1), "{swept:?}");
    assert_eq!((again.rows, again.blocked), (0, 1), "{again:?}");
    assert_eq!(ids(&database, "SELECT id FROM parent").await, "7 10");
}

#[tokio::test]
async fn rows_that_came_back_with_one_that_cannot_be_set_are_counted_once_when_they_go() {
    let database = Postgres::shared().database("halves").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (parent_id int REFERENCES parent ON DELETE CASCADE);
             INSERT INTO item SELECT id FROM parent, generate_series(1, 3); CREATE INDEX ON item (parent_id);
             CREATE TABLE child (parent_id int UNIQUE REFERENCES parent ON DELETE SET NULL); INSERT INTO child SELECT id FROM parent;
             CREATE TABLE stone (child_id int REFERENCES child (parent_id)); INSERT INTO stone VALUES (7), (501), (502)",
            parents(1000)
        ))
        .await;

    let swept = sweep(&database, Dependents::Cascade, 4).await.unwrap();

    assert_eq!(
        (swept.rows, swept.cascaded, swept.blocked),
        (897, 3 * 897, 3)
    );
    let set: i64 = database
        .scalar("SELECT count(*) FROM child WHERE parent_id IS NULL")
        .await;
    assert_eq!(set, 897);
}

/// Each parent has a child that a stone may need, so that the server is asked row by row.
#[rstest]
#[case::that_keeps_all("", None)]
#[case::that_vetoes_one(
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id = 3 THEN RETURN NULL; END IF; RETURN NEW; END';
     CREATE TRIGGER g BEFORE INSERT ON attic FOR EACH ROW EXECUTE FUNCTION f()",
    Some("kept ")
)]
#[case::from_which_the_source_takes_one(
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.attic WHERE id = 3; RETURN NULL; END';
     CREATE TRIGGER g AFTER DELETE ON parent FOR EACH ROW EXECUTE FUNCTION f()",
    Some("kept ")
)]
#[tokio::test]
async fn beside_a_row_that_cannot_be_set_the_others_are_archived_or_nothing_goes(
    #[case] spoil: &str,
    #[case] fails: Option<&str>,
) {
    let database = with_children(
        "CREATE TABLE child (parent_id int UNIQUE REFERENCES parent ON DELETE SET NULL); INSERT INTO child SELECT id FROM parent;
         CREATE TABLE stone (child_id int REFERENCES child (parent_id)); INSERT INTO stone VALUES (7);
         CREATE TABLE attic (LIKE parent)",
    )
    .await;
    database.execute(spoil).await;
    let engine = engine(&database.url);
    let plan = archiving(planned(&engine, Dependents::Cascade).await, "attic");

    let swept = run(&engine, &plan, 8).await;

    let archived = ids(&database, "SELECT id FROM attic ORDER BY id").await;
    let left = ids(&database, "SELECT id FROM parent ORDER BY id").await;
    if let Some(words) = fails {
        let error = swept.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(archived, "");
        assert_eq!(left, "1 2 3 4 5 6 7 8 9 10");
    } else {
        let swept = swept.unwrap();
        assert_eq!((swept.rows, swept.archived, swept.blocked), (8, 8, 1));
        assert_eq!(archived, "1 2 3 4 5 6 8 9");
        assert_eq!(left, "7 10");
    }
}

#[tokio::test]
async fn many_rows_that_cannot_be_set_keep_none_of_the_others_beside_them() {
    let database = Postgres::shared().database("many_halves").await;
    database
        .execute(&format!(
            "{} CREATE TABLE child (parent_id int UNIQUE REFERENCES parent ON DELETE SET NULL); INSERT INTO child SELECT id FROM parent;
             CREATE TABLE stone (child_id int REFERENCES child (parent_id)); INSERT INTO stone SELECT n FROM generate_series(1, 40) n",
            parents(1000)
        ))
        .await;

    let swept = sweep(&database, Dependents::Cascade, 4).await.unwrap();

    // Each tenth has not expired.
    assert_eq!((swept.rows, swept.blocked), (864, 36));
}

#[tokio::test]
async fn what_the_archives_own_key_refuses_is_no_row_that_stays() {
    let database = with_children(
        "CREATE TABLE child (parent_id int REFERENCES parent ON DELETE SET NULL); INSERT INTO child SELECT id FROM parent;
         CREATE TABLE known (id int PRIMARY KEY); CREATE TABLE attic (LIKE parent); ALTER TABLE attic ADD FOREIGN KEY (id) REFERENCES known",
    )
    .await;
    let engine = engine(&database.url);
    let plan = archiving(planned(&engine, Dependents::Cascade).await, "attic");

    let error = run(&engine, &plan, 8).await.unwrap_err();

    assert_eq!(error.category(), "archive", "{error}");
    assert!(
        error.to_string().contains("does not take the rows"),
        "{error}"
    );
}

#[tokio::test]
async fn a_trigger_in_the_guise_of_a_key_fails_the_rule_also_where_columns_are_set() {
    let database = with_children(
        "CREATE TABLE child (parent_id int REFERENCES parent ON DELETE SET NULL); INSERT INTO child VALUES (7);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '23503'; END$$;
         CREATE TRIGGER g BEFORE UPDATE ON child FOR EACH ROW EXECUTE FUNCTION f()",
    )
    .await;

    let error = sweep(&database, Dependents::Cascade, 8).await.unwrap_err();

    assert!(error.to_string().contains("not this one"), "{error}");
    assert_eq!(expired_left(&database).await, 9);
}
