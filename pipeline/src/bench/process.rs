//! Child processes, and what they used: read from `/proc`, so that a Rust and a Java program are
//! measured alike. Linux only, like everything that is released.
//!
//! Invariant: a process that was started here ends with the value that stands for it.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The kernel's unit of CPU time in `/proc` (USER_HZ) is 10 ms on every architecture of ours.
const TICK_MS: u64 = 10;
/// How long a process may take to end by itself.
const END_MAX: Duration = Duration::from_secs(30);

/// What a process used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU milliseconds, user and system, of all threads.
    pub cpu_ms: u64,
    /// Most memory that was resident at once, kB.
    pub peak_kb: u64,
    /// Memory that is resident now, kB.
    pub now_kb: u64,
    /// Of it, memory of its own: not of files.
    pub anonymous_kb: u64,
}

/// What the process `pid` (or `self`) used so far.
///
/// # Errors
/// A sentence if there is no such process.
pub fn usage(pid: &str) -> Result<Usage, String> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).map_err(|e| format!("{path} cannot be read: {e}"))
    };
    let (stat, status) = (read("stat")?, read("status")?);
    // The second field, the program's name, is in parentheses and may hold anything.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let kb = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Ok(Usage {
        cpu_ms: (ticks(11) + ticks(12)) * TICK_MS,
        peak_kb: kb("VmHWM:"),
        now_kb: kb("VmRSS:"),
        anonymous_kb: kb("RssAnon:"),
    })
}

/// A running child.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
    /// When it was started.
    pub(super) started: Instant,
}

impl Process {
    /// Starts a program.
    ///
    /// # Errors
    /// A sentence that names the program.
    pub(super) fn start(command: &mut Command) -> Result<Self, String> {
        let started = Instant::now();
        let mut child = command.spawn().map_err(|e| {
            format!("{} cannot be started: {e}", command.get_program().to_string_lossy())
        })?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self { child, output, started })
    }

    /// Its process id.
    #[must_use]
    pub(super) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// What it used so far.
    ///
    /// # Errors
    /// As [`usage`].
    pub(super) fn usage(&self) -> Result<Usage, String> {
        usage(&self.pid())
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// A sentence with its exit status.
    pub(super) fn alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("process {} ended by itself: {status}", self.pid())),
            Err(e) => Err(format!("process {} cannot be asked: {e}", self.pid())),
        }
    }

    /// What it says on its standard output (which must be piped), as one line of JSON.
    ///
    /// # Errors
    /// A sentence if it says nothing, or something else.
    pub(super) fn told<T: DeserializeOwned>(&mut self) -> Result<T, String> {
        let pid = self.pid();
        let mut line = String::new();
        if let Some(output) = &mut self.output {
            output.read_line(&mut line).map_err(|e| format!("process {pid} said nothing: {e}"))?;
        }
        serde_json::from_str(&line).map_err(|e| format!("process {pid} said `{line}`: {e}"))
    }

    /// Asks it to end (SIGTERM) and waits; it is killed if it does not.
    pub(super) fn stop(mut self) {
        let asked = Command::new("kill").arg(self.pid()).status();
        let deadline = Instant::now() + END_MAX;
        while asked.is_ok() && Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    /// SIGKILL, if it still runs.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_and_ends() {
        let own = usage("self").unwrap();
        assert!(own.peak_kb >= own.anonymous_kb && own.now_kb > 0);
        let mut child = Process::start(Command::new("sleep").arg("1000")).unwrap();
        child.alive().unwrap();
        let pid = child.pid();
        assert!(child.usage().unwrap().peak_kb > 0);
        child.stop();
        assert!(usage(&pid).is_err());
        assert!(Process::start(&mut Command::new("/no/such/program")).is_err());
    }
}
