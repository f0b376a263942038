//! What the checks find in SQLite files, and what they leave alone.

use retention_operator::{
    engine::Engine,
    policy::hygiene::{Check, Context, Facts, Finding, find},
};

use crate::engine_sqlite::Database;

async fn facts(setup: &str) -> Facts {
    let database = Database::new(setup).await;
    let before = std::fs::read(&database.path).unwrap();
    let facts = database.engine().hygiene().await.unwrap();
    assert_eq!(
        std::fs::read(&database.path).unwrap(),
        before,
        "an audit changes nothing"
    );
    facts
}

async fn findings(setup: &str) -> Vec<Finding> {
    find(&facts(setup).await, &Context::default())
}

fn of(findings: &[Finding], check: Check) -> Vec<&str> {
    let found = findings.iter().filter(|finding| finding.check == check);
    found.map(|finding| finding.id.as_str()).collect()
}

#[tokio::test]
async fn only_tables_of_the_application_are_looked_at() {
    let facts = facts(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT); CREATE TABLE retention_operator_sweep (id INT);
         CREATE VIEW v AS SELECT 1; CREATE VIRTUAL TABLE search USING fts5(body); INSERT INTO t DEFAULT VALUES; ANALYZE",
    )
    .await;

    let names: Vec<&str> = facts
        .tables
        .values()
        .map(|table| table.name.as_str())
        .collect();
    assert_eq!(names, ["t"]);
    assert_eq!(facts.unseen, Vec::<String>::new());
}

/// The numbers of these two names are the same.
#[tokio::test]
async fn tables_that_share_a_number_are_left_out_and_named() {
    let facts = facts(
        "CREATE TABLE part_1522789 (id INTEGER PRIMARY KEY, a INT); CREATE INDEX one ON part_1522789 (a);
         CREATE TABLE part_1739192 (id INTEGER PRIMARY KEY, a INT); CREATE INDEX other ON part_1739192 (a);
         CREATE TABLE t (id INTEGER PRIMARY KEY, a INT REFERENCES part_1739192); CREATE INDEX third ON t (a);
         INSERT INTO t VALUES (1, NULL)",
    )
    .await;

    let names = facts.tables.values().map(|table| table.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["t"]);
    let id = facts.tables.values().next().unwrap().id;
    assert!(facts.indexes.iter().all(|index| index.table == id));
    assert!(facts.foreign_keys.is_empty());
    assert_eq!(
        facts.unseen,
        [
            "tables part_1522789 and part_1739192: their names have the same number, by which tables are told apart"
        ]
    );
    assert_eq!(find(&facts, &Context::default()), []);
}

#[tokio::test]
async fn a_row_number_is_a_primary_key_and_so_are_keys_with_indexes_of_their_own() {
    let facts = facts(
        "CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (x TEXT PRIMARY KEY, y INT);
         CREATE TABLE c (x INT, y INT, PRIMARY KEY (x, y)) WITHOUT ROWID; CREATE TABLE d (x INT);
         CREATE TABLE e (id INTEGER PRIMARY KEY DESC)",
    )
    .await;

    let mut keyed: Vec<&str> = facts
        .indexes
        .iter()
        .filter(|index| index.primary)
        .map(|index| facts.tables[&index.table].name.as_str())
        .collect();
    keyed.sort_unstable();
    assert_eq!(keyed, ["a", "b", "c", "e"]);
}

#[tokio::test]
async fn indexes_are_described_by_columns_collations_order_expressions_and_predicates() {
    let facts = facts(
        "CREATE TABLE t (a INT, b TEXT COLLATE NOCASE, c TEXT);
         CREATE INDEX one ON t (b, a DESC); CREATE INDEX two ON t (c COLLATE NOCASE);
         CREATE INDEX three ON t (lower(c)); CREATE UNIQUE INDEX four ON t (a) WHERE c IS NOT NULL",
    )
    .await;

    let index = |name: &str| {
        facts
            .indexes
            .iter()
            .find(|index| &*index.name == name)
            .unwrap()
    };
    let columns = |name: &str| {
        index(name)
            .keys
            .iter()
            .map(|key| key.column)
            .collect::<Vec<_>>()
    };
    assert_eq!(columns("one"), [2, 1]);
    assert_eq!(
        index("one").keys[0].collation,
        index("two").keys[0].collation
    );
    assert_ne!(
        index("one").keys[1].collation,
        index("two").keys[0].collation
    );
    assert_eq!(
        (index("one").keys[0].options, index("one").keys[1].options),
        (2, 1)
    );
    assert_eq!(
        (columns("three"), index("three").expressions()),
        (vec![0], Some("lower(c)"))
    );
    assert_eq!(
        (index("four").unique, index("four").predicate.as_deref()),
        (true, Some("WHERE c IS NOT NULL"))
    );
}

#[tokio::test]
async fn foreign_keys_are_found_without_regard_to_case() {
    let facts = facts(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY, x INT, y INT, UNIQUE (x, y));
         CREATE TABLE child (pid INT REFERENCES Parent, X INT, y INT, FOREIGN KEY (x, Y) REFERENCES parent (x, y), gone INT REFERENCES nowhere)"
            .replace(", gone INT REFERENCES nowhere", "")
            .as_str(),
    )
    .await;

    let mut columns: Vec<Vec<i16>> = facts
        .foreign_keys
        .iter()
        .map(|key| key.columns.clone())
        .collect();
    columns.sort_unstable();
    assert_eq!(columns, [vec![1], vec![2, 3]]);
}

#[tokio::test]
async fn an_autoincrement_near_its_end_is_found_and_a_young_one_is_not() {
    let findings = findings(
        "CREATE TABLE old (id INTEGER PRIMARY KEY AUTOINCREMENT); CREATE TABLE young (id INTEGER PRIMARY KEY AUTOINCREMENT);
         INSERT INTO old VALUES (9000000000000000000); INSERT INTO young VALUES (5); CREATE TABLE odd (id INTEGER PRIMARY KEY);
         INSERT INTO odd VALUES (9000000000000000000); INSERT INTO sqlite_sequence VALUES ('gone', 9e18), ('young', 'x')",
    )
    .await;

    assert_eq!(
        of(&findings, Check::IntegerExhaustion),
        ["integer-exhaustion:main.old.id"]
    );
}

#[tokio::test]
async fn rows_are_those_of_analyze_and_none_where_there_is_none() {
    let setup = "CREATE TABLE full (a INT); CREATE INDEX i ON full (a) WHERE a > 1; INSERT INTO full VALUES (1), (2), (3); CREATE TABLE empty (a INT)";
    let before = facts(setup).await;
    let after = facts(&format!("{setup}; ANALYZE")).await;

    let rows = |facts: &Facts, name: &str| {
        let table = facts
            .tables
            .values()
            .find(|table| table.name == name)
            .unwrap();
        (table.rows, table.pages)
    };
    assert_eq!(
        (rows(&before, "full"), rows(&before, "empty")),
        ((None, 1), (Some(0.0), 0))
    );
    assert_eq!(
        (rows(&after, "full"), rows(&after, "empty")),
        ((Some(3.0), 1), (Some(0.0), 0))
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_found_in_its_own_words() {
    let findings = findings(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE child (id INTEGER PRIMARY KEY, parent_id INT REFERENCES parent, a INT, b INT);
         CREATE INDEX child_a ON child (a); CREATE INDEX child_a_again ON child (a);
         CREATE INDEX child_b ON child (b); CREATE INDEX child_ba ON child (b, a);
         CREATE TABLE bare (x INT); CREATE TABLE hollow (id INTEGER PRIMARY KEY);
         INSERT INTO parent VALUES (1, 'x'); INSERT INTO child VALUES (1, 1, 1, 1); INSERT INTO bare VALUES (1);
         CREATE TABLE uncounted (id INTEGER PRIMARY KEY);
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) INSERT INTO uncounted SELECT n FROM n",
    )
    .await;

    let mut ids: Vec<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        [
            "duplicate-index:main.child.child_a_again",
            "empty-table:main.hollow",
            "foreign-key-without-index:main.child.parent_id",
            "never-analyzed:main.uncounted",
            "no-primary-key:main.bare",
            "redundant-index:main.child.child_b",
        ]
    );
    for finding in &findings {
        let said = format!("{finding:?}").to_lowercase();
        for word in ["concurrently", "autovacuum", "catalog", "mib", "bytes by"] {
            assert!(!said.contains(word), "{word}: {finding:?}");
        }
    }
}

#[tokio::test]
async fn what_a_finding_says_to_run_is_sql_of_this_engine_and_so_is_what_takes_it_back() {
    let setup = "CREATE TABLE \"odd.parent\" (id INTEGER PRIMARY KEY); INSERT INTO \"odd.parent\" VALUES (1);
         CREATE TABLE \"Odd \"\"t\" (id INTEGER PRIMARY KEY, p INT REFERENCES \"odd.parent\", a INT);
         INSERT INTO \"Odd \"\"t\" VALUES (1, 1, 1);
         CREATE INDEX one ON \"Odd \"\"t\" (a); CREATE UNIQUE INDEX \"two \" ON \"Odd \"\"t\" (a, id); CREATE TABLE hollow (x INT PRIMARY KEY)";
    let database = Database::new(setup).await;
    let before = find(
        &database.engine().hygiene().await.unwrap(),
        &Context::default(),
    );
    assert_eq!(before.len(), 3, "{before:?}");

    for finding in &before {
        database
            .execute(finding.advice.apply.as_deref().unwrap())
            .await;
    }

    let after = find(
        &database.engine().hygiene().await.unwrap(),
        &Context::default(),
    );
    assert_eq!(after, []);
    for finding in &before {
        if let Some(undo) = &finding.advice.undo {
            database.execute(undo).await;
        }
    }
}

#[tokio::test]
async fn a_clean_file_has_no_finding() {
    let findings = findings(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT UNIQUE); INSERT INTO parent VALUES (1, 'x');
         CREATE TABLE child (parent_id INT NOT NULL REFERENCES parent, n INT, other INT REFERENCES parent, PRIMARY KEY (parent_id, n)) WITHOUT ROWID;
         INSERT INTO child VALUES (1, 1, NULL);
         CREATE INDEX child_other ON child (other) WHERE other IS NOT NULL;
         CREATE INDEX parent_folded ON parent (name COLLATE NOCASE); CREATE INDEX parent_lower ON parent (lower(name));
         CREATE INDEX parent_part ON parent (name) WHERE id > 5; ANALYZE",
    )
    .await;

    assert_eq!(findings, []);
}

#[tokio::test]
async fn what_only_looks_alike_is_no_finding() {
    let findings = findings(
        r#"CREATE TABLE "odd.Größe ""t" (id INTEGER PRIMARY KEY, "it's" TEXT COLLATE NOCASE UNIQUE, "ä b" INT, twice AS ("ä b" * 2), kept AS ("ä b" * 3) STORED);
         CREATE INDEX "by (x" ON "odd.Größe ""t" ("ä b", kept); CREATE INDEX "by x DESC" ON "odd.Größe ""t" ("ä b" DESC, id);
         CREATE INDEX binary ON "odd.Größe ""t" ("it's" COLLATE BINARY); CREATE INDEX computed ON "odd.Größe ""t" (twice);
         CREATE INDEX stored ON "odd.Größe ""t" (kept); CREATE INDEX expression ON "odd.Größe ""t" ("ä b" + 1);
         CREATE INDEX other_expression ON "odd.Größe ""t" ("ä b" + 2); CREATE INDEX part ON "odd.Größe ""t" ("ä b") WHERE kept > 5;
         CREATE INDEX other_part ON "odd.Größe ""t" ("ä b") WHERE kept > 6;
         INSERT INTO "odd.Größe ""t" (id, "it's", "ä b") VALUES (1, 'x', 1);
         CREATE TABLE strict (id INTEGER PRIMARY KEY, v ANY, p INT REFERENCES "odd.Größe ""t") STRICT; CREATE INDEX strict_p ON strict (p, v);
         CREATE TABLE keyed (a TEXT, b INT, c INT, PRIMARY KEY (b DESC, a)) WITHOUT ROWID, STRICT; CREATE INDEX keyed_a ON keyed (a, b);
         CREATE TABLE own (id INTEGER PRIMARY KEY REFERENCES strict, up INT REFERENCES own, down INT); CREATE INDEX own_up ON own (up);
         INSERT INTO strict VALUES (1, 1, 1); INSERT INTO keyed VALUES ('a', 1, 1); INSERT INTO own VALUES (1, 1, 1);
         CREATE VIRTUAL TABLE search USING fts5(body); INSERT INTO search VALUES ('x');
         CREATE VIRTUAL TABLE places USING rtree(id, x0, x1); INSERT INTO places VALUES (1, 2, 3);
         CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, u INT UNIQUE); INSERT INTO counted VALUES (1, 1); ANALYZE"#,
    )
    .await;

    assert_eq!(findings, []);
}

#[tokio::test]
async fn an_index_that_runs_backwards_is_a_duplicate() {
    let findings = findings(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, b INT); INSERT INTO t VALUES (1, 1, 1);
         CREATE INDEX forwards ON t (a, b DESC); CREATE INDEX backwards ON t (a DESC, b); CREATE INDEX both ON t (a DESC, b DESC)",
    )
    .await;

    assert_eq!(
        of(&findings, Check::DuplicateIndex),
        ["duplicate-index:main.t.forwards"]
    );
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[tokio::test]
async fn what_a_constraint_made_is_not_told_to_be_dropped() {
    let findings =
        findings("CREATE TABLE t (id INTEGER PRIMARY KEY, UNIQUE (id)); INSERT INTO t VALUES (1)")
            .await;

    for finding in &findings {
        assert_eq!(finding.check, Check::DuplicateIndex, "{finding:?}");
        assert_eq!(finding.advice.apply, None, "{finding:?}");
        assert!(finding.advice.text.contains("constraint"), "{finding:?}");
    }
}

/// A file may hold virtual tables of an extension that this program does not have: SQLite then does not know their shadows.
#[tokio::test]
async fn tables_of_a_virtual_table_whose_module_is_unknown_are_left_out() {
    let facts = facts(
        "CREATE TABLE vectors_chunks (a INT); CREATE TABLE vectors (a INT); CREATE TABLE vector (a INT); CREATE TABLE search_log (a INT);
         CREATE VIRTUAL TABLE search USING fts5(body); DROP TABLE vectors; PRAGMA writable_schema = ON;
         INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES ('table', 'Vectors', 'Vectors', 0, 'CREATE VIRTUAL TABLE Vectors USING vec0(x float[4])')",
    )
    .await;

    let mut names: Vec<&str> = facts
        .tables
        .values()
        .map(|table| table.name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["search_log", "vector"]);
}
