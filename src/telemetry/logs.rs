//! Structured logs on stderr, as text for people or as JSON for machines.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt, prelude::*};

/// What a database says besides its answers may hold its users' data (a trigger's `RAISE NOTICE`), and is not ours to log.
const QUIET: &[&str] = &["sqlx::postgres::notice=off"];

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter is not one.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log-level {filter:?} is not a level or filter: write for example info or retention_operator=debug ({reason})"
)]
pub struct LogFilterError {
    filter: String,
    reason: String,
}

/// Sends logs to stderr; call once.
///
/// # Errors
/// When `filter` is not a filter.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogFilterError> {
    let refuse = |reason: String| LogFilterError {
        filter: filter.to_owned(),
        reason,
    };
    if is_no_level(filter) {
        return Err(refuse("it is no level".to_owned()));
    }
    let mut directives = EnvFilter::try_new(filter).map_err(|error| refuse(error.to_string()))?;
    for quiet in QUIET {
        let directive = quiet.parse().map_err(|_| refuse((*quiet).to_owned()))?;
        directives = directives.add_directive(directive);
    }
    let registry = tracing_subscriber::registry().with(directives);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
    Ok(())
}

/// Whether a filter is one word and no level. As a module's name it would silence everything else.
fn is_no_level(filter: &str) -> bool {
    let word = filter.trim();
    let is_word = word
        .chars()
        .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ':'));
    !word.is_empty() && is_word && word.parse::<LevelFilter>().is_err()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("debu", true)]
    #[case("retention_operator", true)]
    #[case("retention_operator::sweep", true)]
    #[case("debug", false)]
    #[case("OFF", false)]
    #[case("Warn", false)]
    #[case(" info ", false)]
    #[case("retention_operator=debug", false)]
    #[case("warn,retention_operator", false)]
    #[case("", false)]
    fn a_lone_word_is_a_level_or_nothing(#[case] filter: &str, #[case] refused: bool) {
        assert_eq!(is_no_level(filter), refused, "{filter:?}");
    }
}
