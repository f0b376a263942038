//! The verbs. Each is one file; the engine behind them is the controller's.

mod audit;
mod crd;
mod formats;
mod gate;
mod grants;
mod input;
mod offline;
mod output;
mod plan;
mod sweep;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    operator::{self, settings::Settings},
    telemetry::logs::{self, LogFormat},
};

/// Audits the databases of a microservice fleet and keeps them free of clutter.
///
/// Exit codes: 0 ok, 1 error, 2 the policy is violated, 3 a sweep is blocked by its limits.
#[derive(Debug, Parser)]
#[command(name = "retention-operator", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,

    /// How log lines are written (to standard error).
    #[arg(
        long,
        global = true,
        env = "RETENTION_OPERATOR_LOG_FORMAT",
        value_enum,
        default_value_t
    )]
    log_format: LogFormat,

    /// Level or filter of the log; default: info for run, warn for the other verbs.
    #[arg(
        long,
        global = true,
        env = "RETENTION_OPERATOR_LOG_LEVEL",
        value_name = "FILTER"
    )]
    log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the controller in a cluster.
    Run(#[command(flatten)] Settings),
    /// Print the CustomResourceDefinition.
    Crd,
    /// Audit a policy's database: what is expired, how large, how old; changes nothing.
    Audit(audit::Arguments),
    /// Show what a sweep would do: counts exactly, changes nothing.
    Plan(plan::Arguments),
    /// Sweep once, now: delete what the policy calls expired.
    ///
    /// Limits, locks and pace hold as in the operator: as long as the database suffers, a replica falls behind, or an old snapshot keeps
    /// what is deleted from being cleaned away, it waits, without a bound. What for is shown on standard error. SIGINT and SIGTERM end it at
    /// the next chunk.
    Sweep(sweep::Arguments),
    /// Print the SQL that gives a role the least rights that the policy needs.
    Grants(grants::Arguments),
}

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing to complain about.
    Ok,
    /// Something failed, or was refused.
    Error,
    /// The policy is violated.
    Violated,
    /// A sweep is blocked by its limits.
    Blocked,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(match ending {
            Ending::Ok => 0,
            Ending::Error => 1,
            Ending::Violated => 2,
            Ending::Blocked => 3,
        })
    }
}

/// Runs what the arguments say.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a wrong usage is one (clap's own 2 means a violated policy here).
            let ending = if error.use_stderr() {
                Ending::Error
            } else {
                Ending::Ok
            };
            output::keep(error.print());
            return settled(ending).into();
        }
    };
    let default_level = if matches!(cli.verb, Verb::Run(_)) {
        "info"
    } else {
        "warn"
    };
    let level = cli.log_level.as_deref().unwrap_or(default_level);
    if let Err(error) = logs::init(cli.log_format, level) {
        eprintln!("error: {error}");
        return Ending::Error.into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return Ending::Error.into();
        }
    };
    runtime.block_on(dispatch(cli.verb)).into()
}

async fn dispatch(verb: Verb) -> Ending {
    let result = match verb {
        Verb::Run(settings) => operator::run(settings)
            .await
            .map(|()| Ending::Ok)
            .map_err(|error| error.to_string()),
        Verb::Crd => crd::run(),
        Verb::Audit(arguments) => audit::run(arguments).await,
        Verb::Plan(arguments) => plan::run(arguments).await,
        Verb::Sweep(arguments) => sweep::run(arguments).await,
        Verb::Grants(arguments) => grants::run(arguments).await,
    };
    let ending = result.unwrap_or_else(|message| {
        eprintln!("error: {message}");
        Ending::Error
    });
    settled(ending)
}

/// Whoever reads half a report must not take the verdict for that of a whole one.
fn settled(ending: Ending) -> Ending {
    match output::finish() {
        Ok(()) => ending,
        Err(message) => {
            eprintln!("error: {message}");
            Ending::Error
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        for (ending, code) in [
            (Ending::Ok, 0),
            (Ending::Error, 1),
            (Ending::Violated, 2),
            (Ending::Blocked, 3),
        ] {
            assert_eq!(ExitCode::from(ending), ExitCode::from(code));
        }
    }
}
