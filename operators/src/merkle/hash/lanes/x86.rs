//! x86-64: one pair with BMI's instructions, four with AVX2, eight with AVX-512.
//!
//! Each public function has the instructions it is named for switched on and must only be called on
//! a machine that has them: its caller, `super`, asks the machine. Inside, intrinsics over registers
//! are safe; each `unsafe` block reinterprets registers as arrays of words or bytes, or these as
//! registers. Here is also the hint that a node is going to be read: it is an intrinsic too.

use std::arch::x86_64::*;

use super::{
    super::{Hash, NodeRule},
    block::{Blocks, RATE, load, store},
    scalar,
};

/// Asks for a node's bytes to be brought into the cache, without waiting for them.
#[expect(unsafe_code, reason = "the hint takes a pointer")]
#[inline(always)]
pub(super) fn prefetch(node: &Hash) {
    // SAFETY: the pointers are into a live array; besides, this instruction reads nothing that a
    // program can see and never faults, whatever the address is. A node that is not aligned may lie
    // in two lines of the cache, hence the hint for either end.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(node.as_ptr().cast());
        _mm_prefetch::<_MM_HINT_T0>(node.as_ptr_range().end.wrapping_sub(1).cast());
    }
}

/// The parent of one pair; `andn` and `rorx` save a quarter.
#[target_feature(enable = "bmi1,bmi2")]
pub(super) fn bmi_one(node: &NodeRule, pair: &[Hash; 2]) -> Hash {
    scalar::one(node, pair)
}

/// The parents of pairs, one at a time.
#[target_feature(enable = "bmi1,bmi2")]
pub(super) fn bmi(node: &NodeRule, pairs: &[[Hash; 2]], parents: &mut [Hash]) {
    scalar::many(node, pairs, parents);
}

/// Makes the function that this is called in keep its frame at a line of the cache. A state does not fit
/// into the registers; where the frame begins by chance is where they are put aside, and registers
/// across two lines cost a fifth of all time. The compiler aligns a frame as its locals ask for it.
#[inline(always)]
fn align_frame() {
    #[repr(align(64))]
    struct Line(#[expect(dead_code, reason = "it is there for its place")] [u8; 64]);
    let mut line = Line([0; 64]);
    std::hint::black_box(&mut line);
}

/// Defines a path of `$lanes` lanes in registers `$register`.
macro_rules! path {
    ($name:ident, $name_ops:ident, $features:literal, $lanes:literal, $register:ident, $zero:ident) => {
        pub(super) mod $name {
            use super::{$name_ops::permutation, *};

            const LANES: usize = $lanes;

            /// The parents of pairs, so many at a time; a lone one at the end by itself.
            #[target_feature(enable = $features)]
            pub(in super::super) fn many(
                node: &NodeRule,
                pairs: &[[Hash; 2]],
                parents: &mut [Hash],
            ) {
                let (full, rest) = pairs.as_chunks::<LANES>();
                let (full_parents, rest_parents) = parents.as_chunks_mut::<LANES>();
                for (pairs, parents) in full.iter().zip(full_parents) {
                    *parents = lanes(node, pairs);
                }
                match rest {
                    [] => {}
                    [pair] => rest_parents[0] = scalar::one(node, pair),
                    [first, ..] => {
                        let mut padded = [*first; LANES];
                        padded[..rest.len()].copy_from_slice(rest);
                        rest_parents.copy_from_slice(&lanes(node, &padded)[..rest.len()]);
                    }
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn lanes(node: &NodeRule, pairs: &[[Hash; 2]; LANES]) -> [Hash; LANES] {
                align_frame();
                let mut state = [$zero(); 25];
                for (register, words) in state.iter_mut().zip($name_ops::blocks(node, pairs)) {
                    *register = words;
                }
                permutation(&mut state);
                let [a, b, c, d, ..] = state;
                let mut parents = [[0; 32]; LANES];
                store(&words([a, b, c, d]), &mut parents);
                parents
            }

            #[expect(unsafe_code, reason = "reinterprets registers as arrays of words")]
            #[inline(always)]
            fn words(registers: [$register; 4]) -> [[u64; LANES]; 4] {
                // SAFETY: both are arrays of as many elements, an element is as many bytes of plain
                // integers without padding on either side, and every bit pattern is a value of each.
                unsafe { std::mem::transmute(registers) }
            }

            /// A padded block of each pair, word by word. Apart, because no profile that ships has a
            /// prefix and Keccak.
            #[expect(unsafe_code, reason = "reinterprets arrays of words as registers")]
            #[cold]
            #[inline(never)]
            #[target_feature(enable = $features)]
            pub(in super::super) fn registers(
                node: &NodeRule,
                pairs: &[[Hash; 2]; LANES],
            ) -> [$register; RATE] {
                let blocks: Blocks<LANES> = load(node, pairs);
                // SAFETY: as above, the other way round.
                unsafe { std::mem::transmute(blocks) }
            }
        }
    };
}

path!(avx2, four, "avx2,bmi1,bmi2", 4, __m256i, _mm256_setzero_si256);
path!(avx512, eight, "avx512f,avx2,bmi1,bmi2", 8, __m512i, _mm512_setzero_si512);

/// Keccak's permutation of four states.
mod four {
    use std::arch::x86_64::*;

    use super::{
        super::{
            super::{Hash, NodeRule, Pair},
            block::{LAST, RATE, swaps},
            permutation::permute,
        },
        avx2::registers,
    };

    macro_rules! xor {
        ($a:expr, $b:expr) => {
            _mm256_xor_si256($a, $b)
        };
    }
    macro_rules! xor5 {
        ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
            xor!(xor!(xor!($a, $b), xor!($c, $d)), $e)
        };
    }
    macro_rules! rotate {
        ($a:expr, $by:literal) => {{
            let lanes = $a;
            let (up, down) =
                (_mm256_slli_epi64::<$by>(lanes), _mm256_srli_epi64::<{ 64 - $by }>(lanes));
            _mm256_or_si256(up, down)
        }};
    }
    macro_rules! turn {
        ($a:expr, $b:expr) => {
            xor!($a, rotate!($b, 1))
        };
    }
    macro_rules! rol {
        ($a:expr, $b:expr, $by:literal) => {
            rotate!(xor!($a, $b), $by)
        };
    }
    macro_rules! chi {
        ($a:expr, $b:expr, $c:expr) => {
            xor!($a, _mm256_andnot_si256($b, $c))
        };
    }
    macro_rules! splat {
        ($word:expr) => {
            _mm256_set1_epi64x($word.cast_signed())
        };
    }

    /// The blocks of four pairs. The two nodes of a pair are put in order without a branch, then four
    /// rows are turned over (rows to columns) without going through memory.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn blocks(node: &NodeRule, pairs: &[[Hash; 2]; 4]) -> [__m256i; RATE] {
        if !node.prefix.is_empty() {
            return registers(node, pairs);
        }
        let mut rows = [[_mm256_setzero_si256(); 4]; 2];
        for (lane, [left, right]) in pairs.iter().enumerate() {
            let swap = node.pair == Pair::Sorted && swaps(left, right);
            let swap = _mm256_set1_epi64x(-i64::from(swap));
            let (left, right) = (register(left), register(right));
            rows[0][lane] = _mm256_blendv_epi8(left, right, swap);
            rows[1][lane] = _mm256_blendv_epi8(right, left, swap);
        }
        let mut blocks = [_mm256_setzero_si256(); RATE];
        [blocks[0], blocks[1], blocks[2], blocks[3]] = columns(rows[0]);
        [blocks[4], blocks[5], blocks[6], blocks[7]] = columns(rows[1]);
        blocks[8] = _mm256_set1_epi64x(1);
        blocks[RATE - 1] = _mm256_set1_epi64x(LAST.cast_signed());
        blocks
    }

    /// Four rows of four words, turned over.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn columns([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        // The lower halves of both, and the upper ones.
        const LOWER: i32 = 0x20;
        const UPPER: i32 = 0x31;
        let (even_ab, even_cd) = (_mm256_unpacklo_epi64(a, b), _mm256_unpacklo_epi64(c, d));
        let (odd_ab, odd_cd) = (_mm256_unpackhi_epi64(a, b), _mm256_unpackhi_epi64(c, d));
        [
            _mm256_permute2x128_si256::<LOWER>(even_ab, even_cd),
            _mm256_permute2x128_si256::<LOWER>(odd_ab, odd_cd),
            _mm256_permute2x128_si256::<UPPER>(even_ab, even_cd),
            _mm256_permute2x128_si256::<UPPER>(odd_ab, odd_cd),
        ]
    }

    #[expect(unsafe_code, reason = "reinterprets a node as a register")]
    #[inline(always)]
    fn register(node: &Hash) -> __m256i {
        // SAFETY: both are 32 bytes without padding, and every bit pattern is a value of the register.
        unsafe { std::mem::transmute(*node) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn permutation(state: &mut [__m256i; 25]) {
        permute!(state, xor5, xor, turn, rol, chi, splat);
    }
}

/// Keccak's permutation of eight states. One instruction rotates, one adds three lanes (table
/// 0x96), one is chi (table 0xD2).
mod eight {
    use std::arch::x86_64::*;

    use super::{
        super::{
            super::{Hash, NodeRule, Pair},
            block::{LAST, RATE, swaps},
            permutation::permute,
        },
        avx512::registers,
    };

    macro_rules! xor {
        ($a:expr, $b:expr) => {
            _mm512_xor_si512($a, $b)
        };
    }
    macro_rules! xor3 {
        ($a:expr, $b:expr, $c:expr) => {
            _mm512_ternarylogic_epi64::<0x96>($a, $b, $c)
        };
    }
    macro_rules! xor5 {
        ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
            xor3!(xor3!($a, $b, $c), $d, $e)
        };
    }
    macro_rules! turn {
        ($a:expr, $b:expr) => {
            xor!($a, _mm512_rol_epi64::<1>($b))
        };
    }
    macro_rules! rol {
        ($a:expr, $b:expr, $by:literal) => {
            _mm512_rol_epi64::<$by>(xor!($a, $b))
        };
    }
    macro_rules! chi {
        ($a:expr, $b:expr, $c:expr) => {
            _mm512_ternarylogic_epi64::<0xD2>($a, $b, $c)
        };
    }
    macro_rules! splat {
        ($word:expr) => {
            _mm512_set1_epi64($word.cast_signed())
        };
    }

    /// The blocks of eight pairs. A pair is one register as it stands; eight of them are put in order
    /// and turned over (rows to columns) without going through memory.
    #[inline]
    #[target_feature(enable = "avx512f,avx2,bmi1,bmi2")]
    pub(super) fn blocks(node: &NodeRule, pairs: &[[Hash; 2]; 8]) -> [__m512i; RATE] {
        if !node.prefix.is_empty() {
            return registers(node, pairs);
        }
        let mut rows = [_mm512_setzero_si512(); 8];
        for (row, pair) in rows.iter_mut().zip(pairs) {
            let [left, right] = pair;
            let swap = node.pair == Pair::Sorted && swaps(left, right);
            let own = register(pair);
            let turned = _mm512_shuffle_i64x2::<0b01_00_11_10>(own, own);
            *row = _mm512_mask_mov_epi64(own, 0_u8.wrapping_sub(u8::from(swap)), turned);
        }
        let mut blocks = [_mm512_setzero_si512(); RATE];
        let [even, odd] = halves(rows);
        [blocks[0], blocks[2], blocks[4], blocks[6]] = columns(even);
        [blocks[1], blocks[3], blocks[5], blocks[7]] = columns(odd);
        blocks[8] = _mm512_set1_epi64(1);
        blocks[RATE - 1] = _mm512_set1_epi64(LAST.cast_signed());
        blocks
    }

    /// The even words of rows 0 and 1, of 2 and 3, …; then the odd ones.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn halves(rows: [__m512i; 8]) -> [[__m512i; 4]; 2] {
        let [a, b, c, d, e, f, g, h] = rows;
        [
            [
                _mm512_unpacklo_epi64(a, b),
                _mm512_unpacklo_epi64(c, d),
                _mm512_unpacklo_epi64(e, f),
                _mm512_unpacklo_epi64(g, h),
            ],
            [
                _mm512_unpackhi_epi64(a, b),
                _mm512_unpackhi_epi64(c, d),
                _mm512_unpackhi_epi64(e, f),
                _mm512_unpackhi_epi64(g, h),
            ],
        ]
    }

    /// Four rows of four pairs of words, turned over.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn columns([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        // Quarters 0 and 2 of both, and quarters 1 and 3.
        const EVEN: i32 = 0b10_00_10_00;
        const ODD: i32 = 0b11_01_11_01;
        let (ab, cd) = (_mm512_shuffle_i64x2::<EVEN>(a, b), _mm512_shuffle_i64x2::<EVEN>(c, d));
        let (odd_ab, odd_cd) =
            (_mm512_shuffle_i64x2::<ODD>(a, b), _mm512_shuffle_i64x2::<ODD>(c, d));
        [
            _mm512_shuffle_i64x2::<EVEN>(ab, cd),
            _mm512_shuffle_i64x2::<EVEN>(odd_ab, odd_cd),
            _mm512_shuffle_i64x2::<ODD>(ab, cd),
            _mm512_shuffle_i64x2::<ODD>(odd_ab, odd_cd),
        ]
    }

    #[expect(unsafe_code, reason = "reinterprets a pair as a register")]
    #[inline(always)]
    fn register(pair: &[Hash; 2]) -> __m512i {
        // SAFETY: both are 64 bytes without padding, and every bit pattern is a value of the register.
        unsafe { std::mem::transmute(*pair) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn permutation(state: &mut [__m512i; 25]) {
        permute!(state, xor5, xor, turn, rol, chi, splat);
    }
}
