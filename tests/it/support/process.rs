//! Child processes that never outlive the test process: not when a test panics, and not when Ctrl-C or SIGKILL ends it.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::wait::eventually_blocking;

/// How long a process may take to end after it was told to, before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// A running child with its output in two files. Dropping it ends it, and prints the end of its output when the test failed.
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    stop_signal: &'static str,
}

/// A command for `program` that the kernel kills when the test process is gone. Add arguments and environment, then pass it
/// to [`Process::start`].
pub fn tied(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program.as_ref());
    command
}

/// A command that runs `scripts/serve.sh` with `server`, its directory and its port; more arguments may follow.
pub fn serve(server: &str, dir: &Path, port: u16) -> Command {
    let mut command = tied(script("serve.sh"));
    command
        .env("TIED_TO_PARENT", "yes")
        .arg(server)
        .arg(dir)
        .arg(port.to_string());
    command
}

/// The path of a file in `scripts/`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name)
}

/// Runs one of the finding scripts and returns the path that it prints. What it says while it builds or installs goes to
/// the terminal.
///
/// # Panics
/// When the script fails; its reason is on the terminal.
pub fn found_by(name: &str, arguments: &[&str]) -> PathBuf {
    perhaps_found_by(name, arguments)
        .unwrap_or_else(|| panic!("scripts/{name} failed; it says why above"))
}

/// [`found_by`] for what tests can do without: `None` where the script fails.
pub fn perhaps_found_by(name: &str, arguments: &[&str]) -> Option<PathBuf> {
    let output = Command::new(script(name))
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let path = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    output.status.success().then_some(path)
}

/// How often a test kills something: `RETENTION_OPERATOR_TEST_KILLS`, or `default`.
pub fn kills(default: u32) -> u32 {
    std::env::var("RETENTION_OPERATOR_TEST_KILLS").map_or(default, |kills| kills.parse().unwrap())
}

/// The processes that a process has started and that still run.
pub fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| matches!(stat(*id), Some((state, of)) if of == parent && !ended(&state)))
        .collect()
}

/// State and parent of a process.
fn stat(id: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // Its name, which may hold anything, stands in parentheses before the rest.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn ended(state: &str) -> bool {
    matches!(state, "Z" | "X")
}

/// Waits for the end of processes that somebody else waits for; `false`: some still run after `patience`.
pub fn have_ended(ids: &[u32], patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let running = |id: &u32| stat(*id).is_some_and(|(state, _)| !ended(&state));
    while ids.iter().any(running) {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// SIGKILL to processes that this one did not start itself.
pub fn kill9(ids: &[u32]) {
    if !ids.is_empty() {
        let ids = ids.iter().map(u32::to_string);
        // One that has ended meanwhile is as good.
        let mut kill = Command::new("sh");
        kill.args(["-c", r#"kill -s KILL "$@" 2>/dev/null"#, "kill"])
            .args(ids)
            .status()
            .unwrap();
    }
}

/// A TCP port of 127.0.0.1 that was free a moment ago. It is below those that connections get, so that none takes it while its
/// server is down.
pub fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(12_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A name that no other call in this process returns: `prefix`, `separator` and a number.
pub fn unique(prefix: &str, separator: char) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!(
        "{prefix}{separator}{}",
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// This process's own directory for the files of everything it starts. It disappears with the process.
pub fn run_dir() -> &'static Path {
    static DIR: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (dir, _) = DIR.get_or_init(|| {
        let dir = tempfile::Builder::new()
            .prefix("retention-operator-it-")
            .tempdir()
            .unwrap()
            .keep();
        // A server that may not run as root must get through to its own directory.
        fs::set_permissions(&dir, Permissions::from_mode(0o711)).unwrap();
        let janitor = remove_when_this_process_ends(&dir);
        (dir, janitor)
    });
    dir
}

/// Nothing in a killed process can clean up after it: a shell that reads from a pipe sees the pipe's end and removes `dir`. It
/// repeats that while the servers, which the kernel ends at the same moment, still write.
fn remove_when_this_process_ends(dir: &Path) -> Child {
    let script = r#"trap '' INT TERM HUP
        cat >/dev/null
        for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && sleep 0.2 && [ ! -e "$1" ] && exit; done"#;
    Command::new("sh")
        .args(["-c", script, "janitor"])
        .arg(dir)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Spawns on the one thread that lives as long as the process: the kernel's parent-death signal is sent when the spawning
/// *thread* ends, and a test's thread ends long before the servers that it was the first to ask for.
fn spawn(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in requests {
                // The caller waits for the answer; it cannot be gone.
                answer.send(command.spawn()).unwrap();
            }
        });
        sender
    });
    let (answer, answered) = mpsc::channel();
    spawner.send((command, answer)).unwrap();
    answered.recv().unwrap()
}

impl Process {
    /// Starts a command made by [`tied`] or [`serve`]. Its output goes to files named after `name` in [`run_dir`].
    /// `stop_signal` (`TERM`, `INT`, …) is what ends it when it is dropped.
    pub fn start(name: &str, mut command: Command, stop_signal: &'static str) -> Self {
        let log = run_dir().join(unique(name, '-'));
        let (stdout, stderr) = (log.with_extension("out"), log.with_extension("err"));
        command
            // A group of its own: the terminal's Ctrl-C ends the test process first, and that ends this one.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap());
        let child = spawn(command).unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
            stop_signal,
        }
    }

    /// The process id, which stays the same through the chain of `exec`s.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the process has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What the process has written to standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Sends a signal by its name without `SIG`; a process that ended already gets none.
    pub fn signal(&mut self, name: &str) {
        if self.exited().is_none() {
            let status = Command::new("sh")
                .args(["-c", r#"kill -s "$1" "$2""#, "kill", name])
                .arg(self.pid().to_string())
                .status()
                .unwrap();
            // It is our child and not waited for, so its id cannot be another's, and a zombie takes signals too.
            assert!(
                status.success(),
                "cannot send SIG{name} to {}",
                self.describe()
            );
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill9(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    /// The exit status, or `None` while the process runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    /// When it still runs after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.describe());
        eventually_blocking(timeout, &what, || {
            self.child.try_wait().unwrap().ok_or("it still runs")
        })
    }

    /// Polls `probe` until it succeeds, which says that the process is up, and returns its value.
    ///
    /// # Panics
    /// When the process ends before that, or after a minute, with the end of its output.
    pub fn wait_ready<T>(&mut self, mut probe: impl FnMut(&Self) -> Result<T, String>) -> T {
        let what = format!("{} to answer", self.describe());
        eventually_blocking(Duration::from_secs(60), &what, || {
            // Asked first: what it did before it ended counts.
            let ended = self.exited();
            let seen = probe(self);
            if let (Err(seen), Some(status)) = (&seen, ended) {
                panic!("waited for {what}, but it ended with {status}; last seen: {seen}");
            }
            seen
        })
    }

    fn describe(&self) -> String {
        format!("{} (process {})", self.name, self.pid())
    }

    /// The last lines of both outputs.
    fn tail(&self) -> String {
        let last = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        format!(
            "--- stdout\n{}\n--- stderr\n{}",
            last(self.stdout()),
            last(self.stderr())
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "output of {}, which the failed test used:\n{}",
                self.describe(),
                self.tail()
            );
            // A second panic in a destructor would abort the whole test process: no assertions from here on.
            let _ = self.child.kill();
            let _ = self.child.wait();
            return;
        }
        self.signal(self.stop_signal);
        let deadline = Instant::now() + GRACE;
        while self.exited().is_none() {
            if Instant::now() >= deadline {
                self.kill9();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
