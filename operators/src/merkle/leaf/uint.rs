//! Whole numbers of up to 256 bits, as leaves carry them: read from text, added, written.
//!
//! Only what a leaf needs; there is no arithmetic here but the sum of merged claims.

use std::fmt;

use super::Bytes32;

/// A whole number from 0 to 2^256 - 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uint(Bytes32);

impl Uint {
    /// From 32 bytes, big-endian.
    #[must_use]
    pub const fn from_be(bytes: Bytes32) -> Self {
        Self(bytes)
    }

    /// 32 bytes, big-endian.
    #[must_use]
    pub const fn to_be(self) -> Bytes32 {
        self.0
    }

    /// Bits that it needs: 0 for zero.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.0.iter().position(|byte| *byte != 0).map_or(0, |at| {
            let below = u32::try_from(31 - at).unwrap_or_default();
            below * 8 + 8 - self.0[at].leading_zeros()
        })
    }

    /// The sum; none beyond 256 bits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (mut sum, mut carry) = ([0; 32], 0_u16);
        for at in (0..32).rev() {
            let byte = u16::from(self.0[at]) + u16::from(other.0[at]) + carry;
            [_, sum[at]] = byte.to_be_bytes();
            carry = byte >> 8;
        }
        (carry == 0).then_some(Self(sum))
    }

    /// Ten times itself and a digit; none beyond 256 bits.
    fn push_digit(self, digit: u8) -> Option<Self> {
        let (mut product, mut carry) = ([0; 32], u16::from(digit));
        for at in (0..32).rev() {
            let byte = u16::from(self.0[at]) * 10 + carry;
            [_, product[at]] = byte.to_be_bytes();
            carry = byte >> 8;
        }
        (carry == 0).then_some(Self(product))
    }

    /// Reads decimal digits, or `0x` and hex digits.
    ///
    /// # Errors
    /// What is wrong with the text, in words that follow "it".
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(digits) = text.strip_prefix("0x") {
            let bad = digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit());
            if bad {
                return Err(format!("`{text}` is no hex number"));
            }
            let digits = digits.trim_start_matches('0');
            if digits.len() > 64 {
                return Err(format!("`{text}` needs more than 256 bits"));
            }
            let mut bytes = [0; 32];
            let padded = format!("{digits:0>64}");
            hex::decode_to_slice(padded, &mut bytes).map_err(|why| why.to_string())?;
            return Ok(Self(bytes));
        }
        match text.bytes().find(|b| !b.is_ascii_digit()) {
            None if text.is_empty() => return Err("it is empty, and a number belongs here".into()),
            None => {}
            Some(b'-') => return Err(format!("`{text}` is negative")),
            Some(b'.') => {
                return Err(format!("`{text}` has decimals: give the token's smallest unit"));
            }
            Some(_) => return Err(format!("`{text}` is no whole number")),
        }
        text.bytes()
            .try_fold(Self::default(), |number, digit| number.push_digit(digit - b'0'))
            .ok_or_else(|| format!("`{text}` needs more than 256 bits"))
    }
}

impl From<u64> for Uint {
    fn from(number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&number.to_be_bytes());
        Self(bytes)
    }
}

impl fmt::Display for Uint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut rest, mut digits) = (self.0, Vec::new());
        while digits.is_empty() || rest != [0; 32] {
            let mut carry = 0_u16;
            for byte in &mut rest {
                let part = carry * 256 + u16::from(*byte);
                [_, *byte] = (part / 10).to_be_bytes();
                carry = part % 10;
            }
            digits.push(char::from(b'0' + carry.to_be_bytes()[1]));
        }
        f.write_str(&digits.iter().rev().collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_or_refused_with_the_reason() {
        let max = format!("0x{}", "f".repeat(64));
        for (text, want) in [
            ("0", Ok("0")),
            ("007", Ok("7")),
            ("0xff", Ok("255")),
            ("0xFf", Ok("255")),
            ("18446744073709551616", Ok("18446744073709551616")),
            (
                max.as_str(),
                Ok(
                    "115792089237316195423570985008687907853269984665640564039457584007913129639935",
                ),
            ),
            ("", Err("empty")),
            ("0x", Err("no hex number")),
            ("0xg", Err("no hex number")),
            ("-1", Err("negative")),
            ("1.5", Err("decimals")),
            ("1e3", Err("no whole number")),
            ("1 000", Err("no whole number")),
            (&format!("{max}0"), Err("256 bits")),
            (&"9".repeat(78), Err("256 bits")),
        ] {
            match (Uint::parse(text), want) {
                (Ok(number), Ok(shown)) => assert_eq!(number.to_string(), shown),
                (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
                (got, want) => panic!("{text}: {got:?}, not {want:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn text_comes_back_and_sums_are_sums(a in any::<u64>(), b in any::<u64>(), big in any::<[u8; 32]>()) {
            let big = Uint::from_be(big);
            prop_assert_eq!(Uint::parse(&big.to_string()), Ok(big));
            let (x, y) = (Uint::from(a), Uint::from(b));
            let sum = x.checked_add(y).unwrap().to_string();
            prop_assert_eq!(sum, (u128::from(a) + u128::from(b)).to_string());
            prop_assert_eq!(x.bits(), 64 - a.leading_zeros());
        }
    }
}
