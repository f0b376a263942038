use retention_operator::engine::Engine;
use retention_operator::policy::predicate::Predicate;
use rstest::rstest;

use super::Database;

/// What is left is what one plain DELETE leaves.
async fn assert_swept(database: &Database, table: &str, keys: &str) -> (u64, u64) {
    let expected = database
        .texts(&format!(
            "SELECT hex(quote({keys})) FROM {table} WHERE NOT (at < 1704067200) ORDER BY 1"
        ))
        .await;
    let name = table.trim_matches('"').replace("\"\"", "\"");
    let spelled = if name.contains(['.', '"', ' ']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name
    };

    let swept = database
        .sweep(&database.plan(&spelled).await)
        .await
        .unwrap();

    let left = database
        .texts(&format!(
            "SELECT hex(quote({keys})) FROM {table} ORDER BY 1"
        ))
        .await;
    assert_eq!(left, expected, "{table}");
    database.assert_sound().await;
    swept
}

const NUMBERS: &str =
    "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 12000)";
const AT: &str = "CASE n % 3 WHEN 0 THEN 1750000000 ELSE n END";

#[rstest]
#[case::no_key("at, a", "n", "a")]
#[case::alias("at, a INTEGER PRIMARY KEY", "n - 6000", "a")]
#[case::sparse("at, a INTEGER PRIMARY KEY", "n * 700000000000000", "a")]
#[case::ends(
    "at, a INTEGER PRIMARY KEY",
    "CASE n WHEN 1 THEN 9223372036854775807 WHEN 2 THEN -9223372036854775808 ELSE n END",
    "a"
)]
#[case::text_key("at, a TEXT PRIMARY KEY", "'k' || n", "a")]
#[case::descending_quirk("at, a INTEGER PRIMARY KEY DESC", "n", "a")]
#[case::shadowed_once("at, rowid", "'r' || n", "rowid")]
#[case::shadowed_twice("at, rowid, _ROWID_", "n, 'x'", "rowid")]
#[case::shadowed_by_the_key_itself(
    "at, rowid INTEGER PRIMARY KEY, _rowid_, oid",
    "n, 1, 1",
    "rowid"
)]
#[tokio::test]
async fn rows_with_a_rowid(#[case] columns: &str, #[case] values: &str, #[case] key: &str) {
    let database = Database::new(&format!(
        "CREATE TABLE logs ({columns}); {NUMBERS} INSERT INTO logs SELECT {AT}, {values} FROM n;"
    ))
    .await;

    let swept = assert_swept(&database, "logs", key).await;

    assert_eq!(swept, (8_000, 2));
}

#[rstest]
#[case::numbers("a INTEGER, at, PRIMARY KEY (a)", "n", "", "a")]
#[case::reals("a REAL, at, PRIMARY KEY (a)", "n / 7.0 - 500", "", "a")]
#[case::texts("a TEXT, at, PRIMARY KEY (a)", "'k' || n", "", "a")]
#[case::no_type(
    "a, at, PRIMARY KEY (a)",
    "CASE n % 4 WHEN 0 THEN n WHEN 1 THEN n + 0.5 WHEN 2 THEN 'k' || n ELSE CAST('b' || n AS BLOB) END",
    "",
    "a"
)]
#[case::numeric(
    "a NUMERIC, at, PRIMARY KEY (a)",
    "CASE n % 3 WHEN 0 THEN n WHEN 1 THEN 'k' || n ELSE n + 0.25 END",
    "",
    "a"
)]
#[case::without_case(
    "a TEXT COLLATE NOCASE, at, PRIMARY KEY (a)",
    "CASE n % 2 WHEN 0 THEN 'K' ELSE 'k' END || n",
    "",
    "a"
)]
#[case::collated_in_the_key(
    "a TEXT, at, PRIMARY KEY (a COLLATE NOCASE)",
    "CASE n % 2 WHEN 0 THEN 'Kä' ELSE 'kÄ' END || n",
    "",
    "a"
)]
#[case::blank_padded("a TEXT COLLATE RTRIM, at, PRIMARY KEY (a)", "n || '  '", "", "a")]
#[case::descending("a INTEGER, at, PRIMARY KEY (a DESC)", "n", "", "a")]
#[case::two(
    "a INTEGER, at, b TEXT, PRIMARY KEY (b, a)",
    "n",
    ", 'x' || (n % 5)",
    "a"
)]
#[case::mixed(
    "a INTEGER, at, b TEXT, PRIMARY KEY (b DESC, a ASC)",
    "n",
    ", 'x' || (n % 5)",
    "a"
)]
#[case::one_tenant("a INTEGER, at, b TEXT, PRIMARY KEY (b, a)", "n", ", 'only'", "a")]
#[case::odd_bytes(
    "a, at, PRIMARY KEY (a)",
    "CAST(CAST(n AS BLOB) || x'00ff80' || CAST(n AS BLOB) AS TEXT)",
    "",
    "CAST(a AS BLOB)"
)]
#[case::nul_inside("a, at, PRIMARY KEY (a)", "'k' || char(0) || n", "", "CAST(a AS BLOB)")]
#[case::empty_ones(
    "a, at, PRIMARY KEY (a)",
    "CASE n WHEN 1 THEN '' WHEN 2 THEN x'' WHEN 3 THEN 0 WHEN 4 THEN -0.5 ELSE n END",
    "",
    "a"
)]
#[tokio::test]
async fn rows_without_a_rowid(
    #[case] columns: &str,
    #[case] first: &str,
    #[case] rest: &str,
    #[case] key: &str,
) {
    let database = Database::new(&format!(
        "CREATE TABLE logs ({columns}) WITHOUT ROWID; {NUMBERS} INSERT INTO logs SELECT {first}, {AT}{rest} FROM n;
         CREATE INDEX logs_at ON logs (at);"
    ))
    .await;

    let swept = assert_swept(&database, "logs", key).await;

    assert_eq!(swept, (8_000, 2));
}

#[rstest]
#[case::quotes(r#""Odd ""Table""#)]
#[case::dots(r#""a.b""#)]
#[case::blanks(r#""order items""#)]
#[case::letters("Büstenhalter")]
#[case::keyword("\"select\"")]
#[case::like_a_text("\"'; DROP TABLE x; --\"")]
#[case::like_the_alias("t")]
#[tokio::test]
async fn names_are_what_they_are(#[case] name: &str) {
    let database = Database::new(&format!(
        "CREATE TABLE {name} (at, a); {NUMBERS} INSERT INTO {name} SELECT {AT}, n FROM n;"
    ))
    .await;

    let swept = assert_swept(&database, name, "a").await;

    assert_eq!(swept.0, 8_000);
}

#[tokio::test]
async fn odd_columns_are_what_they_are() {
    let database = Database::new(
        r#"CREATE TABLE logs (id INTEGER PRIMARY KEY, "at ""x"" 'y' ?1" TEXT, "true" TEXT, "null" TEXT);
           INSERT INTO logs VALUES (1, 1, 'a', 'b'), (2, 1, 'b', 'b'), (3, 1750000000, 'a', 'b');"#,
    )
    .await;
    let mut plan = database.plan("logs").await;
    plan.column = "at \"x\" 'y' ?1".to_owned();
    plan.filter = Some(Predicate::parse(r#""true" = 'a' AND "null" = 'b'"#).unwrap());

    database.sweep(&plan).await.unwrap();

    assert_eq!(database.ids("SELECT id FROM logs").await, [2, 3]);
}

#[tokio::test]
async fn a_table_whose_rows_cannot_be_named_is_refused() {
    let database = Database::new(
        "CREATE TABLE logs (at, rowid, _rowid_, oid); INSERT INTO logs VALUES (1, 1, 1, 1);",
    )
    .await;
    let plan = database.plan("logs").await;

    let counted = database.engine().count_expired(&plan).await.unwrap_err();
    let swept = database.sweep(&plan).await.unwrap_err();

    for error in [counted, swept] {
        assert_eq!(error.category(), "not_supported");
        assert!(
            error.to_string().contains("called rowid, _rowid_ and oid"),
            "{error}"
        );
    }
    assert!(plan.table.leaves[0].unsupported.is_some());
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 1);
}

#[tokio::test]
async fn a_utf_16_database_is_swept_like_any_other() {
    let database = Database::new(&format!(
        "PRAGMA encoding = 'UTF-16le'; CREATE TABLE logs (a TEXT PRIMARY KEY, at) WITHOUT ROWID;
         {NUMBERS} INSERT INTO logs SELECT 'ключ' || n, {AT} FROM n;"
    ))
    .await;

    let swept = assert_swept(&database, "logs", "a").await;

    assert_eq!(swept, (8_000, 2));
}
