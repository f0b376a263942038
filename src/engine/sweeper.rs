//! Names for those who sweep, from which another process of the same machine can tell that their process has ended.
//!
//! A lease is waited for because nobody knows whether its holder lives. On the same machine that can be known: a process is
//! named by the machine's boot, the process namespace, its number there and the moment when it started, which no two processes
//! have in common. Where any of these cannot be read or differs, nothing is concluded.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

/// What every name of an offline sweeper begins with.
const OFFLINE: &str = "offline";

/// The name of a sweep that this process makes outside of a cluster.
#[must_use]
pub fn offline() -> String {
    let number = format!("{:016x}", fastrand::u64(..));
    match Observer::here() {
        Some(here) => {
            let place = here.place();
            match start_of(here.pid) {
                Ok(Some(start)) => format!("{OFFLINE}/{place}/{}/{start}/{number}", here.pid),
                _ => format!("{OFFLINE}/{number}"),
            }
        }
        None => format!("{OFFLINE}/{number}"),
    }
}

/// Whether the process of that sweeper is known to have ended. `false`: it runs, or nobody can tell.
#[must_use]
pub fn has_ended(sweeper: &str) -> bool {
    let Some(here) = Observer::here() else {
        return false;
    };
    let parts: Vec<&str> = sweeper.split('/').collect();
    let [OFFLINE, boot, space, user, pid, start, _] = parts[..] else {
        return false;
    };
    let Ok(pid) = pid.parse() else {
        return false;
    };
    if format!("{boot}/{space}/{user}") != here.place() {
        return false;
    }
    match start_of(pid) {
        Ok(None) => true,
        Ok(Some(now)) => now != start,
        Err(_) => false,
    }
}

/// From where processes are seen.
struct Observer {
    boot: String,
    space: u64,
    user: u32,
    pid: u32,
}

impl Observer {
    /// `None` where there is no `/proc`, where it is another namespace's, or where it does not show all processes.
    fn here() -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let link = fs::read_link("/proc/self").ok()?;
        let pid = std::process::id();
        if link != Path::new(&pid.to_string()) || start_of(1).ok()?.is_none() {
            return None;
        }
        Some(Self {
            boot: boot.trim().to_owned(),
            space: fs::metadata("/proc/self/ns/pid").ok()?.ino(),
            // Other users' processes may be hidden.
            user: fs::metadata("/proc/self").ok()?.uid(),
            pid,
        })
    }

    fn place(&self) -> String {
        format!("{}/{}/{}", self.boot, self.space, self.user)
    }
}

/// When a process started, in ticks since the boot; `None`: there is no such process, or nothing of it but its exit code.
fn start_of(pid: u32) -> io::Result<Option<String>> {
    let text = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Its name, which may hold anything, stands in parentheses before the rest.
    let fields: Vec<&str> = text
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    match fields[..] {
        ["Z" | "X", ..] => Ok(None),
        _ => match fields.get(19) {
            Some(start) => Ok(Some((*start).to_owned())),
            None => Err(io::ErrorKind::InvalidData.into()),
        },
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that runs until its input ends, and the name that it would have.
    fn other() -> Option<(Child, String)> {
        let child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let start = start_of(child.id()).ok()??;
        let place = Observer::here()?.place();
        let name = format!("{OFFLINE}/{place}/{}/{start}/0", child.id());
        Some((child, name))
    }

    #[test]
    fn a_process_has_not_ended_before_it_has() {
        let (mut child, name) = other().expect("a process");
        assert!(!has_ended(&name));
        assert!(!has_ended(&offline()));

        child.kill().expect("killed");
        child.wait().expect("ended");

        assert!(has_ended(&name));
    }

    #[test]
    fn a_zombie_has_ended() {
        let (mut child, name) = other().expect("a process");
        child.kill().expect("killed");
        // It is there until somebody asks how it ended.
        while !has_ended(&name) {
            std::thread::yield_now();
        }
        assert!(Path::new(&format!("/proc/{}", child.id())).exists());
        child.wait().expect("ended");
    }

    #[test]
    fn another_process_with_the_same_number_is_another_one() {
        let (mut child, name) = other().expect("a process");
        let earlier = name.replace(&format!("/{}/", child.id()), &format!("/{}/1", child.id()));

        assert!(has_ended(&earlier));
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    #[test]
    fn what_runs_elsewhere_is_never_called_ended() {
        let (mut child, name) = other().expect("a process");
        child.kill().expect("killed");
        child.wait().expect("ended");
        let here = Observer::here().expect("a place");

        for elsewhere in [
            name.replace(&here.boot, "00000000-0000-0000-0000-000000000000"),
            name.replace(&here.space.to_string(), "1"),
            name.replace(
                &format!("/{}/{}/", here.user, child.id()),
                &format!("/4711/{}/", child.id()),
            ),
            "offline/0123456789abcdef".to_owned(),
            "cluster/5f0c".to_owned(),
            "offline/////".to_owned(),
            "offline/a/b/c/d/e/f".to_owned(),
            String::new(),
        ] {
            assert!(!has_ended(&elsewhere), "{elsewhere}");
        }
    }
}
