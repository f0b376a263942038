//! Times in numbers and texts: which values have expired, and that nothing else in such a column goes or fails.

use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::engine::{ChunkTarget, Counted, Engine};
use retention_operator::policy::cutoff::Cutoff;
use retention_operator::policy::encoding::{Encoding, Storage, decode};
use retention_operator::policy::plan::RulePlan;
use retention_operator::policy::predicate::Predicate;
use rstest::rstest;

use super::encoding_values::{
    COMPACT_NUMBERS, COMPACT_TEXTS, EPOCH_FRACTIONS, EPOCH_MICROS, EPOCH_MILLIS, EPOCH_NUMBERS,
    EPOCH_TEXTS, ISO, SMALL_NUMBERS, ULIDS, UUID_TEXTS, UUIDS, Values,
};
use super::sweep::scans_once;
use super::{engine, facts, plan_of, run};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, SUPERUSER, TestDatabase};

async fn encoded(
    engine: &PostgresEngine,
    table: &str,
    encoding: Encoding,
    zone: &str,
    cutoff: &str,
) -> RulePlan {
    let cutoff = Cutoff::Instant(cutoff.parse().unwrap());
    RulePlan {
        encoding: Some(encoding),
        column_zone: TimeZone::get(zone).unwrap(),
        ..plan_of(facts(engine, "public", table).await, "v", cutoff)
    }
}

pub(super) const CUTOFF: &str = "2023-11-14T22:13:20.25Z";

#[rstest]
#[case::epoch_numbers(EPOCH_NUMBERS)]
#[case::small_numbers(SMALL_NUMBERS)]
#[case::epoch_millis(EPOCH_MILLIS)]
#[case::epoch_micros(EPOCH_MICROS)]
#[case::epoch_fractions(EPOCH_FRACTIONS)]
#[case::epoch_texts(EPOCH_TEXTS)]
#[case::uuids(UUIDS)]
#[case::uuid_texts(UUID_TEXTS)]
#[case::ulids(ULIDS)]
#[case::compact_texts(COMPACT_TEXTS)]
#[case::compact_numbers(COMPACT_NUMBERS)]
#[case::iso(ISO)]
#[tokio::test]
async fn readable_values_before_the_cutoff_go_and_nothing_else(#[case] values: Values) {
    let database = Postgres::shared().database("encoded").await;
    database
        .execute(
            "CREATE DOMAIN words AS varchar(60); CREATE DOMAIN padded AS character(60); CREATE DOMAIN whole AS bigint;
             CREATE DOMAIN part AS numeric; CREATE DOMAIN exact AS part; CREATE DOMAIN key AS uuid",
        )
        .await;
    judge(&database, &values, values.kinds).await;
}

#[rstest]
#[case::epochs(EPOCH_TEXTS)]
#[case::uuids(UUID_TEXTS)]
#[case::ulids(ULIDS)]
#[case::compact(COMPACT_TEXTS)]
#[case::iso(ISO)]
#[tokio::test]
async fn a_collation_to_which_different_texts_are_equal_makes_no_difference(
    #[case] values: Values,
) {
    let database = Postgres::shared().database("loose").await;
    database
        .execute("CREATE COLLATION loose (provider = icu, locale = 'und', deterministic = false)")
        .await;
    judge(&database, &values, &["text COLLATE loose"]).await;
}

/// Sweeps a table of the values for each type, and looks at what is left.
async fn judge(database: &TestDatabase, values: &Values, kinds: &[&str]) {
    let engine = engine(&database.url);
    for kind in kinds {
        let mut rows: Vec<String> = vec!["('stays null', NULL)".to_owned()];
        for (what, list) in [
            ("goes", values.go),
            ("stays", values.stay),
            ("stays unreadable", values.unreadable),
        ] {
            let row = |value: &&str| format!("('{what} {0}', '{0}')", value.replace('\'', "''"));
            rows.extend(list.iter().map(row));
        }
        database
            .execute(&format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (name text, v {kind}); INSERT INTO t VALUES {}",
                rows.join(", ")
            ))
            .await;
        let plan = encoded(&engine, "t", values.encoding, values.zone, values.cutoff).await;

        engine.check_plan(&plan).await.unwrap();
        let before = engine.count_expired(&plan).await.unwrap();
        let swept = run(&engine, &plan, 8).await.unwrap();
        let after = engine.count_left(&plan, swept.rows).await.unwrap();

        let gone_wrong: Option<String> = database
            .scalar("SELECT string_agg(name, E'\\n') FROM t WHERE name LIKE 'goes%'")
            .await;
        assert_eq!(gone_wrong, None, "left in {kind}");
        let left: i64 = database.scalar("SELECT count(*) FROM t").await;
        let stays = 1 + values.stay.len() + values.unreadable.len();
        assert_eq!(usize::try_from(left).unwrap(), stays, "{kind}");
        let unreadable = Some(values.unreadable.len() as u64);
        let expired = values.go.len() as u64;
        assert_eq!(
            before,
            Counted {
                expired,
                unreadable,
                ..Counted::default()
            },
            "{kind}"
        );
        assert_eq!(swept.rows, expired, "{kind}");
        assert_eq!(
            after,
            Counted {
                expired: 0,
                unreadable,
                ..Counted::default()
            },
            "{kind}"
        );
    }
    engine.close().await;
}

#[tokio::test]
async fn blanks_are_padding_in_a_padded_column_and_unreadable_in_any_other() {
    let database = Postgres::shared().database("blanks").await;
    database
        .execute(
            "CREATE TABLE padded (v character(40)); CREATE TABLE free (v text);
             INSERT INTO padded VALUES ('20200101000000   '); INSERT INTO free VALUES ('20200101000000   ')",
        )
        .await;
    let engine = engine(&database.url);
    let count = async |table: &str| {
        let plan = encoded(&engine, table, Encoding::Compact14, "UTC", CUTOFF).await;
        let counted = engine.count_expired(&plan).await.unwrap();
        (counted.expired, counted.unreadable)
    };

    assert_eq!(count("padded").await, (1, Some(0)));
    assert_eq!(count("free").await, (0, Some(1)));
}

#[tokio::test]
async fn unreadable_values_are_counted_within_the_where_and_under_holds() {
    let database = Postgres::shared().database("unreadable").await;
    database
        .execute(
            "CREATE TABLE t (v text, status text, customer int) PARTITION BY LIST (customer);
             CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t99 PARTITION OF t FOR VALUES IN (99);
             INSERT INTO t VALUES ('x', 'done', 1), ('x', 'done', 99), ('x', 'open', 1), ('x', NULL, 1), (NULL, 'done', 1),
               ('2020-01-01', 'done', 1), ('2020-01-01', 'done', 99), ('2020-01-01', 'open', 1)",
        )
        .await;
    let engine = engine(&database.url);
    let mut plan = encoded(&engine, "t", Encoding::Iso8601, "UTC", CUTOFF).await;
    plan.filter = Some(Predicate::parse("status <> 'open'").unwrap());
    plan.holds = vec![Predicate::parse("customer = 99").unwrap()];

    let counted = engine.count_expired(&plan).await.unwrap();
    let swept = run(&engine, &plan, 8).await.unwrap();

    assert_eq!(
        counted,
        Counted {
            expired: 1,
            unreadable: Some(2),
            ..Counted::default()
        }
    );
    assert_eq!(swept.rows, 1);
}

#[tokio::test]
async fn a_column_of_a_time_type_has_nothing_unreadable_to_count() {
    let database = Postgres::shared().database("native").await;
    database
        .execute(
            "CREATE TABLE t (at timestamptz); INSERT INTO t VALUES ('2020-01-01'), ('infinity')",
        )
        .await;
    let engine = engine(&database.url);
    let plan = super::plan(&engine, "t", "at").await;

    let counted = engine.count_expired(&plan).await.unwrap();

    assert_eq!(
        counted,
        Counted {
            expired: 1,
            unreadable: None,
            ..Counted::default()
        }
    );
}

/// Texts of all kinds: written as an encoding writes them, nearly so, and not at all.
fn texts() -> Vec<String> {
    let shapes = prop_oneof![
        4 => "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-6][0-9]([.][0-9]{1,10})?)?)?(Z|z|[+-][0-2][0-9](:?[0-5][0-9])?)?",
        2 => "(202[0-9]|[0-9]{4})[01][0-9][0-3][0-9][0-2][0-9][0-5][0-9][0-6][0-9]",
        3 => "01[6-9][0-9a-fA-F]{5}-[0-9a-f]{4}-[67][0-9a-f]{3}-[89abABcd][0-9a-fA-F]{3}-[0-9a-f]{12}",
        2 => "0[01][0-9A-HJKMNP-TV-Za-z][0-9A-Za-z]{0,2}[0-9A-HJKMNP-TV-Z]{20,22}",
        2 => "1[0-9]{8,18}([.][0-9]{0,20})?",
        1 => "\\PC{0,60}",
        1 => "[0-9T:.Z +-]{0,40}",
    ];
    // One letter of three is then something else.
    let spoilt = (
        shapes,
        any::<prop::sample::Index>(),
        prop::sample::select("0129-+:. TZzé\t٣".chars().collect::<Vec<_>>()),
        0..3_u8,
    )
        .prop_map(|(text, place, letter, how)| {
            let mut letters: Vec<char> = text.chars().collect();
            if how == 0 && !letters.is_empty() {
                let place = place.index(letters.len());
                letters[place] = letter;
            }
            letters.into_iter().collect()
        });
    let mut runner = TestRunner::deterministic();
    (0..6_000)
        .map(|_| spoilt.new_tree(&mut runner).unwrap().current())
        .chain([
            "x".repeat(100_000),
            "1".repeat(100_000),
            "2020-01-01".repeat(50),
        ])
        .collect()
}

async fn fill(database: &TestDatabase, texts: &[String]) {
    let mut connection = database.connect().await;
    sqlx::query("CREATE TABLE stored (id int, v text)")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO stored SELECT n, v FROM unnest($1::text[]) WITH ORDINALITY AS t(v, n)",
    )
    .bind(texts)
    .execute(&mut connection)
    .await
    .unwrap();
}

#[rstest]
#[case(Encoding::EpochSeconds)]
#[case(Encoding::EpochMillis)]
#[case(Encoding::EpochMicros)]
#[case(Encoding::UuidV7)]
#[case(Encoding::Ulid)]
#[case(Encoding::Iso8601)]
#[case(Encoding::Compact14)]
#[tokio::test]
async fn no_text_makes_a_sweep_fail_and_server_and_operator_read_alike(#[case] encoding: Encoding) {
    let database = Postgres::shared().database("texts").await;
    let texts = texts();
    fill(&database, &texts).await;
    database
        .execute("CREATE TABLE t AS TABLE stored; CREATE INDEX ON t (left(v, 50))")
        .await;
    let engine = engine(&database.url);
    let plan = encoded(&engine, "t", encoding, "UTC", CUTOFF).await;
    let at = CUTOFF.parse::<jiff::Timestamp>().unwrap();
    let at = at.as_duration().as_secs_f64();
    let read = |text: &String| decode(encoding, Storage::Text, text, &TimeZone::UTC);
    let unreadable = texts.iter().filter(|text| read(text).is_none()).count();
    let stays = |text: &String| read(text).is_none_or(|last| last >= at);
    let expected: Vec<i32> = (1..)
        .zip(&texts)
        .filter(|(_, text)| stays(text))
        .map(|(id, _)| id)
        .collect();

    let counted = engine.count_expired(&plan).await.unwrap();
    let swept = run(&engine, &plan, 4).await.unwrap();

    let left: Vec<i32> = database
        .scalar("SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM t")
        .await;
    let text_of = |id: &i32| texts[usize::try_from(*id).unwrap() - 1].clone();
    let kept: Vec<_> = left
        .iter()
        .filter(|id| !expected.contains(id))
        .map(text_of)
        .collect();
    let lost: Vec<_> = expected
        .iter()
        .filter(|id| !left.contains(id))
        .map(text_of)
        .collect();
    assert!(
        kept.is_empty() && lost.is_empty(),
        "kept {kept:?}, lost {lost:?}"
    );
    assert_eq!(counted.unreadable, Some(unreadable as u64));
    assert_eq!(counted.expired, swept.rows);
    // The texts are of a kind that tells something.
    assert!(
        swept.rows > 50 && texts.len() - unreadable > 100,
        "{swept:?}"
    );
}

#[tokio::test]
async fn no_number_makes_a_sweep_fail() {
    let database = Postgres::shared().database("numbers").await;
    database
        .execute(
            "CREATE TABLE wholes (v bigint); CREATE TABLE floats (v double precision); CREATE TABLE decimals (v numeric);
             INSERT INTO wholes SELECT (random() * 2 - 1) * power(10, n % 19) FROM generate_series(1, 2000) n;
             INSERT INTO floats SELECT (random() * 2 - 1) * power(10::float8, n % 616 - 308) FROM generate_series(1, 2000) n;
             INSERT INTO floats VALUES ('-0'), ('1.7976931348623157e308'), ('5e-324'), ('NaN'), ('Infinity'), ('-Infinity');
             INSERT INTO decimals SELECT v::numeric * power(10::numeric, 200) FROM floats WHERE v < 'Infinity';
             INSERT INTO decimals VALUES ('NaN'), ('Infinity'), ('-Infinity'), (repeat('9', 100000)::numeric)",
        )
        .await;
    let engine = engine(&database.url);
    let count = async |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table} WHERE v <= 0");
        database.scalar(&sql).await
    };
    for (table, encodings) in [
        (
            "wholes",
            [
                Encoding::EpochSeconds,
                Encoding::EpochMicros,
                Encoding::Compact14,
            ]
            .as_slice(),
        ),
        ("floats", &[Encoding::EpochSeconds, Encoding::EpochMillis]),
        ("decimals", &[Encoding::EpochMillis]),
    ] {
        let non_positive = count(table).await;
        for encoding in encodings {
            let plan = encoded(&engine, table, *encoding, "UTC", CUTOFF).await;

            let counted = engine.count_expired(&plan).await.unwrap();
            let swept = run(&engine, &plan, 4).await.unwrap();

            assert_eq!(swept.rows, counted.expired, "{table}");
            assert_eq!(
                count(table).await,
                non_positive,
                "zero and less stay in {table}"
            );
        }
    }
}

#[rstest]
#[case::number(Encoding::EpochSeconds, "bigint", "extract(epoch FROM at)::bigint")]
#[case::small_number(Encoding::EpochSeconds, "int", "extract(epoch FROM at)::int")]
#[case::uuid(
    Encoding::UuidV7,
    "uuid",
    "(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000800000000000' || lpad(to_hex(n), 4, '0'))::uuid"
)]
#[case::text(
    Encoding::Iso8601,
    "text COLLATE \"C\"",
    "to_char(at, 'YYYY-MM-DD HH24:MI:SS')"
)]
#[tokio::test]
async fn a_chunk_reads_its_range_of_blocks_though_there_is_an_index(
    #[case] encoding: Encoding,
    #[case] kind: &str,
    #[case] value: &str,
) {
    let database = Postgres::shared().database("range").await;
    database
        .execute(&format!(
            "CREATE TABLE t (v {kind}, pad text);
             INSERT INTO t SELECT {value}, repeat('x', 100) FROM (SELECT n, '2023-01-01'::timestamptz + n * interval '30 minutes' AS at
               FROM generate_series(1, 40000) n) AS made;
             CREATE INDEX ON t (v); ANALYZE t"
        ))
        .await;
    let engine = engine(&database.url);
    let plan = encoded(&engine, "t", encoding, "UTC", CUTOFF).await;
    let before = scans_once(&database, "n_tup_ins = 40000").await;

    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let chunk = sweep
        .delete_next(ChunkTarget::pages(300))
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    sweep.close().await;

    assert_eq!(chunk.pages, 300);
    assert!(chunk.rows > 10_000, "{chunk:?}");
    let after = scans_once(&database, &format!("n_tup_del = {}", chunk.rows)).await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn through_a_pooler_encoded_columns_are_swept_alike() {
    let postgres = Postgres::shared();
    let database = postgres.database("encodedpool").await;
    database
        .execute("CREATE TABLE t (v text); INSERT INTO t VALUES ('2020-01-01T00:00:00+02:00'), ('2030-01-01'), ('x')")
        .await;
    let pooler = PgBouncer::start(postgres, &[(SUPERUSER, SUPERUSER)]);
    let engine = engine(&pooler.url(&database.name, SUPERUSER, SUPERUSER));
    let plan = encoded(&engine, "t", Encoding::Iso8601, "UTC", CUTOFF).await;

    engine.check_plan(&plan).await.unwrap();
    let counted = engine.count_expired(&plan).await.unwrap();
    let swept = run(&engine, &plan, 8).await.unwrap();

    assert_eq!((counted.expired, counted.unreadable), (1, Some(1)));
    assert_eq!(swept.rows, 1);
}

#[rstest]
#[case::another_type("ALTER TABLE t ALTER v TYPE timestamptz USING '2020-01-01'")]
#[case::no_fitting_type("ALTER TABLE t ALTER v TYPE real USING 1")]
#[case::another_number("ALTER TABLE t ALTER v TYPE int USING 1")]
#[tokio::test]
async fn a_column_that_is_not_what_was_planned_is_not_swept(#[case] change: &str) {
    let database = Postgres::shared().database("retyped").await;
    database
        .execute("CREATE TABLE t (v bigint); INSERT INTO t VALUES (1)")
        .await;
    let engine = engine(&database.url);
    let plan = encoded(&engine, "t", Encoding::EpochSeconds, "UTC", CUTOFF).await;
    database.execute(change).await;

    let error = engine
        .open_sweep(&plan, None)
        .await
        .map(|_| ())
        .unwrap_err();

    assert_eq!(error.category(), "table_changed", "{error}");
}

#[rstest]
#[case(
    Encoding::EpochMillis,
    "bigint",
    "(extract(epoch FROM at) * 1000)::bigint",
    "0"
)]
#[case(
    Encoding::EpochSeconds,
    "text",
    "extract(epoch FROM at)::bigint::text",
    "'-'"
)]
#[case(
    Encoding::Iso8601,
    "text",
    "to_char(at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
    "'no, \"time\"'"
)]
#[case(
    Encoding::Compact14,
    "character(20)",
    "to_char(at, 'YYYYMMDDHH24MISS')",
    "'?'"
)]
#[tokio::test]
async fn statistics_estimate_what_has_expired_and_what_is_unreadable(
    #[case] encoding: Encoding,
    #[case] kind: &str,
    #[case] value: &str,
    #[case] unreadable: &str,
) {
    let database = Postgres::shared().database("encodedstats").await;
    database
        .execute(&format!(
            "SET timezone = 'UTC'; CREATE TABLE t (v {kind});
             INSERT INTO t SELECT {value} FROM (SELECT '2023-11-14 22:13:20'::timestamptz + (n - 6000) * interval '1 hour' AS at
               FROM generate_series(1, 8000) n) AS made;
             INSERT INTO t SELECT {unreadable} FROM generate_series(1, 2000); INSERT INTO t SELECT NULL FROM generate_series(1, 1000);
             SET default_statistics_target = 1000; ANALYZE t"
        ))
        .await;
    let engine = engine(&database.url);
    let plan = encoded(&engine, "t", encoding, "UTC", "2023-11-14T22:13:20Z").await;

    let statistics = engine.statistics(&plan).await.unwrap();

    let leaf = &statistics.leaves[0];
    let column = leaf.column.as_ref().unwrap();
    let rows = leaf.rows.unwrap();
    let expired = rows * column.expired_fraction(plan.cutoff.epoch_seconds());
    assert!((expired - 6_000.0).abs() < 100.0, "{expired}");
    let unreadable = rows * column.unreadable_fraction;
    assert!((unreadable - 2_000.0).abs() < 50.0, "{unreadable}");
    assert!(column.oldest() > Some(1_678_000_000.0) && column.newest() < Some(1_708_000_000.0));
}
