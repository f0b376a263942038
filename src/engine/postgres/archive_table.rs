//! Rows that are moved into another table of the same database: in the statement that deletes them, so that no row is ever in
//! both tables or in none.

use std::{sync::Arc, time::Duration};

use sqlx::{Postgres, Row, postgres::PgArguments, query::Query};

use super::{
    CATALOG_LOCK_TIMEOUT, Settings,
    archive_facts::{Column, Existing, Facts, fingerprint, has_delete_triggers},
    error::{self, Doing},
    session::{Session, Sessions},
    sql::{self, Begin, Sql, identifier, literal, table},
};
use crate::{
    engine::EngineError,
    policy::{
        plan::{ArchivePlan, RulePlan},
        table::TableFacts,
    },
};

/// Which sweep a row was archived by, and when: columns that a table which the operator makes has.
const SWEEP: &str = "retention_sweep_id";
const ARCHIVED_AT: &str = "retention_archived_at";
/// The schema of a name that states none.
const DEFAULT_SCHEMA: &str = "public";
/// For a CREATE TABLE.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

/// An archive table that is there and takes the rows of a plan.
#[derive(Clone, Debug)]
pub(super) struct ArchiveTable {
    id: u32,
    schema: String,
    name: String,
    /// What the table must still look like when a chunk begins.
    pub(super) fingerprint: String,
    /// ` , column …` and their values, for the columns that say where a row came from.
    extra: Vec<(&'static str, String)>,
    facts: Arc<Facts>,
    /// Where triggers of either table may change what was inserted, or take it away again: looks whether rows are still where they
    /// were put. `$1` (text[]): tables and tids.
    look_again: Option<Sql>,
    /// Its rows are in partitions, whose shape no lock keeps before the first row is written.
    pub(super) partitioned: bool,
    /// What gives the right to write into it.
    pub(super) grant: String,
}

impl ArchiveTable {
    /// It is the table of that schema and name.
    pub(super) fn is_named(&self, (schema, name): &(String, String)) -> bool {
        self.schema == *schema && self.name == *name
    }

    /// The database's own number of it.
    pub(super) fn id(&self) -> u32 {
        self.id
    }
}

fn place(archive: &ArchivePlan) -> (&str, &str) {
    let schema = archive.table.schema.as_deref().unwrap_or(DEFAULT_SCHEMA);
    (schema, &archive.table.name)
}

/// See [`Engine::check_archive`](crate::engine::Engine::check_archive).
pub(super) async fn look(
    sessions: &Arc<Sessions>,
    settings: &Settings,
    plan: &RulePlan,
) -> Result<Option<String>, EngineError> {
    let Some(archive) = &plan.archive else {
        return Ok(None);
    };
    let mut session = sessions.begin(&settings.read()).await?;
    let facts = read(&mut session, sessions, settings, &plan.table, archive).await?;
    session.release().await;
    let (schema, name) = place(archive);
    let judge = Judge {
        facts: &facts,
        root: plan.table.id,
        source: &plan.table,
        schema,
        name,
        role: &sessions.server().user,
    };
    match &facts.existing {
        Some(existing) => judge.existing(existing).map(|()| None),
        None => judge
            .creation()
            .map(|statements| Some(statements.join("; "))),
    }
}

/// Makes the archive table where it is missing, in a transaction of its own, and looks whether it takes the rows of `source`,
/// the plan's table as it is now. The session is in no transaction, before and after.
pub(super) async fn prepare(
    session: &mut Session,
    sessions: &Sessions,
    settings: &Settings,
    archive: &ArchivePlan,
    source: &TableFacts,
) -> Result<ArchiveTable, EngineError> {
    let (schema, name) = place(archive);
    let role = &sessions.server().user;
    for may_create in [true, false] {
        session.begin(&settings.read()).await?;
        let facts = read(session, sessions, settings, source, archive).await?;
        session.rollback().await;
        let judge = Judge {
            facts: &facts,
            root: source.id,
            source,
            schema,
            name,
            role,
        };
        if let Some(existing) = &facts.existing {
            judge.existing(existing)?;
            return Ok(ArchiveTable {
                id: existing.id,
                schema: schema.to_owned(),
                name: name.to_owned(),
                fingerprint: existing.fingerprint.clone(),
                extra: [
                    (SWEEP, literal(&archive.sweep)),
                    (ARCHIVED_AT, "pg_catalog.now()".to_owned()),
                ]
                .into_iter()
                .filter(|(column, _)| existing.columns.iter().any(|known| known.name == *column))
                .collect(),
                partitioned: existing.kind == "p",
                look_again: facts.needs_a_look().then(|| look_again(schema, name)),
                grant: sql::grant_rights(judge.rights(), schema, name, role),
                facts: Arc::new(facts),
            });
        }
        if may_create {
            create(session, sessions, settings, &judge).await?;
        }
    }
    Err(EngineError::Archive(format!(
        "archive table {schema}.{name} was created and is not there: somebody dropped it"
    )))
}

async fn read(
    session: &mut Session,
    sessions: &Sessions,
    settings: &Settings,
    source: &TableFacts,
    archive: &ArchivePlan,
) -> Result<Facts, EngineError> {
    let (schema, name) = place(archive);
    Facts::read(session, source, schema, name)
        .await
        .map_err(|reason| {
            let doing = Doing {
                what: "looking at the archive table",
                table: None,
                grant: None,
                statement_timeout: settings.statement_timeout,
            };
            error::running(sessions.server(), doing, &reason)
        })
}

async fn create(
    session: &mut Session,
    sessions: &Sessions,
    settings: &Settings,
    judge: &Judge<'_>,
) -> Result<(), EngineError> {
    let statements = judge.creation()?;
    let begin = Begin {
        lock_timeout: CATALOG_LOCK_TIMEOUT,
        statement_timeout: CREATE_TIMEOUT,
        ..settings.chunk()
    };
    session.begin(&begin).await?;
    let created = async {
        for statement in statements {
            session.raw(&Sql::made(statement)).await?;
        }
        session.commit().await
    }
    .await;
    match created {
        Ok(()) => Ok(()),
        Err(reason) => {
            session.rollback().await;
            let name = format!("{}.{}", judge.schema, judge.name);
            let grant = judge.grant_to_create();
            let doing = Doing {
                what: "creating archive table",
                table: Some(&name),
                grant: Some(&grant),
                statement_timeout: CREATE_TIMEOUT,
            };
            Err(error::running(sessions.server(), doing, &reason))
        }
    }
}

/// May the rows of a table go into an archive table?
struct Judge<'a> {
    facts: &'a Facts,
    /// The source's number.
    root: u32,
    source: &'a TableFacts,
    schema: &'a str,
    name: &'a str,
    role: &'a str,
}

impl Judge<'_> {
    /// Tables of the server and of the operator take no rows of anybody.
    fn place(&self) -> Result<(), EngineError> {
        let reserved = self.schema.starts_with("pg_")
            || ["information_schema", "retention_operator"].contains(&self.schema);
        if reserved {
            return self
                .refuse("is in a schema of the server or of the operator: name another one");
        }
        Ok(())
    }

    fn refuse<T>(&self, what: impl std::fmt::Display) -> Result<T, EngineError> {
        Err(EngineError::Archive(format!(
            "archive table {}.{} {what}",
            self.schema, self.name
        )))
    }

    /// What the role needs on a table that is there.
    fn rights(&self) -> &'static str {
        if self.facts.needs_a_look() {
            "SELECT, INSERT"
        } else {
            "INSERT"
        }
    }

    fn quoted(&self) -> String {
        table(self.schema, self.name)
    }

    /// The source's columns, none of which may be called like the ones that say where a row came from.
    fn columns(&self) -> Result<Vec<&Column>, EngineError> {
        self.place()?;
        let columns = match self.facts.all_columns(self.root) {
            Ok(columns) => columns,
            Err(column) => {
                return self.refuse(format_args!(
                    "cannot take the rows of {}: its parts have columns {} of different types",
                    self.source.qualified(),
                    identifier(&column.name)
                ));
            }
        };
        match columns
            .iter()
            .find(|column| [SWEEP, ARCHIVED_AT].contains(&column.name.as_str()))
        {
            Some(column) => self.refuse(format_args!(
                "cannot take the rows of {}: its column {} has the name of a column that the operator writes itself",
                self.source.qualified(),
                column.name
            )),
            None => Ok(columns),
        }
    }

    /// The statements that make it.
    fn creation(&self) -> Result<Vec<String>, EngineError> {
        let columns = self.columns()?;
        let may = if self.facts.schema_exists {
            self.facts.may_create_table
        } else {
            self.facts.may_create_schema
        };
        if !may {
            return Err(EngineError::Permission(format!(
                "archive table {}.{} does not exist, and role {:?} may not create it; run: {}",
                self.schema,
                self.name,
                self.role,
                self.grant_to_create()
            )));
        }
        let mut statements = Vec::new();
        if !self.facts.schema_exists {
            statements.push(format!(
                "CREATE SCHEMA IF NOT EXISTS {}",
                identifier(self.schema)
            ));
        }
        let own = self.facts.root_columns(self.root).len();
        // Inheritance children may have more columns than their parent.
        let more: String = columns
            .iter()
            .skip(own)
            .map(|column| format!("{}, ", column.definition()))
            .collect();
        // LIKE takes names, types, collations and NOT NULL over; not defaults, identity, generation, keys or indexes.
        statements.push(format!(
            "CREATE TABLE IF NOT EXISTS {} (LIKE {}, {more}{SWEEP} pg_catalog.text NOT NULL, {ARCHIVED_AT} pg_catalog.timestamptz NOT NULL)",
            self.quoted(),
            table(&self.source.schema, &self.source.name)
        ));
        Ok(statements)
    }

    fn grant_to_create(&self) -> String {
        let role = identifier(self.role);
        if self.facts.schema_exists {
            format!(
                "GRANT USAGE, CREATE ON SCHEMA {} TO {role}",
                identifier(self.schema)
            )
        } else {
            format!(
                "CREATE SCHEMA {schema}; GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}",
                schema = identifier(self.schema)
            )
        }
    }

    fn existing(&self, existing: &Existing) -> Result<(), EngineError> {
        if self.facts.family.contains(&existing.id) {
            return self.refuse(format_args!(
                "is {} itself, a part of it, or a table that it is a part of: name another table",
                self.source.qualified()
            ));
        }
        match existing.kind.as_str() {
            "r" | "p" => {}
            "v" => return self.refuse("is a view: name a table"),
            "m" => return self.refuse("is a materialized view: name a table"),
            "f" => return self.refuse("is a foreign table: name a table of this database"),
            _ => return self.refuse("is no table: name a table"),
        }
        if let Some((part, why)) = &existing.unsafe_part {
            return self.refuse(format_args!("cannot keep rows: {part} {why}"));
        }
        if existing.row_security {
            return self.refuse(format_args!(
                "has row-level security, which may keep rows out: use its owner or a role with BYPASSRLS instead of {:?}",
                self.role
            ));
        }
        if let Some(rule) = &existing.insert_rule {
            return self.refuse(format_args!(
                "has rule {rule}, which changes what an INSERT does"
            ));
        }
        let lacks = if !existing.may_insert {
            Some("write into")
        } else if !existing.may_select && self.facts.needs_a_look() {
            Some("read, where triggers fire,")
        } else {
            None
        };
        if let Some(lacks) = lacks {
            return Err(EngineError::Permission(format!(
                "role {:?} may not {lacks} archive table {}.{}; run: {}",
                self.role,
                self.schema,
                self.name,
                sql::grant_rights(self.rights(), self.schema, self.name, self.role)
            )));
        }
        self.existing_columns(existing)
    }

    fn existing_columns(&self, existing: &Existing) -> Result<(), EngineError> {
        let columns = self.columns()?;
        let mut changes = Vec::new();
        for column in &columns {
            let name = identifier(&column.name);
            match existing
                .columns
                .iter()
                .find(|known| known.name == column.name)
            {
                None => changes.push(format!("ADD COLUMN {}", column.definition())),
                Some(known) if known.generated => {
                    return self.refuse(format_args!(
                        "generates its column {name}, which would lose the source's value; run: ALTER TABLE {} ALTER COLUMN {name} DROP EXPRESSION",
                        self.quoted()
                    ));
                }
                Some(known) if !known.is_like(column) => {
                    changes.push(format!("ALTER COLUMN {name} TYPE {}", column.written()));
                }
                Some(_) => {}
            }
        }
        let wanted = |name: &str| columns.iter().any(|column| column.name == name);
        for column in existing
            .columns
            .iter()
            .filter(|column| !wanted(&column.name))
        {
            let name = identifier(&column.name);
            match column.name.as_str() {
                SWEEP if !column.has_type(&["text", "character varying"]) || column.generated => {
                    changes.push(format!("ALTER COLUMN {name} TYPE pg_catalog.text"));
                }
                ARCHIVED_AT
                    if !column.has_type(&["timestamp with time zone"]) || column.generated =>
                {
                    changes.push(format!("ALTER COLUMN {name} TYPE pg_catalog.timestamptz"));
                }
                SWEEP | ARCHIVED_AT => {}
                _ if column.not_null && !column.filled && !column.generated => {
                    changes.push(format!("ALTER COLUMN {name} DROP NOT NULL"));
                }
                _ => {}
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.refuse(format_args!(
            "does not have the columns of {}; run: ALTER TABLE {} {}",
            self.source.qualified(),
            self.quoted(),
            changes.join(", ")
        ))
    }
}

impl ArchiveTable {
    /// `schema.table`, for messages.
    pub(super) fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The lock that keeps its shape as it is.
    pub(super) fn lock(&self) -> String {
        format!(
            "LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE",
            table(&self.schema, &self.name)
        )
    }

    /// What it looks like, as an expression; [`TRIGGERED`] where rows of the leaf cannot be trusted to stay in it any more.
    pub(super) fn shape(&self, leaf: u32) -> String {
        let shape = fingerprint(self.id);
        if self.look_again.is_some() {
            return shape;
        }
        format!(
            "CASE WHEN {} THEN {} ELSE {shape} END",
            has_delete_triggers(leaf),
            literal(TRIGGERED)
        )
    }

    /// Wraps a DELETE on a leaf (as `k0`) so that its rows go into the table. One row comes back: how many were deleted, and how
    /// many were kept.
    ///
    /// Renaming a schema needs no lock on its tables: should the name lead to another table meanwhile, nothing is deleted.
    pub(super) fn taking(&self, leaf: u32, delete: &str) -> String {
        let archive = table(&self.schema, &self.name);
        let columns: Vec<String> = self
            .facts
            .source
            .get(&leaf)
            .into_iter()
            .flatten()
            .map(|column| identifier(&column.name))
            .collect();
        let of = |alias: &str| {
            columns
                .iter()
                .map(|column| format!("{alias}.{column}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let names: Vec<&str> = columns
            .iter()
            .map(String::as_str)
            .chain(self.extra.iter().map(|(name, _)| *name))
            .collect();
        let values: String = self
            .extra
            .iter()
            .map(|(_, value)| format!(", {value}"))
            .collect();
        let listed = columns.join(", ");
        // Compared as texts: not every type has an equality.
        let (returned, kept) = if self.look_again.is_some() {
            (
                format!("{PLACE} AS retention_place, {listed}"),
                format!(
                    "(SELECT pg_catalog.count(*) FROM kept) - (SELECT pg_catalog.count(*) FROM \
                     (SELECT ROW({listed})::text FROM kept EXCEPT ALL SELECT ROW({listed})::text FROM gone) AS changed) AS kept, \
                     (SELECT pg_catalog.array_agg(kept.retention_place) FROM kept) AS places"
                ),
            )
        } else {
            (
                "1".to_owned(),
                "(SELECT pg_catalog.count(*) FROM kept) AS kept".to_owned(),
            )
        };
        format!(
            "WITH gone AS ({delete} AND {}::pg_catalog.regclass = {}::oid RETURNING {}), \
             kept AS (INSERT INTO {archive} ({}) OVERRIDING SYSTEM VALUE SELECT {}{values} FROM gone RETURNING {returned}) \
             SELECT (SELECT pg_catalog.count(*) FROM gone) AS gone, {kept}",
            literal(&archive),
            self.id,
            of("k0"),
            names.join(", "),
            of("gone"),
        )
    }
}

/// In place of the shape: deletes from the source set off what they did not when the sweep began.
pub(super) const TRIGGERED: &str = "triggered";

/// Where a row of the archive table lies, as a text.
const PLACE: &str = "tableoid::text || ctid::text";

fn look_again(schema: &str, name: &str) -> Sql {
    Sql::made(format!(
        "SELECT pg_catalog.count(*) AS kept FROM {} WHERE ctid = ANY \
         (ARRAY(SELECT pg_catalog.substring(place, '[(].*')::tid FROM pg_catalog.unnest($1::text[]) AS place)) AND {PLACE} = ANY ($1::text[])",
        table(schema, name)
    ))
}

/// Why rows could not be taken.
pub(super) enum Failure {
    /// What the server said.
    Server(sqlx::Error),
    /// Rows were deleted that the archive table did not keep.
    NotKept {
        /// Rows deleted.
        gone: i64,
        /// Rows kept.
        kept: i64,
    },
}

impl From<sqlx::Error> for Failure {
    fn from(reason: sqlx::Error) -> Self {
        Self::Server(reason)
    }
}

/// Runs a delete and says how many rows it took. Where it archives, each of them must have been kept, and each that the same chunk
/// archived before: `places` holds where they lie.
pub(super) async fn take(
    session: &mut Session,
    delete: Query<'_, Postgres, PgArguments>,
    archive: Option<&ArchiveTable>,
    places: &mut Vec<String>,
) -> Result<u64, Failure> {
    let Some(archive) = archive else {
        return Ok(session.execute(delete).await?);
    };
    let row = session.row(delete).await?;
    let (gone, kept): (i64, i64) = (row.try_get("gone")?, row.try_get("kept")?);
    if gone != kept {
        return Err(Failure::NotKept { gone, kept });
    }
    if let Some(look_again) = &archive.look_again {
        let new: Option<Vec<String>> = row.try_get("places")?;
        places.extend(new.unwrap_or_default());
        // Triggers of the statement fire even where it deletes no row.
        if !places.is_empty() {
            // Triggers that were to fire at the COMMIT, too.
            session
                .raw(&sql::fixed("SET CONSTRAINTS ALL IMMEDIATE"))
                .await?;
            let all = i64::try_from(places.len()).unwrap_or(i64::MAX);
            let kept = session
                .row(look_again.query().bind(&*places))
                .await?
                .try_get("kept")?;
            if all != kept {
                return Err(Failure::NotKept { gone: all, kept });
            }
        }
    }
    Ok(u64::try_from(gone).unwrap_or(0))
}
