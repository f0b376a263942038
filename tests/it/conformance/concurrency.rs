//! A sweep beside a service that works on the same rows, and beside a second sweep.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use retention_operator::engine::Chunk;
use retention_operator::sweep::{
    Control, ControlError, RuleEnd, RuleProgress, StopReason, SweepState,
};
use rstest::rstest;
use sqlx::{Executor, Row};

use super::run::{Service, Unhindered, policy, sweep};
use super::target::{Place, Target};

/// Rows of `t`; the even ones have expired.
const ROWS: u32 = 12_000;
/// Many chunks, so that there is much between them.
const SMALL_CHUNKS: &str = "{chunkDuration: 2ms, maxDuty: 50}";
const ANY_NUMBER: &str = "{limits: {maxPercent: 100}}";

async fn prepared(target: Target) -> Option<Place> {
    let place = target.place(true, false, 0).await?;
    Service::begin(&place)
        .await
        .run(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, pad text);
             INSERT INTO t SELECT n, CASE n % 2 WHEN 0 THEN {{old}} ELSE {{new}} END, repeat('x', 60) FROM generate_series(1, {ROWS}) n;
             CREATE TABLE gone (id int);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.gone VALUES (OLD.id); RETURN OLD; END';
             CREATE TRIGGER note AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION note()"
        ))
        .await;
    Some(place)
}

/// What the service did to rows while it could.
#[derive(Default)]
struct Done {
    renewed: BTreeSet<i32>,
    deleted: BTreeSet<i32>,
}

/// Renews, moves and deletes rows of its own choice, one after the other, until `stop`.
async fn service(place: &Place, seed: u64, stop: &AtomicBool) -> Done {
    let mut rng = Rng::with_seed(seed);
    let mut session = place.server().connect().await;
    let mut done = Done::default();
    while !stop.load(Ordering::Relaxed) {
        let id = rng.i32(1..=i32::try_from(ROWS).unwrap());
        let (sql, what) = match rng.u8(0..4) {
            0 | 1 => (
                "UPDATE t SET at = now() WHERE id = $1 RETURNING id",
                Some(&mut done.renewed),
            ),
            2 => (
                "UPDATE t SET pad = 'moved' WHERE id = $1 RETURNING id",
                None,
            ),
            _ => (
                "DELETE FROM t WHERE id = $1 AND id % 16 = 0 RETURNING id",
                Some(&mut done.deleted),
            ),
        };
        let rows = sqlx::query(sql)
            .bind(id)
            .fetch_all(&mut session)
            .await
            .unwrap();
        if let Some(what) = what {
            what.extend(rows.iter().map(|row| row.get::<i32, _>(0)));
        }
        // Not a wait for anything: two services that never pause would leave nobody else the machine.
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    done
}

#[rstest]
#[case(Target::Postgres)]
#[case(Target::PgBouncer)]
#[case(Target::Newest)]
#[tokio::test]
async fn no_row_that_the_service_renews_goes_and_every_other_expired_row_does(
    #[case] target: Target,
) {
    let Some(place) = prepared(target).await else {
        return;
    };
    let policy = policy(&place, &[ANY_NUMBER], SMALL_CHUNKS);
    let stop = AtomicBool::new(false);

    let sweeping = async {
        let first = sweep(&place.url, &policy, &Unhindered).await;
        stop.store(true, Ordering::Relaxed);
        first
    };
    let (swept, one, other) = tokio::join!(
        sweeping,
        service(&place, 1, &stop),
        service(&place, 2, &stop)
    );
    let report = &swept.report.unwrap().rules[0];
    assert!(matches!(report.end, RuleEnd::Complete { .. }), "{report:?}");
    // Rows that were moved behind the walk, or held in its moment, are the next sweep's.
    let rest = sweep(&place.url, &policy, &Unhindered).await;
    let rest = &rest.report.unwrap().rules[0];
    assert!(
        matches!(rest.end, RuleEnd::Complete { remaining: 0 }),
        "{rest:?}"
    );

    let renewed: BTreeSet<i32> = one.renewed.union(&other.renewed).copied().collect();
    let deleted: BTreeSet<i32> = one.deleted.union(&other.deleted).copied().collect();
    let expected: BTreeSet<i32> = (1..=i32::try_from(ROWS).unwrap())
        .filter(|id| id % 2 == 1 || renewed.contains(id))
        .filter(|id| !deleted.contains(id))
        .collect();
    let mut session = place.server().connect().await;
    let left = session.fetch_all("SELECT id FROM t").await.unwrap();
    let left: BTreeSet<i32> = left.iter().map(|row| row.get::<i32, _>(0)).collect();
    let lost: Vec<_> = expected.difference(&left).collect();
    let kept: Vec<_> = left.difference(&expected).collect();
    assert!(
        lost.is_empty() && kept.is_empty(),
        "lost {lost:?}, kept {kept:?}"
    );
    assert!(
        renewed.len() > 50,
        "the service did {} renewals",
        renewed.len()
    );
    // What is reported is what was committed.
    let gone: i64 = place.server().scalar("SELECT count(*) FROM gone").await;
    let by_service = i64::try_from(deleted.len()).unwrap();
    let reported = i64::try_from(report.rows_deleted + rest.rows_deleted).unwrap();
    assert_eq!(gone, by_service + reported);
}

#[rstest]
#[case(Target::Postgres)]
#[case(Target::PgBouncer)]
#[case(Target::Newest)]
#[tokio::test]
async fn two_operators_on_one_table_take_each_row_once(#[case] target: Target) {
    let Some(place) = prepared(target).await else {
        return;
    };
    let policy = policy(&place, &[ANY_NUMBER], SMALL_CHUNKS);

    let (one, other) = tokio::join!(
        sweep(&place.url, &policy, &Unhindered),
        sweep(&place.url, &policy, &Unhindered),
    );

    let mut deleted = 0;
    for swept in [one, other] {
        let report = &swept.report.unwrap().rules[0];
        assert!(
            matches!(report.end, RuleEnd::Complete { remaining: 0 }),
            "{report:?}"
        );
        deleted += report.rows_deleted;
    }
    let twice: i64 = place
        .server()
        .scalar("SELECT count(*) - count(DISTINCT id) FROM gone")
        .await;
    let left: i64 = place.server().scalar("SELECT count(*) FROM t").await;
    assert_eq!(
        (deleted, twice, left),
        (u64::from(ROWS / 2), 0, i64::from(ROWS / 2))
    );
}

#[rstest]
#[case(Target::Postgres)]
#[case(Target::PgBouncer)]
#[case(Target::Newest)]
#[tokio::test]
async fn a_row_that_somebody_holds_is_waited_for_no_longer_than_the_lock_timeout(
    #[case] target: Target,
) {
    let Some(place) = prepared(target).await else {
        return;
    };
    let mut holder = Service::begin(&place).await;
    holder.run("BEGIN").await;
    holder
        .run("SELECT FROM t WHERE id IN (2, 5000, 12000) FOR UPDATE")
        .await;
    let policy = policy(&place, &[ANY_NUMBER], "{chunkDuration: 20ms, maxDuty: 100}");
    let stop = AtomicBool::new(false);

    let sweeping = async {
        let swept = sweep(&place.url, &policy, &Unhindered).await;
        stop.store(true, Ordering::Relaxed);
        swept
    };
    let (swept, longest) = tokio::join!(sweeping, longest_wait(&place, &stop));

    let report = &swept.report.unwrap().rules[0];
    assert!(
        matches!(report.end, RuleEnd::Complete { remaining: 3 }),
        "{report:?}"
    );
    assert_eq!(
        (report.rows_deleted, report.blocked_rows),
        (u64::from(ROWS / 2) - 3, 3)
    );
    // 100 ms, and what a busy machine adds to a timer.
    assert!(longest < 250.0, "somebody waited {longest} ms");
    assert!(longest > 0.0, "nobody was seen to wait");
}

/// The longest wait for a lock in this database, in milliseconds, looked at again and again until `stop`.
async fn longest_wait(place: &Place, stop: &AtomicBool) -> f64 {
    let mut session = place.server().connect().await;
    let mut longest: f64 = 0.0;
    while !stop.load(Ordering::Relaxed) {
        let row = session
            .fetch_one(
                "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart)::float8), 0) * 1000
                 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.datname = current_database()",
            )
            .await
            .unwrap();
        longest = longest.max(row.get(0));
    }
    longest
}

/// Gives rows of its choice a row that refers to them, one after the other, until `stop`; those that got one.
async fn referrer(place: &Place, seed: u64, stop: &AtomicBool) -> BTreeSet<i32> {
    let mut rng = Rng::with_seed(seed);
    let mut session = place.server().connect().await;
    let mut referred = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        let id = rng.i32(1..=i32::try_from(ROWS).unwrap());
        let inserted = sqlx::query("INSERT INTO child VALUES ($1)")
            .bind(id)
            .execute(&mut session)
            .await;
        match inserted {
            Ok(_) => drop(referred.insert(id)),
            // The row is gone already.
            Err(error) => assert_eq!(
                error.as_database_error().unwrap().code().as_deref(),
                Some("23503")
            ),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    referred
}

#[rstest]
#[case(Target::Postgres, "")]
#[case(Target::Postgres, "ON DELETE CASCADE")]
#[case(Target::PgBouncer, "ON DELETE SET NULL")]
#[case(Target::Newest, "DEFERRABLE INITIALLY DEFERRED")]
#[tokio::test]
async fn rows_that_come_to_be_referred_to_stay_and_the_others_go_also_where_none_may_be(
    #[case] target: Target,
    #[case] key: &str,
) {
    let Some(place) = prepared(target).await else {
        return;
    };
    place
        .server()
        .execute(&format!("CREATE TABLE child (t_id int REFERENCES t {key})"))
        .await;
    let policy = policy(&place, &[ANY_NUMBER], SMALL_CHUNKS);
    let stop = AtomicBool::new(false);
    let begun = AfterAChunk::default();

    let sweeping = async {
        let swept = sweep(&place.url, &policy, &begun).await;
        stop.store(true, Ordering::Relaxed);
        swept
    };
    let later = async |seed| {
        begun.first.notified().await;
        begun.first.notify_one();
        referrer(&place, seed, &stop).await
    };
    let (swept, one, other) = tokio::join!(sweeping, later(3), later(4));

    let report = &swept.report.unwrap().rules[0];
    assert!(matches!(report.end, RuleEnd::Complete { .. }), "{report:?}");
    let referred: BTreeSet<i32> = one.union(&other).copied().collect();
    let expected: BTreeSet<i32> = (1..=i32::try_from(ROWS).unwrap())
        .filter(|id| id % 2 == 1 || referred.contains(id))
        .collect();
    let mut session = place.server().connect().await;
    let left = session.fetch_all("SELECT id FROM t").await.unwrap();
    let left: BTreeSet<i32> = left.iter().map(|row| row.get::<i32, _>(0)).collect();
    assert_eq!(left, expected);
    let kept = referred.iter().filter(|id| **id % 2 == 0).count();
    assert!(kept > 0, "no expired row was referred to in time");
    let orphans: i64 = place
        .server()
        .scalar("SELECT count(*) FROM child WHERE t_id IS NULL")
        .await;
    assert_eq!(orphans, 0);
}

/// Says when the first chunk is over.
#[derive(Default)]
struct AfterAChunk {
    first: tokio::sync::Notify,
}

#[async_trait]
impl Control for AfterAChunk {
    fn stop(&self) -> Option<StopReason> {
        Unhindered.stop()
    }

    async fn rest(&self, rest: Duration) {
        self.first.notify_one();
        Unhindered.rest(rest).await;
    }

    async fn begun(&self, _: &SweepState) -> Result<(), ControlError> {
        Ok(())
    }

    async fn record(&self, _: &RuleProgress) -> Result<(), ControlError> {
        Ok(())
    }

    fn advanced(&self, _: &RuleProgress, _: Chunk, _: Duration) {}

    fn waits(&self, _: &RuleProgress, _: &str) {}
}
