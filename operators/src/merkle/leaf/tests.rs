//! Fields: what they read, what they refuse and in which words, what bytes they give.

use super::*;

fn field(kind: &str) -> Field {
    Field::new("f", FieldType::try_from(kind.to_owned()).unwrap())
}

#[test]
fn types_are_named_and_come_back() {
    for name in ["u8", "u16le", "u32be", "u64le", "u256be", "bytes1", "bytes32", "pubkey"] {
        assert_eq!(field(name).kind.to_string(), name);
    }
    assert_eq!(field("uint256").kind, field("u256be").kind);
    for bad in ["", "u", "u7le", "u264be", "u64", "uint", "uint0", "bytes0", "bytes33", "int8"] {
        let why = FieldType::try_from(bad.to_owned()).unwrap_err();
        assert!(why.contains("is no type of a field"), "{why}");
    }
}

#[test]
fn text_is_read_or_refused_with_the_field_and_the_reason() {
    let key = "2pHjZLqsSqi35xuYHmZbZBM1xfYV6Ruv57r3eFPvZZaD";
    let half = "5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f";
    for (kind, text, want) in [
        ("u8", "255", Ok("255")),
        ("u8", "256", Err("256 needs 9 bits, and the field has 8")),
        ("u64le", "18446744073709551616", Err("needs 65 bits, and the field has 64")),
        ("u64le", "1.0", Err("has decimals")),
        ("bytes2", "0xABcd", Ok("0xabcd")),
        ("bytes2", "abcd", Ok("0xabcd")),
        ("bytes2", "abc", Err("3 hex digits are an odd number")),
        ("bytes2", "0xabzd", Err("character 5 is `z`")),
        ("bytes2", "aböd", Err("character 3 is `ö`")),
        ("bytes2", "abcdef", Err("3 bytes came, and the field has 2")),
        ("bytes2", "", Err("0 bytes came")),
        ("pubkey", key, Ok(key)),
        ("pubkey", &"07".repeat(32), Ok("US517G5965aydkZ46HS38QLi7UQiSojurfbQfKCELFx")),
        ("pubkey", "0OIl", Err("is no base58")),
        ("pubkey", "11", Err("2 bytes came, and the field has 32")),
        ("address", half, Ok("0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f")),
        ("address", &half.to_lowercase(), Ok("0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f")),
        ("address", &half.replace('b', "B"), Err("checksum")),
        ("address", "0x00", Err("1 bytes came, and the field has 20")),
        ("bytes", "0x", Ok("0x")),
        ("string", "ö", Ok("ö")),
    ] {
        let field = field(kind);
        match (field.parse(text), want) {
            (Ok(value), Ok(shown)) => assert_eq!(field.show(&value), shown, "{kind} {text}"),
            (Err(error), Err(part)) => {
                let shown = error.to_string();
                assert!(shown.starts_with("field `f`: ") && shown.contains(part), "{shown}");
            }
            (got, want) => panic!("{kind} {text}: {got:?}, not {want:?}"),
        }
    }
}

#[test]
fn a_value_of_another_kind_is_refused() {
    for (kind, value) in [
        ("u8", Value::from("1")),
        ("string", Value::from(1)),
        ("bytes", Value::from("x")),
        ("address", Value::from(1)),
        ("bytes3", Value::from(&[1, 2][..])),
    ] {
        assert!(field(kind).check(&value).is_err(), "{kind}");
    }
}

#[test]
fn packed_numbers_have_their_width_and_order() {
    for (kind, want) in [
        ("u8", "07"),
        ("u16le", "0700"),
        ("u16be", "0007"),
        ("u64le", "0700000000000000"),
        ("u256be", "0000000000000000000000000000000000000000000000000000000000000007"),
    ] {
        let mut bytes = Vec::new();
        field(kind).pack(&Value::from(7), &mut bytes);
        assert_eq!(hex::encode(bytes), want, "{kind}");
    }
}

#[test]
fn abi_encoding_puts_dynamic_values_behind_the_head() {
    let fields = ["uint256", "string", "bytes32", "address", "bytes4"].map(field);
    let values = [
        Value::from(7),
        Value::from("ab"),
        Value::from(&[9; 32][..]),
        Value::from(&[5; 20][..]),
        Value::from(&[1, 2, 3, 4][..]),
    ];
    let mut encoded = vec![0xee; 3];
    abi_encode(fields.iter().zip(&values), &mut encoded);
    let mut want = vec![0; 224];
    want[31] = 7;
    want[63] = 160;
    want[64..96].fill(9);
    want[108..128].fill(5);
    want[128..132].copy_from_slice(&[1, 2, 3, 4]);
    want[191] = 2;
    want[192..194].copy_from_slice(b"ab");
    assert_eq!(encoded[3..], want);
}
