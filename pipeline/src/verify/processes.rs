//! The processes under test: `semel run`, started, killed, paused and drained.
//!
//! Lives here: what a supervisor does (who ends is started again) and what a disaster does. May not
//! live here: when (`faults`). Invariants: every process is a child of ours in a process group of its
//! own, and none outlives [`Processes`]; a paused process is let go on before anything waits for it.

use std::{
    fs::OpenOptions,
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{VerifyError, chance::Chance, report::Done};

/// How long a process may take until it runs.
const START_MAX: Duration = Duration::from_secs(120);
/// How long a process may take to drain: its own limit and some more.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// How long a process stays away after it ended by itself.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest time, in milliseconds, that a killed process stays away.
const DOWN_MAX_MS: u64 = 1_500;
/// What `semel run` says once its lanes are started.
const READY: &str = "running on ";
/// Most remarks about processes that ended by themselves.
const NOTES_MAX: usize = 5;

/// How a process is started.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    /// The binary.
    pub(super) exe: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
    /// Variables beside our own environment.
    pub(super) variables: Vec<(String, String)>,
    /// Variables of our environment that it must not see.
    pub(super) without: Vec<String>,
}

impl Launch {
    /// Starts it, with everything that it says appended to `log`.
    ///
    /// # Errors
    /// [`VerifyError::Failed`].
    pub(super) fn start(&self, log: &Path, more: &[(&str, &str)]) -> Result<Child, VerifyError> {
        let failed = |e: std::io::Error| {
            VerifyError::Failed(format!("{} cannot be started: {e}", self.exe.display()))
        };
        let log = OpenOptions::new().create(true).append(true).open(log).map_err(failed)?;
        let mut command = Command::new(&self.exe);
        for name in &self.without {
            command.env_remove(name);
        }
        command
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            // A Ctrl-C in the terminal is for us alone: we end them in order.
            .process_group(0)
            .spawn()
            .map_err(failed)
    }
}

/// Sends a signal; a process that is gone needs none.
pub(super) fn signal(child: &Child, signal: Signal) {
    if let Err(error) = kill_process(Pid::from_child(child), signal) {
        tracing::debug!(%error, pid = child.id(), "no signal");
    }
}

/// The last line of a log file, without colours.
#[must_use]
pub(super) fn last_line(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(4_000)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("(nothing)");
    line.to_owned()
}

enum State {
    Running(Child),
    Paused(Child, Instant),
    Down(Instant),
}

struct Process {
    name: String,
    state: State,
}

/// See the module.
pub(super) struct Processes {
    launch: Launch,
    folder: PathBuf,
    all: Vec<Process>,
    chance: Chance,
    /// What was done so far.
    pub(super) done: Done,
    /// What processes said that ended by themselves.
    pub(super) notes: Vec<String>,
}

impl std::fmt::Debug for Processes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processes").field("launch", &self.launch).finish_non_exhaustive()
    }
}

impl Processes {
    /// Starts `count` processes, and waits until each runs. Data folders and logs are in `folder`.
    ///
    /// # Errors
    /// [`VerifyError::Failed`] with what a process said that ended.
    pub(super) fn start(
        launch: Launch,
        folder: &Path,
        count: u32,
        chance: Chance,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, VerifyError> {
        let mut processes = Self {
            launch,
            folder: folder.to_owned(),
            all: Vec::new(),
            chance,
            done: Done::default(),
            notes: Vec::new(),
        };
        for number in 1..=count {
            let name = format!("process-{number}");
            let state = State::Running(processes.spawn(&name)?);
            processes.all.push(Process { name, state });
        }
        let deadline = Instant::now() + START_MAX;
        while !processes.all_ready()? {
            if stop() {
                return Err(VerifyError::Interrupted);
            }
            if Instant::now() > deadline {
                return Err(VerifyError::Failed(format!(
                    "the processes did not start within {} s",
                    START_MAX.as_secs()
                )));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(processes)
    }

    fn spawn(&self, name: &str) -> Result<Child, VerifyError> {
        let data = self.folder.join(name);
        let data = data.to_string_lossy();
        self.launch.start(&self.log(name), &[("SEMEL_DATA", &data)])
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    fn all_ready(&mut self) -> Result<bool, VerifyError> {
        let mut ready = true;
        for at in 0..self.all.len() {
            let log = self.log(&self.all[at].name);
            let process = &mut self.all[at];
            if let State::Running(child) = &mut process.state
                && let Ok(Some(status)) = child.try_wait()
            {
                return Err(VerifyError::Failed(format!(
                    "`semel run` ended at once ({status}): {}",
                    last_line(&log)
                )));
            }
            ready &= std::fs::read_to_string(&log).is_ok_and(|text| text.contains(READY));
        }
        Ok(ready)
    }

    /// What is due: pauses end, who is down is started again. To be called often.
    ///
    /// # Errors
    /// [`VerifyError::Failed`] if a process cannot be started.
    pub(super) fn tick(&mut self) -> Result<(), VerifyError> {
        let now = Instant::now();
        self.wake(now);
        for at in 0..self.all.len() {
            let next = match &mut self.all[at].state {
                State::Running(child) | State::Paused(child, _) => match child.try_wait() {
                    Ok(Some(_)) => {
                        self.ended(at);
                        State::Down(now + AGAIN)
                    }
                    _ => continue,
                },
                State::Down(until) if now >= *until => {
                    State::Running(self.spawn(&self.all[at].name)?)
                }
                State::Down(_) => continue,
            };
            self.all[at].state = next;
        }
        Ok(())
    }

    /// Lets those go on whose pause is over.
    fn wake(&mut self, now: Instant) {
        for process in &mut self.all {
            let state = std::mem::replace(&mut process.state, State::Down(now));
            process.state = match state {
                State::Paused(child, until) if now >= until => {
                    signal(&child, Signal::CONT);
                    State::Running(child)
                }
                state => state,
            };
        }
    }

    /// Notes that one ended by itself.
    fn ended(&mut self, at: usize) {
        self.done.ended += 1;
        let name = &self.all[at].name;
        let said = last_line(&self.log(name));
        if self.notes.len() < NOTES_MAX {
            self.notes.push(format!("{name} ended by itself: {said}"));
        }
    }

    /// Any of those that run.
    fn victim(&mut self) -> Option<usize> {
        let running: Vec<usize> = (0..self.all.len())
            .filter(|at| matches!(self.all[*at].state, State::Running(_)))
            .collect();
        let chosen = self.chance.below(running.len() as u64);
        running.get(usize::try_from(chosen).unwrap_or(0)).copied()
    }

    /// Kills one that runs; `false` if none does.
    pub(super) fn kill(&mut self) -> bool {
        let Some(at) = self.victim() else { return false };
        let away = Duration::from_millis(self.chance.below(DOWN_MAX_MS));
        let down = State::Down(Instant::now() + away);
        if let State::Running(mut child) = std::mem::replace(&mut self.all[at].state, down) {
            signal(&child, Signal::KILL);
            child.wait().ok();
        }
        self.done.kills += 1;
        true
    }

    /// Pauses one that runs; `false` if none does.
    pub(super) fn pause(&mut self, time: Duration) -> bool {
        let Some(at) = self.victim() else { return false };
        let until = Instant::now() + time;
        if let State::Running(child) =
            std::mem::replace(&mut self.all[at].state, State::Down(until))
        {
            signal(&child, Signal::STOP);
            self.all[at].state = State::Paused(child, until);
        }
        self.done.pauses += 1;
        true
    }

    /// Whether every process runs.
    #[must_use]
    pub(super) fn all_run(&self) -> bool {
        self.all.iter().all(|process| matches!(process.state, State::Running(_)))
    }

    /// Asks all to finish; how many ended in time and with success.
    pub(super) fn drain(&mut self) -> u64 {
        let mut drained = 0;
        for process in &mut self.all {
            if let State::Running(child) | State::Paused(child, _) = &mut process.state {
                signal(child, Signal::CONT);
                signal(child, Signal::TERM);
            }
        }
        let deadline = Instant::now() + DRAIN_MAX;
        let now = Instant::now();
        for at in 0..self.all.len() {
            let name = self.all[at].name.clone();
            let mut end = None;
            if let State::Running(child) | State::Paused(child, _) = &mut self.all[at].state {
                while end.is_none() && Instant::now() < deadline {
                    thread::sleep(Duration::from_millis(20));
                    end = child.try_wait().ok().flatten();
                }
            }
            if end.is_some_and(|status| status.success()) {
                drained += 1;
                self.all[at].state = State::Down(now);
            } else {
                let said = last_line(&self.log(&name));
                self.notes.push(format!("{name} did not drain: {said}"));
            }
        }
        drained
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in &mut self.all {
            if let State::Running(child) | State::Paused(child, _) = &mut process.state {
                signal(child, Signal::KILL);
                child.wait().ok();
            }
        }
    }
}

/// A child that ends with us: a devnet, or a command that restarts something.
#[derive(Debug)]
pub(super) struct Helper {
    child: Child,
    what: String,
    log: PathBuf,
}

impl Helper {
    /// Starts it; `what` names it in sentences.
    ///
    /// # Errors
    /// [`VerifyError::Failed`].
    pub(super) fn start(launch: &Launch, what: &str, log: PathBuf) -> Result<Self, VerifyError> {
        Ok(Self { child: launch.start(&log, &[])?, what: what.to_owned(), log })
    }

    /// Whether it has ended with success.
    ///
    /// # Errors
    /// [`VerifyError::Failed`] if it ended otherwise.
    pub(super) fn ended(&mut self) -> Result<bool, VerifyError> {
        match self.child.try_wait() {
            Ok(None) => Ok(false),
            Ok(Some(status)) if status.success() => Ok(true),
            Ok(Some(status)) => Err(VerifyError::Failed(format!(
                "{} ended with {status}: {}",
                self.what,
                last_line(&self.log)
            ))),
            Err(error) => Err(VerifyError::Failed(format!("{}: {error}", self.what))),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        signal(&self.child, Signal::KILL);
        self.child.wait().ok();
    }
}
