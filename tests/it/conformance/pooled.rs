//! Sweeps through PgBouncer in transaction mode beside other clients of the same pool, which must notice nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use retention_operator::sweep::RuleEnd;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor, Row};

use super::run::{Service, Unhindered, policy, sweep};
use super::target::Target;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, SUPERUSER};

/// Sessions on the server, for one sweep and three clients.
const SESSIONS: u32 = 2;

/// Everything that a session could carry over from one client to the next.
const STATE: &str = "SELECT (SELECT string_agg(name || '=' || setting, ', ' ORDER BY name) FROM pg_settings WHERE name NOT LIKE 'plpgsql.%')
    || ', prepared=' || (SELECT count(*) FROM pg_prepared_statements)
    || ', cursors=' || (SELECT count(*) FROM pg_cursors WHERE name <> '')
    || ', locks=' || (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')
    || ', temporary=' || (SELECT count(*) FROM pg_class WHERE relpersistence = 't')
    || ', listening=' || (SELECT count(*) FROM pg_listening_channels())";

/// A client's questions and what was wrong about the answers.
#[derive(Default)]
struct Seen {
    questions: AtomicU64,
    wrong: std::sync::Mutex<Vec<String>>,
}

impl Seen {
    fn expect(&self, expected: &str, answer: Result<String, sqlx::Error>) {
        self.questions.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(answer) if answer == expected => {}
            Ok(answer) => {
                let wanted: Vec<&str> = expected.split(", ").collect();
                let other: Vec<&str> = answer
                    .split(", ")
                    .filter(|it| !wanted.contains(it))
                    .collect();
                self.note(format!(
                    "{other:?} are other than of {} wanted ones",
                    wanted.len()
                ));
            }
            Err(error) => self.note(error.to_string()),
        }
    }

    fn note(&self, wrong: String) {
        self.wrong.lock().unwrap().push(wrong);
    }
}

/// A client without a name: PgBouncer sets the one that a client stated at its begin, and would leave it to those that stated none.
async fn connect(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    options.extra_float_digits(None).connect().await.unwrap()
}

/// Asks one thing after the other, each with its own answer, in and out of transactions.
async fn client(url: &str, number: u64, state: &str, stop: &AtomicBool, seen: &Seen) {
    let mut session = connect(url).await;
    let mut n = number << 32;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let alone = format!("SELECT '{n}'");
        seen.expect(&n.to_string(), text(&mut session, &alone).await);
        seen.expect(state, text(&mut session, STATE).await);
        let written = async {
            let mut transaction = session.begin().await?;
            let insert =
                sqlx::query("INSERT INTO mine VALUES ($1) RETURNING n::text").persistent(false);
            let row = insert
                .bind(i64::try_from(n).unwrap())
                .fetch_one(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(row.get(0))
        };
        seen.expect(&n.to_string(), written.await);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn text(session: &mut PgConnection, sql: &str) -> Result<String, sqlx::Error> {
    let row = session
        .fetch_one(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
        .await?;
    row.try_get(0)
}

#[tokio::test]
async fn other_clients_of_the_pool_get_their_own_answers_and_settings() {
    let place = Target::Postgres.place(true, false, 0).await.unwrap();
    let mut service = Service::begin(&place).await;
    service
        .run(
            "CREATE TABLE mine (n bigint); CREATE TABLE t (id int, at timestamptz, status text);
             INSERT INTO t SELECT n, CASE n % 2 WHEN 0 THEN {old} ELSE {new} END, 'open' FROM generate_series(1, 20000) n;
             CREATE TABLE held (LIKE t); INSERT INTO held SELECT * FROM t WHERE id <= 2000;
             CREATE TABLE failing (LIKE t); INSERT INTO failing SELECT * FROM t WHERE id <= 2000;
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
             CREATE TRIGGER tr BEFORE DELETE ON failing FOR EACH ROW WHEN (OLD.id = 1000) EXECUTE FUNCTION f()",
        )
        .await;
    service.run("BEGIN").await;
    service
        .run("SELECT FROM held WHERE id IN (500, 1500) FOR UPDATE")
        .await;
    let pooler = PgBouncer::start_sized(Postgres::shared(), &[(SUPERUSER, SUPERUSER)], SESSIONS);
    let url = pooler.url(&place.server().name, SUPERUSER, SUPERUSER);
    let before = text(&mut connect(&url).await, STATE).await.unwrap();
    let rules = [
        "{limits: {maxPercent: 100}, where: \"lower(status) = 'open'\"}",
        "{table: held}",
        "{table: failing}",
        "{table: nowhere}",
    ];
    let policy = policy(&place, &rules, "{chunkDuration: 2ms, maxDuty: 30}");
    let (stop, seen) = (AtomicBool::new(false), Seen::default());

    let sweeping = async {
        // Given up in the middle, as by a process that ends.
        for millis in [5, 30, 80, 200] {
            let cut = tokio::time::timeout(
                Duration::from_millis(millis),
                sweep(&url, &policy, &Unhindered),
            );
            let _ = cut.await;
        }
        let swept = sweep(&url, &policy, &Unhindered).await;
        stop.store(true, Ordering::Relaxed);
        swept
    };
    let (swept, ..) = tokio::join!(
        sweeping,
        client(&url, 1, &before, &stop, &seen),
        client(&url, 2, &before, &stop, &seen),
        client(&url, 3, &before, &stop, &seen),
    );

    let report = swept.report.unwrap();
    let [open, held, failing] = report.rules.as_slice() else {
        panic!("{report:#?}");
    };
    assert!(
        matches!(open.end, RuleEnd::Complete { remaining: 0 }),
        "{open:#?}"
    );
    assert!(
        matches!(held.end, RuleEnd::Complete { remaining: 2 }),
        "{held:#?}"
    );
    assert!(matches!(failing.end, RuleEnd::Failed(_)), "{failing:#?}");
    let wrong = seen.wrong.into_inner().unwrap();
    let questions = seen.questions.into_inner();
    assert!(
        wrong.is_empty(),
        "{} of {questions}, the first: {}",
        wrong.len(),
        wrong[0]
    );
    assert!(questions > 100, "{questions} questions only");
    let written: i64 = place
        .server()
        .scalar("SELECT count(DISTINCT n) FROM mine")
        .await;
    assert_eq!(u64::try_from(written).unwrap(), questions / 3);
    let left: i64 = place
        .server()
        .scalar("SELECT count(*) FROM t WHERE id % 2 = 0")
        .await;
    assert_eq!(left, 0);
}
