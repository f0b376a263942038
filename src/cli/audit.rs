//! `audit -f`: what a policy's database holds.

use clap::Args;
use jiff::Timestamp;

use super::{
    Ending,
    input::Input,
    offline::{self, Format},
    output,
};
use crate::{
    api::{
        RetentionPolicyStatus, RuleStatus,
        conditions::{COMPLIANT, READY, find_condition},
    },
    audit, report,
};

/// Arguments of `audit`.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: Input,

    /// How the report is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(arguments: Arguments) -> Result<Ending, String> {
    let offline = offline::open(&arguments.input)?;
    let result = audit::audit(
        offline.engine.as_ref(),
        &offline.checked,
        &offline.around(false),
    )
    .await;
    offline.engine.close().await;
    let audited = result.map_err(|error| error.to_string())?;
    let now = Timestamp::now();
    let mut status = RetentionPolicyStatus::default();
    report::apply_audit(&mut status, &audited, now);
    offline.judge(&mut status, &audited, now);
    match arguments.output {
        Format::Json => output::print_json(&output::report(&offline.policy, &status))?,
        Format::Table => {
            print(&status);
            if let Some(note) = &audited.note {
                output::say!("ledger: {note}");
            }
        }
    }
    Ok(ending(&status))
}

/// A refused rule is an error: a pipeline must not pass because a rule was misspelt.
fn ending(status: &RetentionPolicyStatus) -> Ending {
    let is = |type_: &str, wanted: &str| {
        find_condition(&status.conditions, type_)
            .is_some_and(|condition| condition.status == wanted)
    };
    if is(READY, "False") {
        Ending::Error
    } else if is(COMPLIANT, "False") {
        Ending::Violated
    } else {
        Ending::Ok
    }
}

fn print(status: &RetentionPolicyStatus) {
    if let Some(database) = &status.database {
        output::say!(
            "{} {}  database {}  {}  {} tables",
            database.engine.as_deref().unwrap_or_default(),
            database.version.as_deref().unwrap_or_default(),
            database.name.as_deref().unwrap_or_default(),
            output::bytes(database.size_bytes.unwrap_or_default()),
            database.tables.unwrap_or_default(),
        );
    }
    if !status.rules.is_empty() {
        output::say!("");
        let heading = [
            "RULE",
            "TABLE",
            "ROWS",
            "EXPIRED",
            "SIZE",
            "OLDEST",
            "NEWEST",
            "CUTOFF",
            "STATISTICS OF",
        ];
        output::say!(
            "{}",
            output::table(&heading, status.rules.iter().map(row).collect(), &[2, 3, 4])
        );
    }
    for rule in &status.rules {
        if let Some(unreadable) = rule.unreadable_rows.as_ref().filter(|rows| rows.value > 0) {
            output::say!(
                "\nrule {}: {} rows are unreadable: their values are not of the encoding, and never expire",
                rule.name,
                output::rows(Some(unreadable))
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
    for rule in status.rules.iter().filter(|rule| rule.reason.is_none()) {
        if let Some(doubt) = &rule.message {
            output::say!("\nrule {} is doubtful: {doubt}", rule.name);
        }
    }
    output::say!("");
    for type_ in [READY, COMPLIANT] {
        if let Some(condition) = find_condition(&status.conditions, type_) {
            output::say!(
                "{type_}={} {}: {}",
                condition.status,
                condition.reason,
                condition.message
            );
        }
    }
}

fn row(rule: &RuleStatus) -> Vec<String> {
    let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
    let as_of = rule
        .expired_rows
        .as_ref()
        .and_then(|rows| rows.as_of.as_ref());
    vec![
        rule.name.clone(),
        text(rule.table.as_deref()),
        output::rows(rule.rows.as_ref()),
        output::rows(rule.expired_rows.as_ref()),
        rule.size_bytes
            .map_or_else(|| "-".to_owned(), output::bytes),
        text(rule.oldest.as_ref().map(|time| time.value.as_str())),
        text(rule.newest.as_ref().map(|time| time.value.as_str())),
        text(rule.cutoff.as_deref()),
        as_of.map_or_else(|| "-".to_owned(), |time| time.0.to_string()),
    ]
}
