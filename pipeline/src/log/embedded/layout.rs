//! How keys and records are written to disk. Frozen: a test compares bytes.
//!
//! All integers are big endian, so that keys sort as their numbers do.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `records` | topic number u32, partition u32, offset u64 | a record, see [`encode`] |
//! | `meta` | `f` | the folder's id, u64 |
//! | `meta` | `n` | the next topic's number, u32 |
//! | `meta` | `t`, topic's name | the topic, JSON |
//! | `meta` | `d`, topic number | empty: a deleted topic whose records are still to be removed |
//! | `meta` | `e`, topic number, partition | the partition's end, u64 |
//! | `meta` | `s`, topic number, partition | the partition's first offset, u64 (missing: 0) |
//! | `meta` | `g`, topic number, group | empty: the group reads the topic |
//! | `meta` | `o`, topic number, partition, group | the group's committed next offset, u64 |
//! | `meta` | `k`, topic number, partition | compacted up to this offset, u64 |
//! | `keys` | topic number, partition, `k`, record's key | offset of the key's last record, u64 |
//! | `keys` | topic number, partition, `t`, timestamp u64, offset u64 | a tombstone's key |

use semel_schemas::{
    header::Headers,
    record::{OutRecord, Record},
    topic::{Offset, Partition, TopicName},
};

/// Version of the layout of a record: its first byte.
const VERSION: u8 = 1;
/// Where the timestamp stands in an encoded record.
const TIMESTAMP: std::ops::Range<usize> = 1..9;
/// The length that says "there is none".
const NONE: u32 = u32::MAX;

/// Key of a record.
pub(super) fn record_key(topic: u32, partition: Partition, offset: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..8].copy_from_slice(&partition.0.to_be_bytes());
    key[8..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// The offset in a record's key.
pub(super) fn offset_of(key: &[u8]) -> Option<u64> {
    number(key.get(8..)?)
}

/// A u64 that is a whole value.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// Key in `meta` of something of a partition: `e`, `s` or `k`.
pub(super) fn partition_key(kind: u8, topic: u32, partition: Partition) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..5].copy_from_slice(&topic.to_be_bytes());
    key[5..].copy_from_slice(&partition.0.to_be_bytes());
    key
}

/// Key in `meta` of something of a topic that goes on with `rest`: `t` has no number.
pub(super) fn topic_key(kind: u8, topic: u32, rest: &[u8]) -> Vec<u8> {
    [&[kind], topic.to_be_bytes().as_slice(), rest].concat()
}

/// Key in `meta` of a group's committed offset.
pub(super) fn offset_key(topic: u32, partition: Partition, group: &str) -> Vec<u8> {
    topic_key(b'o', topic, &[&partition.0.to_be_bytes(), group.as_bytes()].concat())
}

/// Key in `keys`; `kind` is `k` or `t`.
pub(super) fn index_key(topic: u32, partition: Partition, kind: u8, rest: &[u8]) -> Vec<u8> {
    [&topic.to_be_bytes(), partition.0.to_be_bytes().as_slice(), &[kind], rest].concat()
}

/// A record's bytes: version u8, timestamp u64 (0 until [`stamp`]), key, value, number of headers
/// u32, and each header's name and value. Key, value, name: length u32 and bytes; the greatest
/// length means "none".
pub(super) fn encode(record: &OutRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.size() + 64);
    out.push(VERSION);
    out.extend_from_slice(&[0; 8]);
    put(&mut out, record.key.as_deref());
    put(&mut out, record.value.as_deref());
    out.extend_from_slice(&length(record.headers.iter().count()).to_be_bytes());
    for (name, value) in record.headers.iter() {
        put(&mut out, Some(name.as_bytes()));
        put(&mut out, Some(value));
    }
    out
}

/// Writes the timestamp into an encoded record.
pub(super) fn stamp(encoded: &mut [u8], timestamp_ms: u64) {
    if let Some(place) = encoded.get_mut(TIMESTAMP) {
        place.copy_from_slice(&timestamp_ms.to_be_bytes());
    }
}

fn put(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.extend_from_slice(&NONE.to_be_bytes()),
        Some(bytes) => {
            out.extend_from_slice(&length(bytes.len()).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

/// Lengths fit: a record's size is bounded far below (`RECORD_MAX`).
fn length(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(NONE)
}

/// Reads an encoded record; `None` if the bytes are none.
pub(super) fn decode(
    topic: &TopicName,
    partition: Partition,
    offset: u64,
    bytes: &[u8],
) -> Option<Record> {
    let mut rest = bytes;
    if take(&mut rest, 1)? != [VERSION] {
        return None;
    }
    let timestamp_ms = number(take(&mut rest, 8)?)?;
    let key = get(&mut rest)?;
    let value = get(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..get_u32(&mut rest)? {
        let name = String::from_utf8(get(&mut rest)??).ok()?;
        headers.push(name, get(&mut rest)??);
    }
    let whole = rest.is_empty();
    whole.then(|| Record {
        topic: topic.clone(),
        partition,
        offset: Offset(offset),
        timestamp_ms,
        key,
        value,
        headers,
    })
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

fn get_u32(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// The outer `None`: the bytes end too early; the inner: there is none.
#[allow(clippy::option_option, reason = "two questions, two answers")]
fn get(rest: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let length = get_u32(rest)?;
    if length == NONE {
        return Some(None);
    }
    take(rest, length as usize).map(|bytes| Some(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> TopicName {
        TopicName::new("t").unwrap()
    }

    fn record(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) -> OutRecord {
        OutRecord {
            topic: name(),
            partition: None,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), v.to_vec())).collect(),
        }
    }

    // A folder written by an earlier build must be read by a later one: never change these bytes.
    #[test]
    fn the_layout_on_disk_is_frozen() {
        let mut bytes = encode(&record(Some(b"key"), Some(b"value"), &[("h", b"x"), ("h", b"")]));
        stamp(&mut bytes, 0x0102_0304_0506_0708);
        let golden = "01\
                      0102030405060708\
                      000000036b6579\
                      0000000576616c7565\
                      00000002\
                      0000000168\
                      0000000178\
                      0000000168\
                      00000000";
        assert_eq!(hex::encode(&bytes), golden);
        let tombstone = encode(&record(Some(b""), None, &[]));
        assert_eq!(hex::encode(tombstone), "01000000000000000000000000ffffffff00000000");
        let at = Partition(2);
        assert_eq!(hex::encode(record_key(1, at, 3)), "00000001000000020000000000000003");
        assert_eq!(hex::encode(partition_key(b'e', 1, at)), "650000000100000002");
        assert_eq!(hex::encode(offset_key(1, at, "g")), "6f000000010000000267");
        assert_eq!(hex::encode(topic_key(b'g', 1, b"g")), "670000000167");
        assert_eq!(hex::encode(index_key(1, at, b'k', b"key")), "00000001000000026b6b6579");
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let bytes = encode(&record(Some(b"key"), Some(b"value"), &[("h", b"x")]));
        for end in 0..bytes.len() {
            assert_eq!(decode(&name(), Partition(0), 0, &bytes[..end]), None, "cut at {end}");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert_eq!(decode(&name(), Partition(0), 0, &longer), None);
        assert_eq!(decode(&name(), Partition(0), 0, &[&[2], &bytes[1..]].concat()), None);
    }

    proptest! {
        #[test]
        fn records_come_back(
            key: Option<Vec<u8>>, value: Option<Vec<u8>>, time: u64, offset: u64,
            headers: Vec<(String, Vec<u8>)>,
        ) {
            let headers: Headers = headers.into_iter().collect();
            let written = OutRecord { key, value, headers, ..record(None, None, &[]) };
            let mut bytes = encode(&written);
            stamp(&mut bytes, time);
            let read = decode(&name(), Partition(7), offset, &bytes).unwrap();
            prop_assert_eq!((read.timestamp_ms, read.offset), (time, Offset(offset)));
            prop_assert_eq!((read.partition, read.topic), (Partition(7), name()));
            let read = (read.key, read.value, read.headers);
            prop_assert_eq!(read, (written.key, written.value, written.headers));
        }

        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            decode(&name(), Partition(0), 0, &bytes);
            decode(&name(), Partition(0), 0, &[&[VERSION], bytes.as_slice()].concat());
        }
    }
}
