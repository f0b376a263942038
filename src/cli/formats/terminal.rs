//! A report for people at a terminal.

use super::{
    super::{gate::Judged, output},
    Audited,
};
use crate::{
    api::{
        RuleStatus,
        conditions::{COMPLIANT, READY, find_condition},
    },
    policy::hygiene::Severity,
};

/// Findings that are shown one by one; the graver ones always are.
const SHOWN: usize = 50;

/// Prints the report.
pub(in crate::cli) fn print(audited: &Audited<'_>) {
    let status = audited.status;
    let width = output::width();
    let say = |first: &str, text: &str| output::say!("{}", output::wrapped(first, text, width));
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
        rules(&heading, status.rules.iter().map(row).collect(), width);
    }
    for rule in &status.rules {
        if let Some(unreadable) = rule.unreadable_rows.as_ref().filter(|rows| rows.value > 0) {
            output::say!("");
            say(
                &format!("rule {}: ", rule.name),
                &format!(
                    "{} rows are unreadable and stay: a value of theirs is not of the encoding, or not of the type that `where` or a hold asks for",
                    output::rows(Some(unreadable))
                ),
            );
        }
    }
    for rule in status.rules.iter().filter(|rule| rule.reason.is_some()) {
        output::say!("");
        say(
            "",
            &format!(
                "rule {} is refused: {}: {}",
                rule.name,
                rule.reason.as_deref().unwrap_or_default(),
                rule.message.as_deref().unwrap_or_default()
            ),
        );
    }
    for rule in status.rules.iter().filter(|rule| rule.reason.is_none()) {
        if let Some(doubt) = &rule.message {
            output::say!("");
            say("", &format!("rule {} is doubtful: {doubt}", rule.name));
        }
    }
    findings(audited, width);
    for change in audited.changes {
        say("", &change.in_words());
    }
    for note in audited.notes {
        say("", note);
    }
    output::say!("");
    for type_ in [READY, COMPLIANT] {
        if let Some(condition) = find_condition(&status.conditions, type_) {
            say(
                "",
                &format!(
                    "{type_}={} {}: {}",
                    condition.status, condition.reason, condition.message
                ),
            );
        }
    }
}

/// As a table where the terminal is wide enough, else one below the other.
fn rules(heading: &[&str], rows: Vec<Vec<String>>, width: Option<usize>) {
    let table = output::table(heading, rows.clone(), &[2, 3, 4]).to_string();
    let widest = table
        .lines()
        .map(|line| line.trim_end().chars().count())
        .max();
    if width.is_none_or(|width| widest.unwrap_or(0) <= width) {
        output::say!("{table}");
        return;
    }
    for row in rows {
        for (heading, value) in heading.iter().zip(row) {
            output::say!(" {heading:<14} {value}");
        }
        output::say!("");
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

/// The gravest first, each with its evidence and what to do; then the counts.
fn findings(audited: &Audited<'_>, width: Option<usize>) {
    let open: Vec<&Judged> = audited.open().collect();
    let shown = open
        .iter()
        .filter(|judged| judged.finding.severity == Severity::Critical)
        .count()
        .max(SHOWN.min(open.len()));
    output::say!("");
    for judged in open.iter().take(shown) {
        let finding = &judged.finding;
        let new = if judged.known == Some(false) {
            "  (new)"
        } else {
            ""
        };
        let wins = finding
            .estimated_bytes
            .and_then(|bytes| i64::try_from(bytes).ok())
            .filter(|bytes| *bytes > 0)
            .map_or_else(String::new, |bytes| {
                format!("  ~{} to win", output::bytes(bytes))
            });
        output::say!(
            "{:8}  {}{wins}{new}",
            finding.severity.as_str(),
            one_line(&finding.id)
        );
        for (first, text) in [
            ("          ", &finding.evidence),
            ("          -> ", &finding.advice.text),
        ] {
            output::say!("{}", output::wrapped(first, &one_line(text), width));
        }
        for line in finding.advice.apply.iter().flat_map(|sql| sql.lines()) {
            output::say!("             {}", one_line(line));
        }
    }
    if let Some(more) = open.len().checked_sub(shown).filter(|more| *more > 0) {
        output::say!("and {more} more: --output json lists them all");
    }
    output::say!(
        "findings: {} critical, {} warning, {} info, {} suppressed",
        audited.count(Severity::Critical),
        audited.count(Severity::Warning),
        audited.count(Severity::Info),
        audited.suppressed()
    );
}

/// Names come from a database that others write to: none of them moves the cursor.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
