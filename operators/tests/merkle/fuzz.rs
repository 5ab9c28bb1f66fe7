//! The fuzz target of the verifiers, where nothing but `cargo test` is to be had: every input of the
//! corpus as it stands, and changed; and any bytes.
//!
//! May not live here: what an input means, which is `attack`.

use std::{fs, path::Path};

use proptest::{prelude::*, sample::Index};

use crate::attack::attack;

/// The inputs of `operators/fuzz/corpus/verify`.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/verify");
    let mut paths: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 30, "{}: the corpus is gone", folder.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn the_verifiers_stand_the_corpus() {
    for bytes in corpus() {
        attack(&bytes);
    }
}

proptest! {
    #[test]
    fn the_verifiers_stand_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        attack(&bytes);
    }

    #[test]
    fn the_verifiers_stand_the_corpus_changed(
        input in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), 0_u8..3), 1..6),
    ) {
        let corpus = corpus();
        let mut bytes = corpus[input.index(corpus.len())].clone();
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len() + 1);
            match (kind, bytes.get_mut(at)) {
                (0, Some(there)) => *there = byte,
                (1, Some(_)) => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, byte),
            }
        }
        attack(&bytes);
    }
}
