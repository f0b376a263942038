//! The checks about indexes, on the server that everybody runs and on the newest one.

use std::time::Duration;

use retention_operator::{
    engine::{Engine, postgres::PostgresEngine},
    policy::{
        hygiene::{Check, Context, Finding, Severity, find},
        usage::Usage,
    },
};
use sqlx::AssertSqlSafe;

use super::{findings, target};
use crate::support::{
    postgres::{Postgres, TestDatabase},
    wait::eventually,
};

const CHECKS: [Check; 6] = [
    Check::UnusedIndex,
    Check::DuplicateIndex,
    Check::RedundantIndex,
    Check::InvalidIndex,
    Check::BloatedIndex,
    Check::ForeignKeyWithoutIndex,
];

/// A database of its own on each server, with those statements run.
async fn databases(prefix: &str, sql: &str) -> Vec<TestDatabase> {
    let mut databases = Vec::new();
    for server in [Some(Postgres::shared()), Postgres::newest()]
        .into_iter()
        .flatten()
    {
        let database = server.database(prefix).await;
        database.execute(sql).await;
        databases.push(database);
    }
    databases
}

/// What the checks about indexes find.
async fn found(database: &TestDatabase) -> Vec<Finding> {
    let mut findings = findings(&database.url).await;
    findings.retain(|finding| CHECKS.contains(&finding.check));
    findings.sort_by(|one, other| one.id.cmp(&other.id));
    findings
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    super::ids(findings)
}

/// Each statement stands on a line of its own, because some cannot run in a transaction.
async fn run(database: &TestDatabase, sql: &str) {
    let mut connection = database.connect().await;
    for statement in sql.lines() {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{error}, in: {statement}"));
    }
}

/// Follows the advice of every finding, asserts that each is gone, takes all back, and asserts that they are there again.
async fn follow_and_take_back(database: &TestDatabase) {
    let before = found(database).await;
    for finding in &before {
        run(database, finding.advice.apply.as_deref().unwrap()).await;
    }
    assert_eq!(ids(&found(database).await), Vec::<&str>::new());
    for finding in before.iter().rev() {
        run(database, finding.advice.undo.as_deref().unwrap()).await;
    }
    assert_eq!(ids(&found(database).await), ids(&before));
}

#[tokio::test]
async fn a_well_indexed_schema_gives_no_finding_of_an_index() {
    let sql = r#"
        CREATE TABLE tenants (id int PRIMARY KEY, name text NOT NULL UNIQUE);
        CREATE TABLE users (tenant int REFERENCES tenants, id int, email text COLLATE "C", note text, at timestamptz, PRIMARY KEY (tenant, id));
        CREATE INDEX users_by_id ON users (id, tenant);
        -- Differ by predicate, operator class, collation, order, method, included columns, expression.
        CREATE INDEX ON users (email);
        CREATE INDEX ON users (email) WHERE note IS NULL;
        CREATE INDEX ON users (email) WHERE note IS NOT NULL;
        CREATE INDEX ON users (email COLLATE "POSIX");
        CREATE INDEX ON users USING hash (email);
        CREATE INDEX ON users (note);
        CREATE INDEX ON users (note text_pattern_ops);
        CREATE INDEX ON users (lower(email));
        CREATE INDEX ON users (upper(email));
        CREATE INDEX ON users (lower(email), at);
        CREATE INDEX ON users (at) INCLUDE (note);
        CREATE UNIQUE INDEX ON users (at) INCLUDE (email);
        CREATE INDEX ON users (at NULLS FIRST);
        CREATE INDEX ON users USING brin (at) WITH (pages_per_range = 32);
        CREATE INDEX ON users USING brin (at) WITH (pages_per_range = 128);
        DROP INDEX users_lower_idx;
        -- Served by one of the leading columns, in another order, by an index without the NULLs.
        CREATE TABLE orders (id int PRIMARY KEY, tenant int, "user" int, parent int REFERENCES orders, FOREIGN KEY (tenant, "user") REFERENCES users);
        CREATE INDEX ON orders ("user");
        CREATE INDEX ON orders (parent) WHERE parent IS NOT NULL;
        CREATE TABLE lines (n int, tenant int, "user" int, FOREIGN KEY (tenant, "user") REFERENCES users);
        CREATE INDEX ON lines ("user", tenant) WHERE "user" IS NOT NULL AND tenant IS NOT NULL;
        -- Partitions inherit indexes and foreign keys, one with its columns in another order.
        CREATE TABLE events (id int, at date, tenant int NOT NULL REFERENCES tenants, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE INDEX ON events (tenant);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE events_2 (tenant int NOT NULL, gone int, at date NOT NULL, id int NOT NULL);
        ALTER TABLE events_2 DROP COLUMN gone;
        ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        -- Indexes that only the partitions have serve as well.
        CREATE TABLE logs (id int, at date, tenant int REFERENCES tenants) PARTITION BY RANGE (at);
        CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE INDEX ON logs_1 (tenant);
        CREATE TABLE logs_2 (tenant int, id int, at date);
        CREATE INDEX ON logs_2 (tenant);
        ALTER TABLE logs ATTACH PARTITION logs_2 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        -- A foreign key to a partitioned table.
        CREATE TABLE remarks (event int, at date, FOREIGN KEY (event, at) REFERENCES events);
        CREATE INDEX ON remarks (event);
        -- Unique in two senses.
        CREATE TABLE twice (a int UNIQUE DEFERRABLE, b int);
        CREATE UNIQUE INDEX ON twice (a);
        INSERT INTO tenants VALUES (1, 'x');
        INSERT INTO events SELECT n, '2025-06-01', 1 FROM generate_series(1, 1000) n;
        ANALYZE"#;
    for database in databases("index_clean", sql).await {
        assert_eq!(ids(&found(&database).await), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn duplicate_and_redundant_indexes_are_found_and_the_advice_can_be_followed_and_taken_back() {
    let sql = r#"
        CREATE TABLE t (id int PRIMARY KEY, a int, b int, c text);
        CREATE INDEX t_id ON t (id);
        CREATE INDEX t_id_backwards ON t (id DESC);
        ALTER TABLE t ADD CONSTRAINT t_b_key UNIQUE (b), ADD CONSTRAINT t_b_key_again UNIQUE (b);
        CREATE INDEX one ON t (lower(c)) WHERE b > 3;
        CREATE INDEX "Another One" ON t   ( lower((c)::text) )   WHERE (b > 3);
        CREATE INDEX short ON t (a) INCLUDE (b);
        CREATE INDEX long ON t (a, b);
        CREATE INDEX lower_c ON t (lower(c));
        CREATE INDEX lower_c_a ON t (lower(c), a);
        CREATE TABLE p (at date, a int) PARTITION BY RANGE (at);
        CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE INDEX p_a ON p (a);
        CREATE INDEX p_a_again ON p (a);
        CREATE TABLE q (at date, a int) PARTITION BY RANGE (at);
        CREATE TABLE q_1 PARTITION OF q FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE INDEX q_a ON q (a);
        CREATE INDEX q_1_own ON q_1 (a)"#;
    for database in databases("index_twice", sql).await {
        let findings = found(&database).await;

        assert_eq!(
            ids(&findings),
            [
                "duplicate-index:public.p.p_a_again",
                "duplicate-index:public.q_1.q_1_own",
                "duplicate-index:public.t.one",
                "duplicate-index:public.t.t_b_key_again",
                "duplicate-index:public.t.t_id",
                "duplicate-index:public.t.t_id_backwards",
                "redundant-index:public.t.lower_c",
                "redundant-index:public.t.short",
            ]
        );
        follow_and_take_back(&database).await;
    }
}

#[tokio::test]
async fn an_index_that_cannot_be_dropped_is_not_proposed_to_be() {
    let sql = "
        CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL);
        CREATE UNIQUE INDEX t_id_bare ON t (id);
        CREATE TABLE child (t int, FOREIGN KEY (t) REFERENCES t (id));
        CREATE INDEX ON child (t);
        ALTER TABLE t DROP CONSTRAINT t_pkey CASCADE;
        ALTER TABLE child ADD CONSTRAINT child_fk FOREIGN KEY (t) REFERENCES t (id);
        ALTER TABLE t ADD CONSTRAINT t_pkey PRIMARY KEY (id);
        CREATE TABLE r (id int PRIMARY KEY, a int NOT NULL);
        CREATE UNIQUE INDEX r_a ON r (a);
        CREATE UNIQUE INDEX z_identity ON r (a);
        ALTER TABLE r REPLICA IDENTITY USING INDEX z_identity";
    for database in databases("index_held", sql).await {
        let findings = found(&database).await;

        assert_eq!(
            ids(&findings),
            [
                "duplicate-index:public.r.r_a",
                "duplicate-index:public.t.t_id_bare",
            ]
        );
        let held = &findings[1];
        assert_eq!(held.severity, Severity::Info);
        assert_eq!(held.advice.apply, None);
        assert!(
            held.advice
                .text
                .contains("the foreign key public.child.child_fk relies on it"),
            "{}",
            held.advice.text
        );
    }
}

#[tokio::test]
async fn foreign_keys_without_an_index_are_found_once_and_the_advice_can_be_followed_and_taken_back()
 {
    let sql = r#"
        CREATE TABLE parent (a int, b int, PRIMARY KEY (a, b));
        CREATE TABLE "Odd child" (x int, "A" int, b int, CONSTRAINT "to parent" FOREIGN KEY ("A", b) REFERENCES parent);
        CREATE INDEX ON "Odd child" (x, "A", b);
        CREATE INDEX ON "Odd child" (b) WHERE x > 3;
        CREATE TABLE p (at date, a int, b int, CONSTRAINT p_fk FOREIGN KEY (a, b) REFERENCES parent) PARTITION BY RANGE (at);
        CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE TABLE q (at date, a int, b int, CONSTRAINT q_fk FOREIGN KEY (a, b) REFERENCES parent) PARTITION BY RANGE (at);
        CREATE TABLE q_1 PARTITION OF q FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE q_2 (b int, at date, a int);
        ALTER TABLE q ATTACH PARTITION q_2 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE INDEX ON q_1 (b);
        CREATE INDEX ON q_2 (at)"#;
    for database in databases("index_foreign", sql).await {
        let findings = found(&database).await;

        assert_eq!(
            ids(&findings),
            [
                "foreign-key-without-index:public.Odd child.to parent",
                "foreign-key-without-index:public.p.p_fk",
                "foreign-key-without-index:public.q.q_fk",
            ]
        );
        assert!(
            findings[0]
                .evidence
                .ends_with("holds only a part of the rows")
        );
        assert!(
            findings[2]
                .evidence
                .ends_with("1 of 2 partitions lack one: public.q_2")
        );
        follow_and_take_back(&database).await;
    }
}

#[tokio::test]
async fn a_foreign_key_index_of_another_collation_is_said_not_to_serve() {
    let sql = r#"
        CREATE TABLE parent (name text PRIMARY KEY);
        CREATE TABLE child (name text REFERENCES parent);
        CREATE INDEX child_c ON child (name COLLATE "POSIX")"#;
    for database in databases("index_collation", sql).await {
        let findings = found(&database).await;

        assert_eq!(
            ids(&findings),
            ["foreign-key-without-index:public.child.child_name_fkey"]
        );
        assert!(
            findings[0]
                .evidence
                .ends_with("child_c does, but compares texts by another collation")
        );
    }
}

#[tokio::test]
async fn a_partitioned_index_names_the_partitions_that_lack_theirs_and_is_valid_when_the_advice_was_followed()
 {
    let sql = r#"
        CREATE TABLE p (id int NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
        CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE "P 2" PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE INDEX p_id ON ONLY p (id DESC) WITH (fillfactor = 70) WHERE id > 0;
        CREATE INDEX p_1_id ON p_1 (id DESC) WHERE id > 0;
        ALTER INDEX p_id ATTACH PARTITION p_1_id;
        ALTER TABLE ONLY p ADD CONSTRAINT p_pkey PRIMARY KEY (id, at)"#;
    for database in databases("index_incomplete", sql).await {
        let findings = found(&database).await;

        assert_eq!(
            ids(&findings),
            [
                "invalid-index:public.p.p_id",
                "invalid-index:public.p.p_pkey"
            ]
        );
        assert!(
            findings[0]
                .evidence
                .starts_with("1 of 2 partitions have no index that belongs to it: public.P 2;")
        );
        assert!(findings[1].evidence.starts_with("2 of 2 partitions"));
        for finding in &findings {
            run(&database, finding.advice.apply.as_deref().unwrap()).await;
        }
        assert_eq!(ids(&found(&database).await), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn what_a_failed_concurrent_rebuild_left_is_dropped_and_the_index_stays() {
    let sql = "
        CREATE TABLE t (id int, a int);
        INSERT INTO t VALUES (1, 7), (2, 7);
        CREATE UNIQUE INDEX t_a ON t (id)";
    for database in databases("index_leftover", sql).await {
        let mut reader = database.connect().await;
        let mut builder = database.connect().await;
        sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t")
            .execute(&mut reader)
            .await
            .unwrap();
        let failed = sqlx::raw_sql("SET statement_timeout = '300ms'")
            .execute(&mut builder)
            .await
            .is_ok()
            && sqlx::raw_sql("REINDEX INDEX CONCURRENTLY t_a")
                .execute(&mut builder)
                .await
                .is_err();
        assert!(failed, "the rebuild waits for the reader");
        sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();

        let findings = found(&database).await;

        assert_eq!(ids(&findings), ["invalid-index:public.t.t_a_ccnew"]);
        run(&database, findings[0].advice.apply.as_deref().unwrap()).await;
        assert_eq!(ids(&found(&database).await), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn what_a_rebuild_left_among_the_long_values_of_a_table_is_found_as_the_tables() {
    let sql = "
        CREATE TABLE parent (a int PRIMARY KEY);
        CREATE TABLE t (a int PRIMARY KEY REFERENCES parent, long text)";
    for database in databases("index_toast", sql).await {
        let mut reader = database.connect().await;
        let mut builder = database.connect().await;
        sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t")
            .execute(&mut reader)
            .await
            .unwrap();
        sqlx::raw_sql("SET statement_timeout = '300ms'")
            .execute(&mut builder)
            .await
            .unwrap();
        let failed = sqlx::raw_sql("REINDEX TABLE CONCURRENTLY t")
            .execute(&mut builder)
            .await;
        assert!(failed.is_err(), "the rebuild waits for the reader");
        sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
        let toast: String = database
            .scalar("SELECT reltoastrelid::regclass::text FROM pg_class WHERE relname = 't'")
            .await;
        let toast = toast.trim_start_matches("pg_toast.");

        let findings = found(&database).await;

        assert_eq!(
            ids(&findings),
            [
                format!("invalid-index:public.t.{toast}_index_ccnew").as_str(),
                "invalid-index:public.t.t_pkey_ccnew"
            ]
        );
        for finding in &findings {
            run(&database, finding.advice.apply.as_deref().unwrap()).await;
        }
        assert_eq!(ids(&found(&database).await), Vec::<&str>::new());
    }
}

/// What a role that may see nothing sees of a build under way: that somebody builds something.
#[tokio::test]
async fn an_index_that_is_being_built_is_left_alone_whoever_looks() {
    let sql = "CREATE TABLE t (id int, a int); INSERT INTO t VALUES (1, 7)";
    for database in databases("index_building", sql).await {
        let stranger = database.role("stranger", "secret", "").await;
        let mut reader = database.connect().await;
        sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t")
            .execute(&mut reader)
            .await
            .unwrap();
        let mut connection = database.connect().await;
        let building = tokio::spawn(async move {
            sqlx::raw_sql("CREATE INDEX CONCURRENTLY t_a ON t (a)")
                .execute(&mut connection)
                .await
        });
        eventually(Duration::from_secs(20), "the index in the catalog", async || {
            let there: bool = database
                .scalar("SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = 't'::regclass AND NOT indisvalid)")
                .await;
            if there { Ok(()) } else { Err("not yet") }
        })
        .await;

        let seen_by_owner = found(&database).await;
        let seen_by_stranger = findings(&stranger.url).await;

        sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
        building.await.unwrap().unwrap();
        assert_eq!(ids(&seen_by_owner), Vec::<&str>::new());
        assert!(
            !ids(&seen_by_stranger)
                .iter()
                .any(|id| id.starts_with("invalid-index"))
        );
    }
}

#[tokio::test]
async fn an_index_found_unused_later_carries_the_statement_that_makes_it_again() {
    let sql =
        "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE INDEX t_a ON t (a DESC) WHERE id > 3";
    for database in databases("index_unused", sql).await {
        let engine = PostgresEngine::new(target(&database.url)).unwrap();
        let mut facts = engine.hygiene().await.unwrap();
        for index in &mut facts.indexes {
            index.usage = Usage::Unused {
                since: "2026-08-01T00:00:00Z".parse().unwrap(),
                days: 100,
            };
        }

        engine.define_indexes(&mut facts).await.unwrap();

        engine.close().await;
        let mut findings = find(&facts, &Context::default());
        findings.retain(|finding| finding.check == Check::UnusedIndex);
        assert_eq!(ids(&findings), ["unused-index:public.t.t_a"]);
        run(&database, findings[0].advice.apply.as_deref().unwrap()).await;
        run(&database, findings[0].advice.undo.as_deref().unwrap()).await;
        let made: String = database
            .scalar("SELECT pg_get_indexdef('t_a'::regclass)")
            .await;
        assert_eq!(
            made,
            "CREATE INDEX t_a ON public.t USING btree (a DESC) WHERE (id > 3)"
        );
    }
}
