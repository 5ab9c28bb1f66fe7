//! Keccak-f[1600], once, over whatever the lane is: a word, four of them, eight.
//!
//! The macro holds the permutation; each caller brings the five operations for its registers, so
//! that the whole of it is compiled inside a function that has the instructions. State words are
//! numbered `x + 5y` (FIPS 202, "state array"). Invariant: nothing here branches on data.

/// Round constants (FIPS 202, iota).
#[rustfmt::skip]
pub(super) const ROUNDS: [u64; 24] = [
    0x0000_0000_0000_0001, 0x0000_0000_0000_8082, 0x8000_0000_0000_808a, 0x8000_0000_8000_8000,
    0x0000_0000_0000_808b, 0x0000_0000_8000_0001, 0x8000_0000_8000_8081, 0x8000_0000_0000_8009,
    0x0000_0000_0000_008a, 0x0000_0000_0000_0088, 0x0000_0000_8000_8009, 0x0000_0000_8000_000a,
    0x0000_0000_8000_808b, 0x8000_0000_0000_008b, 0x8000_0000_0000_8089, 0x8000_0000_0000_8003,
    0x8000_0000_0000_8002, 0x8000_0000_0000_0080, 0x0000_0000_0000_800a, 0x8000_0000_8000_000a,
    0x8000_0000_8000_8081, 0x8000_0000_0000_8080, 0x0000_0000_8000_0001, 0x8000_0000_8000_8008,
];

/// One permutation of `$state`, an array of 25 lanes. `$xor5` adds five lanes, `$xor` two; `$turn`
/// adds the second, rotated left by one, to the first; `$rol` adds two and rotates the sum left;
/// `$chi` is `a ^ (!b & c)`; `$splat` is a lane full of one word.
macro_rules! permute {
    ($state:ident, $xor5:ident, $xor:ident, $turn:ident, $rol:ident, $chi:ident, $splat:ident) => {
        let [
            mut a0,
            mut a1,
            mut a2,
            mut a3,
            mut a4,
            mut a5,
            mut a6,
            mut a7,
            mut a8,
            mut a9,
            mut a10,
            mut a11,
            mut a12,
            mut a13,
            mut a14,
            mut a15,
            mut a16,
            mut a17,
            mut a18,
            mut a19,
            mut a20,
            mut a21,
            mut a22,
            mut a23,
            mut a24,
        ] = *$state;
        for round in &$crate::merkle::hash::lanes::permutation::ROUNDS {
            let c0 = $xor5!(a0, a5, a10, a15, a20);
            let c1 = $xor5!(a1, a6, a11, a16, a21);
            let c2 = $xor5!(a2, a7, a12, a17, a22);
            let c3 = $xor5!(a3, a8, a13, a18, a23);
            let c4 = $xor5!(a4, a9, a14, a19, a24);
            let d0 = $turn!(c4, c1);
            let d1 = $turn!(c0, c2);
            let d2 = $turn!(c1, c3);
            let d3 = $turn!(c2, c4);
            let d4 = $turn!(c3, c0);
            let b0 = $xor!(a0, d0);
            let b10 = $rol!(a1, d1, 1);
            let b20 = $rol!(a2, d2, 62);
            let b5 = $rol!(a3, d3, 28);
            let b15 = $rol!(a4, d4, 27);
            let b16 = $rol!(a5, d0, 36);
            let b1 = $rol!(a6, d1, 44);
            let b11 = $rol!(a7, d2, 6);
            let b21 = $rol!(a8, d3, 55);
            let b6 = $rol!(a9, d4, 20);
            let b7 = $rol!(a10, d0, 3);
            let b17 = $rol!(a11, d1, 10);
            let b2 = $rol!(a12, d2, 43);
            let b12 = $rol!(a13, d3, 25);
            let b22 = $rol!(a14, d4, 39);
            let b23 = $rol!(a15, d0, 41);
            let b8 = $rol!(a16, d1, 45);
            let b18 = $rol!(a17, d2, 15);
            let b3 = $rol!(a18, d3, 21);
            let b13 = $rol!(a19, d4, 8);
            let b14 = $rol!(a20, d0, 18);
            let b24 = $rol!(a21, d1, 2);
            let b9 = $rol!(a22, d2, 61);
            let b19 = $rol!(a23, d3, 56);
            let b4 = $rol!(a24, d4, 14);
            a0 = $xor!($chi!(b0, b1, b2), $splat!(*round));
            a1 = $chi!(b1, b2, b3);
            a2 = $chi!(b2, b3, b4);
            a3 = $chi!(b3, b4, b0);
            a4 = $chi!(b4, b0, b1);
            a5 = $chi!(b5, b6, b7);
            a6 = $chi!(b6, b7, b8);
            a7 = $chi!(b7, b8, b9);
            a8 = $chi!(b8, b9, b5);
            a9 = $chi!(b9, b5, b6);
            a10 = $chi!(b10, b11, b12);
            a11 = $chi!(b11, b12, b13);
            a12 = $chi!(b12, b13, b14);
            a13 = $chi!(b13, b14, b10);
            a14 = $chi!(b14, b10, b11);
            a15 = $chi!(b15, b16, b17);
            a16 = $chi!(b16, b17, b18);
            a17 = $chi!(b17, b18, b19);
            a18 = $chi!(b18, b19, b15);
            a19 = $chi!(b19, b15, b16);
            a20 = $chi!(b20, b21, b22);
            a21 = $chi!(b21, b22, b23);
            a22 = $chi!(b22, b23, b24);
            a23 = $chi!(b23, b24, b20);
            a24 = $chi!(b24, b20, b21);
        }
        *$state = [
            a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
            a19, a20, a21, a22, a23, a24,
        ];
    };
}
pub(super) use permute;
