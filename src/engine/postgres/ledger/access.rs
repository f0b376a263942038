//! Whether there is a ledger and of which version; made, and brought up to date, where that is allowed.

use std::sync::Arc;

use sqlx::Row;

use super::{
    super::{
        Settings, catalog,
        session::{Session, Sessions},
        sql::{self, Begin, Sql},
    },
    Identity, LOCK, PostgresLedger, ddl, failed, finish, grant, grant_making, key, memory, share,
};
use crate::{
    engine::{EngineError, ledger::LedgerAccess},
    policy::claims::LedgerMode,
};

/// What there is.
enum Found {
    Nothing {
        may_create: bool,
    },
    Unusable(String),
    /// Of an older operator.
    Older(Older),
    Ledger {
        may_write: bool,
    },
}

/// What brings an older ledger up to date.
struct Older {
    version: i32,
    /// Tables to make.
    missing: Vec<&'static str>,
    /// Columns to add.
    lacking: Vec<&'static ddl::Added>,
    /// What somebody else has to run first.
    run: Vec<String>,
    standby: bool,
}

/// Looks for the ledger, and makes it where `create` and the role allow.
pub(in crate::engine::postgres) async fn access(
    sessions: &Arc<Sessions>,
    settings: &Settings,
    mode: LedgerMode,
    create: bool,
) -> Result<LedgerAccess, EngineError> {
    if mode == LedgerMode::Off {
        return Ok(LedgerAccess::Absent { note: None });
    }
    let (mut found, identity) = look(sessions, settings).await?;
    if let Found::Older(older) = &found {
        match bring_up_to_date(sessions, settings, older, create).await? {
            Ok(()) => found = look(sessions, settings).await?.0,
            Err(why) => found = Found::Unusable(why),
        }
    }
    let usable = |may_write| {
        LedgerAccess::Usable(Arc::new(PostgresLedger {
            sessions: Arc::clone(sessions),
            settings: settings.clone(),
            identity: identity.clone(),
            may_write,
        }))
    };
    match found {
        Found::Unusable(why) => Ok(LedgerAccess::Unusable(why)),
        // It was brought up to date a moment ago.
        Found::Older(_) => Err(EngineError::Ledger(
            "somebody else changes the ledger's version: have only one version of the operator run"
                .to_owned(),
        )),
        Found::Ledger { may_write } => Ok(usable(may_write)),
        Found::Nothing { .. } if mode != LedgerMode::Auto || !create => {
            Ok(LedgerAccess::Absent { note: None })
        }
        Found::Nothing { may_create: false } => Ok(LedgerAccess::Absent {
            note: Some(format!(
                "the ledger cannot be made by role {:?}; run as the database's owner what retention-operator grants prints, or: GRANT CREATE ON DATABASE {} TO {}",
                sessions.server().user,
                sql::identifier(&sessions.server().database),
                sql::identifier(&sessions.server().user),
            )),
        }),
        Found::Nothing { may_create: true } => match make(sessions, settings, &identity).await {
            Ok(()) => Ok(usable(true)),
            // A standby, or a server that was set read-only: as long as nothing needs it, it is missing and no more.
            Err(error @ (EngineError::ReadOnly(_) | EngineError::Permission(_))) => {
                Ok(LedgerAccess::Absent {
                    note: Some(format!("the ledger could not be made: {error}")),
                })
            }
            Err(error) => Err(error),
        },
    }
}

async fn look(
    sessions: &Arc<Sessions>,
    settings: &Settings,
) -> Result<(Found, Identity), EngineError> {
    // Of one moment: with tables of before another operator brought it up to date and the version of after, it would look broken.
    let one_moment = Begin {
        one_snapshot: true,
        ..settings.read()
    };
    let mut session = sessions.begin(&one_moment).await?;
    let survey = survey(&mut session, &sessions.server().user).await;
    let found =
        survey.map_err(|reason| failed(sessions, settings, "looking for the ledger", &reason))?;
    session.release().await;
    Ok(found)
}

/// Makes what an older ledger lacks, where `create` and the role allow; else says who has to.
async fn bring_up_to_date(
    sessions: &Arc<Sessions>,
    settings: &Settings,
    older: &Older,
    create: bool,
) -> Result<Result<(), String>, EngineError> {
    let role = &sessions.server().user;
    let what = format!(
        "the ledger is of version {}, and this operator works with version {}",
        older.version,
        ddl::VERSION
    );
    if older.standby {
        return Ok(Err(format!(
            "{what}: on a standby nothing can be brought up to date"
        )));
    }
    if !older.run.is_empty() {
        return Ok(Err(format!(
            "{what}: role {role:?} may not bring it up to date; run: {}",
            older.run.join("; ")
        )));
    }
    if !create {
        return Ok(Err(format!(
            "{what}: the next sweep, or an operator in a cluster, brings it up to date"
        )));
    }
    match complete(sessions, settings, older).await {
        Ok(()) => Ok(Ok(())),
        Err(error @ (EngineError::ReadOnly(_) | EngineError::Permission(_))) => Ok(Err(format!(
            "{what}: it could not be brought up to date: {error}"
        ))),
        Err(error) => Err(error),
    }
}

async fn survey(session: &mut Session, role: &str) -> Result<(Found, Identity), sqlx::Error> {
    let row = session.row(sql::constant(ddl::SURVEY)).await?;
    let database = catalog::oid(&row, "database")?;
    let in_recovery: bool = row.try_get("in_recovery")?;
    let system = if row.try_get("may_identify")? {
        let row = session.row(sql::constant(IDENTIFIER)).await?;
        Some(row.try_get("identifier")?)
    } else {
        None
    };
    let identity = Identity { system, database };
    let may_create =
        !in_recovery && (row.try_get::<bool, _>("may_create")? || row.try_get("may_fill")?);
    let nothing = Found::Nothing { may_create };
    if !row.try_get::<bool, _>("found")? {
        return Ok((nothing, identity));
    }
    let tables = session
        .rows(
            sql::constant(ddl::SHAPE).bind(
                ddl::names()
                    .iter()
                    .map(|&name| name.to_owned())
                    .collect::<Vec<_>>(),
            ),
        )
        .await?;
    if tables.is_empty() {
        return Ok((nothing, identity));
    }
    let unusable = |why: String| Ok((Found::Unusable(why), identity.clone()));
    let mut names = Vec::with_capacity(tables.len());
    for table in &tables {
        let name: String = table.try_get("name")?;
        if !table.try_get::<bool, _>("plain")? {
            return unusable(format!(
                "{}.{name} is not the table that the operator makes: it has a default, a trigger, a rule or the like; rename the schema if it is not the operator's",
                ddl::SCHEMA
            ));
        }
        names.push(name);
    }
    let broken = format!(
        "schema {} lacks tables of the ledger: drop it if it is not in use, or rename it if it is not the operator's",
        ddl::SCHEMA
    );
    if !names.iter().any(|name| name == "meta") {
        return unusable(broken);
    }
    let every = |right: &str| -> Result<bool, sqlx::Error> {
        for table in &tables {
            if !table.try_get::<bool, _>(right)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    if !row.try_get::<bool, _>("may_use")? || !every("may_read")? {
        return unusable(format!(
            "the database has a ledger that role {role:?} may not use; run: {}",
            grant(role)
        ));
    }
    let version: Option<i32> = session
        .rows(sql::constant(
            "SELECT version FROM retention_operator.meta WHERE one",
        ))
        .await?
        .first()
        .map(|row| row.try_get("version"))
        .transpose()?;
    match (ddl::standing(version, &names), version) {
        (ddl::Standing::Fits, _) => {}
        (ddl::Standing::Older { missing }, Some(version)) => {
            let may_fill = row.try_get("may_fill")?;
            let counts = tables.iter().find(|table| {
                table
                    .try_get::<String, _>("name")
                    .is_ok_and(|name| name == "meta")
            });
            let may_say = counts.map_or(Ok(false), |meta| meta.try_get("may_write"))?;
            let mut older = Older {
                version,
                missing,
                lacking: Vec::new(),
                run: Vec::new(),
                standby: in_recovery,
            };
            older.look(session, role, (may_fill, may_say)).await?;
            return Ok((Found::Older(older), identity));
        }
        (ddl::Standing::Newer, Some(version)) => {
            return unusable(format!(
                "the database has a ledger of version {version}, newer than this operator, which works with version {}: use an operator that is as new",
                ddl::VERSION
            ));
        }
        _ => return unusable(broken),
    }
    let may_write = !in_recovery && every("may_write")?;
    Ok((Found::Ledger { may_write }, identity))
}

impl Older {
    /// What there is to do, and what of it the role cannot do itself: it may make tables in the schema, and say which version the
    /// ledger is of.
    async fn look(
        &mut self,
        session: &mut Session,
        role: &str,
        (may_fill, may_say): (bool, bool),
    ) -> Result<(), sqlx::Error> {
        if !self.missing.is_empty() && !may_fill {
            self.run.push(grant_making(role));
        }
        let names = |of: fn(&ddl::Added) -> &'static str| -> Vec<String> {
            ddl::ADDED
                .iter()
                .map(|added| of(added).to_owned())
                .collect()
        };
        let columns = sql::constant(ddl::COLUMNS)
            .bind(names(|added| added.table))
            .bind(names(|added| added.column));
        let columns = session.rows(columns).await?;
        for (added, row) in ddl::ADDED.iter().zip(&columns) {
            // A table that is to be made is made with it.
            if self.missing.contains(&added.table) || row.try_get("there")? {
                continue;
            }
            if !row.try_get::<bool, _>("may_add")? {
                self.run.push(added.statement.to_owned());
            }
            self.lacking.push(added);
        }
        if !may_say {
            self.run.push(ddl::upgraded());
        }
        Ok(())
    }
}

const IDENTIFIER: &str =
    "SELECT system_identifier::text AS identifier FROM pg_catalog.pg_control_system()";

/// Makes the ledger in one transaction. Several may try at once: the first makes it, the others find it.
async fn make(
    sessions: &Arc<Sessions>,
    settings: &Settings,
    identity: &Identity,
) -> Result<(), EngineError> {
    let mut session = sessions.begin(&settings.write()).await?;
    let made = async {
        session.row(sql::constant(LOCK).bind(key())).await?;
        // Also where the role may not create schemas, and somebody has made this one for it.
        let row = session.row(sql::constant(ddl::SURVEY)).await?;
        if !row.try_get::<bool, _>("found")? {
            session.raw(&sql::fixed(ddl::CREATE_SCHEMA)).await?;
        }
        for (_, statement) in ddl::TABLES {
            session.raw(&sql::fixed(statement)).await?;
        }
        session.raw(&sql::fixed(ddl::INDEX)).await?;
        memory::make(&mut session).await?;
        let meta = sql::constant(ddl::META)
            .bind(ddl::VERSION)
            .bind(identity.system.clone())
            .bind(i64::from(identity.database));
        session.execute(meta).await?;
        session.execute(sql::constant(ddl::CONTROL)).await?;
        Ok(())
    }
    .await;
    finish(session, sessions, settings, "making the ledger", made).await
}

/// Brings an older ledger up to date in one transaction.
async fn complete(
    sessions: &Arc<Sessions>,
    settings: &Settings,
    older: &Older,
) -> Result<(), EngineError> {
    let mut session = sessions.begin(&settings.write()).await?;
    let completed = async {
        session.row(sql::constant(LOCK).bind(key())).await?;
        for (name, statement) in ddl::TABLES {
            if older.missing.contains(&name) {
                session.raw(&sql::fixed(statement)).await?;
            }
        }
        share(&mut session, &older.missing).await?;
        for added in &older.lacking {
            session.raw(&sql::fixed(added.statement)).await?;
        }
        session.raw(&Sql::made(ddl::upgraded())).await?;
        Ok(())
    }
    .await;
    finish(
        session,
        sessions,
        settings,
        "bringing the ledger up to date",
        completed,
    )
    .await
}
