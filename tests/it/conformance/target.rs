//! The engines, and the ways to reach them, that every case is run on.

use std::path::PathBuf;
use std::sync::OnceLock;

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, SUPERUSER, TestDatabase};
use crate::support::process::unique;

/// The role of the cases that state their rights, the same on every server: a pooler knows its logins beforehand. It is a
/// member of the role `janitors`.
pub const ROLE: &str = "sweeper";

/// Where a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The PostgreSQL that everybody runs, directly.
    Postgres,
    /// The same through PgBouncer in transaction mode.
    PgBouncer,
    /// The newest PostgreSQL that is to be had.
    Newest,
    /// SQLite, in a file of its own.
    Sqlite,
}

/// A place for one case.
pub struct Place {
    /// Where it is.
    pub database: Database,
    /// The case's own schema; `None` where there are none.
    pub schema: Option<String>,
    /// What the sweep connects to.
    pub url: String,
}

/// Where a case's rows are.
pub enum Database {
    /// A database of a PostgreSQL server.
    Postgres(TestDatabase),
    /// The folder of a SQLite file, which goes away with this.
    Sqlite(TempDir),
}

impl Place {
    /// The database of a PostgreSQL server.
    ///
    /// # Panics
    /// When it is another engine's.
    pub fn server(&self) -> &TestDatabase {
        match &self.database {
            Database::Postgres(database) => database,
            Database::Sqlite(folder) => panic!("{} is no server", folder.path().display()),
        }
    }
}

struct Server {
    postgres: &'static Postgres,
    database: OnceCell<TestDatabase>,
}

impl Server {
    fn new(postgres: &'static Postgres) -> Self {
        Self {
            postgres,
            database: OnceCell::new(),
        }
    }

    /// The database of the cases that need none of their own. The first call makes it, and the role.
    async fn shared_database(&self) -> TestDatabase {
        let make = async || {
            let database = self.postgres.database("conformance").await;
            database
                .execute(&format!(
                    "CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'; CREATE ROLE janitors; GRANT janitors TO {ROLE}"
                ))
                .await;
            database
        };
        self.database.get_or_init(make).await.clone()
    }
}

impl Target {
    /// `None` where it is not to be had here.
    fn server(self) -> Option<&'static Server> {
        static SHARED: OnceLock<Server> = OnceLock::new();
        static NEWEST: OnceLock<Option<Server>> = OnceLock::new();
        match self {
            Self::Postgres | Self::PgBouncer => {
                Some(SHARED.get_or_init(|| Server::new(Postgres::shared())))
            }
            Self::Newest => NEWEST
                .get_or_init(|| Postgres::newest().map(Server::new))
                .as_ref(),
            Self::Sqlite => None,
        }
    }

    /// A place of its own for a case; `None` where the target is not to be had here, or is older than the case needs.
    pub async fn place(self, own_database: bool, as_role: bool, since: u32) -> Option<Place> {
        if self == Self::Sqlite {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", sqlite_file(&folder).display());
            return Some(Place {
                database: Database::Sqlite(folder),
                schema: None,
                url,
            });
        }
        let Some(server) = self.server() else {
            println!("not run: there is no {self:?} here");
            return None;
        };
        let shared = server.shared_database().await;
        if since > 0 {
            let version: String = shared.scalar("SHOW server_version_num").await;
            if version.parse::<u32>().unwrap() < since * 10_000 {
                println!("not run: this is PostgreSQL {version}, and the case needs {since}");
                return None;
            }
        }
        let (database, schema) = if own_database {
            (server.postgres.database("case").await, "public".to_owned())
        } else {
            (shared, unique("case", '_'))
        };
        let login = if as_role { ROLE } else { SUPERUSER };
        let url = match self {
            Self::PgBouncer => pooler().url(&database.name, login, login),
            Self::Postgres | Self::Newest | Self::Sqlite => database.url_as(login, login),
        };
        Some(Place {
            database: Database::Postgres(database),
            schema: Some(schema),
            url,
        })
    }
}

/// The file in a case's folder.
pub fn sqlite_file(folder: &TempDir) -> PathBuf {
    folder.path().join("case.db")
}

/// In front of the shared server.
fn pooler() -> &'static PgBouncer {
    static POOLER: OnceLock<PgBouncer> = OnceLock::new();
    POOLER.get_or_init(|| {
        PgBouncer::start(Postgres::shared(), &[(SUPERUSER, SUPERUSER), (ROLE, ROLE)])
    })
}
