//! For random conditions over random rows: what each engine prints takes the rows that the condition takes as it was written.
//!
//! The reference is PostgreSQL reading the author's own words. Whatever a condition is refused for on SQLite, it never takes other rows
//! there, and as a hold it never lets other rows go.

mod generate;

use fastrand::Rng;
use retention_operator::engine::{postgres, sqlite};
use retention_operator::policy::predicate::Predicate;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Row};

use self::generate::{Table, condition};
use crate::support::postgres::Postgres;

/// Tables, and conditions for each of them. `CONFORMANCE_WORLDS` states another number of tables.
const TABLES: u64 = 8;
const CONDITIONS: u32 = 150;

#[tokio::test]
async fn a_condition_takes_the_same_rows_on_both_engines_as_in_its_authors_words() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("CONFORMANCE_SEED").unwrap_or_else(|| fastrand::u64(..));
    let tables = number("CONFORMANCE_WORLDS").unwrap_or(TABLES);
    let database = Postgres::shared().database("meaning").await;
    let mut server = database.connect().await;
    let mut seen = Seen::default();
    for seed in (0..tables).map(|n| first.wrapping_add(n)) {
        println!("CONFORMANCE_SEED={seed} CONFORMANCE_WORLDS=1 is this table:");
        seen.look(&mut server, &mut Rng::with_seed(seed)).await;
    }
    println!(
        "{} conditions: PostgreSQL fails on {}, SQLite refuses {}, compared {}, of which {} take some rows; of {} rows {} are in doubt",
        seen.conditions,
        seen.failed,
        seen.refused,
        seen.compared,
        seen.takes_some,
        seen.rows,
        seen.doubtful
    );
    // Where almost everything fails or is refused nothing is shown.
    assert!(seen.differing.is_empty(), "{}", seen.differing.join("\n"));
    assert!(seen.compared * 2 > seen.conditions, "{seen:?}");
    assert!(seen.doubtful * 8 < seen.rows, "{seen:?}");
    assert!(seen.takes_some * 3 > seen.compared, "{seen:?}");
}

#[derive(Debug, Default)]
struct Seen {
    conditions: u32,
    /// PostgreSQL fails on them: a division by zero, a number that is too large.
    failed: u32,
    /// SQLite cannot mean the same.
    refused: u32,
    compared: u32,
    /// Rows that were compared.
    rows: usize,
    /// Of these in doubt, though PostgreSQL knows.
    doubtful: usize,
    /// Some of the rows, and not all of them.
    takes_some: u32,
    /// What does not mean the same.
    differing: Vec<String>,
}

impl Seen {
    /// What a `where` takes is what the author's words take, what a hold lets go is what they let go; but for rows that are in doubt,
    /// which stay. A row on which PostgreSQL fails has to.
    fn judge(
        &mut self,
        text: &str,
        table: &Table,
        expected: &Expected,
        (taken, let_go): (&[i32], &[i32]),
    ) {
        let rows = 0..i32::try_from(table.rows()).unwrap();
        let wrong: Vec<i32> = rows
            .clone()
            .filter(|id| {
                let is_true = expected.true_of.contains(id);
                let fails = expected.fails_on.contains(id);
                taken.contains(id) && (fails || !is_true)
                    || let_go.contains(id) && (fails || is_true)
            })
            .collect();
        if !wrong.is_empty() {
            self.differing.push(format!(
                "{text}\n  is {expected:?}; on SQLite a where takes {taken:?}, a hold lets go {let_go:?}: {wrong:?}"
            ));
        }
        let doubtful = rows
            .filter(|id| !taken.contains(id) && !let_go.contains(id))
            .count();
        self.rows += table.rows();
        self.doubtful += doubtful - expected.fails_on.len().min(doubtful);
        self.compared += 1;
        self.takes_some += u32::from(!taken.is_empty() && taken.len() < table.rows());
    }

    async fn look(&mut self, server: &mut PgConnection, rng: &mut Rng) {
        let table = Table::random(rng);
        println!("{}", table.on_sqlite());
        run(server, &table.on_postgres()).await;
        let mut file =
            SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(":memory:"))
                .await
                .unwrap();
        sqlx::raw_sql(AssertSqlSafe(table.on_sqlite()))
            .execute(&mut file)
            .await
            .unwrap();
        for _ in 0..CONDITIONS {
            let text = condition(rng, 3);
            self.conditions += 1;
            let predicate =
                Predicate::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let on_postgres = postgres::print_predicate(&predicate).unwrap();

            let written = ids_on_postgres(server, &text).await;
            let printed = ids_on_postgres(server, &on_postgres).await;
            assert_eq!(printed, written, "{text} printed as {on_postgres}");
            let expected = match written {
                Some(ids) => Expected {
                    true_of: ids,
                    fails_on: Vec::new(),
                },
                None => {
                    self.failed += 1;
                    by_row(server, &text, table.rows()).await
                }
            };
            let Ok([filter, hold]) = sqlite::print_predicate(&predicate, &table.columns()) else {
                self.refused += 1;
                continue;
            };
            let taken = ids_on_sqlite(&mut file, &filter).await;
            let let_go = ids_on_sqlite(&mut file, &hold).await;
            self.judge(&text, &table, &expected, (&taken, &let_go));
        }
    }
}

/// What the author's own words make of the rows.
#[derive(Debug)]
struct Expected {
    true_of: Vec<i32>,
    /// PostgreSQL stops there, and takes nothing.
    fails_on: Vec<i32>,
}

async fn by_row(server: &mut PgConnection, text: &str, rows: usize) -> Expected {
    let mut expected = Expected {
        true_of: Vec::new(),
        fails_on: Vec::new(),
    };
    for id in 0..i32::try_from(rows).unwrap() {
        // Of one row only: no condition of another one is looked at.
        let sql = format!(
            "SELECT id FROM (SELECT * FROM t WHERE id = {id} OFFSET 0) AS t WHERE ({text}) IS TRUE"
        );
        match sqlx::raw_sql(AssertSqlSafe(sql))
            .fetch_all(&mut *server)
            .await
        {
            Ok(found) if found.is_empty() => {}
            Ok(_) => expected.true_of.push(id),
            Err(_) => expected.fails_on.push(id),
        }
    }
    expected
}

async fn run(server: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(server)
        .await
        .unwrap();
}

/// `None`: it fails on a row.
async fn ids_on_postgres(server: &mut PgConnection, condition: &str) -> Option<Vec<i32>> {
    let sql = format!("SELECT id FROM t WHERE ({condition}) IS TRUE ORDER BY id");
    match sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(server).await {
        Ok(rows) => Some(rows.iter().map(|row| row.get(0)).collect()),
        Err(error) => {
            let code = error.as_database_error().and_then(|error| error.code());
            // Data exceptions: everything else is a mistake of the generator.
            assert!(
                code.is_some_and(|code| code.starts_with("22")),
                "{condition}: {error}"
            );
            None
        }
    }
}

async fn ids_on_sqlite(file: &mut SqliteConnection, printed: &str) -> Vec<i32> {
    let sql = format!("SELECT id FROM t AS \"t\" WHERE {printed} ORDER BY id");
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(file).await;
    rows.unwrap_or_else(|error| panic!("{printed}: {error}"))
        .iter()
        .map(|row| row.get(0))
        .collect()
}
