//! The engines, and the ways to reach them, that every case is run on.

use std::sync::OnceLock;

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
}

/// A place for one case.
pub struct Place {
    /// The database.
    pub database: TestDatabase,
    /// The case's own schema.
    pub schema: String,
    /// What the sweep connects to.
    pub url: String,
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
        }
    }

    /// A place of its own for a case; `None` where the target is not to be had here, or is older than the case needs.
    pub async fn place(self, own_database: bool, as_role: bool, since: u32) -> Option<Place> {
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
            Self::Postgres | Self::Newest => database.url_as(login, login),
        };
        Some(Place {
            database,
            schema,
            url,
        })
    }
}

/// In front of the shared server.
fn pooler() -> &'static PgBouncer {
    static POOLER: OnceLock<PgBouncer> = OnceLock::new();
    POOLER.get_or_init(|| {
        PgBouncer::start(Postgres::shared(), &[(SUPERUSER, SUPERUSER), (ROLE, ROLE)])
    })
}
