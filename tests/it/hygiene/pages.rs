//! The pages about findings: each check has one, and the SQL on it runs.

use std::fs;
use std::path::Path;

use retention_operator::policy::hygiene::Check;
use sqlx::AssertSqlSafe;

use crate::support::postgres::Postgres;

/// What the pages speak of.
const SCHEMA: &str = "
    CREATE TABLE customers (id int PRIMARY KEY);
    CREATE TABLE orders (id bigint PRIMARY KEY, customer int REFERENCES customers, placed timestamptz, amount int, note text);
    ALTER TABLE orders ADD CONSTRAINT orders_amount_check CHECK (amount > 0) NOT VALID;
    CREATE INDEX orders_customer_again_idx ON orders (customer);
    CREATE INDEX orders_placed_idx ON orders (placed);
    CREATE INDEX orders_placed_customer_idx ON orders (placed, customer);
    CREATE INDEX orders_note_idx ON orders (lower(note));
    CREATE TABLE lines (id serial PRIMARY KEY);
    CREATE TABLE tags (order_id bigint, tag text);
    CREATE TABLE leftover (id int PRIMARY KEY);
    CREATE TABLE events (id bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at);
    CREATE TABLE events_2020 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')";

#[tokio::test]
async fn every_check_has_a_page_whose_statements_run() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/findings");
    // A server of its own: one statement is about its role.
    let server = Postgres::start_own(&[]);
    for check in Check::ALL {
        let page = fs::read_to_string(pages.join(format!("{check}.md"))).unwrap();
        for part in ["**Evidence", "**What to do", "uppress"] {
            assert!(page.contains(part), "{check}: {part}");
        }
        assert!(
            page.contains("**Not found**") || page.contains("**No finding**"),
            "{check}: what it leaves alone"
        );
        let database = server.database("page").await;
        database.execute(SCHEMA).await;
        let mut connection = database.connect().await;
        for block in page.split("```sql\n").skip(1) {
            let (block, _) = block.split_once("```").unwrap();
            for statement in block.lines() {
                sqlx::raw_sql(AssertSqlSafe(statement))
                    .execute(&mut connection)
                    .await
                    .unwrap_or_else(|error| panic!("{check}: {error}, in: {statement}"));
            }
        }
    }
}
