//! Figures of the Merkle trees: `cargo bench -p semel-operators --bench merkle`.
//!
//! Criterion prints each figure with its spread; at the end stands a table of the fastest samples,
//! with ratios to `rs_merkle` and to bare hashing of as many pairs, all of the same run. The fastest
//! sample is the one that other work on the machine disturbed least; what takes milliseconds is one
//! sample each time. `SEMEL_BENCH_LEAVES` sets the
//! number of leaves (default 1000000).
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark reads the clock and its environment"
)]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(clippy::unwrap_used, reason = "a benchmark of a tree that cannot be built ends")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::RefCell,
    collections::BTreeMap,
    hint::black_box,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use criterion::Criterion;
use rs_merkle::MerkleTree;
use semel_operators::merkle::{
    hash::{
        Hash, HashFn, NodeRule, Pair,
        lanes::{Cores, Lanes, Means, join_pairs},
    },
    profile::{PROFILES, Rules, by_name},
    proof::{DEPTH_MAX, verify},
    sealed::{Sealed, seal},
    tree::Tree,
};
use sha2::{Digest, Sha256};
use sha3::Keccak256;

/// Counts bytes.
struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is an unsafe trait; this one counts and passes on")]
// SAFETY: every call is the system allocator's own, with the caller's arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        NOW.fetch_sub(layout.size(), Relaxed);
        PEAK.fetch_max(NOW.fetch_add(size, Relaxed) + size, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// rs_merkle with Keccak of crate `sha3`.
#[derive(Clone)]
struct Keccak;
impl rs_merkle::Hasher for Keccak {
    type Hash = Hash;
    fn hash(data: &[u8]) -> Hash {
        Keccak256::digest(data).into()
    }
}

/// Fastest samples, nanoseconds an iteration, by name.
#[derive(Default)]
struct Table(RefCell<BTreeMap<String, f64>>);

impl Table {
    /// Benches `work`; `prepare` is not timed.
    fn bench<T, R>(
        &self,
        criterion: &mut Criterion,
        name: &str,
        mut prepare: impl FnMut() -> T,
        mut work: impl FnMut(T) -> R,
    ) {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    let input = prepare();
                    let begin = Instant::now();
                    let result = black_box(work(black_box(input)));
                    let each = begin.elapsed();
                    drop(result);
                    self.note(name, each, 1);
                    total += each;
                }
                total
            });
        });
    }

    /// Benches `work` without a look at the clock in between.
    fn tight<R>(&self, criterion: &mut Criterion, name: &str, mut work: impl FnMut() -> R) {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let begin = Instant::now();
                for _ in 0..iterations {
                    black_box(work());
                }
                let total = begin.elapsed();
                self.note(name, total, iterations);
                total
            });
        });
    }

    fn note(&self, name: &str, total: Duration, iterations: u64) {
        let each = total.as_secs_f64() * 1e9 / iterations as f64;
        let mut table = self.0.borrow_mut();
        let best = table.entry(name.to_owned()).or_insert(each);
        *best = best.min(each);
    }

    fn get(&self, name: &str) -> f64 {
        self.0.borrow().get(name).copied().unwrap_or(f64::NAN)
    }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|i| Sha256::digest(i.to_le_bytes()).into()).collect()
}

/// Hashes `count` pairs that are always in the cache: the bound of a path.
fn hash_pairs(node: &NodeRule, means: Means, count: usize) -> Hash {
    let pairs: Vec<[Hash; 2]> = (0..512_u16).map(|i| [[i.to_le_bytes()[0]; 32], [7; 32]]).collect();
    let mut parents = vec![[0; 32]; pairs.len()];
    let mut left = count;
    while left > 0 {
        let now = left.min(pairs.len());
        join_pairs(node, means, black_box(&pairs[..now]), &mut parents[..now]);
        left -= now;
    }
    parents[0]
}

fn builds(criterion: &mut Criterion, table: &Table, rules: &Rules, leaves: &[Hash]) {
    table.bench(
        criterion,
        "build rs_merkle",
        || (),
        |()| MerkleTree::<Keccak>::from_leaves(leaves),
    );
    for lanes in Lanes::ALL.into_iter().filter(|lanes| lanes.here()) {
        let Some(one) = Means::on(lanes, Cores::One) else { continue };
        let Some(all) = Means::on(lanes, Cores::All) else { continue };
        let bare = |()| hash_pairs(&rules.node, one, leaves.len() - 1);
        table.bench(criterion, &format!("bare {lanes:?}"), || (), bare);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let half = || hash_pairs(&rules.node, one, leaves.len().div_ceil(2));
        table.bench(
            criterion,
            &format!("bare {lanes:?} on two cores"),
            || (),
            |()| pool.install(|| rayon::join(half, half)),
        );
        let build = |means| move |own| Tree::build_by(rules, means, own).unwrap();
        table.bench(criterion, &format!("build {lanes:?}"), || leaves.to_vec(), build(one));
        table.bench(
            criterion,
            &format!("build {lanes:?} on two cores"),
            || leaves.to_vec(),
            |own| pool.install(|| build(all)(own)),
        );
    }
}

fn sha256(criterion: &mut Criterion, table: &Table, leaves: &[Hash]) {
    let one = Means::with(Cores::One);
    let plain = by_name("rs_merkle").unwrap().rules();
    table.bench(
        criterion,
        "bare sha256",
        || (),
        |()| {
            let mut pair = [[1; 32], [2; 32]];
            for _ in 1..leaves.len() {
                pair[0] = Sha256::digest(pair.as_flattened()).into();
            }
            pair
        },
    );
    for (name, rules) in [("rs_merkle", plain), ("jito", by_name("jito").unwrap().rules())] {
        table.bench(
            criterion,
            &format!("build sha256 {name}"),
            || leaves.to_vec(),
            |own| Tree::build_by(&rules, one, own).unwrap(),
        );
    }
    table.bench(
        criterion,
        "build sha256 crate rs_merkle",
        || (),
        |()| MerkleTree::<rs_merkle::algorithms::Sha256>::from_leaves(leaves),
    );
}

fn changes(criterion: &mut Criterion, table: &Table, rules: &Rules, leaves: &[Hash]) {
    let count = leaves.len();
    let tree = RefCell::new(Tree::build(rules, leaves.to_vec()).unwrap());
    // The first append makes room for the next ones.
    tree.borrow_mut().append([3; 32]).unwrap();
    table.bench(
        criterion,
        "append one",
        || tree.borrow_mut().truncate(count),
        |()| tree.borrow_mut().append([3; 32]),
    );
    table.bench(
        criterion,
        "truncate by one",
        || {
            tree.borrow_mut().truncate(count);
            tree.borrow_mut().append([3; 32])
        },
        |_| tree.borrow_mut().truncate(count),
    );
}

fn proofs(criterion: &mut Criterion, table: &Table, rules: &Rules, leaves: &[Hash]) {
    let tree = Tree::build(rules, leaves.to_vec()).unwrap();
    let mut path = [[0; 32]; DEPTH_MAX];
    let mut index = 0;
    table.tight(criterion, "proof, one after another", || {
        index = (index + 1) % leaves.len();
        tree.proof_into(index, &mut path)
    });
    table.tight(criterion, "proof, anywhere", || {
        index = (index + 619_573) % leaves.len();
        tree.proof_into(index, &mut path)
    });
    table.bench(
        criterion,
        "all proofs",
        || (),
        |()| {
            for index in 0..leaves.len() {
                black_box(tree.proof_into(index, &mut path).unwrap());
                black_box(&path);
            }
        },
    );
    let anywhere = || (1..=leaves.len()).map(|i| i * 619_573 % leaves.len());
    table.bench(
        criterion,
        "all proofs, anywhere",
        || (),
        |()| {
            let take =
                |_, siblings: &[Hash]| path[..siblings.len()].copy_from_slice(black_box(siblings));
            tree.proofs(anywhere(), take).unwrap();
        },
    );
    let (mut at, mut turn) = (0, 0);
    table.tight(criterion, "one read", || {
        // Where the next one is, this one says: none begins before the last has ended. The turn keeps
        // them from going round in a small circle.
        let [a, b, c, d, ..] = leaves[at];
        turn += 1;
        at = (at + turn + u32::from_le_bytes([a, b, c, d]) as usize) % leaves.len();
        at
    });
    let profile = PROFILES.iter().find(|profile| profile.rules() == *rules).unwrap();
    let bytes = seal(profile, &tree).unwrap().to_vec();
    let sealed = Sealed::open(&bytes, profile).unwrap();
    table.tight(criterion, "proof from sealed bytes", || {
        index = (index + 1) % leaves.len();
        sealed.proof_into(index, &mut path)
    });
    let other = MerkleTree::<Keccak>::from_leaves(leaves);
    table.tight(criterion, "proof rs_merkle", || {
        index = (index + 1) % leaves.len();
        other.proof(&[index])
    });
}

fn verifies(criterion: &mut Criterion, table: &Table, rules: &Rules, leaves: &[Hash]) {
    let index = leaves.len() / 3;
    let ordered = Rules { node: NodeRule { pair: Pair::Ordered, ..rules.node }, ..*rules };
    let tree = Tree::build(&ordered, leaves.to_vec()).unwrap();
    let (published, proof) = (tree.published().unwrap(), tree.proof(index).unwrap());
    table.tight(criterion, "verify", || {
        verify(&ordered, black_box(&published), black_box(&leaves[index]), black_box(&proof))
    });
    let other = MerkleTree::<Keccak>::from_leaves(leaves);
    let proof = other.proof(&[index]);
    let root = other.root().unwrap();
    assert!(proof.verify(root, &[index], &leaves[index..=index], leaves.len()));
    table.tight(criterion, "verify rs_merkle", || {
        proof.verify(black_box(root), &[index], black_box(&leaves[index..=index]), leaves.len())
    });
}

/// Bytes beyond the leaves: at the peak of a build, and of the tree.
fn memory(rules: &Rules, leaves: &[Hash]) -> (usize, usize) {
    let own = leaves.to_vec();
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let tree = Tree::build(rules, own).unwrap();
    let (peak, now) = (PEAK.load(Relaxed) - before, NOW.load(Relaxed) - before);
    drop(tree);
    (peak, now)
}

/// Leaves in order, at random but many at once, and a lone one at random are three questions: the first
/// is about copying, the last about memory, of which a single read stands beside it.
fn print_proofs(table: &Table, count: usize) {
    let ms = |name: &str| table.get(name) / 1e6;
    for name in ["proof, one after another", "proof from sealed bytes"] {
        println!("| {name} | {:.1} ns | < 50 |", table.get(name));
    }
    let each = table.get("all proofs, anywhere") / count as f64;
    println!("| proof, anywhere, many at once | {each:.1} ns | |");
    println!("| proof, anywhere, alone | {:.1} ns | |", table.get("proof, anywhere"));
    println!("| one read of a leaf, anywhere | {:.1} ns | |", table.get("one read"));
    println!("| proof, rs_merkle | {:.0} ns | |", table.get("proof rs_merkle"));
    println!("| all proofs | {:.1} ms | < 100 |", ms("all proofs"));
    println!("| all proofs, anywhere | {:.1} ms | |", ms("all proofs, anywhere"));
}

fn print(table: &Table, count: usize, leaves: &[Hash]) {
    let ms = |name: &str| table.get(name) / 1e6;
    println!("\n{count} leaves, fastest samples");
    println!("| figure | value | goal |\n|---|---|---|");
    let other = ms("build rs_merkle");
    println!("| build, rs_merkle | {other:.1} ms | |");
    for (lanes, times) in [("Scalar", "1.8"), ("Bmi", "1.8"), ("Avx2", "5"), ("Avx512", "10")] {
        let (build, bare) = (ms(&format!("build {lanes}")), ms(&format!("bare {lanes}")));
        let two = ms(&format!("build {lanes} on two cores"));
        let (bound, faster) = (build / bare, other / build);
        println!("| build, {lanes} | {build:.1} ms | |");
        println!("| build to bare hashing ({bare:.1} ms), {lanes} | {bound:.2} × | ≤ 1.15 |");
        println!("| faster than rs_merkle, {lanes} | {faster:.1} × | ≥ {times} |");
        println!("| two cores ({two:.1} ms), {lanes} | {:.2} × | ≥ 1.7 |", build / two);
        let bare_two = ms(&format!("bare {lanes} on two cores"));
        println!(
            "| bare hashing on two cores ({bare_two:.1} ms), {lanes} | {:.2} × | |",
            bare / bare_two
        );
    }
    let bare = ms("bare sha256");
    for name in ["rs_merkle", "jito"] {
        let build = ms(&format!("build sha256 {name}"));
        println!(
            "| build sha256 {name} ({build:.1} ms) to bare ({bare:.1} ms) | {:.2} × | ≤ 1.3 |",
            build / bare
        );
    }
    println!("| build sha256, rs_merkle | {:.1} ms | |", ms("build sha256 crate rs_merkle"));
    println!("| append one | {:.1} µs | < 10 |", table.get("append one") / 1e3);
    println!("| truncate by one | {:.1} µs | < 20 |", table.get("truncate by one") / 1e3);
    print_proofs(table, count);
    let (own, other) = (table.get("verify"), table.get("verify rs_merkle"));
    println!("| verify | {:.2} µs | |", own / 1e3);
    println!(
        "| rs_merkle's verify ({:.2} µs) to ours | {:.2} × | ≥ 1.3 |",
        other / 1e3,
        other / own
    );
    for name in ["ao-claim-v0", "openzeppelin-standard", "uniswap", "jito"] {
        let (peak, now) = memory(&by_name(name).unwrap().rules(), leaves);
        let per = |bytes: usize| bytes as f64 / count as f64;
        println!(
            "| bytes beyond the leaves, {name} | {:.1} MB at peak, {:.1} MB after, a million | ≤ 70 |",
            per(peak),
            per(now)
        );
    }
}

fn main() {
    let count = std::env::var("SEMEL_BENCH_LEAVES").ok().and_then(|text| text.parse().ok());
    let count: usize = count.unwrap_or(1_000_000);
    let leaves = leaves(count);
    let rules = by_name("ao-claim-v0").unwrap().rules();
    assert_eq!(rules.node.hash, HashFn::Keccak256);
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let table = Table::default();
    builds(&mut criterion, &table, &rules, &leaves);
    sha256(&mut criterion, &table, &leaves);
    changes(&mut criterion, &table, &rules, &leaves);
    proofs(&mut criterion, &table, &rules, &leaves);
    verifies(&mut criterion, &table, &rules, &leaves);
    criterion.final_summary();
    print(&table, count, &leaves);
}
