//! Processes of the command on a real broker: what the tests of its repairs have in common.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const SEMEL: &str = env!("CARGO_BIN_EXE_semel");

/// A name that nobody else has.
pub(crate) fn unique(name: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    format!("{name}-{}", now.as_nanos())
}

/// Runs a command to its end.
pub(crate) fn semel(folder: &Path, args: &[&str]) -> Output {
    Command::new(SEMEL).args(args).current_dir(folder).output().expect("the command starts")
}

/// Runs a command to its end, fed with a file.
pub(crate) fn feed(folder: &Path, args: &[&str], file: &str) -> Output {
    let file = File::open(folder.join(file)).expect("the file is there");
    Command::new(SEMEL)
        .args(args)
        .current_dir(folder)
        .stdin(file)
        .output()
        .expect("the command starts")
}

/// Starts `run p.toml`, and waits until it answers.
pub(crate) fn begin(folder: &Path) -> Child {
    let child = Command::new(SEMEL)
        .args(["run", "p.toml"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    until("the process", || folder.join("data/admin.sock").exists());
    child
}

/// Ends a process as an orchestrator does.
pub(crate) fn stop(mut child: Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    assert!(child.wait().expect("it ends").success());
}

/// Waits with the patience of a slow machine.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(240);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
