//! Where figures were taken: figures without their machine say nothing.

use std::{fs, path::Path};

use serde::Serialize;

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Memory, MB.
    pub memory_mb: u64,
    /// Kernel.
    pub kernel: String,
    /// Device and file system below the folder that the bench works in.
    pub disk: String,
    /// Processes that ran or wanted to, on average over the last minute, when the bench began.
    pub load: String,
    /// How this program was built.
    pub build: &'static str,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn value_of(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// The mount that `folder` is on: the longest mount point that it begins with.
fn disk(folder: &Path) -> String {
    let mounts = read("/proc/self/mounts");
    let mut best = ("", "unknown".to_owned());
    for line in mounts.lines() {
        let mut fields = line.split_whitespace();
        let (Some(device), Some(point), Some(kind)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if folder.starts_with(point) && point.len() >= best.0.len() {
            best = (point, format!("{device} ({kind})"));
        }
    }
    best.1
}

impl Machine {
    /// This machine, for work in `folder`.
    #[must_use]
    pub fn here(folder: &Path) -> Self {
        let unknown = || "unknown".to_owned();
        let memory = value_of(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kb: u64 = memory.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Self {
            cpu: value_of(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mb: kb / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            disk: disk(folder),
            load: read("/proc/loadavg").split_whitespace().next().unwrap_or("?").to_owned(),
            build: if cfg!(debug_assertions) {
                "with debug assertions: figures of a release build are several times better"
            } else {
                "release"
            },
        }
    }

    /// One line for people.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "{} × {}, {} MB, Linux {}, disk {}, load {} at the start, build: {}",
            self.cpus, self.cpu, self.memory_mb, self.kernel, self.disk, self.load, self.build
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::here(Path::new("/"));
        assert!(machine.cpus > 0 && machine.memory_mb > 0, "{}", machine.describe());
        assert_ne!(machine.disk, "unknown");
    }
}
