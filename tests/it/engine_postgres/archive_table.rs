//! Rows that are moved into a table of the same database.

use std::time::Duration;

use retention_operator::engine::{ChunkTarget, Engine, EngineError};
use retention_operator::policy::dependents::Dependents;
use retention_operator::policy::plan::{ArchivePlan, ArchiveState, RulePlan};
use rstest::rstest;
use sqlx::Executor;

use super::{CUTOFF, Swept, engine, facts, filled, finish, plan, plan_of, run};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::wait::eventually;

fn archiving(plan: RulePlan, table: &str) -> RulePlan {
    RulePlan {
        archive: Some(ArchivePlan {
            table: table.parse().unwrap(),
            sweep: "20261122T030000Z-it's".to_owned(),
            state: ArchiveState::Unknown,
        }),
        ..plan
    }
}

async fn sweep(database: &TestDatabase, table: &str, pages: u32) -> Result<Swept, EngineError> {
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, table);
    let swept = run(&engine, &plan, pages).await;
    engine.close().await;
    swept
}

async fn expired(database: &TestDatabase) -> i64 {
    database
        .scalar(&format!("SELECT count(*) FROM t WHERE at < '{CUTOFF}'"))
        .await
}

#[tokio::test]
async fn a_missing_table_and_its_schema_are_created_and_take_exactly_the_expired_rows() {
    let database = Postgres::shared().database("creates").await;
    database.execute(&filled("t", 2_000)).await;
    database.execute("CREATE TABLE before AS TABLE t").await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic.old_t");

    let creates = engine.check_archive(&plan).await.unwrap().unwrap();
    let looked: i64 = database
        .scalar("SELECT count(*) FROM pg_namespace WHERE nspname = 'attic'")
        .await;
    let swept = run(&engine, &plan, 5).await.unwrap();

    assert!(
        creates.contains(r#"CREATE TABLE IF NOT EXISTS "attic"."old_t" (LIKE "public"."t""#),
        "{creates}"
    );
    assert_eq!(looked, 0, "a look creates nothing");
    assert_eq!(engine.check_archive(&plan).await.unwrap(), None);
    assert_eq!((swept.rows, swept.archived), (1_000, 1_000));
    let differing: i64 = database
        .scalar(
            "WITH now AS (TABLE t UNION ALL SELECT id, at, pad FROM attic.old_t)
             SELECT count(*) FROM ((TABLE now EXCEPT ALL TABLE before) UNION ALL (TABLE before EXCEPT ALL TABLE now)) AS d",
        )
        .await;
    let marked: i64 = database
        .scalar(
            "SELECT count(*) FROM attic.old_t WHERE retention_sweep_id = '20261122T030000Z-it''s'
             AND retention_archived_at BETWEEN now() - interval '1 minute' AND now()",
        )
        .await;
    assert_eq!((differing, marked), (0, 1_000));
    assert_eq!(expired(&database).await, 0);
    assert_eq!(run(&engine, &plan, 5).await.unwrap().rows, 0);
}

/// One column of each kind, with values that are easily lost on a way through a client.
const KINDS: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN positive AS numeric(6, 2) CHECK (VALUE > 0); CREATE DOMAIN words AS text[];
    CREATE COLLATION insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TABLE t (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT '2020-01-01', gone int,
      amount numeric, exact numeric(10, 3) DEFAULT 1.5, big bigint, data bytea, list int[], nested text[][], doc json, docb jsonb,
      feeling mood, span tstzrange, spans int4multirange, day date, moment timestamp(0), pause interval, ratio float8, small real,
      yes boolean, mark uuid, bits bit varying(8), home inet, place point, name varchar(5), code char(4), price money, path xml,
      about tsvector, twin pair, worth positive, said words, loud text COLLATE insensitive, note text DEFAULT 'none',
      \"Odd \"\"Name'\" text, twice numeric GENERATED ALWAYS AS (amount * 2) STORED);
    ALTER TABLE t DROP COLUMN gone;
    INSERT INTO t (amount, big, data, list, nested, doc, docb, feeling, span, spans, day, moment, pause, ratio, small, yes, mark, bits,
                   home, place, name, code, price, path, about, twin, worth, said, loud, note, \"Odd \"\"Name'\")
    VALUES (123456789012345678901234567890.123456789, 9223372036854775807, '\\x00ff5c27', '{1,NULL,3}', '{{a,\"b,c\"},{NULL,\"\"}}',
            '{\"a\" : 1,  \"a\": 2}', '{\"k\": [1, null, \"x\"]}', 'ok', '[2020-01-01,infinity)', '{[1,3),[7,9)}', 'infinity', '-infinity',
            '1 year 2 mons -3 days 04:05:06.789', 'NaN', '-Infinity', true, '018f4a00-0000-7000-8000-000000000000', B'0101',
            '10.0.0.1/8', '(1.5,-2)', 'ab', 'cd', 12.34, '<a>&lt;</a>', 'a:1 fat:2A', '(7,\"x \"\"y\")', 3.14, '{x,y}', 'Straße', '', E'\\\\ \\' \\n'),
           ('NaN', -1, '', '{}', NULL, 'null', 'null', NULL, 'empty', '{}', '4000-01-01 BC', '294276-12-31', '0', '-0', 1e-30, NULL, NULL,
            NULL, NULL, NULL, '', '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO t (amount) VALUES (1);";

#[tokio::test]
async fn every_type_and_value_survives() {
    let database = Postgres::shared().database("kinds").await;
    database.execute(KINDS).await;
    database
        .execute("CREATE TABLE before AS SELECT id, t.*::text AS row, twice FROM t")
        .await;
    let same: i64 = database
        .scalar("SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped")
        .await;

    let swept = sweep(&database, "attic", 1).await.unwrap();

    assert_eq!(swept.archived, 3);
    let columns: i64 = database
        .scalar(
            "SELECT count(*) FROM pg_attribute s JOIN pg_attribute a USING (attname, atttypid, atttypmod, attcollation, attnotnull)
             WHERE s.attrelid = 't'::regclass AND a.attrelid = 'attic'::regclass AND s.attnum > 0 AND NOT s.attisdropped",
        )
        .await;
    assert_eq!(columns, same);
    // Read back by name into the source's own row type.
    let list: String = database
        .scalar(
            "SELECT string_agg(format('a.%I', attname), ', ' ORDER BY attnum) FROM pg_attribute
             WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped",
        )
        .await;
    let equal: i64 = database
        .scalar(&format!(
            "SELECT count(*) FROM attic a JOIN before b USING (id) WHERE ROW({list})::text = b.row AND a.twice IS NOT DISTINCT FROM b.twice"
        ))
        .await;
    assert_eq!(equal, 3);
    let nulls: i64 = database
        .scalar("SELECT count(*) FROM attic WHERE note = '' OR (name = '' AND note IS NULL)")
        .await;
    assert_eq!(nulls, 2);
}

#[tokio::test]
async fn an_existing_table_needs_the_sources_columns_only_in_any_order() {
    let database = Postgres::shared().database("existing").await;
    database.execute(&filled("t", 100)).await;
    database
        .execute(
            "CREATE TABLE attic (pad text, mine serial, extra int NOT NULL DEFAULT 7, id bigint GENERATED ALWAYS AS IDENTITY, more text,
               at timestamptz, later int GENERATED ALWAYS AS (extra + 1) STORED)",
        )
        .await;

    let swept = sweep(&database, "public.attic", 1).await.unwrap();

    let same: i64 = database
        .scalar("SELECT count(*) FROM attic WHERE id % 2 = 0 AND at = '2023-06-01' AND pad = repeat('x', 100) AND extra = 7 AND later = 8")
        .await;
    assert_eq!((swept.archived, same), (50, 50));
}

#[rstest]
#[case::column_missing(
    "CREATE TABLE attic (id bigint, at timestamptz)",
    r#"run: ALTER TABLE "public"."attic" ADD COLUMN "pad" text"#
)]
#[case::two_missing(
    "CREATE TABLE attic (at timestamptz)",
    r#"ADD COLUMN "id" bigint, ADD COLUMN "pad" text"#
)]
#[case::narrower(
    "CREATE TABLE attic (id int, at timestamptz, pad text)",
    r#"ALTER COLUMN "id" TYPE bigint"#
)]
#[case::shorter(
    "CREATE TABLE attic (id bigint, at timestamptz, pad varchar(200))",
    r#"ALTER COLUMN "pad" TYPE text"#
)]
#[case::rounded(
    "CREATE TABLE attic (id bigint, at timestamptz(0), pad text)",
    r#"ALTER COLUMN "at" TYPE timestamp with time zone"#
)]
#[case::other_collation(
    "CREATE TABLE attic (id bigint, at timestamptz, pad text COLLATE \"C\")",
    r#"ALTER COLUMN "pad" TYPE text"#
)]
#[case::filled_by_nobody(
    "CREATE TABLE attic (LIKE t); ALTER TABLE attic ADD who text NOT NULL",
    r#"ALTER COLUMN "who" DROP NOT NULL"#
)]
#[case::sweep_column_of_another_type(
    "CREATE TABLE attic (LIKE t, retention_sweep_id int)",
    r#"ALTER COLUMN "retention_sweep_id" TYPE pg_catalog.text"#
)]
#[case::generated(
    "CREATE TABLE attic (id bigint, at timestamptz, pad text GENERATED ALWAYS AS ('x') STORED)",
    "DROP EXPRESSION"
)]
#[case::unlogged("CREATE UNLOGGED TABLE attic (LIKE t)", "is UNLOGGED")]
#[case::unlogged_part(
    "CREATE TABLE attic (LIKE t) PARTITION BY RANGE (at); CREATE UNLOGGED TABLE attic_1 PARTITION OF attic DEFAULT",
    "public.attic_1 is UNLOGGED"
)]
#[case::view("CREATE VIEW attic AS TABLE t", "is a view")]
#[case::materialized("CREATE MATERIALIZED VIEW attic AS TABLE t", "is a materialized view")]
#[case::foreign(
    "CREATE EXTENSION file_fdw; CREATE SERVER s FOREIGN DATA WRAPPER file_fdw;
     CREATE FOREIGN TABLE attic (id bigint) SERVER s OPTIONS (filename '/dev/null')",
    "is a foreign table"
)]
#[case::child("CREATE TABLE attic () INHERITS (t)", "a part of it")]
#[case::parent(
    "CREATE TABLE attic (LIKE t); ALTER TABLE t INHERIT attic",
    "a part of it, or a table that it is a part of"
)]
#[case::rule(
    "CREATE TABLE attic (LIKE t); CREATE RULE lossy AS ON INSERT TO attic DO INSTEAD NOTHING",
    "rule lossy"
)]
#[case::name_taken(
    "ALTER TABLE t ADD retention_sweep_id text",
    "column retention_sweep_id"
)]
#[tokio::test]
async fn a_table_that_would_lose_something_is_refused_before_any_row_moves(
    #[case] setup: &str,
    #[case] words: &str,
) {
    let database = Postgres::shared().database("misfits").await;
    database.execute(&filled("t", 100)).await;
    database.execute(setup).await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");

    let looked = engine.check_archive(&plan).await.unwrap_err();
    let swept = run(&engine, &plan, 1).await.unwrap_err();

    assert_eq!(looked.category(), "archive", "{looked}");
    assert!(looked.to_string().contains(words), "{looked}");
    assert_eq!(swept.to_string(), looked.to_string());
    assert_eq!(expired(&database).await, 50);
}

#[tokio::test]
async fn the_alter_that_a_refusal_names_makes_the_table_fit() {
    let database = Postgres::shared().database("alter").await;
    database.execute(KINDS).await;
    database
        .execute("CREATE TABLE attic (id int, name varchar(4), note text COLLATE \"C\", who int NOT NULL, retention_archived_at date)")
        .await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");

    let refusal = engine.check_archive(&plan).await.unwrap_err().to_string();
    let (_, alter) = refusal.split_once("run: ").unwrap();
    database.execute(alter).await;

    assert_eq!(engine.check_archive(&plan).await.unwrap(), None);
    assert_eq!(run(&engine, &plan, 1).await.unwrap().archived, 3);
}

#[rstest]
#[case("pg_catalog.attic")]
#[case("information_schema.attic")]
#[case("retention_operator.attic")]
#[tokio::test]
async fn schemas_of_the_server_and_of_the_operator_take_no_archive(#[case] table: &str) {
    let database = Postgres::shared().database("reserved").await;
    database.execute(&filled("t", 100)).await;

    let error = sweep(&database, table, 1).await.unwrap_err();

    assert!(error.to_string().contains("name another one"), "{error}");
    assert_eq!(expired(&database).await, 50);
}

#[tokio::test]
async fn the_table_itself_is_no_archive_of_its_own() {
    let database = Postgres::shared().database("itself").await;
    database.execute(&filled("t", 100)).await;

    let error = sweep(&database, "t", 1).await.unwrap_err();

    assert_eq!(error.category(), "archive");
    assert_eq!(expired(&database).await, 50);
}

#[tokio::test]
async fn missing_rights_are_named_with_what_to_run() {
    let database = Postgres::shared().database("rights").await;
    database.execute(&filled("t", 100)).await;
    let role = database
        .role("mover", "secret", "GRANT SELECT, DELETE ON t TO {role}")
        .await;
    let engine = engine(&role.url);
    let base = plan(&engine, "t", "at").await;
    let somewhere = archiving(base.clone(), "attic.t");
    let here = archiving(base, "public.old_t");

    let no_schema = engine.check_archive(&somewhere).await.unwrap_err();
    let no_table = run(&engine, &here, 1).await.unwrap_err();
    database.execute("CREATE TABLE old_t (LIKE t)").await;
    let no_insert = run(&engine, &here, 1).await.unwrap_err();
    for error in [&no_schema, &no_table, &no_insert] {
        assert_eq!(error.category(), "permission", "{error}");
    }
    assert!(
        no_schema
            .to_string()
            .contains("CREATE SCHEMA \"attic\"; GRANT USAGE, CREATE ON SCHEMA \"attic\""),
        "{no_schema}"
    );
    assert!(
        no_table
            .to_string()
            .contains("GRANT USAGE, CREATE ON SCHEMA \"public\""),
        "{no_table}"
    );
    let (_, grant) = no_insert
        .to_string()
        .split_once("run: ")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    assert!(
        grant.contains("GRANT INSERT ON \"public\".\"old_t\""),
        "{grant}"
    );
    assert_eq!(expired(&database).await, 50);
    database.execute(&grant).await;
    assert_eq!(run(&engine, &here, 1).await.unwrap().archived, 50);
    // Only the right to write: rows of the archive stay unread.
    database
        .execute("ALTER TABLE old_t ENABLE ROW LEVEL SECURITY")
        .await;
    let hidden = engine.check_archive(&here).await.unwrap_err();
    assert!(
        hidden.to_string().contains("row-level security"),
        "{hidden}"
    );
}

#[tokio::test]
async fn partitions_and_children_with_columns_of_their_own_go_into_one_table() {
    let database = Postgres::shared().database("tree").await;
    database
        .execute(
            "CREATE TABLE p (id int, at timestamptz, note text) PARTITION BY RANGE (at);
             CREATE TABLE p1 (note text, dropped int, at timestamptz, id int); ALTER TABLE p1 DROP dropped;
             ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM ('2022-01-01') TO ('2023-01-01');
             CREATE TABLE p2 PARTITION OF p DEFAULT;
             INSERT INTO p SELECT n, '2022-06-01'::timestamptz + n * interval '1 month', 'note ' || n FROM generate_series(1, 40) n;
             CREATE TABLE parent (id int, at timestamptz); CREATE TABLE child (extra numeric(9, 2) NOT NULL, at timestamptz, id int) INHERITS (parent);
             INSERT INTO parent VALUES (1, '2020-01-01'), (2, '2030-01-01'); INSERT INTO child VALUES (3, '2020-01-01', 1.25), (4, '2030-01-01', 2);",
        )
        .await;
    let engine = engine(&database.url);
    let partitioned = archiving(plan(&engine, "p", "at").await, "attic.p");
    let inherited = archiving(plan(&engine, "parent", "at").await, "attic.parent");

    let from_partitions = run(&engine, &partitioned, 1).await.unwrap();
    let from_children = run(&engine, &inherited, 1).await.unwrap();

    assert_eq!((from_partitions.archived, from_children.archived), (18, 2));
    let right: i64 = database
        .scalar("SELECT count(*) FROM attic.p WHERE note = 'note ' || id AND at = '2022-06-01'::timestamptz + id * interval '1 month'")
        .await;
    let children: String = database
        .scalar("SELECT string_agg(concat_ws(' ', id, extra), ', ' ORDER BY id) FROM attic.parent")
        .await;
    assert_eq!((right, children.as_str()), (18, "1, 3 1.25"));
}

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

#[rstest]
#[case::of_the_source("ALTER TABLE t ADD extra text DEFAULT 'worth keeping'", "public.t")]
#[case::of_the_archive("ALTER TABLE attic DROP pad", "public.attic")]
#[case::type_of_the_archive("ALTER TABLE attic ALTER pad TYPE varchar(300)", "public.attic")]
#[case::archive_swapped(
    "ALTER TABLE attic RENAME TO a; CREATE TABLE attic (LIKE t)",
    "public.attic"
)]
#[case::trigger_of_the_source(
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.attic WHERE id = OLD.id; RETURN NULL; END';
     CREATE TRIGGER g AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()",
    "public.t"
)]
#[case::archive_dropped("DROP TABLE attic", "attic")]
#[case::archive_moved("CREATE SCHEMA s; ALTER TABLE attic SET SCHEMA s", "attic")]
#[case::archive_rule(
    "CREATE RULE r AS ON INSERT TO attic DO INSTEAD NOTHING",
    "public.attic"
)]
#[case::rule_of_the_source("CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING", "public.t")]
#[tokio::test]
async fn a_change_in_the_middle_ends_the_walk_before_a_value_is_lost(
    #[case] change: &str,
    #[case] names: &str,
) {
    let database = Postgres::shared().database("midway").await;
    database.execute(&filled("t", 1_000)).await;
    // Each has a rule already, which does no harm.
    database
        .execute(
            "CREATE TABLE attic (LIKE t); CREATE RULE harmless AS ON UPDATE TO attic DO INSTEAD NOTHING;
             CREATE RULE harmless AS ON INSERT TO t DO ALSO NOTHING",
        )
        .await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep
        .delete_next(ChunkTarget::pages(2))
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    database.execute(change).await;

    let error = finish(&mut *sweep, 2).await.unwrap_err();

    assert_eq!(error.category(), "table_changed", "{error}");
    assert!(error.to_string().contains(names), "{error}");
    let left = expired(&database).await;
    assert_eq!(u64::try_from(left).unwrap(), 500 - first.archived_rows);
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

#[rstest]
#[case::becomes_unlogged("ALTER TABLE attic_1 SET UNLOGGED")]
#[case::unlogged_comes(
    "CREATE UNLOGGED TABLE more (LIKE t); ALTER TABLE attic ATTACH PARTITION more FOR VALUES FROM ('2030-01-01') TO ('2031-01-01')"
)]
#[case::trigger_comes(
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
     CREATE TRIGGER g BEFORE INSERT ON attic_1 FOR EACH ROW EXECUTE FUNCTION f()"
)]
#[tokio::test]
async fn a_part_of_the_archive_that_would_not_keep_rows_ends_the_walk(#[case] change: &str) {
    let database = Postgres::shared().database("unlogged").await;
    database.execute(&filled("t", 1_000)).await;
    database
        .execute("CREATE TABLE attic (LIKE t) PARTITION BY RANGE (at); CREATE TABLE attic_1 PARTITION OF attic FOR VALUES FROM ('2020-01-01') TO ('2030-01-01')")
        .await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep.delete_next(ChunkTarget::pages(2)).await.unwrap();
    sweep.commit().await.unwrap();
    database.execute(change).await;

    let error = finish(&mut *sweep, 2).await.unwrap_err();

    assert_eq!(error.category(), "table_changed", "{error}");
    let left = u64::try_from(expired(&database).await).unwrap();
    assert_eq!(left, 500 - first.unwrap().rows);
}

#[tokio::test]
async fn a_part_of_the_archive_like_any_other_is_no_change() {
    let database = Postgres::shared().database("morearchive").await;
    database.execute(&filled("t", 1_000)).await;
    database
        .execute("CREATE TABLE attic (LIKE t) PARTITION BY RANGE (at); CREATE TABLE attic_1 PARTITION OF attic FOR VALUES FROM ('2020-01-01') TO ('2030-01-01')")
        .await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    database
        .execute("CREATE TABLE attic_2 PARTITION OF attic DEFAULT")
        .await;

    let swept = finish(&mut *sweep, 2).await.unwrap();

    assert_eq!(swept.archived, 500);
}

#[tokio::test]
async fn blocked_rows_stay_and_the_others_are_archived_once() {
    let database = Postgres::shared().database("careful").await;
    database.execute(&filled("t", 2_000)).await;
    database
        .execute("ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE item (t_id bigint REFERENCES t); INSERT INTO item VALUES (2), (1000)")
        .await;
    let engine = engine(&database.url);
    let plan = RulePlan {
        dependents: Dependents::Skip,
        ..archiving(plan(&engine, "t", "at").await, "attic")
    };
    let mut holder = database.connect().await;
    holder.execute("BEGIN").await.unwrap();
    holder
        .execute("UPDATE t SET pad = 'mine' WHERE id = 500")
        .await
        .unwrap();

    let swept = run(&engine, &plan, 16).await.unwrap();
    holder.execute("COMMIT").await.unwrap();
    let rest = run(&engine, &plan, 16).await.unwrap();

    assert_eq!((swept.archived, swept.blocked), (997, 3));
    assert_eq!((rest.archived, rest.blocked), (1, 2));
    let archived: i64 = database
        .scalar("SELECT count(DISTINCT id) * 10000 + count(*) FROM attic")
        .await;
    assert_eq!(archived, 998 * 10_000 + 998);
    let changed: String = database
        .scalar("SELECT pad FROM attic WHERE id = 500")
        .await;
    assert_eq!(changed, "mine", "the row as it was when it went");
}

/// The statement archives what the row is when it goes, and leaves a row alone that is not expired any more.
#[tokio::test]
async fn a_row_that_is_renewed_meanwhile_is_in_the_table_and_not_in_the_archive() {
    let database = Postgres::shared().database("renewed").await;
    database.execute(&filled("t", 100)).await;
    let mut target = super::target(&database.url);
    target.lock_timeout = Duration::from_secs(20);
    let engine = retention_operator::engine::postgres::PostgresEngine::new(target).unwrap();
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let mut holder = database.connect().await;
    holder.execute("BEGIN").await.unwrap();
    holder
        .execute("UPDATE t SET at = now() WHERE id = 50")
        .await
        .unwrap();
    let walk = tokio::spawn(async move { finish(&mut *sweep, 100).await.unwrap() });
    eventually(Duration::from_secs(10), "the sweep to wait for the row", async || {
        let waiting: i64 = database
            .scalar("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
            .await;
        if waiting > 0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    holder.execute("COMMIT").await.unwrap();
    let swept = walk.await.unwrap();

    let archived: i64 = database
        .scalar("SELECT count(*) FROM attic WHERE id = 50")
        .await;
    let there: i64 = database
        .scalar("SELECT count(*) FROM t WHERE id = 50")
        .await;
    assert_eq!((swept.archived, archived, there), (49, 0, 1));
}

#[tokio::test]
async fn a_session_that_the_server_ends_in_a_chunk_loses_no_row_and_doubles_none() {
    let database = Postgres::shared().database("cut").await;
    database.execute(&filled("t", 4_000)).await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let mut chunks = 0;
    loop {
        let chunk = match sweep.delete_next(ChunkTarget::pages(3)).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => panic!("{error}"),
        };
        if chunks % 5 == 0 {
            database
                .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
                .await;
        }
        sweep.commit().await.unwrap();
        chunks += 1;
        assert!(chunks < 1_000, "{chunk:?}");
    }
    sweep.close().await;

    let archived: i64 = database
        .scalar("SELECT count(DISTINCT id) * 100000 + count(*) FROM attic")
        .await;
    assert_eq!(archived, 2_000 * 100_000 + 2_000);
    assert_eq!(expired(&database).await, 0);
}

#[tokio::test]
async fn a_row_that_comes_to_refer_is_named_and_the_archive_is_not() {
    let database = Postgres::shared().database("refers").await;
    database.execute(&filled("t", 200)).await;
    database
        .execute("ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE child (t_id bigint CONSTRAINT child_of REFERENCES t)")
        .await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    database.execute("INSERT INTO child VALUES (2)").await;

    let refused = sweep.delete_next(ChunkTarget::pages(100)).await;

    let error = refused.unwrap_err();
    assert_eq!(error.category(), "dependents", "{error}");
    assert!(error.to_string().contains("child_of"), "{error}");
    sweep.close().await;
    let archived: i64 = database.scalar("SELECT count(*) FROM attic").await;
    assert_eq!((archived, expired(&database).await), (0, 100));
}

#[tokio::test]
async fn names_with_quotes_dots_and_other_scripts_are_plain_names() {
    let database = Postgres::shared().database("oddnames").await;
    database
        .execute(
            r#"CREATE SCHEMA "odd.schema"; CREATE TABLE "odd.schema"."Odd ""Täble'; --" ("Ät ""é'" timestamptz, "from" text, "k0" int, "gone" int);
               INSERT INTO "odd.schema"."Odd ""Täble'; --" VALUES ('2020-01-01', 'x', 1, 2), ('2030-01-01', 'x', 1, 2)"#,
        )
        .await;
    let engine = engine(&database.url);
    let table = facts(&engine, "odd.schema", "Odd \"Täble'; --").await;
    let cutoff = retention_operator::policy::cutoff::Cutoff::Instant(CUTOFF.parse().unwrap());
    let plan = archiving(
        plan_of(table, "Ät \"é'", cutoff),
        r#""Old.schema'"."--Old ""Täble'""#,
    );

    assert_eq!(run(&engine, &plan, 5).await.unwrap().archived, 1);

    let kept: String = database
        .scalar(r#"SELECT concat("from", "k0", "gone") FROM "Old.schema'"."--Old ""Täble'""#)
        .await;
    assert_eq!(kept, "x12");
}
