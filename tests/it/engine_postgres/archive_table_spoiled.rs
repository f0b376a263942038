//! Archive tables that do not keep every row as it was: triggers, rules and constraints, of the archive and of the source.

use retention_operator::engine::Engine;
use retention_operator::policy::dependents::Dependents;
use retention_operator::policy::plan::RulePlan;
use rstest::rstest;

use super::archive_table::{archiving, expired, sweep};
use super::{engine, filled, plan, run};
use crate::support::postgres::Postgres;

#[rstest]
#[case::vetoes(
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id = 60 THEN RETURN NULL; END IF; RETURN NEW; END';
     CREATE TRIGGER g BEFORE INSERT ON attic FOR EACH ROW EXECUTE FUNCTION f()",
    "kept 49 of 50 rows"
)]
#[case::duplicate(
    "ALTER TABLE attic ADD UNIQUE (id); INSERT INTO attic (id) VALUES (60)",
    "duplicate key"
)]
#[case::check("ALTER TABLE attic ADD CHECK (id <> 60)", "violates check constraint")]
#[case::no_partition(
    "DROP TABLE attic; CREATE TABLE attic (LIKE t) PARTITION BY RANGE (at);
     CREATE TABLE attic_1 PARTITION OF attic FOR VALUES FROM ('2030-01-01') TO ('2031-01-01')",
    "no partition of relation"
)]
#[tokio::test]
async fn an_archive_that_does_not_keep_every_row_stops_the_rule_and_nothing_is_lost(
    #[case] setup: &str,
    #[case] words: &str,
) {
    for dependents in [Dependents::Refuse, Dependents::Skip] {
        let database = Postgres::shared().database("keeps").await;
        database.execute(&filled("t", 100)).await;
        database
            .execute(&format!(
                "CREATE TABLE attic (LIKE t); {setup}; ALTER TABLE t ADD PRIMARY KEY (id);
                 CREATE TABLE item (t_id bigint REFERENCES t ON DELETE CASCADE);"
            ))
            .await;
        let engine = engine(&database.url);
        let plan = RulePlan {
            dependents,
            ..archiving(plan(&engine, "t", "at").await, "attic")
        };

        let error = run(&engine, &plan, 8).await.unwrap_err();

        assert_eq!(error.category(), "archive", "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains("public.attic"), "{error}");
        assert_eq!(expired(&database).await, 50);
    }
}

/// Functions that take an archived row away again, or change it; as the owner, whatever the sweep's role may do.
const SPOILING: &str = "\
CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.attic WHERE id = 60; RETURN NULL; END';
CREATE FUNCTION alters() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE public.attic SET pad = ''?'' WHERE id = 60; RETURN NULL; END';
CREATE FUNCTION drops_own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.attic WHERE id = OLD.id; RETURN NULL; END';";

#[rstest]
#[case::each_row("CREATE TRIGGER g AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION drops_own()")]
#[case::each_row_alters(
    "CREATE TRIGGER g AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION alters()"
)]
#[case::statement("CREATE TRIGGER g AFTER DELETE ON t EXECUTE FUNCTION drops()")]
#[case::statement_with_transition_table(
    "CREATE TRIGGER g AFTER DELETE ON t REFERENCING OLD TABLE AS gone EXECUTE FUNCTION drops()"
)]
#[case::deferred(
    "CREATE CONSTRAINT TRIGGER g AFTER DELETE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION drops_own()"
)]
#[case::of_a_table_that_rows_go_along_from(
    "INSERT INTO item SELECT id FROM t; CREATE TRIGGER g AFTER DELETE ON item EXECUTE FUNCTION drops()"
)]
#[tokio::test]
async fn a_trigger_of_the_source_that_spoils_an_archived_row_stops_the_rule_and_nothing_is_lost(
    #[case] trigger: &str,
) {
    for dependents in [Dependents::Cascade, Dependents::Skip] {
        let database = Postgres::shared().database("spoils").await;
        database.execute(&filled("t", 100)).await;
        database
            .execute(&format!(
                "CREATE TABLE attic (LIKE t); ALTER TABLE t ADD PRIMARY KEY (id);
                 CREATE TABLE item (t_id bigint REFERENCES t ON DELETE CASCADE); {SPOILING} {trigger}"
            ))
            .await;
        let engine = engine(&database.url);
        let plan = RulePlan {
            dependents,
            ..archiving(plan(&engine, "t", "at").await, "attic")
        };

        let swept = run(&engine, &plan, 8).await;

        let kept: i64 = database.scalar("SELECT count(*) FROM attic").await;
        if trigger.contains("item") && dependents == Dependents::Skip {
            // Every row is referred to: none goes.
            assert_eq!((expired(&database).await, kept), (50, 0));
            continue;
        }
        let error = swept.unwrap_err();
        assert_eq!(error.category(), "archive", "{error}");
        assert!(error.to_string().contains("of 50 rows"), "{error}");
        assert_eq!((expired(&database).await, kept), (50, 0));
    }
}

#[rstest]
#[case::on_the_whole(
    "CREATE TRIGGER g AFTER DELETE ON p FOR EACH ROW EXECUTE FUNCTION drops_own()"
)]
#[case::on_a_partition("CREATE TRIGGER g AFTER DELETE ON p1 EXECUTE FUNCTION drops()")]
#[tokio::test]
async fn a_trigger_of_a_partition_that_spoils_an_archived_row_stops_the_rule_too(
    #[case] trigger: &str,
) {
    let database = Postgres::shared().database("spoils").await;
    database
        .execute(&format!(
            "CREATE TABLE p (id int, at timestamptz, pad text) PARTITION BY RANGE (at);
             CREATE TABLE p1 PARTITION OF p DEFAULT; CREATE TABLE attic (LIKE p);
             INSERT INTO p SELECT n, '2020-01-01' FROM generate_series(1, 80) n; {SPOILING} {trigger}"
        ))
        .await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "p", "at").await, "attic");

    let error = run(&engine, &plan, 8).await.unwrap_err();

    let rows: i64 = database.scalar("SELECT count(*) FROM p").await;
    assert_eq!(error.category(), "archive", "{error}");
    assert_eq!(rows, 80);
}

#[tokio::test]
async fn a_trigger_of_the_source_that_leaves_archived_rows_alone_hinders_nothing() {
    let database = Postgres::shared().database("harmless").await;
    database.execute(&filled("t", 100)).await;
    database
        .execute(
            "CREATE TABLE log (id bigint);
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log VALUES (OLD.id); RETURN NULL; END';
             CREATE TRIGGER g AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()",
        )
        .await;

    let swept = sweep(&database, "attic", 1).await.unwrap();

    let logged: i64 = database.scalar("SELECT count(*) FROM log").await;
    assert_eq!((swept.archived, logged), (50, 50));
}

/// Rows are looked for again where triggers fire, and that takes a right to read.
#[rstest]
#[case::of_the_source("CREATE TRIGGER g AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()")]
#[case::of_the_archive("CREATE TRIGGER g AFTER INSERT ON attic FOR EACH ROW EXECUTE FUNCTION f()")]
#[tokio::test]
async fn where_triggers_fire_a_right_to_read_the_archive_is_asked_for_before_a_row_moves(
    #[case] trigger: &str,
) {
    let database = Postgres::shared().database("reads").await;
    database.execute(&filled("t", 100)).await;
    database
        .execute(&format!(
            "CREATE TABLE attic (LIKE t); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; {trigger}"
        ))
        .await;
    let role = database
        .role(
            "reader",
            "secret",
            "GRANT SELECT, DELETE ON t TO {role}; GRANT INSERT ON attic TO {role}",
        )
        .await;
    let engine = engine(&role.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");

    let looked = engine.check_archive(&plan).await.unwrap_err();
    let swept = run(&engine, &plan, 1).await.unwrap_err();

    for error in [&looked, &swept] {
        assert_eq!(error.category(), "permission", "{error}");
    }
    let said = looked.to_string();
    let (_, grant) = said.split_once("run: ").unwrap();
    assert!(
        grant.contains("GRANT SELECT, INSERT ON \"public\".\"attic\" TO"),
        "{grant}"
    );
    assert_eq!(expired(&database).await, 50);
    database.execute(grant).await;
    assert_eq!(run(&engine, &plan, 1).await.unwrap().archived, 50);
}

/// The archive is a partition itself: up to PostgreSQL 14 the triggers that it has from its table are internal ones.
#[tokio::test]
async fn a_trigger_that_the_archive_has_from_its_own_table_stops_the_rule_too() {
    let database = Postgres::shared().database("inherited").await;
    database.execute(&filled("t", 100)).await;
    database
        .execute(&format!(
            "CREATE TABLE all_attics (LIKE t) PARTITION BY RANGE (at); CREATE TABLE attic PARTITION OF all_attics DEFAULT; {SPOILING}
             CREATE TRIGGER g AFTER INSERT ON all_attics FOR EACH ROW EXECUTE FUNCTION drops()"
        ))
        .await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");

    let effects = engine.side_effects(&plan).await.unwrap();
    let error = run(&engine, &plan, 8).await.unwrap_err();

    assert_eq!(effects.triggers.len(), 1, "{effects:?}");
    assert_eq!(error.category(), "archive", "{error}");
    assert_eq!(expired(&database).await, 50);
}
