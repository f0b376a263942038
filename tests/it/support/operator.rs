//! The built operator as a process of its own, so that it can be killed as a node failure kills it.

use std::process::ExitStatus;
use std::time::Duration;

use super::process::{Process, tied};

/// A running `retention-operator`. Dropping it ends it, and prints the end of its output when the test failed.
pub struct Operator {
    process: Process,
}

/// What a verb that came to its end left behind.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs an offline verb to its end, with `DATABASE_URL` set to `url`.
pub fn offline(url: &str, arguments: &[&str]) -> Ended {
    let mut operator = Operator::start(arguments, &[("DATABASE_URL", url)]);
    let status = operator.wait(Duration::from_secs(60));
    Ended {
        code: status.code(),
        stdout: operator.stdout(),
        stderr: operator.stderr(),
    }
}

impl Operator {
    /// Starts the binary of this build with arguments and environment variables, besides those of the test process.
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = tied(env!("CARGO_BIN_EXE_retention-operator"));
        command
            .args(arguments)
            // The developer's own cluster and databases are none of the tests' business.
            .env_remove("DATABASE_URL")
            .envs(environment.iter().copied());
        if !environment.iter().any(|(name, _)| *name == "KUBECONFIG") {
            command.env("KUBECONFIG", "/dev/null");
        }
        Self {
            process: Process::start("retention-operator", command, "TERM"),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// SIGKILL: no chance to clean up. Returns when the process is gone.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// SIGTERM, as Kubernetes ends a pod; [`Operator::wait`] tells how it took it.
    pub fn terminate(&mut self) {
        self.process.signal("TERM");
    }

    /// Sends a signal by its name without `SIG`.
    pub fn signal(&mut self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// When it still runs after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        self.process.wait(timeout)
    }

    /// The exit status, or `None` while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }
}
