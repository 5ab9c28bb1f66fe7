//! Every way in which a find can differ from what was expected, as tables.

use super::*;

fn at(lane: u32, number: u32) -> Option<Place> {
    Some(Place { lane, number })
}

/// (lost, twice, foreign, out of order)
fn wrong(counts: Counts) -> (u64, u64, u64, u64) {
    (counts.lost, counts.twice, counts.foreign, counts.out_of_order)
}

#[test]
fn each_place_once_and_in_order() {
    let whole = vec![at(0, 0), at(1, 0), at(0, 1), at(0, 2), at(1, 1)];
    let with = |more: &[Option<Place>]| [&whole[..], more].concat();
    let without = |gone: usize| {
        let mut finds = whole.clone();
        finds.remove(gone);
        finds
    };
    let swapped = |a: usize, b: usize| {
        let mut finds = whole.clone();
        finds.swap(a, b);
        finds
    };
    for (what, finds, found, expected) in [
        ("all is well", whole.clone(), 5, (0, 0, 0, 0)),
        ("lanes may interleave", swapped(0, 1), 5, (0, 0, 0, 0)),
        ("nothing at all", vec![], 0, (5, 0, 0, 0)),
        ("one is lost", without(2), 4, (1, 0, 0, 0)),
        ("the last is lost", without(4), 4, (1, 0, 0, 0)),
        ("one is there twice", with(&[at(0, 2)]), 6, (0, 1, 0, 0)),
        ("an old one comes again", with(&[at(0, 0)]), 6, (0, 1, 0, 0)),
        ("three times is twice too often", with(&[at(0, 1), at(0, 1)]), 7, (0, 2, 0, 0)),
        ("two changed places", swapped(2, 3), 5, (0, 0, 0, 1)),
        ("the first comes last", swapped(0, 3), 5, (0, 0, 0, 2)),
        ("nobody gave this", with(&[None]), 6, (0, 0, 1, 0)),
        ("beyond the end of its lane", with(&[at(1, 2)]), 6, (0, 0, 1, 0)),
        ("a lane that is not there", with(&[at(2, 0)]), 6, (0, 0, 1, 0)),
        ("lost here, foreign there", [&without(4)[..], &[at(9, 9)]].concat(), 5, (1, 0, 1, 0)),
    ] {
        let mut tally = Tally::new(&[3, 2], Order::Growing);
        finds.iter().for_each(|find| tally.find(*find));
        let counts = tally.counts();
        assert_eq!((counts.expected, counts.found), (5, found), "{what}");
        assert_eq!(wrong(counts), expected, "{what}");
        assert_eq!(counts.good(), expected == (0, 0, 0, 0), "{what}");
        assert_eq!(tally.lost(9).len() as u64, counts.lost, "{what}");
    }
}

#[test]
fn rows_of_a_table_have_no_order() {
    for (what, finds, expected) in [
        ("all rows", vec![at(0, 2), at(0, 0), at(0, 1)], (0, 0, 0, 0)),
        ("a row is missing", vec![at(0, 2), at(0, 0)], (1, 0, 0, 0)),
        ("a row too many", vec![at(0, 2), at(0, 0), at(0, 1), at(0, 3)], (0, 0, 1, 0)),
        ("a row twice", vec![at(0, 2), at(0, 0), at(0, 1), at(0, 1)], (0, 1, 0, 0)),
    ] {
        let mut tally = Tally::new(&[3], Order::Any);
        finds.iter().for_each(|find| tally.find(*find));
        assert_eq!(wrong(tally.counts()), expected, "{what}");
    }
}

#[test]
fn what_is_expected_several_times() {
    let expected =
        BTreeMap::from([(Place { lane: 0, number: 1 }, 2), (Place { lane: 1, number: 0 }, 1)]);
    for (what, finds, found, wrongs) in [
        ("all is well", vec![at(0, 1), at(1, 0), at(0, 1)], 3, (0, 0, 0, 0)),
        ("one of two is lost", vec![at(0, 1), at(1, 0)], 2, (1, 0, 0, 0)),
        ("one too many", vec![at(0, 1), at(1, 0), at(0, 1), at(1, 0)], 4, (0, 1, 0, 0)),
        ("nobody expected this", vec![at(0, 1), at(1, 0), at(0, 1), at(0, 0)], 4, (0, 0, 1, 0)),
        ("nor this", vec![at(0, 1), at(1, 0), at(0, 1), None], 4, (0, 0, 1, 0)),
    ] {
        let mut repeats = Repeats::new(&expected);
        finds.iter().for_each(|find| repeats.find(*find));
        let counts = repeats.counts();
        assert_eq!((counts.expected, counts.found), (3, found), "{what}");
        assert_eq!(wrong(counts), wrongs, "{what}");
    }
}

#[test]
fn numbers_that_differ_are_wrong() {
    assert!(numbers(3, 3).good());
    assert_eq!(wrong(numbers(3, 1)), (2, 0, 0, 0));
    assert_eq!(wrong(numbers(0, 2)), (0, 0, 2, 0));
}
