//! The simulator from the terminal: the same trace in every process, and what a wrong one is told.

use std::fs;

use super::{SPEC, run, says};

/// Two processes: the seeds of their hashes differ, their traces do not.
#[test]
fn the_same_seed_in_two_processes_leaves_the_same_trace() {
    let folder = tempfile::tempdir().unwrap();
    for seed in ["2", "3", "4", "7"] {
        let [one, two] = [(); 2].map(|()| {
            let ended = run(folder.path(), 240, &["sim", "--seed", seed, "--trace"], &[]);
            assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
            let lines: Vec<String> = ended.out.lines().map(str::to_owned).collect();
            let (speed, trace) = lines.split_last().unwrap();
            assert!(speed.contains("schedules/s") && speed.contains("steps/s"), "{speed}");
            trace.to_vec()
        });
        assert!(one.len() > 100, "seed {seed} leaves a trace");
        assert!(one == two, "seed {seed} leaves two traces");
    }
}

#[test]
fn a_wrong_simulation_is_told_as_a_wrong_spec() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(SPEC).unwrap().replacen("partitions = 4", "partitons = 4", 1);
    fs::write(folder.path().join("spec.toml"), text).unwrap();
    let sim = |args: &[&str]| run(folder.path(), 240, &[&["sim"], args].concat(), &[]);
    says(&sim(&["--spec", "spec.toml"]), 2, &["spec.toml:", "did you mean `partitions`?"]);
    says(&sim(&["--spec", "none.toml"]), 2, &["none.toml cannot be read"]);
    says(&sim(&["--sabotage", "nothing-like-it"]), 2, &[""]);
}
