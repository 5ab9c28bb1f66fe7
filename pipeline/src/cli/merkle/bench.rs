//! `semel merkle bench`: what trees cost on this machine, beside bare hashing and `rs_merkle`.
//!
//! May not live here: a verdict. Figures are of one run, of this build (use a release build), and each
//! is the best of a few rounds.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use semel::merkle::second;
use semel_operators::merkle::{
    hash::{Hash, HashFn},
    profile::{HashOrder, Rules, Shape},
    proof::verify,
    tree::Tree,
};

use super::{
    super::{Done, Failure, output},
    ProfileArgs,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    profile: ProfileArgs,
    /// How many leaves
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(2..=100_000_000))]
    leaves: u32,
    /// Rounds, of which the best counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// Measures and prints.
pub(super) fn bench(args: &Args) -> Done {
    let profile = args.profile.load()?;
    let rules = profile.rules();
    let leaves: Vec<Hash> =
        (0..args.leaves).map(|i| HashFn::Sha256.of(&[&i.to_be_bytes()])).collect();
    let failed = |why: &dyn std::fmt::Display| Failure::Failed(why.to_string());
    let mut tree = Tree::build(&rules, leaves.clone()).map_err(|why| failed(&why))?;
    let mut rows = Vec::new();
    let mut add = |what: &str, time: Duration, each: usize| {
        rows.push(vec![what.to_owned(), format!("{time:.2?}"), per(time, each)]);
    };
    let many = leaves.len();
    let build = best(args.rounds, || Tree::build(&rules, leaves.clone()).is_ok());
    add("build", build, many);
    add("bare hashing, pair by pair", best(args.rounds, || bare(&rules, &leaves)), many - 1);
    if second::root(&rules, leaves[..2].to_vec()).is_ok() {
        add("rs_merkle", best(1, || second::root(&rules, leaves.clone()).is_ok()), many);
    }
    let last = leaves[many - 1];
    // Where every change builds the tree anew, one of them takes as long as a build.
    let anew = rules.shape == Shape::Heap || rules.order == HashOrder::Sorted;
    let changes = if anew { 1 } else { 100.min(many) };
    add("append one leaf", best(args.rounds, || append(&mut tree, last, changes)), changes);
    add(
        "truncate by one",
        best(args.rounds, || {
            (0..changes).for_each(|_| tree.truncate(tree.len() - 1));
        }),
        changes,
    );
    let tree = Tree::build(&rules, leaves).map_err(|why| failed(&why))?;
    let mut path = [[0; 32]; semel_operators::merkle::proof::DEPTH_MAX];
    let all = best(args.rounds, || {
        (0..many).for_each(|i| _ = black_box(tree.proof_into(i, &mut path)));
    });
    add("all proofs", all, many);
    let (proof, leaf) = (tree.proof(many / 2), tree.leaf(many / 2));
    let (proof, leaf) = (proof.map_err(|why| failed(&why))?, leaf.map_err(|why| failed(&why))?);
    let published = tree.published().map_err(|why| failed(&why))?;
    let times = 1_000;
    add(
        "verify",
        best(args.rounds, || {
            (0..times).all(|_| black_box(verify(&rules, &published, &leaf, &proof)).is_ok())
        }),
        times,
    );
    output::say(&format!("{many} leaves by `{profile}`, best of {} rounds", args.rounds));
    output::table(&["what", "time", "each"], &rows)
}

fn append(tree: &mut Tree, leaf: Hash, times: usize) {
    for _ in 0..times {
        // More leaves than the profile allows: the time of the refusal is no figure, but no harm.
        let _refused = tree.append(leaf);
    }
}

/// n - 1 hashes of pairs, one after another.
fn bare(rules: &Rules, leaves: &[Hash]) {
    for pair in leaves.windows(2) {
        black_box(rules.node.join(&pair[0], &pair[1]));
    }
}

fn best<T>(rounds: u32, mut work: impl FnMut() -> T) -> Duration {
    let once = |_| {
        let began = Instant::now();
        black_box(work());
        began.elapsed()
    };
    (0..rounds).map(once).min().unwrap_or_default()
}

fn per(time: Duration, count: usize) -> String {
    format!("{:.1} ns", time.as_secs_f64() * 1e9 / count.max(1) as f64)
}
