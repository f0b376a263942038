//! Real PostgreSQL servers: one that the tests share, and private ones for tests that change settings or crash it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

use super::process::{
    Process, children, found_by, free_port, have_ended, kill9, perhaps_found_by, run_dir, serve,
    unique,
};
use super::wait::eventually;

/// The name of the tests' own sessions, as `pg_stat_activity` shows it.
const TESTS: &str = "tests";
/// A condition on `pg_stat_activity`: sessions of others than the tests, in the database that is asked.
pub const FOREIGN: &str = "datname = current_database() AND backend_type = 'client backend' AND application_name <> 'tests'";

/// The superuser's name and, because every server is a throw-away on loopback, its password.
pub const SUPERUSER: &str = "postgres";

/// For the end of processes that were killed: the postmaster gives those that it ends itself five seconds.
const ENDING: Duration = Duration::from_secs(20);

/// A server that accepts passwords (SCRAM) on 127.0.0.1.
pub struct Postgres {
    dir: PathBuf,
    port: u16,
    /// Its programs, where they are not the ones that everybody runs.
    bin: Option<PathBuf>,
    settings: Vec<String>,
    process: Process,
}

/// A database made for one test. It goes away with its server.
#[derive(Clone)]
pub struct TestDatabase {
    /// The database's name.
    pub name: String,
    /// `postgres://` URL of the superuser.
    pub url: String,
    port: u16,
}

/// A role that can log in.
pub struct Role {
    /// The role's name, unique on its server.
    pub name: String,
    /// Its password.
    pub password: String,
    /// `postgres://` URL of the database it was made for.
    pub url: String,
}

impl Postgres {
    /// The server that all tests of this process share, started by the first call. Statistics are taken where a test says so,
    /// and at no other time.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start_own(&[("autovacuum", "off")]))
    }

    /// A shared server as [`Postgres::shared`], of the newest major that is to be had. `None` where none is, which is said
    /// on the terminal.
    ///
    /// # Panics
    /// When none is to be had in a CI: there a test that did not run would go unseen.
    pub fn newest() -> Option<&'static Self> {
        static NEWEST: OnceLock<Option<Postgres>> = OnceLock::new();
        let newest = NEWEST.get_or_init(|| {
            let bin = perhaps_found_by("postgres.sh", &["--newest"])?;
            let dir = run_dir().join(unique("postgres", '-'));
            Some(Self::start_in(dir, Some(bin), &[("autovacuum", "off")]))
        });
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(
            newest.is_some() || !ci,
            "the newest PostgreSQL is not to be had; scripts/postgres.sh says why above"
        );
        newest.as_ref()
    }

    /// A server of the caller's own, with settings of `postgresql.conf`; it ends when it is dropped. `fsync` and
    /// `full_page_writes` are off and `shared_buffers` is 128 MB unless `settings` say otherwise.
    pub fn start_own(settings: &[(&str, &str)]) -> Self {
        Self::start_in(run_dir().join(unique("postgres", '-')), None, settings)
    }

    fn start_in(dir: PathBuf, bin: Option<PathBuf>, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let settings = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>();
        let mut postgres = Self {
            process: start(&dir, port, bin.as_deref(), &settings),
            dir,
            port,
            bin,
            settings,
        };
        postgres.wait_ready();
        postgres
    }

    /// A standby of `primary`, streaming from it; it ends when it is dropped.
    pub fn standby_of(primary: &Self, settings: &[(&str, &str)]) -> Self {
        let dir = run_dir().join(unique("standby", '-'));
        let bin = found_by("postgres.sh", &["pg_basebackup"]);
        let copied = Command::new(bin.join("pg_basebackup"))
            .args(["--no-sync", "--checkpoint=fast", "--write-recovery-conf"])
            .args(["--host=127.0.0.1", "--username", SUPERUSER])
            .arg(format!("--port={}", primary.port))
            .arg("--pgdata")
            .arg(dir.join("data"))
            .env("PGPASSWORD", SUPERUSER)
            .output()
            .unwrap();
        assert!(
            copied.status.success(),
            "{}",
            String::from_utf8_lossy(&copied.stderr)
        );
        Self::start_in(dir, None, settings)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends the server without a checkpoint, as a crash does: every client is cut off, the next start recovers from the WAL.
    pub fn crash(&mut self) {
        self.process.signal("QUIT");
        self.process.wait(Duration::from_secs(30));
    }

    /// SIGKILL of the server with all its processes: none of them writes anything any more.
    pub fn kill9(&mut self) {
        // While it is stopped it starts no more of them.
        self.process.signal("STOP");
        let all = children(self.pid());
        kill9(&all);
        self.process.kill9();
        assert!(have_ended(&all, ENDING), "processes outlived SIGKILL");
    }

    /// SIGKILL of one process of the server, one that serves a client if there is one. The postmaster then ends all the others,
    /// recovers from the WAL and goes on.
    pub fn kill9_one(&mut self) {
        let all = children(self.pid());
        let title =
            |id: &u32| fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let (clients, own): (Vec<u32>, Vec<u32>) = all
            .iter()
            .copied()
            .partition(|id| title(id).contains("127.0.0.1("));
        kill9(&fastrand::choice(clients).into_iter().collect::<Vec<_>>());
        // A client's process may have ended by itself a moment before; the server's own do not.
        if !have_ended(&all, Duration::from_secs(2)) {
            kill9(&fastrand::choice(own).into_iter().collect::<Vec<_>>());
        }
        assert!(have_ended(&all, ENDING), "the server goes on");
    }

    /// Ends the server as an administrator does who is in a hurry: clients are cut off, and everything is written down.
    pub fn stop(&mut self) {
        self.process.signal("INT");
        self.process.wait(Duration::from_secs(30));
    }

    /// The server comes back as a standby that follows nobody, as one does that lost a failover; `pg_promote()` makes it the primary
    /// again, on another timeline.
    pub fn demote(&mut self) {
        self.stop();
        fs::write(self.dir.join("data/standby.signal"), "").unwrap();
        self.restart();
    }

    /// Starts the server again after [`Postgres::crash`], [`Postgres::stop`] or [`Postgres::kill9`], on the same port and data, and waits until it answers.
    pub fn restart(&mut self) {
        self.process = start(&self.dir, self.port, self.bin.as_deref(), &self.settings);
        self.wait_ready();
    }

    /// A database that is there already.
    pub fn existing(&self, name: &str) -> TestDatabase {
        TestDatabase::new(name.to_owned(), self.port)
    }

    /// Creates a database of its own for a test.
    pub async fn database(&self, prefix: &str) -> TestDatabase {
        let name = unique(prefix, '_');
        let maintenance = TestDatabase::new("postgres".to_owned(), self.port);
        maintenance
            .execute(&format!(r#"CREATE DATABASE "{name}""#))
            .await;
        TestDatabase::new(name, self.port)
    }

    /// The server itself says in its pid file when it accepts connections; `pg_ctl` reads the same line.
    fn wait_ready(&mut self) {
        let pid_file = self.dir.join("data/postmaster.pid");
        let pid = self.process.pid().to_string();
        self.process.wait_ready(|_| {
            let text = fs::read_to_string(&pid_file).map_err(|error| error.to_string())?;
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            match (lines.first(), lines.get(7)) {
                (Some(first), Some(&"ready")) if *first == pid => Ok(()),
                (_, status) => Err(format!("{status:?} in {}", pid_file.display())),
            }
        });
    }
}

/// SIGINT is PostgreSQL's fast shutdown; its SIGTERM would wait for the clients.
fn start(dir: &Path, port: u16, bin: Option<&Path>, settings: &[String]) -> Process {
    let mut command = serve("postgres", dir, port);
    command.args(settings);
    if let Some(bin) = bin {
        command.env("PG_BIN", bin);
    }
    Process::start("postgres", command, "INT")
}

impl TestDatabase {
    fn new(name: String, port: u16) -> Self {
        let url = format!("postgres://{SUPERUSER}:{SUPERUSER}@127.0.0.1:{port}/{name}");
        Self { name, url, port }
    }

    /// The URL of this database for another role. Name and password go in as they are: no characters that a URL must escape.
    pub fn url_as(&self, role: &str, password: &str) -> String {
        format!(
            "postgres://{role}:{password}@127.0.0.1:{}/{}",
            self.port, self.name
        )
    }

    /// A new connection of the superuser.
    pub async fn connect(&self) -> PgConnection {
        connect(&self.url).await
    }

    /// Sessions in this database besides those that [`connect`] made and other than the caller's: an operator's have a name within
    /// their transactions only.
    pub async fn foreign_sessions(&self) -> i64 {
        self.scalar(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE {FOREIGN}"
        ))
        .await
    }

    /// Waits until the server accepts connections: it may be recovering.
    pub async fn answers(&self) {
        let options: PgConnectOptions = self.url.parse().unwrap();
        eventually(
            Duration::from_secs(30),
            "the server to answer",
            async || options.connect().await.map(drop),
        )
        .await;
    }

    /// Runs any number of statements as superuser.
    ///
    /// # Panics
    /// When one of them fails.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{error}, in: {sql}"));
    }

    /// The first column of the only row that a query returns.
    pub async fn scalar<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let mut connection = self.connect().await;
        let row: PgRow = sqlx::query(AssertSqlSafe(sql))
            .fetch_one(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{error}, in: {sql}"));
        row.get(0)
    }

    /// Creates a role that may log in, and runs `grants` in this database; `{role}` in them stands for its quoted name.
    pub async fn role(&self, prefix: &str, password: &str, grants: &str) -> Role {
        let name = unique(prefix, '_');
        let quoted = format!(r#""{name}""#);
        self.execute(&format!(
            "CREATE ROLE {quoted} LOGIN PASSWORD '{password}'; {}",
            grants.replace("{role}", &quoted)
        ))
        .await;
        Role {
            url: self.url_as(&name, password),
            password: password.to_owned(),
            name,
        }
    }
}

/// A new connection to a URL.
///
/// # Panics
/// When the server refuses it.
pub async fn connect(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    let options = options.application_name(TESTS);
    // PgBouncer refuses startup options that it does not track; tests go through it with this function too.
    options
        .extra_float_digits(None)
        .connect()
        .await
        .unwrap_or_else(|error| panic!("cannot connect: {error}"))
}
