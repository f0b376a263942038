//! Rows that are moved into another table of the same file: a temporary trigger of the sweep's own connection writes each row that
//! really goes, in the statement that deletes it. What a trigger of the service keeps is not written, and no row passes through a
//! client.

use std::time::Duration;

use sqlx::{Row, sqlite::SqliteRow};

use super::{
    catalog::{self, SCHEMA},
    catalog_sql as q,
    connect::Connector,
    error::{self, Doing},
    session::Session,
    sql::{self, Sql, identifier, literal},
};
use crate::{
    engine::EngineError,
    policy::plan::{ArchivePlan, RulePlan},
};

/// Which sweep a row was archived by, and when: columns that a table which the operator makes has.
const SWEEP: &str = "retention_sweep_id";
const ARCHIVED_AT: &str = "retention_archived_at";

/// How a column converts what is written to it (<https://www.sqlite.org/datatype3.html>, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affinity {
    Text,
    /// INTEGER keeps the same as NUMERIC.
    Numeric,
    Real,
    /// Everything is kept as it comes.
    Blob,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    name: String,
    /// Empty: of no declared type.
    declared: String,
    affinity: Affinity,
    not_null: bool,
    /// It has a default, or is the table's key.
    filled: bool,
    generated: bool,
    /// The rowid under another name: NULL becomes a number of its own.
    is_rowid: bool,
}

impl Column {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// `"name" "type"`: a quoted type is that type to the letter.
    fn definition(&self) -> String {
        let name = identifier(&self.name);
        match (self.declared.as_str(), self.affinity) {
            ("", _) => name,
            // ANY of a STRICT table keeps everything; elsewhere it makes numbers of texts.
            (declared, Affinity::Blob) if declared.eq_ignore_ascii_case("ANY") => {
                format!("{name} BLOB")
            }
            (declared, _) => format!("{name} {}", identifier(declared)),
        }
    }
}

/// One of the two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    kind: String,
    strict: bool,
    columns: Vec<Column>,
}

/// An archive table that is there and takes the rows of a plan.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    source: String,
    name: String,
    sweep: String,
    shapes: (Shape, Shape),
}

/// Source and archive, as the schema has them.
struct Facts {
    source: Shape,
    archive: Option<Shape>,
}

async fn read(session: &mut Session, plan: &RulePlan, name: &str) -> Result<Facts, sqlx::Error> {
    Ok(Facts {
        source: shape(session, &plan.table.name)
            .await?
            .ok_or(sqlx::Error::RowNotFound)?,
        archive: shape(session, name).await?,
    })
}

async fn shape(session: &mut Session, name: &str) -> Result<Option<Shape>, sqlx::Error> {
    let found = sql::constant(q::RELATION).bind(name.to_owned());
    let rows = session.rows(found).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let strict = row.try_get::<i64, _>("strict")? != 0;
    let kind = row.try_get("type")?;
    let columns = sql::constant(q::ALL_COLUMNS).bind(name.to_owned());
    let columns = session.rows(columns).await?;
    Ok(Some(Shape {
        kind,
        strict,
        columns: columns
            .iter()
            .map(|row| column(row, strict))
            .collect::<Result<_, _>>()?,
    }))
}

fn column(row: &SqliteRow, strict: bool) -> Result<Column, sqlx::Error> {
    let declared: String = row.try_get("type")?;
    let yes = |name: &str| -> Result<bool, sqlx::Error> { Ok(row.try_get::<i64, _>(name)? != 0) };
    Ok(Column {
        name: row.try_get("name")?,
        affinity: affinity(&declared, strict),
        declared,
        not_null: yes("not_null")?,
        filled: yes("filled")?,
        generated: yes("generated")?,
        is_rowid: yes("is_rowid")?,
    })
}

fn affinity(declared: &str, strict: bool) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if declared.is_empty() || (strict && declared == "ANY") {
        Affinity::Blob
    } else if has(&["INT"]) {
        Affinity::Numeric
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if has(&["BLOB"]) {
        Affinity::Blob
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// See [`Engine::check_archive`](crate::engine::Engine::check_archive); in the transaction that the session is in.
pub(super) async fn look(
    session: &mut Session,
    connector: &Connector,
    limit: Duration,
    plan: &RulePlan,
) -> Result<Option<String>, EngineError> {
    let Some(archive) = &plan.archive else {
        return Ok(None);
    };
    let judge = Judge::new(plan, archive)?;
    let facts = read(session, plan, judge.name)
        .await
        .map_err(|reason| failed(connector, limit, plan, &reason))?;
    match &facts.archive {
        Some(existing) => judge.existing(&facts.source, existing).map(|()| None),
        None => judge.creation(&facts.source).map(Some),
    }
}

/// The archive table in the transaction that the session is in: it must be there.
pub(super) async fn find(
    session: &mut Session,
    connector: &Connector,
    limit: Duration,
    plan: &RulePlan,
) -> Result<Option<Archive>, EngineError> {
    let Some(archive) = &plan.archive else {
        return Ok(None);
    };
    let judge = Judge::new(plan, archive)?;
    let facts = read(session, plan, judge.name)
        .await
        .map_err(|reason| failed(connector, limit, plan, &reason))?;
    let Some(existing) = facts.archive else {
        return judge.refuse("is not there any more");
    };
    judge.existing(&facts.source, &existing)?;
    Ok(Some(Archive {
        source: plan.table.name.clone(),
        name: judge.name.to_owned(),
        sweep: archive.sweep.clone(),
        shapes: (facts.source, existing),
    }))
}

/// Makes the archive table where it is missing, in a transaction of its own. The session is in none, before and after.
pub(super) async fn prepare(
    session: &mut Session,
    connector: &Connector,
    limit: Duration,
    plan: &RulePlan,
) -> Result<(), EngineError> {
    if plan.archive.is_none() {
        return Ok(());
    }
    let fail = |reason: sqlx::Error| failed(connector, limit, plan, &reason);
    session.begin_write().await.map_err(fail)?;
    let made = match look(session, connector, limit, plan).await {
        Ok(Some(statement)) => session
            .rows(Sql::made(statement).query([]))
            .await
            .map(drop)
            .map_err(fail),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match made {
        Ok(()) => session.commit().await.map_err(fail),
        Err(error) => {
            session.rollback().await;
            Err(error)
        }
    }
}

fn failed(
    connector: &Connector,
    limit: Duration,
    plan: &RulePlan,
    reason: &sqlx::Error,
) -> EngineError {
    if matches!(reason, sqlx::Error::RowNotFound) {
        return EngineError::TableChanged {
            table: plan.table.qualified(),
            reason: "there is no such table any more".to_owned(),
        };
    }
    let doing = Doing {
        file: connector.name(),
        what: "looking at the archive table in",
        table: None,
        limit,
    };
    error::running(doing, reason)
}

/// May the rows of a table go into an archive table?
struct Judge<'a> {
    plan: &'a RulePlan,
    name: &'a str,
}

impl<'a> Judge<'a> {
    fn new(plan: &'a RulePlan, archive: &'a ArchivePlan) -> Result<Self, EngineError> {
        let name = archive.table.name.as_str();
        let judge = Self { plan, name };
        if let Some(schema) = archive.table.schema.as_deref().filter(|it| *it != SCHEMA) {
            return Err(EngineError::Archive(format!(
                "archive table {schema}.{name}: a SQLite file has the schema {SCHEMA} only: write {name}"
            )));
        }
        if catalog::is_system(name) {
            return judge.refuse("has a name of SQLite or of the operator's ledger: name another");
        }
        if name.eq_ignore_ascii_case(&plan.table.name) {
            return judge.refuse("is the table itself: name another table");
        }
        Ok(judge)
    }

    fn refuse<T>(&self, what: impl std::fmt::Display) -> Result<T, EngineError> {
        Err(EngineError::Archive(format!(
            "archive table {SCHEMA}.{} {what}",
            self.name
        )))
    }

    /// The statement that makes it.
    fn creation(&self, source: &Shape) -> Result<String, EngineError> {
        self.no_column_of_ours(source)?;
        let columns: Vec<String> = source
            .columns
            .iter()
            .map(|column| {
                let not_null = if column.not_null { " NOT NULL" } else { "" };
                format!("{}{not_null}", column.definition())
            })
            .collect();
        Ok(format!(
            "CREATE TABLE {SCHEMA}.{} ({}, {SWEEP} TEXT NOT NULL, {ARCHIVED_AT} TEXT NOT NULL)",
            identifier(self.name),
            columns.join(", ")
        ))
    }

    fn no_column_of_ours(&self, source: &Shape) -> Result<(), EngineError> {
        let taken = source
            .columns
            .iter()
            .find(|column| column.is(SWEEP) || column.is(ARCHIVED_AT));
        match taken {
            Some(column) => self.refuse(format_args!(
                "cannot take the rows of {}: its column {} has the name of a column that the operator writes itself",
                self.plan.table.qualified(),
                column.name
            )),
            None => Ok(()),
        }
    }

    fn existing(&self, source: &Shape, existing: &Shape) -> Result<(), EngineError> {
        if existing.kind != "table" {
            return self.refuse(format_args!("is a {}: name a table", existing.kind));
        }
        self.no_column_of_ours(source)?;
        let mut changes = Vec::new();
        for column in &source.columns {
            let known = existing.columns.iter().find(|known| known.is(&column.name));
            match known {
                None => changes.push(format!("ADD COLUMN {}", column.definition())),
                Some(known) if fits(source, column, existing, known) => {}
                // SQLite changes no column's type.
                Some(known) => {
                    let aside = format!("{}_before", known.name);
                    changes.push(format!(
                        "RENAME COLUMN {} TO {}",
                        identifier(&known.name),
                        identifier(&aside)
                    ));
                    changes.push(format!("ADD COLUMN {}", column.definition()));
                }
            }
        }
        if !changes.is_empty() {
            let table = identifier(self.name);
            let changes: Vec<String> = changes
                .iter()
                .map(|change| format!("ALTER TABLE {SCHEMA}.{table} {change}"))
                .collect();
            return self.refuse(format_args!(
                "does not have the columns of {}; run: {}",
                self.plan.table.qualified(),
                changes.join("; ")
            ));
        }
        let needed = existing.columns.iter().find(|known| {
            let ours = known.is(SWEEP) || known.is(ARCHIVED_AT);
            let wanted = source.columns.iter().any(|column| column.is(&known.name));
            (known.not_null && !known.filled && !known.generated && !ours && !wanted)
                || (ours && known.generated)
        });
        match needed {
            Some(column) => self.refuse(format_args!(
                "has a column {} that {} cannot fill: run ALTER TABLE {SCHEMA}.{} DROP COLUMN {}, or name another table",
                column.name,
                self.plan.table.qualified(),
                identifier(self.name),
                identifier(&column.name)
            )),
            None => Ok(()),
        }
    }
}

/// Values go from the one to the other unchanged.
fn fits(source: &Shape, column: &Column, archive: &Shape, known: &Column) -> bool {
    if known.generated || (known.is_rowid && !column.is_rowid) {
        return false;
    }
    if archive.strict {
        let same = column.declared.eq_ignore_ascii_case(&known.declared);
        let takes_all = known.declared.eq_ignore_ascii_case("ANY");
        return takes_all || (source.strict && same);
    }
    known.affinity == Affinity::Blob || known.affinity == column.affinity
}

impl Archive {
    /// `schema.table`, for messages.
    pub(super) fn qualified(&self) -> String {
        format!("{SCHEMA}.{}", self.name)
    }

    /// What of the two tables must not change while rows go from the one into the other.
    pub(super) fn told(&self) -> String {
        format!("{:?}", self.shapes)
    }

    /// The temporary triggers: one that writes the rows which go, and others that count those which are kept. What a trigger of
    /// the service removes from the archive meanwhile, or changes there, is not kept. One more counts all rows that go: where a
    /// trigger of the archive deletes from the source, the first does not fire a second time inside itself.
    pub(super) fn triggers(&self) -> [String; 5] {
        let (source, archive) = &self.shapes;
        let mut names = Vec::new();
        let mut values = Vec::new();
        for column in &source.columns {
            names.push(identifier(&column.name));
            values.push(format!("old.{}", identifier(&column.name)));
        }
        let archived = names.join(", ");
        for (name, value) in [
            (SWEEP, literal(&self.sweep)),
            (
                ARCHIVED_AT,
                "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')".to_owned(),
            ),
        ] {
            if archive.columns.iter().any(|column| column.is(name)) {
                names.push(name.to_owned());
                values.push(value);
            }
        }
        let archive = identifier(&self.name);
        [
            // Whatever a constraint of the archive says of conflicts: no row there is replaced.
            format!(
                "CREATE TEMP TRIGGER retention_keeps AFTER DELETE ON {SCHEMA}.{} \
                 BEGIN INSERT OR ABORT INTO {archive} ({}) VALUES ({}); END",
                identifier(&self.source),
                names.join(", "),
                values.join(", ")
            ),
            format!(
                "CREATE TEMP TRIGGER retention_all AFTER DELETE ON {SCHEMA}.{} \
                 BEGIN UPDATE retention_gone SET lost = lost + 1; END",
                identifier(&self.source)
            ),
            format!(
                "CREATE TEMP TRIGGER retention_kept AFTER INSERT ON {SCHEMA}.{archive} \
                 BEGIN UPDATE retention_gone SET kept = kept + 1; END"
            ),
            format!(
                "CREATE TEMP TRIGGER retention_lost AFTER DELETE ON {SCHEMA}.{archive} \
                 BEGIN UPDATE retention_gone SET kept = kept - 1; END"
            ),
            format!(
                "CREATE TEMP TRIGGER retention_changed AFTER UPDATE OF {archived} ON {SCHEMA}.{archive} \
                 BEGIN UPDATE retention_gone SET kept = kept - 1; END"
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", false, Affinity::Blob)]
    #[case("INTEGER", false, Affinity::Numeric)]
    #[case("CHARINT", false, Affinity::Numeric)]
    #[case("varchar(20)", false, Affinity::Text)]
    #[case("FLOATING POINT", false, Affinity::Numeric)]
    #[case("DOUBLE PRECISION", false, Affinity::Real)]
    #[case("DATETIME", false, Affinity::Numeric)]
    #[case("ANY", false, Affinity::Numeric)]
    #[case("ANY", true, Affinity::Blob)]
    #[case("BLOB", false, Affinity::Blob)]
    fn a_declared_type_converts_as_sqlite_says(
        #[case] declared: &str,
        #[case] strict: bool,
        #[case] expected: Affinity,
    ) {
        assert_eq!(affinity(declared, strict), expected);
    }
}
