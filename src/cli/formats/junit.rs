//! JUnit XML, for the test reports of CI systems: one case a rule of the policy, one a check of the audit. The cases are the same
//! in every run, so that a CI's history can follow each.
//!
//! What all readers agree on: <https://github.com/testmoapp/junitxml>.

use std::borrow::Cow;

use quick_xml::{Writer, events::BytesText};

use super::{super::gate::Judged, Audited};
use crate::{api::RuleStatus, policy::hygiene::Check};

/// How one case ended.
#[derive(Default)]
struct Case {
    class: &'static str,
    name: String,
    /// `failure` or `error`, in a line and in full.
    ended: Option<(&'static str, String, String)>,
    /// What is worth knowing of a case that passed.
    output: String,
}

/// # Errors
/// In words, when the XML cannot be written.
pub(in crate::cli) fn report(audited: &Audited<'_>) -> Result<String, String> {
    let mut cases: Vec<Case> = audited
        .status
        .rules
        .iter()
        .map(|rule| of_rule(audited, rule))
        .collect();
    cases.extend(Check::ALL.iter().map(|check| of_check(audited, *check)));
    let count = |kind: &str| {
        let ended = cases.iter().filter_map(|case| case.ended.as_ref());
        ended.filter(|ended| ended.0 == kind).count().to_string()
    };
    let (tests, failures, errors) = (cases.len().to_string(), count("failure"), count("error"));
    let name = format!(
        "retention-operator {}",
        crate::cli::output::full_name(audited.policy)
    );
    let name = text(&name);
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    let counts = [
        ("name", name.as_ref()),
        ("tests", tests.as_str()),
        ("failures", failures.as_str()),
        ("errors", errors.as_str()),
    ];
    writer
        .create_element("testsuites")
        .with_attributes(counts)
        .write_inner_content(|writer| {
            writer
                .create_element("testsuite")
                .with_attributes(counts)
                .with_attribute(("skipped", "0"))
                .write_inner_content(|writer| {
                    for case in &cases {
                        write(writer, case)?;
                    }
                    if !audited.notes.is_empty() {
                        writer
                            .create_element("system-out")
                            .write_text_content(BytesText::new(&text(&audited.notes.join("\n"))))?;
                    }
                    Ok(())
                })
                .map(drop)
        })
        .map_err(|error| error.to_string())?;
    let body = String::from_utf8(writer.into_inner()).map_err(|error| error.to_string())?;
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}"
    ))
}

fn write(writer: &mut Writer<Vec<u8>>, case: &Case) -> std::io::Result<()> {
    let name = text(&case.name);
    let element = writer.create_element("testcase").with_attributes([
        ("classname", case.class),
        ("name", name.as_ref()),
        ("time", "0"),
    ]);
    match &case.ended {
        None if case.output.is_empty() => element.write_empty().map(drop),
        None => element
            .write_inner_content(|writer| {
                writer
                    .create_element("system-out")
                    .write_text_content(BytesText::new(&text(&case.output)))
                    .map(drop)
            })
            .map(drop),
        Some((kind, line, full)) => element
            .write_inner_content(|writer| {
                writer
                    .create_element(*kind)
                    .with_attributes([("message", text(line).as_ref()), ("type", case.class)])
                    .write_text_content(BytesText::new(&text(full)))
                    .map(drop)
            })
            .map(drop),
    }
}

fn of_rule(audited: &Audited<'_>, rule: &RuleStatus) -> Case {
    let expired = rule.expired_rows.as_ref();
    let expired = expired.filter(|_| audited.is_violated(rule));
    let table = rule.table.as_deref().unwrap_or_default();
    let ended = match (&rule.reason, expired) {
        (Some(reason), _) => {
            let message = rule.message.clone().unwrap_or_default();
            Some(("error", format!("{reason}: {message}"), message))
        }
        (None, Some(rows)) => {
            let rows = crate::cli::output::rows(Some(rows));
            let line = format!("{table} holds {rows} rows past their age");
            let cutoff = rule.cutoff.as_deref().unwrap_or_default();
            Some(("failure", line.clone(), format!("{line}, before {cutoff}")))
        }
        (None, None) => None,
    };
    Case {
        class: "retention-operator.rules",
        name: rule.name.clone(),
        ended,
        output: String::new(),
    }
}

fn of_check(audited: &Audited<'_>, check: Check) -> Case {
    let of: Vec<&Judged> = audited
        .findings
        .iter()
        .filter(|judged| judged.finding.check == check)
        .collect();
    let failing: Vec<&Judged> = of.iter().copied().filter(|judged| judged.fails).collect();
    let lines = |judged: &[&Judged]| {
        let lines: Vec<String> = judged.iter().map(|judged| line(judged)).collect();
        lines.join("\n")
    };
    Case {
        class: "retention-operator.findings",
        name: check.as_str().to_owned(),
        ended: (!failing.is_empty()).then(|| {
            let summary = format!("{} findings of {check}", failing.len());
            ("failure", summary, lines(&failing))
        }),
        output: lines(&of),
    }
}

fn line(judged: &Judged) -> String {
    let finding = &judged.finding;
    let suppressed = if judged.suppressed {
        " (suppressed)"
    } else {
        ""
    };
    let mut line = format!(
        "{} {}{suppressed}: {}. {}",
        finding.severity, finding.id, finding.evidence, finding.advice.text
    );
    if let Some(apply) = &finding.advice.apply {
        line.push_str(&format!("\n  {apply}"));
    }
    line
}

/// Without the characters that XML 1.0 has no way to write: names in a database may hold them.
fn text(text: &str) -> Cow<'_, str> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    if text.chars().all(allowed) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(
            text.chars()
                .map(|c| if allowed(c) { c } else { '\u{fffd}' })
                .collect(),
        )
    }
}
