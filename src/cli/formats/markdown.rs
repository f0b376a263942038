//! Markdown, for the comment under a change or the summary of a job.

use super::{super::output, Audited};
use crate::{
    api::conditions::{COMPLIANT, READY, find_condition},
    policy::hygiene::Severity,
};

/// Findings that the table shows: a comment has room for no more.
const SHOWN: usize = 100;

pub(in crate::cli) fn report(audited: &Audited<'_>) -> String {
    let status = audited.status;
    let mut text = format!(
        "## Retention audit of {}\n\n",
        cell(&output::full_name(audited.policy))
    );
    if let Some(database) = &status.database {
        text.push_str(&format!(
            "{} {}, database {}, {}, {} tables.\n\n",
            database.engine.as_deref().unwrap_or_default(),
            database.version.as_deref().unwrap_or_default(),
            cell(database.name.as_deref().unwrap_or_default()),
            output::bytes(database.size_bytes.unwrap_or_default()),
            database.tables.unwrap_or_default(),
        ));
    }
    for type_ in [READY, COMPLIANT] {
        if let Some(condition) = find_condition(&status.conditions, type_) {
            text.push_str(&format!(
                "- **{type_}**: {} ({}): {}\n",
                condition.status,
                condition.reason,
                cell(&condition.message)
            ));
        }
    }
    rules(audited, &mut text);
    findings(audited, &mut text);
    for change in audited.changes {
        text.push_str(&format!("\n{}\n", cell(&change.in_words())));
    }
    for note in audited.notes {
        text.push_str(&format!("\n> {}\n", cell(note)));
    }
    text
}

fn rules(audited: &Audited<'_>, text: &mut String) {
    if audited.status.rules.is_empty() {
        return;
    }
    text.push_str(
        "\n| Rule | Table | Rows | Expired | Oldest | Trouble |\n|---|---|---:|---:|---|---|\n",
    );
    for rule in &audited.status.rules {
        let message = rule.message.as_deref().unwrap_or_default();
        let trouble = match &rule.reason {
            Some(reason) => format!("{reason}: {message}"),
            None => message.to_owned(),
        };
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            cell(&rule.name),
            cell(rule.table.as_deref().unwrap_or("-")),
            output::rows(rule.rows.as_ref()),
            output::rows(rule.expired_rows.as_ref()),
            cell(rule.oldest.as_ref().map_or("-", |time| time.value.as_str())),
            cell(&trouble),
        ));
    }
}

fn findings(audited: &Audited<'_>, text: &mut String) {
    text.push_str(&format!(
        "\n### Findings: {} critical, {} warning, {} info, {} suppressed\n",
        audited.count(Severity::Critical),
        audited.count(Severity::Warning),
        audited.count(Severity::Info),
        audited.suppressed(),
    ));
    let open: Vec<_> = audited.open().collect();
    if open.is_empty() {
        return;
    }
    text.push_str(
        "\n| Severity | Finding | Evidence | Could win | What to do |\n|---|---|---|---:|---|\n",
    );
    for judged in open.iter().take(SHOWN) {
        let finding = &judged.finding;
        let new = if judged.known == Some(false) {
            " **new**"
        } else {
            ""
        };
        let bytes = finding
            .estimated_bytes
            .and_then(|bytes| i64::try_from(bytes).ok())
            .filter(|bytes| *bytes > 0);
        let mut advice = cell(&finding.advice.text);
        if let Some(apply) = &finding.advice.apply {
            advice.push_str(&format!("<br>{}", code(apply)));
        }
        text.push_str(&format!(
            "| {}{new} | {} | {} | {} | {advice} |\n",
            finding.severity,
            code(&finding.id),
            cell(&finding.evidence),
            bytes.map_or_else(String::new, output::bytes),
        ));
    }
    if let Some(more) = open.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("\nand {more} more.\n"));
    }
}

/// Text in a cell: names come from a database that others write to.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => cell.push(' '),
            '&' => cell.push_str("&amp;"),
            '<' => cell.push_str("&lt;"),
            '>' => cell.push_str("&gt;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '~' | '!' => {
                cell.push('\\');
                cell.push(character);
            }
            // A name of somebody would be told of it.
            '@' => cell.push_str("&#64;"),
            character if character.is_control() => {}
            character => cell.push(character),
        }
    }
    cell
}

/// Code in a cell; as HTML, where neither a backtick nor a bar ends it.
fn code(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|character| match character {
            '\n' | '\r' => "<br>".to_owned(),
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            character
                if character.is_ascii_punctuation() && !"\"'.,;:-/()=".contains(character) =>
            {
                format!("&#{};", u32::from(character))
            }
            character if character.is_control() => String::new(),
            character => character.to_string(),
        })
        .collect();
    format!("<code>{escaped}</code>")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a|b\nc", r"a\|b c")]
    #[case("<img src=x> @team", "&lt;img src=x&gt; &#64;team")]
    #[case("`x` [a](b)", r"\`x\` \[a\](b)")]
    fn text_of_a_database_stays_text_in_its_cell(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(cell(text), shown);
    }

    #[test]
    fn code_of_a_database_stays_code_in_its_cell() {
        assert_eq!(
            code("DROP INDEX \"a|b\";\n`x` @y"),
            "<code>DROP INDEX \"a&#124;b\";<br>&#96;x&#96; &#64;y</code>"
        );
    }
}
