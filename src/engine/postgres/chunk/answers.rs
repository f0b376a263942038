//! What the answers of a chunk's statements mean.

use sqlx::Row;

use super::{super::Settings, Leaf};
use crate::{
    engine::{
        EngineError,
        postgres::{
            archive_table::{ArchiveTable, Failure, TRIGGERED},
            connect::Server,
            error::{self, Doing},
            ledger,
            own_use::Tally,
        },
    },
    policy::dependents::Dependents,
};

/// What the leaf looks like at the beginning of a chunk.
#[derive(Clone, Debug)]
pub(in crate::engine::postgres) struct Look {
    pub(in crate::engine::postgres) filenode: u32,
    pub(in crate::engine::postgres) blocks: u64,
    /// Where the write-ahead log stood.
    pub(in crate::engine::postgres) wal: u64,
    /// Rows that this session had deleted from other tables before.
    pub(in crate::engine::postgres) gone: i64,
    /// What the session had counted before.
    pub(in crate::engine::postgres) own: Tally,
}

/// Why a chunk did not go through.
pub(in crate::engine::postgres) enum Refusal {
    /// Somebody holds a row's lock, a deadlock was broken, or a row went to another partition while its lock was waited for.
    Locked,
    /// A row that refers to one of the chunk's.
    Referred,
    /// Anything else.
    Failed(EngineError),
}

/// What is known of a chunk right before its COMMIT.
#[derive(Clone, Debug)]
pub(in crate::engine::postgres) struct Finished {
    pub(in crate::engine::postgres) xid: String,
    /// Rows of other tables that went along.
    pub(in crate::engine::postgres) cascaded: u64,
    /// What the write-ahead log grew by meanwhile.
    pub(in crate::engine::postgres) wal_bytes: u64,
    /// Sessions that wait for a lock of the chunk.
    pub(in crate::engine::postgres) waiters: u32,
}

impl Leaf {
    pub(super) fn error(
        &self,
        server: &Server,
        settings: &Settings,
        reason: &sqlx::Error,
    ) -> EngineError {
        let name = self.qualified();
        let doing = Doing {
            what: "deleting expired rows of",
            table: Some(&name),
            grant: Some(&self.grant),
            statement_timeout: settings.statement_timeout,
        };
        if let Some(gone) = ledger::gone(reason) {
            return gone;
        }
        error::running(server, doing, reason)
    }

    pub(super) fn changed(&self, reason: &str) -> EngineError {
        EngineError::TableChanged {
            table: self.qualified(),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn judge(
        &self,
        rows: &[sqlx::postgres::PgRow],
        table: &str,
    ) -> Result<Look, EngineError> {
        let unreadable = |reason: sqlx::Error| EngineError::Database {
            what: format!("looking at {}", self.qualified()),
            message: reason.to_string(),
            code: "-".to_owned(),
        };
        let row = rows
            .first()
            .ok_or_else(|| unreadable(sqlx::Error::RowNotFound))?;
        if !row.try_get::<bool, _>("fenced").map_err(unreadable)? {
            return Err(EngineError::SweptElsewhere {
                table: table.to_owned(),
            });
        }
        let schema: Option<String> = row.try_get("schema").map_err(unreadable)?;
        let name: Option<String> = row.try_get("name").map_err(unreadable)?;
        let fingerprint: Option<String> = row.try_get("fingerprint").map_err(unreadable)?;
        match (&schema, &name) {
            (Some(schema), Some(name)) if (schema, name) != (&self.schema, &self.name) => {
                return Err(self.changed(&format!("it is called {schema}.{name} now")));
            }
            (Some(_), Some(_)) => {}
            _ => return Err(self.changed("it was dropped")),
        }
        if fingerprint.as_ref() != Some(&self.fingerprint) {
            return Err(self.changed(
                "a column that the rule reads, a foreign key to the table, its rules or row security, or the table that it is a part of changed",
            ));
        }
        if let Some(known) = &self.archive {
            let archive: Option<String> = row.try_get("archive").map_err(unreadable)?;
            self.judge_archive(known, archive.as_deref())?;
        }
        let filenode: Option<i64> = row.try_get("filenode").map_err(unreadable)?;
        let blocks: Option<i64> = row.try_get("blocks").map_err(unreadable)?;
        let wal: i64 = row.try_get("wal").map_err(unreadable)?;
        let gone: Option<i64> = row.try_get("gone").map_err(unreadable)?;
        Ok(Look {
            filenode: filenode
                .and_then(|node| u32::try_from(node).ok())
                .unwrap_or(0),
            blocks: blocks
                .and_then(|blocks| u64::try_from(blocks).ok())
                .unwrap_or(0),
            wal: u64::try_from(wal).unwrap_or(0),
            gone: gone.unwrap_or(0),
            own: Tally::of(row).map_err(unreadable)?,
        })
    }

    /// Is the archive what it was when the sweep began?
    fn judge_archive(&self, known: &ArchiveTable, now: Option<&str>) -> Result<(), EngineError> {
        match now {
            Some(TRIGGERED) => {
                Err(self.changed("a trigger came that fires when its rows are deleted"))
            }
            Some(now) if now == known.fingerprint => Ok(()),
            _ => Err(EngineError::TableChanged {
                table: known.qualified(),
                reason: "a column of the archive table, its name, its rules or triggers, or what keeps its rows changed"
                    .to_owned(),
            }),
        }
    }

    /// Why the statements of a chunk failed.
    pub(super) fn judge_failure(
        &self,
        server: &Server,
        settings: &Settings,
        reason: &Failure,
    ) -> Refusal {
        let reason = match reason {
            Failure::Server(reason) => reason,
            Failure::NotKept { gone, kept } => {
                return Refusal::Failed(self.not_kept(&format!(
                    "kept {kept} of {gone} rows as they were: a trigger or a rule of it, or a trigger that deletes from the rule's table set off, leaves rows out, changes them, or removes them"
                )));
            }
        };
        let referring = error::constraint_of(reason)
            .is_some_and(|table| self.finish.referring.contains(&table));
        match error::code(reason) {
            Some(error::LOCK_NOT_AVAILABLE | error::DEADLOCK | error::MOVED) => Refusal::Locked,
            _ if referring && self.finish.dependents != Dependents::Refuse => Refusal::Referred,
            // A key further on keeps a row from being changed, or the column that is to be set is of a domain that takes no such value.
            _ if self.may_insist() && self.keeps_a_row(reason) => Refusal::Referred,
            // Whatever constraint it is: of the tables that a chunk writes to, only the archive table takes new rows.
            Some(code) if self.archive.is_some() && code.starts_with("23") && !referring => {
                Refusal::Failed(
                    self.not_kept(&format!("does not take the rows: {}", error::said(reason))),
                )
            }
            _ => Refusal::Failed(self.error(server, settings, reason)),
        }
    }

    /// The error is of a row further on, and not of what is written to the archive.
    fn keeps_a_row(&self, reason: &sqlx::Error) -> bool {
        let not_of_the_archive = self.archive.as_ref().is_none_or(|archive| {
            let table = error::constraint_of(reason);
            !archive.partitioned && table.is_some_and(|table| !archive.is_named(&table))
        });
        error::is_of_a_key_or_domain(reason) && not_of_the_archive
    }

    fn not_kept(&self, what: &str) -> EngineError {
        let archive = self
            .archive
            .as_ref()
            .map_or_else(String::new, |archive| archive.qualified());
        EngineError::Archive(format!(
            "archive table {archive} {what}; nothing of this chunk was deleted from {}",
            self.qualified()
        ))
    }

    pub(super) fn judge_finish(
        &self,
        answer: &[sqlx::postgres::PgRow],
        rows: u64,
        before: &Look,
    ) -> Result<Finished, EngineError> {
        let odd = |message: String| EngineError::Database {
            what: format!("deleting expired rows of {}", self.qualified()),
            message,
            code: "-".to_owned(),
        };
        let read = |reason: sqlx::Error| odd(reason.to_string());
        let row = answer
            .first()
            .ok_or_else(|| odd("the transaction ended early".to_owned()))?;
        let filled: Option<String> = row.try_get("filled").map_err(read)?;
        if let Some(filled) = filled {
            return Err(EngineError::Dependents(format!(
                "{filled} refers to {} and is not empty any more: nothing of this chunk was deleted",
                self.qualified()
            )));
        }
        if let Some(known) = self.archive.iter().find(|archive| archive.partitioned) {
            let archive: Option<String> = row.try_get("archive").map_err(read)?;
            self.judge_archive(known, archive.as_deref())?;
        }
        let parts: Option<String> = row.try_get("parts").map_err(read)?;
        if parts != self.finish.parts {
            return Err(EngineError::PartsChanged {
                table: self.qualified(),
            });
        }
        let shape: Option<String> = row.try_get("shape").map_err(read)?;
        if shape != self.finish.shape {
            return Err(self.changed(
                "a table that refers to it, a foreign key of one, or a column that one of them uses changed",
            ));
        }
        let gone: i64 = row.try_get("gone").map_err(read)?;
        let mut cascaded = u64::try_from(gone - before.gone).unwrap_or(0);
        if self.counts_itself {
            cascaded = cascaded.saturating_sub(rows);
        }
        if self.finish.dependents == Dependents::Skip && cascaded > 0 {
            return Err(EngineError::Dependents(format!(
                "{cascaded} rows that refer to {} would have gone along although dependents is Skip: nothing of this chunk was deleted",
                self.qualified()
            )));
        }
        let xid: Option<String> = row.try_get("xid").map_err(read)?;
        let xid = xid.ok_or_else(|| {
            odd("the transaction has no number although it deleted rows".to_owned())
        })?;
        let wal: i64 = row.try_get("wal").map_err(read)?;
        let waiters: i64 = row.try_get("waiters").map_err(read)?;
        Ok(Finished {
            xid,
            cascaded,
            wal_bytes: u64::try_from(wal).unwrap_or(0).saturating_sub(before.wal),
            waiters: u32::try_from(waiters).unwrap_or(u32::MAX),
        })
    }
}
