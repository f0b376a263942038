//! The checks of single tables that rest on catalogs and counters.

use retention_operator::{
    engine::{Engine, postgres::PostgresEngine},
    policy::hygiene::{Context, Finding, RuledColumn, Severity},
};

use super::{findings, findings_for, ids, target};
use crate::support::postgres::{Postgres, TestDatabase};

/// The ids of one check, in the order of the report.
fn of<'a>(findings: &'a [Finding], check: &str) -> Vec<&'a str> {
    let prefix = format!("{check}:");
    ids(findings)
        .into_iter()
        .filter(|id| id.starts_with(&prefix))
        .collect()
}

fn rule_on(table: u32) -> Context {
    Context {
        ruled: vec![RuledColumn {
            rule: "r".to_owned(),
            table,
            column: "at".to_owned(),
            ..RuledColumn::default()
        }],
        unused_after_days: 90,
        ..Context::default()
    }
}

async fn number(database: &TestDatabase, table: &str) -> u32 {
    let sql = format!("SELECT '{table}'::regclass::oid::int8");
    u32::try_from(database.scalar::<i64>(&sql).await).unwrap()
}

/// A schema as it should be: no check of tables has anything to say.
const CLEAN: &str = "\
    CREATE TABLE kinds (id int PRIMARY KEY, name text NOT NULL UNIQUE); \
    CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind int NOT NULL REFERENCES kinds, at timestamptz NOT NULL DEFAULT now(), note text); \
    CREATE INDEX ON orders (kind); CREATE INDEX ON orders (at); \
    CREATE TABLE events (id bigint, at timestamptz NOT NULL, body jsonb, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); \
    CREATE TABLE events_old PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01'); \
    CREATE TABLE events_new PARTITION OF events FOR VALUES FROM ('2021-01-01') TO (MAXVALUE); \
    CREATE MATERIALIZED VIEW totals AS SELECT 1 AS n; \
    INSERT INTO kinds VALUES (1, 'a'), (2, 'b'); \
    INSERT INTO orders (kind, at, note) SELECT 1 + g % 2, now() - g * interval '1 minute', md5(g::text) FROM generate_series(1, 20000) g; \
    INSERT INTO events SELECT g, '2020-06-01'::timestamptz + g * interval '1 hour', jsonb_build_object('n', g) FROM generate_series(1, 10000) g";

#[tokio::test]
async fn a_clean_schema_gives_no_finding_of_tables() {
    for server in [Some(Postgres::shared()), Postgres::newest()]
        .into_iter()
        .flatten()
    {
        let database = server.database("clean_tables").await;
        database.execute(CLEAN).await;
        database.execute("VACUUM ANALYZE").await;

        let findings = findings(&database.url).await;

        let checks = [
            "no-primary-key",
            "constraint-not-validated",
            "unused-table",
            "empty-table",
            "never-analyzed",
            "bloated-table",
            "constant-column",
            "table-without-retention",
            "partitions-expired",
            "rule-column-without-index",
            "row-security",
            "replica-identity",
        ];
        for check in checks {
            assert_eq!(of(&findings, check), [""; 0], "{check}");
        }
    }
}

#[tokio::test]
async fn tables_without_a_key_are_found_once_for_all_partitions_and_other_keys_rank_lower() {
    for server in [Some(Postgres::shared()), Postgres::newest()]
        .into_iter()
        .flatten()
    {
        let database = server.database("keys").await;
        database
            .execute(
                r#"CREATE TABLE bare (a int, b text);
                CREATE TABLE "Odd ""Name" (a int);
                CREATE TABLE total (a int NOT NULL, b int NOT NULL, c int); CREATE UNIQUE INDEX total_ab ON total (a, b) INCLUDE (c);
                CREATE TABLE convertible (a int NOT NULL); CREATE UNIQUE INDEX convertible_a ON convertible (a);
                CREATE TABLE nullable (a int UNIQUE);
                CREATE TABLE partial (a int NOT NULL); CREATE UNIQUE INDEX ON partial (a) WHERE a > 0;
                CREATE TABLE expression (a text NOT NULL); CREATE UNIQUE INDEX ON expression (lower(a));
                CREATE TABLE parts (at date) PARTITION BY RANGE (at);
                CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
                CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
                CREATE TABLE uneven (at date NOT NULL) PARTITION BY RANGE (at);
                CREATE TABLE uneven_1 PARTITION OF uneven FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
                CREATE TABLE uneven_2 PARTITION OF uneven FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
                ALTER TABLE uneven_1 ADD PRIMARY KEY (at);
                CREATE TABLE mother (a int PRIMARY KEY); CREATE TABLE daughter () INHERITS (mother);
                CREATE TABLE good (a int PRIMARY KEY)"#,
            )
            .await;

        let findings = findings(&database.url).await;

        let found: Vec<(&str, Severity)> = findings
            .iter()
            .filter(|finding| finding.id.starts_with("no-primary-key:"))
            .map(|finding| (finding.object.as_str(), finding.severity))
            .collect();
        assert_eq!(
            found,
            [
                (r#"public."Odd ""Name""#, Severity::Warning),
                ("public.bare", Severity::Warning),
                ("public.daughter", Severity::Warning),
                ("public.expression", Severity::Warning),
                ("public.nullable", Severity::Warning),
                ("public.partial", Severity::Warning),
                ("public.parts", Severity::Warning),
                ("public.uneven_2", Severity::Warning),
                ("public.convertible", Severity::Info),
                ("public.total", Severity::Info),
                ("public.uneven", Severity::Info),
            ]
        );
        let convertible = by_id(&findings, "no-primary-key:public.convertible");
        carry_out(&database, convertible).await;
        let after = super::findings(&database.url).await;
        assert!(!ids(&after).contains(&convertible.id.as_str()));
    }
}

fn by_id<'a>(findings: &'a [Finding], id: &str) -> &'a Finding {
    findings
        .iter()
        .find(|finding| finding.id == id)
        .unwrap_or_else(|| panic!("no {id} among {:?}", ids(findings)))
}

/// Runs what a finding proposes, statement by statement: some do not run in a transaction.
async fn carry_out(database: &TestDatabase, finding: &Finding) {
    run_all(database, finding.advice.apply.as_deref().unwrap()).await;
}

async fn take_back(database: &TestDatabase, finding: &Finding) {
    run_all(database, finding.advice.undo.as_deref().unwrap()).await;
}

async fn run_all(database: &TestDatabase, sql: &str) {
    for statement in sql.split(";\n") {
        for statement in statement.split("; ") {
            database.execute(statement).await;
        }
    }
}

#[tokio::test]
async fn the_primary_key_made_of_a_unique_index_can_be_taken_back() {
    let database = Postgres::shared().database("key_undo").await;
    database
        .execute(r#"CREATE TABLE t ("a b" int NOT NULL); CREATE UNIQUE INDEX "t ab" ON t ("a b")"#)
        .await;
    let before = findings(&database.url).await;
    let finding = by_id(&before, "no-primary-key:public.t");

    carry_out(&database, finding).await;
    take_back(&database, finding).await;

    let after = findings(&database.url).await;
    assert_eq!(by_id(&after, &finding.id), finding);
}

#[tokio::test]
async fn constraints_that_were_never_validated_are_found_and_validated_by_the_proposal() {
    let database = Postgres::shared().database("not_validated").await;
    database
        .execute(
            r#"CREATE TABLE kinds (id int PRIMARY KEY);
            CREATE TABLE t (id int PRIMARY KEY, kind int);
            ALTER TABLE t ADD CONSTRAINT "is odd" CHECK (id % 2 = 1) NOT VALID, ADD CONSTRAINT t_kind FOREIGN KEY (kind) REFERENCES kinds NOT VALID;
            ALTER TABLE t ADD CONSTRAINT good CHECK (id > 0);
            CREATE TABLE p (id int, kind int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
            CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
            CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
            ALTER TABLE p ADD CONSTRAINT small CHECK (id < 100) NOT VALID;
            ALTER TABLE p1 ADD FOREIGN KEY (kind) REFERENCES kinds NOT VALID;
            ALTER TABLE p2 ADD FOREIGN KEY (kind) REFERENCES kinds NOT VALID"#,
        )
        .await;

    let found = findings(&database.url).await;

    let open = of(&found, "constraint-not-validated");
    assert_eq!(
        open,
        [
            "constraint-not-validated:public.p.p1_kind_fkey",
            "constraint-not-validated:public.p.small",
            "constraint-not-validated:public.t.is odd",
            "constraint-not-validated:public.t.t_kind",
        ]
    );
    for id in open {
        carry_out(&database, by_id(&found, id)).await;
    }
    let after = findings(&database.url).await;
    assert_eq!(of(&after, "constraint-not-validated"), [""; 0]);
}

#[tokio::test]
async fn on_the_newest_server_what_is_not_enforced_is_left_alone_and_not_null_is_seen() {
    let Some(newest) = Postgres::newest() else {
        return;
    };
    let database = newest.database("not_enforced").await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, a int, CHECK (a > 0) NOT ENFORCED); \
             ALTER TABLE t ADD CONSTRAINT a_there NOT NULL a NOT VALID",
        )
        .await;

    let found = findings(&database.url).await;

    assert_eq!(
        of(&found, "constraint-not-validated"),
        ["constraint-not-validated:public.t.a_there"]
    );
    carry_out(
        &database,
        by_id(&found, "constraint-not-validated:public.t.a_there"),
    )
    .await;
}

#[tokio::test]
async fn only_what_is_empty_for_nobody_is_called_empty() {
    let database = Postgres::shared().database("empty").await;
    database
        .execute(
            "CREATE TABLE nothing (id int PRIMARY KEY); \
             CREATE TABLE analysed (id int PRIMARY KEY); \
             CREATE TABLE queue (id int PRIMARY KEY); INSERT INTO queue VALUES (1); \
             CREATE TABLE just_loaded (id int PRIMARY KEY); \
             CREATE TABLE kinds (id int PRIMARY KEY); CREATE TABLE things (id int PRIMARY KEY, kind int REFERENCES kinds); \
             INSERT INTO things VALUES (1, NULL); \
             CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); \
             CREATE TABLE half (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE half_1 PARTITION OF half FOR VALUES FROM (0) TO (10); CREATE TABLE half_2 PARTITION OF half FOR VALUES FROM (10) TO (20); \
             INSERT INTO half VALUES (1); \
             CREATE TABLE mother (id int PRIMARY KEY); CREATE TABLE other (n int); CREATE TABLE daughter () INHERITS (other, mother); \
             INSERT INTO daughter VALUES (1, 1); \
             CREATE MATERIALIZED VIEW later AS SELECT 1 AS n WITH NO DATA",
        )
        .await;
    database.execute("DELETE FROM queue").await;
    database.execute("VACUUM queue").await;
    database
        .execute("ANALYZE analysed; ANALYZE just_loaded")
        .await;
    database.execute("INSERT INTO just_loaded VALUES (1)").await;

    let found = findings(&database.url).await;

    assert_eq!(
        of(&found, "empty-table"),
        [
            "empty-table:public.analysed",
            "empty-table:public.nothing",
            "empty-table:public.p"
        ]
    );
    carry_out(&database, by_id(&found, "empty-table:public.p")).await;
}

#[tokio::test]
async fn the_audit_does_not_wait_for_a_table_that_somebody_rebuilds() {
    let database = Postgres::shared().database("locked_table").await;
    database
        .execute(
            "CREATE TABLE locked (id int PRIMARY KEY); CREATE TABLE nothing (id int PRIMARY KEY)",
        )
        .await;
    let mut other = database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        .execute(&mut other)
        .await
        .unwrap();

    let found = findings(&database.url).await;

    assert_eq!(of(&found, "empty-table"), ["empty-table:public.nothing"]);
}

#[tokio::test]
async fn tables_of_whose_values_the_planner_knows_nothing_are_found() {
    for server in [Some(Postgres::shared()), Postgres::newest()]
        .into_iter()
        .flatten()
    {
        let database = server.database("never_analyzed").await;
        database
            .execute(
                "CREATE TABLE loaded (id int, t text); INSERT INTO loaded SELECT g, md5(g::text) FROM generate_series(1, 20000) g; \
                 CREATE TABLE restored (id int, t text); INSERT INTO restored SELECT g, md5(g::text) FROM generate_series(1, 20000) g; \
                 CREATE TABLE analysed (id int, t text); INSERT INTO analysed SELECT g, md5(g::text) FROM generate_series(1, 20000) g; \
                 CREATE TABLE small (id int); INSERT INTO small VALUES (1); \
                 CREATE TABLE p (id int, t text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10000); \
                 CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10000) TO (30000); INSERT INTO p SELECT * FROM analysed",
            )
            .await;
        // As a restore does: the index tells the catalog pages and rows.
        database
            .execute("ALTER TABLE restored ADD PRIMARY KEY (id)")
            .await;
        database
            .execute("ANALYZE analysed; ANALYZE p1; ANALYZE p2")
            .await;

        let found = findings(&database.url).await;

        assert_eq!(
            of(&found, "never-analyzed"),
            [
                "never-analyzed:public.loaded",
                "never-analyzed:public.restored",
                "never-analyzed:public.p"
            ]
        );
        for id in ["loaded", "restored", "p"] {
            carry_out(
                &database,
                by_id(&found, &format!("never-analyzed:public.{id}")),
            )
            .await;
        }
        let after = findings(&database.url).await;
        assert_eq!(of(&after, "never-analyzed"), [""; 0]);
    }
}

#[tokio::test]
async fn row_security_on_the_table_of_a_rule_is_found_and_its_policy_shows_the_rows() {
    let database = Postgres::shared().database("row_security").await;
    database
        .execute(
            "CREATE TABLE ruled (id int PRIMARY KEY, at timestamptz); INSERT INTO ruled VALUES (1, now()); \
             ALTER TABLE ruled ENABLE ROW LEVEL SECURITY; \
             CREATE TABLE other (id int PRIMARY KEY, at timestamptz); ALTER TABLE other ENABLE ROW LEVEL SECURITY",
        )
        .await;
    let role = database
        .role(
            "auditor",
            "secret",
            "GRANT SELECT ON ruled, other TO {role}",
        )
        .await;
    let context = rule_on(number(&database, "ruled").await);

    let seen = findings_for(&role.url, &context).await;
    let by_superuser = findings_for(&database.url, &context).await;

    assert_eq!(of(&seen, "row-security"), ["row-security:public.ruled"]);
    assert_eq!(of(&by_superuser, "row-security"), [""; 0]);
    let finding = by_id(&seen, "row-security:public.ruled");
    carry_out(&database, finding).await;
    let mut connection = crate::support::postgres::connect(&role.url).await;
    let visible: i64 = sqlx::query_scalar("SELECT count(*) FROM ruled")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(visible, 1);
    take_back(&database, finding).await;
}

#[tokio::test]
async fn published_tables_whose_deletes_fail_are_grave_under_a_rule() {
    for server in [Some(Postgres::shared()), Postgres::newest()]
        .into_iter()
        .flatten()
    {
        let database = server.database("replica_identity").await;
        database
            .execute(
                "CREATE TABLE ruled (a int, at timestamptz); CREATE TABLE other (a int NOT NULL UNIQUE); \
                 CREATE TABLE whole (a int); ALTER TABLE whole REPLICA IDENTITY FULL; \
                 CREATE TABLE keyed (a int PRIMARY KEY); CREATE TABLE silent (a int PRIMARY KEY); ALTER TABLE silent REPLICA IDENTITY NOTHING; \
                 CREATE TABLE p (a int) PARTITION BY RANGE (a); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); \
                 CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); \
                 CREATE TABLE inserted (a int); \
                 CREATE PUBLICATION subset FOR TABLE ruled, other, whole, keyed, silent, p; \
                 CREATE PUBLICATION inserts FOR TABLE inserted WITH (publish = 'insert'); \
                 INSERT INTO ruled VALUES (1, now())",
            )
            .await;
        let context = rule_on(number(&database, "ruled").await);

        let found = findings_for(&database.url, &context).await;

        let published: Vec<(&str, Severity)> = found
            .iter()
            .filter(|finding| finding.id.starts_with("replica-identity:"))
            .map(|finding| (finding.object.as_str(), finding.severity))
            .collect();
        assert_eq!(
            published,
            [
                ("public.ruled", Severity::Critical),
                ("public.other", Severity::Info),
                ("public.p", Severity::Info),
                ("public.silent", Severity::Info),
            ]
        );
        for name in ["ruled", "other", "p", "silent"] {
            let finding = by_id(&found, &format!("replica-identity:public.{name}"));
            carry_out(&database, finding).await;
        }
        let after = findings_for(&database.url, &context).await;
        assert_eq!(of(&after, "replica-identity"), [""; 0]);
        database.execute("DELETE FROM ruled").await;
    }
}

#[tokio::test]
async fn a_role_that_may_see_little_gets_an_audit_that_says_so() {
    let database = Postgres::shared().database("little").await;
    database.execute(CLEAN).await;
    database.execute("VACUUM ANALYZE").await;
    let role = database
        .role("monitor", "secret", "GRANT pg_monitor TO {role}")
        .await;

    let engine = PostgresEngine::new(target(&role.url)).unwrap();
    let facts = engine.hygiene().await.unwrap();
    engine.close().await;

    assert!(
        facts
            .unseen
            .iter()
            .any(|sentence| sentence.contains("column statistics")),
        "{:?}",
        facts.unseen
    );
    let findings = findings(&role.url).await;
    assert_eq!(of(&findings, "never-analyzed"), [""; 0]);
    assert_eq!(of(&findings, "bloated-table"), [""; 0]);
}
