//! `sweep -f`: one sweep, now; ignores cron and window, takes the same locks and limits.

use std::{
    collections::HashSet,
    io::IsTerminal,
    sync::Mutex,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Ending,
    input::Input,
    offline::{self, Format, Offline},
    output,
};
use crate::{
    api::RetentionPolicyStatus,
    audit::{self, AuditReport, Plan},
    engine::Chunk,
    policy::approval::{BlockedRule, approved_by, plan_hash, spec_mark, table_identity},
    report,
    sweep::{
        Control, ControlError, Order, Outcome, RuleEnd, RuleProgress, StopReason, SweepError,
        SweepReport, SweepState, Trigger, sweep_plan, sweep_policy,
    },
};

/// A sweep that was interrupted longer ago is not gone on with.
const GOES_ON: SignedDuration = SignedDuration::from_hours(24);

/// So often a sweep is planned anew before it gives up, and so often without a row between: partitions that come all the time must not
/// keep it for ever.
const MOST_PLANS: u32 = 100;
const MOST_PLANS_IN_VAIN: u32 = 10;

/// Arguments of `sweep`.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: Input,

    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,

    /// Approve the blocked plan of that hash, as `plan` printed it.
    #[arg(long, value_name = "HASH")]
    approve: Option<String>,
}

pub(super) async fn run(arguments: Arguments) -> Result<Ending, String> {
    let offline = offline::open(&arguments.input)?;
    if offline.checked.suspended {
        return Err("spec.suspend is true: write suspend: false to sweep".to_owned());
    }
    if !offline.checked.enforced {
        return Err("spec.mode is Audit: write mode: Enforce to sweep, or use plan to see what a sweep would do".to_owned());
    }
    if let Some(refusal) = offline.checked.refusals.first() {
        return Err(refusal.to_string());
    }
    let control = Terminal::new();
    let result = sweep(&offline, arguments.approve.as_deref(), &control).await;
    offline.engine.close().await;
    control.clear();
    let Swept {
        mut state,
        audited,
        report,
        error,
        mut status,
    } = result?;
    let now = Timestamp::now();
    report::apply_sweep(&mut status, &mut state, &report, now);
    offline.judge(&mut status, &audited, now);
    match arguments.output {
        Format::Json => {
            let mut value = output::report(&offline.policy, &status);
            if let Some(hash) = blocked_hash(&offline, &report, &status) {
                value["planHash"] = json!(hash);
            }
            output::print_json(&value)?;
        }
        Format::Table => print(&offline, &report, &status),
    }
    match error {
        Some(error) => Err(error),
        None => Ok(ending(&report, &status)),
    }
}

struct Swept {
    state: SweepState,
    audited: AuditReport,
    report: SweepReport,
    /// What put an end to it after the report's part, when it was planned anew.
    error: Option<String>,
    status: RetentionPolicyStatus,
}

async fn sweep(
    offline: &Offline,
    approve: Option<&str>,
    control: &Terminal,
) -> Result<Swept, String> {
    let engine = offline.engine.as_ref();
    let around = offline.around(true);
    let spec = spec_mark(&offline.policy.spec);
    let (audited, plan) = audit::rules(engine, &offline.checked, &around)
        .await
        .map_err(|error| error.to_string())?;
    let now = Timestamp::now();
    let mut status = RetentionPolicyStatus::default();
    report::apply_audit(&mut status, &audited, now);
    let order = Order {
        around: &around,
        generation: 0,
        spec: &spec,
        approved_plan: approve,
        clock: Timestamp::now,
    };
    let trigger = if approve.is_some() {
        Trigger::Approval
    } else {
        Trigger::Request
    };
    let mut state =
        interrupted(&audited, &spec, now).unwrap_or_else(|| SweepState::begin(trigger, now, 0));
    let nothing = SweepReport::default();
    let first = (Some(plan), nothing);
    let (mut report, mut error) = run_through(offline, first, &order, &mut state, control).await?;
    if let Some(approved) = approve.filter(|_| error.is_none()) {
        let second = (approved, &order);
        (report, error) =
            retry_approved(offline, second, &status, &mut state, report, control).await?;
    }
    Ok(Swept {
        state,
        audited,
        report,
        error,
        status,
    })
}

/// The sweep that an earlier process of this very policy began and did not end, if the ledger knows one.
fn interrupted(audited: &AuditReport, spec: &str, now: Timestamp) -> Option<SweepState> {
    let record = audited
        .unfinished
        .as_ref()
        .filter(|record| record.spec == spec && now.duration_since(record.started) < GOES_ON)?;
    let state = SweepState::recorded(record, 0, &audited.facts.identity)?;
    eprintln!("going on with sweep {}", state.id);
    Some(state)
}

/// One sweep, by the `plan` of a moment ago where there is one; planned anew when the holds on the database change under way, a
/// ledger is made, or partitions come or go. `before`: what was done already, which stays in the report, also beside an error.
async fn run_through(
    offline: &Offline,
    (mut plan, mut before): (Option<Plan>, SweepReport),
    order: &Order<'_>,
    state: &mut SweepState,
    control: &Terminal,
) -> Result<(SweepReport, Option<String>), String> {
    let (mut plans, mut in_vain) = (0, 0);
    loop {
        let (engine, policy) = (offline.engine.as_ref(), &offline.checked);
        let outcome = match plan.take() {
            Some(plan) => sweep_plan(engine, policy, plan, order, state, control).await,
            None => sweep_policy(engine, policy, order, state, control).await,
        };
        let report = match outcome.map_err(|error: SweepError| error.to_string()) {
            Ok(report) => report,
            Err(error) if before.rules.is_empty() => return Err(error),
            Err(error) => return Ok((before, Some(error))),
        };
        let reason = report
            .stopped()
            .filter(|reason| StopReason::is_planned_anew(*reason));
        let took_rows = report.rules.iter().any(|rule| rule.rows_deleted > 0);
        before = report.after(before);
        plans += 1;
        in_vain = if took_rows { 0 } else { in_vain + 1 };
        match reason {
            Some(reason) if plans < MOST_PLANS && in_vain < MOST_PLANS_IN_VAIN => {
                tracing::info!(%reason, "planned anew");
            }
            _ => return Ok((before, None)),
        }
    }
}

/// The plan that was approved must be the one that is blocked.
async fn retry_approved(
    offline: &Offline,
    (approved, order): (&str, &Order<'_>),
    status: &RetentionPolicyStatus,
    state: &mut SweepState,
    report: SweepReport,
    control: &Terminal,
) -> Result<(SweepReport, Option<String>), String> {
    let Some(hash) = blocked_hash(offline, &report, status) else {
        return Ok((report, None));
    };
    let Some(allowed) = approved_by(approved, &hash) else {
        let why = format!(
            "--approve {approved} is not the plan that is blocked now, which is {hash}: look at plan -f and approve that"
        );
        return Ok((report, Some(why)));
    };
    let blocked = report
        .rules
        .iter()
        .filter(|rule| matches!(rule.end, RuleEnd::Blocked { .. }));
    for (rule, rows) in blocked.zip(allowed) {
        let mut progress = rule.progress.clone();
        progress.rows_approved = Some(rows);
        state.put(progress);
    }
    // What was done before the approval stays in the report.
    run_through(offline, (None, report), order, state, control).await
}

fn blocked_hash(
    offline: &Offline,
    report: &SweepReport,
    status: &RetentionPolicyStatus,
) -> Option<String> {
    let goes_on = report.goes_on();
    let rules: Vec<BlockedRule<'_>> = report
        .rules
        .iter()
        .filter_map(|rule| {
            let (rows, removed_holds) = rule.asks_for(goes_on)?;
            Some(BlockedRule {
                name: &rule.progress.name,
                rows,
                removed_holds,
            })
        })
        .collect();
    if rules.is_empty() {
        return None;
    }
    let tables: Vec<String> = rules
        .iter()
        .filter_map(|blocked| status.rules.iter().find(|rule| rule.name == blocked.name))
        .filter_map(|rule| Some(table_identity(rule.table.as_ref()?, rule.table_id)))
        .collect();
    let identity = status
        .database
        .as_ref()
        .and_then(|database| database.identity.as_deref());
    Some(plan_hash(&offline.policy.spec, &rules, &tables, identity))
}

fn ending(report: &SweepReport, status: &RetentionPolicyStatus) -> Ending {
    let refused = status.rules.iter().any(|rule| rule.reason.is_some());
    let left = report
        .rules
        .iter()
        .any(|rule| matches!(rule.end, RuleEnd::Complete { remaining } if remaining > 0));
    match report.outcome() {
        Outcome::Blocked => Ending::Blocked,
        Outcome::Failed | Outcome::Partial | Outcome::Cancelled => Ending::Error,
        Outcome::Succeeded | Outcome::Skipped if refused => Ending::Error,
        Outcome::Succeeded if left => Ending::Violated,
        Outcome::Succeeded | Outcome::Skipped => Ending::Ok,
    }
}

fn print(offline: &Offline, report: &SweepReport, status: &RetentionPolicyStatus) {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let rows = report
        .rules
        .iter()
        .map(|rule| {
            let table = status
                .rules
                .iter()
                .find(|known| known.name == rule.progress.name);
            let remaining = match &rule.end {
                RuleEnd::Complete { remaining } => output::grouped(signed(*remaining)),
                _ => "-".to_owned(),
            };
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = rule.rows_deleted as f64 / rule.took.as_secs_f64().max(0.001);
            #[expect(clippy::cast_possible_truncation, reason = "a rate for people")]
            let rate = rate as i64;
            vec![
                rule.progress.name.clone(),
                table
                    .and_then(|table| table.table.clone())
                    .unwrap_or_default(),
                rule.progress.cutoff.to_string(),
                output::grouped(signed(rule.rows_deleted)),
                output::grouped(signed(rule.rows_archived)),
                remaining,
                rule.chunks.to_string(),
                format!("{} ms", rule.longest_chunk.as_millis()),
                format!("{:.1} s", rule.took.as_secs_f64()),
                output::grouped(rate),
            ]
        })
        .collect();
    let heading = [
        "RULE", "TABLE", "CUTOFF", "DELETED", "ARCHIVED", "LEFT", "CHUNKS", "LONGEST", "TOOK",
        "ROWS/S",
    ];
    output::say!("{}", output::table(&heading, rows, &[3, 4, 5, 6, 7, 8, 9]));
    for rule in &report.rules {
        let unreadable = rule.unreadable_rows.unwrap_or(0);
        let unreadable = unreadable.saturating_sub(rule.undecided_rows);
        if unreadable > 0 {
            output::say!(
                "\nrule {}: {} rows are unreadable: their values are not of the encoding, and never expire",
                rule.progress.name,
                output::grouped(signed(unreadable))
            );
        }
        if rule.undecided_rows > 0 {
            output::say!(
                "\nrule {}: {} expired rows are undecided and stay: {}",
                rule.progress.name,
                output::grouped(signed(rule.undecided_rows)),
                output::UNDECIDED
            );
        }
    }
    for rule in status.rules.iter().filter(|rule| rule.reason.is_some()) {
        output::say!(
            "\nrule {} is refused: {}: {}",
            rule.name,
            rule.reason.as_deref().unwrap_or_default(),
            rule.message.as_deref().unwrap_or_default()
        );
    }
    output::say!("\n{}: {}", report.outcome().as_str(), report.message());
    if let Some(hash) = blocked_hash(offline, report, status) {
        output::say!("to approve: sweep --approve {hash}");
    }
}

/// A person at a terminal, or a job: SIGINT and SIGTERM stop at the next chunk.
struct Terminal {
    stopping: CancellationToken,
    shown: Mutex<Option<Instant>>,
    shows: bool,
    /// Rules and what they waited for, as far as it was said where nothing is written over.
    said: Mutex<HashSet<(String, String)>>,
}

impl Terminal {
    fn new() -> Self {
        let stopping = CancellationToken::new();
        let token = stopping.clone();
        tokio::spawn(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut terminate) = signal(SignalKind::terminate()) else {
                return;
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            token.cancel();
        });
        Self {
            stopping,
            shown: Mutex::default(),
            shows: std::io::stderr().is_terminal(),
            said: Mutex::default(),
        }
    }

    /// One line that is written over, five times a second at most.
    fn show(&self, progress: &RuleProgress, waiting_for: Option<&str>) {
        if !self.shows {
            return;
        }
        let Ok(mut shown) = self.shown.lock() else {
            return;
        };
        if shown.is_some_and(|shown| shown.elapsed() < Duration::from_millis(200)) {
            return;
        }
        *shown = Some(Instant::now());
        let rows = output::grouped(i64::try_from(progress.rows_done).unwrap_or(i64::MAX));
        let waiting = waiting_for.map_or_else(String::new, |why| format!(", waiting: {why}"));
        eprint!("\r\x1b[K{}: {rows} rows deleted{waiting}", progress.name);
    }

    fn clear(&self) {
        if self.shows {
            eprint!("\r\x1b[K");
        }
    }
}

#[async_trait]
impl Control for Terminal {
    fn stop(&self) -> Option<StopReason> {
        self.stopping.is_cancelled().then_some(StopReason::Shutdown)
    }

    async fn rest(&self, rest: Duration) {
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = self.stopping.cancelled() => {}
        }
    }

    async fn begun(&self, _: &SweepState) -> Result<(), ControlError> {
        Ok(())
    }

    async fn record(&self, _: &RuleProgress) -> Result<(), ControlError> {
        Ok(())
    }

    fn advanced(&self, progress: &RuleProgress, _: Chunk, _: Duration) {
        self.show(progress, None);
    }

    fn waits(&self, progress: &RuleProgress, reason: &str) {
        self.show(progress, Some(reason));
        if self.shows {
            return;
        }
        // A log has one line for each thing that is waited for, and not one for each time.
        let new = self
            .said
            .lock()
            .is_ok_and(|mut said| said.insert((progress.name.clone(), reason.to_owned())));
        if new {
            eprintln!("{}: waiting: {reason}", progress.name);
        }
    }
}
