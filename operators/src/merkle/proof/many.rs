//! Many proofs, one after the other, read while the next ones are on their way from memory.
//!
//! A proof of a large tree is a handful of nodes that no cache holds. One proof waits for all of them
//! at once; a few proofs ahead of the one that is copied, nobody waits. Here is the order of these
//! steps; what is fetched and read is the caller's business. Invariant: what comes out is what one
//! proof after the other would be, errors included.

use super::{DEPTH_MAX, Path, ZERO};
use crate::merkle::hash::Hash;

/// Proofs whose nodes are under way while one is copied.
const AHEAD: usize = 8;

/// Hands the siblings of each of the leaves `indices` to `each`, in this order. `position` says where
/// a leaf stands, `fetch` asks for its siblings, `read` writes them and says how many they are.
pub(in crate::merkle) fn proofs<E>(
    indices: impl IntoIterator<Item = usize>,
    position: impl Fn(usize) -> Result<usize, E>,
    fetch: impl Fn(usize),
    read: impl Fn(usize, &mut Path) -> usize,
    mut each: impl FnMut(usize, &[Hash]),
) -> Result<(), E> {
    let mut end = Ok(());
    let mut places = indices.into_iter().map(|index| position(index).map(|at| (index, at)));
    let mut next = || match places.next()? {
        Ok((index, at)) => {
            fetch(at);
            Some((index, at))
        }
        Err(error) => {
            end = Err(error);
            None
        }
    };
    let mut path = [ZERO; DEPTH_MAX];
    // Once it holds nothing there is nothing more: a slot is filled as soon as it is read.
    let mut ahead: [Option<(usize, usize)>; AHEAD] = [None; AHEAD];
    let mut more = true;
    for slot in &mut ahead {
        *slot = if more { next() } else { None };
        more = slot.is_some();
    }
    for turn in (0..AHEAD).cycle() {
        let Some((index, at)) = ahead[turn] else { break };
        ahead[turn] = if more { next() } else { None };
        more = ahead[turn].is_some();
        let length = read(at, &mut path);
        each(index, &path[..length]);
    }
    end
}
