//! From a [`DatabaseTarget`] to connections to one file. A file is never created, and never opened by other means than SQLite's: to
//! close a handle of our own would drop the locks that this process holds on the file.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};

use super::{
    error,
    session::{Session, Watch},
    sql,
    url::{self, SqliteUrl},
};
use crate::engine::{DatabaseTarget, EngineError};

/// Reads may meet a commit; they wait longer for its end than a chunk may.
const READ_PATIENCE: Duration = Duration::from_secs(2);
/// Nobody waits longer for a lock; the driver takes no more than 24 days.
const LONGEST_PATIENCE: Duration = Duration::from_hours(1);

/// One database file.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    url: SqliteUrl,
    /// For the locks of chunks.
    lock_timeout: Duration,
    /// The path as the URL spells it, for messages.
    name: Arc<str>,
}

/// Which file a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    /// Absolute, without links.
    pub(super) path: PathBuf,
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Connector {
    /// Reads the target; opens nothing.
    pub(super) fn new(target: &DatabaseTarget) -> Result<Self, EngineError> {
        if !target.allow_local_files {
            return Err(EngineError::Target(
                "the database URL names a file of the operator's own machine, which it does not lend: sqlite:// is for the offline verbs"
                    .to_owned(),
            ));
        }
        if target.tls_mode.is_some() || target.tls_ca_pem.is_some() {
            return Err(EngineError::Target(
                "database.tls does not apply to SQLite, a file without a network: remove it"
                    .to_owned(),
            ));
        }
        let url = url::parse(target.url.expose_secret()).map_err(EngineError::Target)?;
        let name = Arc::from(url.path.to_string_lossy().as_ref());
        Ok(Self {
            url,
            lock_timeout: target.lock_timeout,
            name,
        })
    }

    /// The path as the URL spells it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The file's own name.
    pub(super) fn file_name(&self) -> String {
        let path = &self.url.path;
        path.file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    /// Which file the path leads to now.
    pub(super) fn look(&self) -> Result<FileId, EngineError> {
        let unusable = |reason: io::Error| match reason.kind() {
            io::ErrorKind::NotFound => EngineError::Target(format!(
                "the database file {} does not exist, and none is created",
                self.name
            )),
            _ => EngineError::Target(format!(
                "the database file {} cannot be looked at: {reason}",
                self.name
            )),
        };
        let path = fs::canonicalize(&self.url.path).map_err(unusable)?;
        let found = fs::metadata(&path).map_err(unusable)?;
        if !found.is_file() {
            return Err(EngineError::Target(format!("{} is no file", self.name)));
        }
        if path.to_str().is_none() {
            return Err(EngineError::Target(format!(
                "the path of {} is no UTF-8",
                self.name
            )));
        }
        Ok(FileId {
            path,
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// A connection that cannot change the database, in no transaction.
    ///
    /// A database in WAL mode needs two files beside it also to be read. Those that are there belong to somebody; those that our
    /// reading made are removed when a connection that might write is the last to close.
    pub(super) async fn reader(&self) -> Result<Session, EngineError> {
        let file = self.look()?;
        let wal = beside(&file.path, "-wal");
        let options = self.options(&file, READ_PATIENCE).read_only(true);
        if self.url.immutable {
            if fs::metadata(&wal).is_ok_and(|found| found.len() > 0) {
                return Err(EngineError::Target(format!(
                    "{} has a write-ahead log beside it, which immutable=1 would not read: leave immutable=1 out",
                    self.name
                )));
            }
            return self.open(options.immutable(true), file).await;
        }
        let had_wal = wal.exists();
        let mut session = self.open(options.clone(), file.clone()).await?;
        if had_wal || self.url.read_only || !self.is_wal(&mut session).await? {
            return Ok(session);
        }
        session.close().await;
        let writing = self
            .options(&file, READ_PATIENCE)
            .pragma("query_only", "ON");
        match self.open(writing, file.clone()).await {
            Ok(session) => Ok(session),
            // The file may be read and not be written: the two files stay.
            Err(_) => self.open(options, file).await,
        }
    }

    /// A connection for chunks, in no transaction.
    pub(super) async fn writer(&self) -> Result<Session, EngineError> {
        self.check_writable()?;
        let file = self.look()?;
        self.open(self.options(&file, self.lock_timeout), file)
            .await
    }

    /// The URL does not forbid to write.
    pub(super) fn check_writable(&self) -> Result<(), EngineError> {
        if self.url.read_only || self.url.immutable {
            return Err(EngineError::ReadOnly(format!(
                "the database URL of {} says that nothing is written (mode=ro or immutable=1): remove that to sweep",
                self.name
            )));
        }
        Ok(())
    }

    fn options(&self, file: &FileId, patience: Duration) -> SqliteConnectOptions {
        let patience = patience.clamp(Duration::from_millis(1), LONGEST_PATIENCE);
        SqliteConnectOptions::new()
            // Absolute: a name such as `file:…` or `:memory:` means nothing special.
            .filename(&file.path)
            .create_if_missing(false)
            .busy_timeout(patience)
            // Rows of other tables are never orphaned, whatever the application itself enforces.
            .foreign_keys(true)
            // What the schema calls in views, triggers and indexes must be harmless.
            .pragma("trusted_schema", "OFF")
            .pragma("cell_size_check", "ON")
            .disable_statement_logging()
    }

    async fn open(
        &self,
        options: SqliteConnectOptions,
        file: FileId,
    ) -> Result<Session, EngineError> {
        let refused = |reason: &sqlx::Error| error::opening(&self.name, reason);
        let mut connection: SqliteConnection = options.connect().await.map_err(|e| refused(&e))?;
        let watch = Watch::default();
        let watched = watch.clone();
        connection
            .lock_handle()
            .await
            .map_err(|e| refused(&e))?
            .set_progress_handler(Watch::EVERY, move || watched.goes_on());
        Ok(Session::new(connection, watch, file))
    }

    async fn is_wal(&self, session: &mut Session) -> Result<bool, EngineError> {
        use sqlx::Row;
        let mode: String = session
            .row(sql::constant("PRAGMA journal_mode"))
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|reason| {
                error::reads_nothing(&self.name, &reason)
                    .unwrap_or_else(|| error::opening(&self.name, &reason))
            })?;
        Ok(mode.eq_ignore_ascii_case("wal"))
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
