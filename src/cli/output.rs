//! Tables for people.

use std::{
    io::{self, Write as _},
    sync::OnceLock,
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::NOTHING};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::api::{API_VERSION, MeasuredRows, RetentionPolicy, RetentionPolicyStatus};

/// The first line that could not be written.
static LOST: OnceLock<String> = OnceLock::new();

/// Prints a line; [`finish`] tells of those that were lost.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        $crate::cli::output::keep(writeln!(std::io::stdout().lock(), $($text)*));
    }};
}
pub(super) use say;

/// A reader that has gone (`| head`) is no error, and nobody is left to tell: the exit code still says how it ended.
pub(super) fn keep(written: io::Result<()>) {
    if let Err(reason) = written
        && reason.kind() != io::ErrorKind::BrokenPipe
    {
        LOST.get_or_init(|| reason.to_string());
    }
}

/// Whether all that was said has been written.
///
/// # Errors
/// Why it was not.
pub(super) fn finish() -> Result<(), String> {
    keep(io::stdout().flush());
    match LOST.get() {
        None => Ok(()),
        Some(reason) => Err(format!("the output cannot be written: {reason}")),
    }
}

/// Why expired rows stay that nobody can judge.
pub(super) const UNDECIDED: &str = "a value of theirs is not of the type that `where` or a hold asks for, so nobody knows whether it is true";

/// A table with a heading row and right-aligned numbers in the `numeric` columns.
pub(super) fn table(heading: &[&str], rows: Vec<Vec<String>>, numeric: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(heading.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in numeric {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Columns of the terminal that the output goes to, or what the environment says; `None`: it goes elsewhere, where long lines are
/// easier to search and cut.
pub(super) fn width() -> Option<usize> {
    let said = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    let seen = || {
        let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
        Some(usize::from(width.0))
    };
    said.or_else(seen).filter(|width| *width >= NARROWEST)
}

/// On a narrower terminal broken lines are no better than those that it breaks itself.
const NARROWEST: usize = 40;

/// `text` behind `first`, broken between words so that each line fits, the later ones behind as many blanks.
pub(super) fn wrapped(first: &str, text: &str, width: Option<usize>) -> String {
    let mut lines = first.to_owned();
    let indent = first.chars().count();
    let mut at = indent;
    for (place, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if place > 0 && width.is_some_and(|width| at + 1 + length > width) {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            at = indent;
        } else if place > 0 {
            lines.push(' ');
            at += 1;
        }
        lines.push_str(word);
        at += length;
    }
    lines
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// Bytes in the largest fitting unit, with one decimal.
pub(super) fn bytes(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match UNITS.get(unit) {
        Some(name) if unit > 0 => format!("{value:.1} {name}"),
        _ => format!("{bytes} B"),
    }
}

/// A number of rows: `~` before an estimate, `≤` before an upper bound.
pub(super) fn rows(measured: Option<&MeasuredRows>) -> String {
    match measured {
        None => "unknown".to_owned(),
        Some(rows) => {
            let sign = match (rows.exact, rows.method.as_str()) {
                (true, _) => "",
                (false, "UpperBound" | "CountAndUpperBound") => "≤",
                (false, _) => "~",
            };
            format!("{sign}{}", grouped(rows.value))
        }
    }
}

/// The report for machines: the status has the resource's own schema.
pub(super) fn report(policy: &RetentionPolicy, status: &RetentionPolicyStatus) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "Report",
        "policy": name(policy),
        "status": status,
        "findings": [],
    })
}

/// The policy's namespace and name.
pub(super) fn name(policy: &RetentionPolicy) -> Value {
    json!({"namespace": policy.namespace(), "name": policy.name_any()})
}

/// `namespace/name`, in one line whatever the file says.
pub(super) fn full_name(policy: &RetentionPolicy) -> String {
    let namespace = policy.namespace().unwrap_or_else(|| "default".to_owned());
    format!("{namespace}/{}", policy.name_any()).replace(char::is_control, " ")
}

/// Prints JSON.
pub(super) fn print_json(value: &Value) -> Result<(), String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    say!("{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "0")]
    #[case(999, "999")]
    #[case(1_000, "1,000")]
    #[case(-1_234_567, "-1,234,567")]
    #[case(i64::MIN, "-9,223,372,036,854,775,808")]
    fn numbers_are_grouped(#[case] number: i64, #[case] text: &str) {
        assert_eq!(grouped(number), text);
    }

    #[rstest]
    #[case::no_terminal(None, "-> one two three")]
    #[case::wide(Some(16), "-> one two three")]
    #[case::narrow(Some(15), "-> one two\n   three")]
    #[case::too_narrow_for_a_word(Some(5), "-> one\n   two\n   three")]
    fn lines_are_broken_between_words(#[case] width: Option<usize>, #[case] lines: &str) {
        assert_eq!(wrapped("-> ", "one two three", width), lines);
    }

    #[rstest]
    #[case(512, "512 B")]
    #[case(1536, "1.5 KiB")]
    #[case(816_000_000, "778.2 MiB")]
    fn bytes_are_shown_in_a_fitting_unit(#[case] number: i64, #[case] text: &str) {
        assert_eq!(bytes(number), text);
    }
}
