//! Runs a case: document, check, audit, sweep, and a look at what is left.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use retention_operator::api::RetentionPolicy;
use retention_operator::api::validate::check_document;
use retention_operator::audit::{AuditReport, Surroundings, audit};
use retention_operator::engine::ledger::LedgerAccess;
use retention_operator::engine::{Chunk, DatabaseTarget, Engine, open};
use retention_operator::policy::check::{CheckedPolicy, check as read};
use retention_operator::policy::claims::LedgerMode;
use retention_operator::sweep::{
    Control, ControlError, Order, RuleEnd, RuleProgress, StopReason, SweepError, SweepReport,
    SweepState, Trigger, sweep_policy,
};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Row};
use tokio::sync::Mutex;

use super::case::{Case, End, Rule};
use super::target::{Database, Place, ROLE, Target, sqlite_file};

/// Runs `case` on `target`, and asserts what it says.
pub fn check(target: Target, name: &str, case: Case) {
    let case = if case.rules.is_empty() {
        case.rule("{}")
    } else {
        case
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let as_role = case.grants.is_some();
            if let Some(place) = target.place(case.own_database, as_role, case.since).await {
                println!("{name} on {target:?} in {:?}", place.schema);
                run(target, place, &case).await;
            }
        });
}

async fn run(target: Target, place: Place, case: &Case) {
    let mut service = Service::begin(&place).await;
    match (&case.sqlite, &place.schema) {
        (Some(setup), None) => service.run(setup).await,
        _ => service.run(&case.setup).await,
    }
    if let Some(grants) = &case.grants {
        let schema = "GRANT USAGE ON SCHEMA {schema} TO {role}";
        service.run(schema).await;
        service.run(grants).await;
    }
    if let Some(sql) = &case.ledger {
        let schema = place.schema.as_deref().unwrap_or("main");
        service
            .run(&in_the_ledger(&place.url, schema, sql).await)
            .await;
    }
    let before = service.rows(&case.rows).await;
    let mut holder = match &case.open_transaction {
        Some(sql) => {
            let mut holder = Service::begin(&place).await;
            holder.run("BEGIN").await;
            holder.run(sql).await;
            Some(holder)
        }
        None => None,
    };

    let mut document = case.document(place.schema.as_deref());
    if place.schema.is_none() && document["spec"]["database"].get("ledger").is_none() {
        // Nothing is swept there without one.
        document["spec"]["database"]["ledger"] = "Auto".into();
    }
    // Once is enough: the check knows no target, and takes its time.
    let policy: RetentionPolicy = if target == Target::Postgres {
        check_document(&document).unwrap_or_else(|errors| panic!("{errors:?}"))
    } else {
        serde_json::from_value(document).unwrap()
    };
    let checked = read(&policy.spec);
    let conductor = Conductor::new(service, case);
    let swept = sweep(&place.url, &checked, &conductor).await;
    let first = conductor.service.lock().await.rows(&case.rows).await;
    let refusals: Vec<_> = swept
        .audited
        .rules
        .iter()
        .map(|rule| rule.result.as_ref().err())
        .collect();
    let context = format!(
        "before: {before:?}; left: {first:?}; refused: {refusals:?}; {:#?}",
        swept.report
    );

    let stays = case.stays.as_deref().map_or_else(|| before.clone(), listed);
    assert_eq!(first, stays, "the rows that are left; {context}");
    for rule in &case.rules {
        let name = rule.document["name"].as_str().unwrap();
        let gone = before.len().saturating_sub(first.len());
        assert_end(name, rule, gone, &swept, &context);
    }

    if let Some(stays) = &case.then_stays {
        if let Some(mut holder) = holder.take() {
            holder.run("COMMIT").await;
        }
        let second = sweep(&place.url, &checked, &conductor).await;
        let left = conductor.service.lock().await.rows(&case.rows).await;
        assert_eq!(left, listed(stays), "after {:#?}", second.report);
    }
}

/// What a sweep was seen to do.
pub struct Swept {
    /// The audit before it, which says what is refused.
    pub audited: AuditReport,
    /// `None`: the policy as a whole is refused, as its rules say.
    pub report: Option<SweepReport>,
}

/// Audits and sweeps as `sweep -f` does.
pub async fn sweep(url: &str, policy: &CheckedPolicy, control: &dyn Control) -> Swept {
    if policy.refusals.is_empty() {
        let (audited, report) = sweep_by(url, policy, control, Timestamp::now).await;
        let report = Some(report.unwrap());
        return Swept { audited, report };
    }
    let engine = engine(url, policy);
    let audited = audit(engine.as_ref(), policy, &around()).await.unwrap();
    engine.close().await;
    Swept {
        audited,
        report: None,
    }
}

fn around() -> Surroundings {
    let mut around = Surroundings::alone("conformance/case");
    around.enters = true;
    around.party.sweeper = format!("case/{:016x}", fastrand::u64(..));
    around
}

/// [`sweep`] by an operator with a clock of its own.
pub async fn sweep_by(
    url: &str,
    policy: &CheckedPolicy,
    control: &dyn Control,
    clock: fn() -> Timestamp,
) -> (AuditReport, Result<SweepReport, SweepError>) {
    let engine = engine(url, policy);
    let engine = engine.as_ref();
    let around = around();
    let audited = audit(engine, policy, &around).await.unwrap();
    let mut state = SweepState::begin(Trigger::Request, clock(), 1);
    let order = Order {
        around: &around,
        generation: 1,
        spec: "case",
        approved_plan: None,
        clock,
    };
    let mut swept = sweep_policy(engine, policy, &order, &mut state, control).await;
    for _ in 0..10 {
        let Ok(before) = swept else { break };
        if !before.stopped().is_some_and(StopReason::is_planned_anew) {
            swept = Ok(before);
            break;
        }
        let anew = sweep_policy(engine, policy, &order, &mut state, control).await;
        let is_over = anew.as_ref().is_ok_and(|report| report.stopped().is_none());
        swept = anew.map(|report| report.after(before));
        if is_over {
            break;
        }
    }
    engine.close().await;
    (audited, swept)
}

/// Makes the ledger; the statement that a case has for it, on this engine.
async fn in_the_ledger(url: &str, schema: &str, sql: &str) -> String {
    let settings: RetentionPolicy = serde_json::from_value(Case::of("").document(None)).unwrap();
    let engine = engine(url, &read(&settings.spec));
    let LedgerAccess::Usable(_) = engine.ledger(LedgerMode::Auto, true).await.unwrap() else {
        panic!("no ledger");
    };
    let table = format!("{schema}.t");
    let found = engine.tables(&[table.parse().unwrap()]).await.unwrap();
    engine.close().await;
    let (ledger, now) = if url.starts_with("sqlite:") {
        ("retention_operator_", "'2026-01-01T00:00:00.000Z'")
    } else {
        ("retention_operator.", "now()")
    };
    sql.replace("{ledger}", ledger)
        .replace("{table_id}", &found[0].as_ref().unwrap().id.to_string())
        .replace("{table}", &table)
        .replace("{now}", now)
}

/// The engine with a policy's own settings.
fn engine(url: &str, policy: &CheckedPolicy) -> Box<dyn Engine> {
    open(DatabaseTarget {
        url: url.to_owned().into(),
        tls_mode: None,
        tls_ca_pem: None,
        application_name: "retention-operator/conformance/case".to_owned(),
        lock_timeout: policy.lock_timeout,
        statement_timeout: policy.statement_timeout,
        max_connections: policy.max_connections,
        allow_local_files: url.starts_with("sqlite:"),
    })
    .unwrap()
}

fn assert_end(name: &str, rule: &Rule, gone: usize, swept: &Swept, context: &str) {
    let end = &rule.end;
    let audited = swept.audited.rules.iter().find(|rule| rule.name == name);
    let refusal = audited.unwrap().result.as_ref().err();
    let reports = swept.report.iter().flat_map(|report| &report.rules);
    let report = reports.into_iter().find(|rule| rule.progress.name == name);
    match (end, refusal, report) {
        (End::Refused { reason, words }, Some(refusal), None) => {
            assert_eq!(refusal.reason, *reason, "{refusal}");
            assert!(refusal.message.contains(words), "{words:?} in {refusal}");
        }
        (End::Untouched, None, None) => {}
        (
            End::Swept {
                deleted,
                blocked,
                left,
            },
            None,
            Some(report),
        ) => {
            let RuleEnd::Complete { remaining } = report.end else {
                panic!("rule {name} did not come to its end; {context}");
            };
            let deleted = deleted.unwrap_or(u64::try_from(gone).unwrap());
            assert_eq!(
                (report.rows_deleted, report.blocked_rows, remaining),
                (deleted, *blocked, *left),
                "deleted, passed over, still there; {context}"
            );
            if rule.unreadable.is_some() {
                assert_eq!(report.unreadable_rows, rule.unreadable, "{context}");
            }
        }
        (End::Ended, None, Some(report)) => {
            let complete = matches!(report.end, RuleEnd::Complete { .. });
            assert!(complete, "rule {name} did not come to its end; {context}");
        }
        (End::Failed { category, words }, None, Some(report)) => {
            let RuleEnd::Failed(error) = &report.end else {
                panic!("rule {name} did not fail; {context}");
            };
            assert_eq!(error.category(), *category, "{error}");
            assert!(error.to_string().contains(words), "{words:?} in {error}");
        }
        (End::Stopped { reason }, None, Some(report)) => {
            let stopped = matches!(report.end, RuleEnd::Stopped(why) if why == *reason);
            assert!(stopped, "rule {name} was not stopped; {context}");
        }
        (End::Limited { words }, None, Some(report)) => {
            let RuleEnd::Blocked { reason, .. } = &report.end else {
                panic!("rule {name} was not limited; {context}");
            };
            assert!(reason.contains(words), "{words:?} in {reason}");
        }
        _ => panic!("rule {name}: wanted {end:?}, got refusal {refusal:?}; {context}"),
    }
}

/// Texts divided by blanks, in the order in which [`Service::rows`] gives them.
fn listed(text: &str) -> Vec<String> {
    in_order(text.split_whitespace().map(str::to_owned).collect())
}

fn in_order(mut rows: Vec<String>) -> Vec<String> {
    rows.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    rows
}

/// The session of the service that owns the data.
pub struct Service {
    session: Session,
    schema: String,
}

enum Session {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Service {
    /// Connects; on PostgreSQL with the case's schema first in the search path, which is made where it is not there.
    pub async fn begin(place: &Place) -> Self {
        let schema = place.schema.clone().unwrap_or_default();
        match &place.database {
            Database::Postgres(database) => {
                let session = Session::Postgres(database.connect().await);
                let mut service = Self { session, schema };
                let begin =
                    "SET client_min_messages = warning; CREATE SCHEMA IF NOT EXISTS {schema};
                    SET search_path = {schema}, public";
                service.run(begin).await;
                service
            }
            Database::Sqlite(folder) => {
                let options = SqliteConnectOptions::new()
                    .filename(sqlite_file(folder))
                    .create_if_missing(true);
                let session = SqliteConnection::connect_with(&options).await.unwrap();
                Self {
                    session: Session::Sqlite(session),
                    schema,
                }
            }
        }
    }

    fn expand(&self, sql: &str) -> String {
        match &self.session {
            Session::Postgres(_) => sql
                .replace("{old}", "(now() - interval '400 days')")
                .replace("{new}", "(now() - interval '10 days')")
                .replace("{schema_plain}", &self.schema)
                .replace("{schema}", &format!("\"{}\"", self.schema))
                .replace("{role}", ROLE),
            Session::Sqlite(_) => sql
                .replace(
                    "{old}",
                    "strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-400 days')",
                )
                .replace("{new}", "strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-10 days')")
                .replace("{schema}.", ""),
        }
    }

    /// Runs any number of statements.
    pub async fn run(&mut self, sql: &str) {
        let sql = self.expand(sql);
        let statements = sqlx::raw_sql(AssertSqlSafe(sql.as_str()));
        let done = match &mut self.session {
            Session::Postgres(session) => statements.execute(session).await.map(drop),
            Session::Sqlite(session) => statements.execute(session).await.map(drop),
        };
        done.unwrap_or_else(|error| panic!("{error}, in: {sql}"));
    }

    /// The first column of a query's rows, the shorter ones first.
    pub async fn rows(&mut self, query: &str) -> Vec<String> {
        let sql = self.expand(query);
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.as_str()));
        let rows = match &mut self.session {
            Session::Postgres(session) => {
                let rows = statement.fetch_all(session).await;
                rows.map(|rows| rows.iter().map(|row| row.get(0)).collect())
            }
            Session::Sqlite(session) => {
                let rows = statement.fetch_all(session).await;
                rows.map(|rows| rows.iter().map(|row| row.get(0)).collect())
            }
        };
        in_order(rows.unwrap_or_else(|error: sqlx::Error| panic!("{error}, in: {sql}")))
    }
}

/// Lets a sweep run, and the service do its part at the moments that the case states.
struct Conductor {
    service: Mutex<Service>,
    meanwhile: Mutex<Vec<String>>,
    after_first_chunk: Mutex<Vec<String>>,
}

impl Conductor {
    fn new(service: Service, case: &Case) -> Self {
        Self {
            service: Mutex::new(service),
            meanwhile: Mutex::new(case.meanwhile.clone()),
            after_first_chunk: Mutex::new(case.after_first_chunk.clone()),
        }
    }
}

#[async_trait]
impl Control for Conductor {
    fn stop(&self) -> Option<StopReason> {
        None
    }

    /// Called after a chunk. Nobody else is on the server for whom to wait.
    async fn rest(&self, _: Duration) {
        let sql = std::mem::take(&mut *self.after_first_chunk.lock().await);
        for sql in sql {
            self.service.lock().await.run(&sql).await;
        }
    }

    async fn begun(&self, state: &SweepState) -> Result<(), ControlError> {
        let cutoff = state.rules.first().map(|rule| rule.cutoff.to_string());
        for sql in std::mem::take(&mut *self.meanwhile.lock().await) {
            let sql = sql.replace("{cutoff}", cutoff.as_deref().unwrap_or_default());
            self.service.lock().await.run(&sql).await;
        }
        Ok(())
    }

    async fn record(&self, _: &RuleProgress) -> Result<(), ControlError> {
        Ok(())
    }

    fn advanced(&self, _: &RuleProgress, _: Chunk, _: Duration) {}

    fn waits(&self, _: &RuleProgress, _: &str) {}
}

/// Lets a sweep run as it wants, with the rests that it wants.
pub struct Unhindered;

#[async_trait]
impl Control for Unhindered {
    fn stop(&self) -> Option<StopReason> {
        None
    }

    async fn rest(&self, rest: Duration) {
        tokio::time::sleep(rest).await;
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

/// A policy that enforces `rules` (YAML, as in [`Case::rule`]) on tables of `schema`, at a pace.
pub fn policy(place: &Place, rules: &[&str], pace: &str) -> CheckedPolicy {
    let case = Case::of("").policy(&format!("{{pace: {pace}}}"));
    let case = rules.iter().fold(case, |case, rule| case.rule(rule));
    let mut document = case.document(place.schema.as_deref());
    if place.schema.is_none() {
        // Nothing is swept there without one.
        document["spec"]["database"]["ledger"] = "Auto".into();
    }
    let policy: RetentionPolicy = serde_json::from_value(document).unwrap();
    read(&policy.spec)
}
