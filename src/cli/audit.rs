//! `audit -f`: what a policy's database holds, and the gate of a pipeline.

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::{
    Ending,
    formats::{self, Audited},
    gate::{self, Gate, Judged},
    input::Input,
    offline, output,
};
use crate::{
    api::{
        RetentionPolicyStatus,
        conditions::{COMPLIANT, READY, find_condition},
    },
    audit::{self, AuditReport},
    policy::check::CheckedPolicy,
    report,
};

/// Arguments of `audit`.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: Input,

    /// How the report is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,

    #[command(flatten)]
    gate: Gate,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people at a terminal.
    #[default]
    Table,
    /// For machines: the status, and all findings.
    Json,
    /// JUnit XML, for the test reports of CI systems.
    Junit,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// Markdown, for a comment or a job's summary.
    Markdown,
}

pub(super) async fn run(arguments: Arguments) -> Result<Ending, String> {
    let offline = offline::open(&arguments.input)?;
    // A baseline that cannot be read is said before the database is bothered.
    let baseline = arguments.gate.baseline()?;
    let result = audit::audit(
        offline.engine.as_ref(),
        &offline.checked,
        &offline.around(false),
    )
    .await;
    offline.engine.close().await;
    let mut found = result.map_err(|error| error.to_string())?;
    let now = Timestamp::now();
    let mut status = RetentionPolicyStatus::default();
    report::apply_audit(&mut status, &found, now);
    offline.judge(&mut status, &found, now);
    let findings = found.findings.take().unwrap_or_default();
    let judged = arguments
        .gate
        .judge(findings, &offline.checked.suppress, baseline.as_ref());
    let mut notes = notes(&found);
    notes.extend(gate::notes(
        &judged,
        &offline.checked.suppress,
        baseline.as_ref(),
    ));
    let audited = Audited {
        policy: &offline.policy,
        file: &arguments.input.file.to_string_lossy(),
        status: &status,
        findings: &judged,
        first_seen: &found.first_seen,
        violated: &violated(&status, &found, &offline.checked, now),
        changes: &report::changes(&found.trend, found.facts.now, found.today),
        trend: &found.trend,
        notes: &notes,
    };
    match arguments.output {
        Format::Table => formats::terminal::print(&audited),
        Format::Json => output::print_json(&formats::json::report(&audited))?,
        Format::Sarif => output::print_json(&formats::sarif::report(&audited))?,
        Format::Junit => output::say!("{}", formats::junit::report(&audited)?),
        Format::Markdown => output::say!("{}", formats::markdown::report(&audited).trim_end()),
    }
    Ok(ending(&status, &judged))
}

fn violated(
    status: &RetentionPolicyStatus,
    audit: &AuditReport,
    policy: &CheckedPolicy,
    now: Timestamp,
) -> Vec<String> {
    let rules = audit.rules.iter();
    rules
        .filter(|rule| report::violated(&status.rules, rule, policy, now) == Some(true))
        .map(|rule| rule.name.clone())
        .collect()
}

fn notes(audit: &AuditReport) -> Vec<String> {
    let ledger = audit.note.iter().map(|note| format!("ledger: {note}"));
    let unseen = audit.unseen.iter().map(|what| format!("not seen: {what}"));
    ledger.chain(unseen).collect()
}

/// A refused rule is an error: a pipeline must not pass because a rule was misspelt.
fn ending(status: &RetentionPolicyStatus, findings: &[Judged]) -> Ending {
    let is = |type_: &str, wanted: &str| {
        find_condition(&status.conditions, type_)
            .is_some_and(|condition| condition.status == wanted)
    };
    if is(READY, "False") {
        Ending::Error
    } else if is(COMPLIANT, "False") || findings.iter().any(|judged| judged.fails) {
        Ending::Violated
    } else {
        Ending::Ok
    }
}
