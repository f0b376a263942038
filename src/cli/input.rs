//! Reads a policy from a file, checked exactly as the API server checks it.

use std::{io::Read, path::PathBuf};

use clap::Args;
use serde_json::Value;

use crate::api::{KIND, RetentionPolicy, validate::check_document};

/// Where the policy and its database are.
#[derive(Args, Clone, Debug)]
pub(super) struct Input {
    /// File with the RetentionPolicy; - for standard input.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(super) file: PathBuf,

    /// Address of the database: postgres://user:password@host:5432/database or sqlite:///path/file.db. The policy's Secret is not
    /// read.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(super) database_url: Option<String>,
}

impl Input {
    /// `DATABASE_URL` leads to a file.
    pub(super) fn is_sqlite(&self) -> bool {
        let scheme = self
            .database_url
            .as_deref()
            .and_then(|url| url.trim().split_once(':'));
        scheme.is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("sqlite"))
    }
}

/// Reads the one policy of the file; other documents in it are passed over.
pub(super) fn read(input: &Input) -> Result<RetentionPolicy, String> {
    let name = input.file.display();
    let text = if input.file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| format!("cannot read standard input: {error}"))?;
        text
    } else {
        std::fs::read_to_string(&input.file)
            .map_err(|error| format!("cannot read {name}: {error}"))?
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .map_err(|error| format!("{name} is not YAML: {error}"))?;
    let policies: Vec<&Value> = documents
        .iter()
        .filter(|document| kind(document) == Some(KIND))
        .collect();
    let policy = match (policies.as_slice(), documents.as_slice()) {
        ([policy], _) => *policy,
        // A single document that is nothing else is meant to be the policy: say what is wrong with it.
        ([], [document]) if !document.is_null() => document,
        ([], _) => return Err(format!("{name} holds no RetentionPolicy")),
        (several, _) => {
            return Err(format!(
                "{name} holds {} policies: write one to a file",
                several.len()
            ));
        }
    };
    check_document(policy).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("  {error}")).collect();
        format!("{name} is refused:\n{}", lines.join("\n"))
    })
}

fn kind(document: &Value) -> Option<&str> {
    document.get("kind").and_then(Value::as_str)
}
