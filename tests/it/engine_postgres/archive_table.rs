//! Rows that are moved into a table of the same database.

use retention_operator::engine::{Engine, EngineError};
use retention_operator::policy::plan::{ArchivePlan, ArchiveState, RulePlan};
use rstest::rstest;

use super::{CUTOFF, Swept, engine, facts, filled, plan, plan_of, run};
use crate::support::postgres::{Postgres, TestDatabase};

pub(super) fn archiving(plan: RulePlan, table: &str) -> RulePlan {
    RulePlan {
        archive: Some(ArchivePlan {
            table: table.parse().unwrap(),
            sweep: "20261122T030000Z-it's".to_owned(),
            state: ArchiveState::Unknown,
        }),
        ..plan
    }
}

pub(super) async fn sweep(
    database: &TestDatabase,
    table: &str,
    pages: u32,
) -> Result<Swept, EngineError> {
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, table);
    let swept = run(&engine, &plan, pages).await;
    engine.close().await;
    swept
}

pub(super) async fn expired(database: &TestDatabase) -> i64 {
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

#[tokio::test]
async fn a_role_that_has_all_names_quoted_archives_into_the_table_that_was_made_for_it() {
    let database = Postgres::shared().database("quoted").await;
    database.execute(&filled("t", 100)).await;
    let name: String = database.scalar("SELECT current_database()::text").await;
    database
        .execute(&format!(
            "ALTER DATABASE \"{name}\" SET quote_all_identifiers = on"
        ))
        .await;

    let swept = sweep(&database, "attic", 8).await.unwrap();
    let again = sweep(&database, "attic", 8).await.unwrap();

    assert_eq!((swept.archived, again.archived), (50, 0));
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
