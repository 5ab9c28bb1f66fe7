//! The simulator itself first: the same seed gives the same trace. Then what it is for.

use super::{Subject, Trace, run, schedule};

#[test]
fn the_same_seed_twice_leaves_the_same_trace() {
    for seed in 0..6 {
        let subject = Subject::of_seed(seed).unwrap();
        let options = subject.options(seed);
        let events = schedule::draw(&options);
        let traces = [(); 2]
            .map(|()| run(&subject, &options, &events, Trace::Written).unwrap().trace.join("\n"));
        assert!(traces[0].len() > 100, "seed {seed} leaves a trace");
        assert!(traces[0] == traces[1], "seed {seed} leaves two traces");
    }
}
