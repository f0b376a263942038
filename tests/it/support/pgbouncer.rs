//! A real PgBouncer in transaction mode, as it stands before most services' databases.

use std::fs;
use std::net::TcpStream;

use super::postgres::Postgres;
use super::process::{Process, free_port, run_dir, serve, unique};

/// A pooler in front of all databases of one server; it ends when it is dropped.
pub struct PgBouncer {
    port: u16,
    _process: Process,
}

impl PgBouncer {
    /// Starts it for the given `(role, password)` logins; others it refuses.
    pub fn start(postgres: &Postgres, logins: &[(&str, &str)]) -> Self {
        Self::start_sized(postgres, logins, 4)
    }

    /// [`PgBouncer::start`] with so many sessions on the server for each database and role, however many clients there are.
    pub fn start_sized(postgres: &Postgres, logins: &[(&str, &str)], sessions: u32) -> Self {
        let dir = run_dir().join(unique("pgbouncer", '-'));
        fs::create_dir(&dir).unwrap();
        // Plain passwords: PgBouncer needs them to log in to a server that wants SCRAM.
        let users: String = logins
            .iter()
            .map(|(role, password)| format!("\"{role}\" \"{password}\"\n"))
            .collect();
        fs::write(dir.join("users.txt"), users).unwrap();

        let port = free_port();
        let mut command = serve("pgbouncer", &dir, port);
        command.arg(postgres.port().to_string());
        command.arg(sessions.to_string());
        let mut process = Process::start("pgbouncer", command, "KILL");
        process.wait_ready(|_| {
            TcpStream::connect(("127.0.0.1", port))
                .map(drop)
                .map_err(|error| error.to_string())
        });
        Self {
            port,
            _process: process,
        }
    }

    /// The pooled URL of a database.
    pub fn url(&self, database: &str, role: &str, password: &str) -> String {
        format!(
            "postgres://{role}:{password}@127.0.0.1:{}/{database}",
            self.port
        )
    }
}
