//! The database that the inputs are tried on, and the Secrets with its address and with what is none.

use std::collections::HashMap;

use crate::operator::rig::Rig;
use crate::support::postgres::Postgres;

/// In addresses that lead to the database, and in some that do not: nobody may ever see it.
pub const PASSWORD: &str = "Tr0ub4dor";
pub const WRONG_PASSWORD: &str = "Wr0ngH0rse";

/// What the words of the table name that is another one in each run, and the addresses in the Secrets.
pub struct World {
    /// Words for `{…}` of the table.
    words: Vec<(&'static str, String)>,
    /// Addresses by their Secret.
    addresses: HashMap<&'static str, String>,
}

impl World {
    /// Fills the rig's database and namespace.
    pub async fn prepare(rig: &Rig, closed_port: u16) -> Self {
        rig.database
            .execute(
                "CREATE TABLE logs (id int PRIMARY KEY, at timestamptz, note text, n int);
                 INSERT INTO logs SELECT n, now() - n * interval '1 day', 'note', n FROM generate_series(1, 100) AS n;
                 CREATE VIEW logs_view AS SELECT * FROM logs; CREATE MATERIALIZED VIEW logs_copy AS SELECT * FROM logs;
                 CREATE TABLE parent (id int PRIMARY KEY, at timestamptz);
                 CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
                 INSERT INTO parent SELECT id, at FROM logs; INSERT INTO child SELECT id, id FROM parent;
                 CREATE TABLE private AS TABLE parent; CREATE TABLE readable AS TABLE parent;
                 CREATE TABLE secured AS TABLE parent; ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
                 CREATE POLICY few ON secured USING (id < 10);
                 CREATE TABLE rewritten AS TABLE parent; CREATE RULE keep AS ON DELETE TO rewritten DO INSTEAD NOTHING;
                 CREATE TABLE narrow (id int, at timestamptz); CREATE SEQUENCE numbers; CREATE TABLE touched (n int);
                 CREATE FUNCTION touch(n int) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS
                   $$ BEGIN INSERT INTO touched VALUES (n); RETURN true; END $$;
                 ANALYZE",
            )
            .await;
        let app = rig
            .database
            .role(
                "app",
                PASSWORD,
                "GRANT SELECT, DELETE ON logs, parent, child, secured, rewritten TO {role}; GRANT SELECT ON readable, logs_view, logs_copy TO {role};
                 GRANT SELECT, INSERT ON narrow TO {role}; GRANT USAGE ON SEQUENCE numbers TO {role}",
            )
            .await;
        let good = rig.database.url_as(&app.name, PASSWORD);
        let at = |from: &str, to: &str| good.replace(from, to);
        let database = rig.database.name.clone();
        let address = good.split(['@', '/']).nth(3).unwrap().to_owned();
        let closed = format!("127.0.0.1:{closed_port}");
        let apart = Postgres::shared().database("apart").await;
        apart
            .execute(&format!(
                "CREATE TABLE logs (id int, at timestamptz, n int); GRANT SELECT, DELETE ON logs TO \"{}\"",
                app.name
            ))
            .await;
        let uris = [
            ("apart", apart.url_as(&app.name, PASSWORD)),
            ("app", good.clone()),
            ("empty", String::new()),
            ("prose", format!("the password is {PASSWORD}")),
            ("mysql", format!("mysql://app:{PASSWORD}@127.0.0.1/shop")),
            (
                "unparsable",
                format!("postgres://app:{PASSWORD}@127.0.0.1:port/shop"),
            ),
            ("wrong-password", at(PASSWORD, WRONG_PASSWORD)),
            ("no-user", at(&app.name, "nobody_here")),
            (
                "no-database",
                at(&format!("/{database}"), "/no_such_database"),
            ),
            ("no-host", at(&address, "no-such-host.invalid")),
            ("no-port", at(&address, &closed)),
        ];
        for (secret, uri) in &uris {
            rig.secret(secret, &[("uri", uri)]).await;
        }
        rig.secret("incomplete", &[("password", PASSWORD)]).await;
        rig.secret(
            "bad-port",
            &[
                ("host", "127.0.0.1"),
                ("port", "70000"),
                ("dbname", &database),
                ("username", "app"),
                ("password", PASSWORD),
            ],
        )
        .await;
        Self {
            words: vec![
                ("{role}", app.name),
                ("{database}", database),
                ("{address}", address),
                ("{closed}", closed),
            ],
            addresses: uris.into_iter().collect(),
        }
    }

    /// The table's words as they are said in this run.
    pub fn fill(&self, says: &str) -> String {
        self.words
            .iter()
            .fold(says.to_owned(), |says, (name, word)| {
                says.replace(name, word)
            })
    }

    /// What a Secret holds, for `DATABASE_URL`.
    pub fn address(&self, secret: &str) -> &str {
        &self.addresses[secret]
    }

    /// Everything in the database that a policy could have changed: rows, what is there, and who may do what.
    pub async fn contents(rig: &Rig) -> String {
        rig.database
            .scalar(
                "SELECT concat_ws(' ',
                     (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM logs t),
                     (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM parent t),
                     (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM child t),
                     (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM private t),
                     (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM readable t),
                     (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM secured t),
                     (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM rewritten t),
                     (SELECT count(*) FROM narrow), (SELECT count(*) FROM touched), (SELECT is_called FROM numbers),
                     (SELECT string_agg(oid || ':' || relname || ':' || relkind::text || ':' || relfilenode || ':' || coalesce(relacl::text, ''), ','
                        ORDER BY oid) FROM pg_class WHERE oid >= 16384),
                     (SELECT string_agg(oid::regprocedure::text, ',' ORDER BY oid) FROM pg_proc WHERE oid >= 16384),
                     (SELECT string_agg(nspname, ',' ORDER BY nspname) FROM pg_namespace WHERE nspname !~ '^pg_'))",
            )
            .await
    }
}
