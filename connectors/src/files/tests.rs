//! The reader on real files: cursors, ends, bad lines, other files under the same name.

use std::{fmt::Write as _, fs};

use semel_schemas::fault::FaultCode;

use super::*;

/// A file in a folder of its own.
struct Here {
    _folder: tempfile::TempDir,
    local: LocalFile,
}

fn here(format: FileFormat, content: &[u8]) -> Here {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    fs::write(&path, content).unwrap();
    let spec = FileSpec {
        path,
        format,
        kind: "log".into(),
        key: "k".into(),
        slot: Some("slot".into()),
        time: None,
        columns: match format {
            FileFormat::Ndjson => BTreeMap::new(),
            _ => [("slot".to_owned(), ColumnKind::Number)].into(),
        },
    };
    Here { _folder: folder, local: LocalFile::new("legacy", spec).unwrap() }
}

impl Here {
    fn put(&self, content: &[u8]) {
        fs::write(&self.local.spec.path, content).unwrap();
    }

    /// One answer in short: places and values, what is bad, `end`; and the cursor.
    fn ask(&self, from: Option<&FileCursor>, max: u32, follow: bool) -> (String, FileCursor) {
        match self.local.answer(from, max, follow) {
            Outcome::FileRecords { kind, records, bad, cursor, end, bytes_read, bytes_total } => {
                assert_eq!(kind, "log");
                assert!(bytes_read <= bytes_total);
                assert!(records.len() <= max as usize);
                let mut said = String::new();
                for record in &records {
                    let slot = record.slot.map_or(-1, |slot| i64::try_from(slot.0).unwrap());
                    write!(said, "{}={}@{slot} ", record.place, record.key).unwrap();
                }
                if let Some(bad) = bad {
                    write!(said, "bad:{}:{} ", bad.place, bad.fault.code).unwrap();
                    assert!(bad.fault.text.contains("file `legacy` ("), "{}", bad.fault.text);
                }
                if end {
                    said.push_str("end");
                }
                (said.trim().to_owned(), cursor)
            }
            other => panic!("{other:?}"),
        }
    }

    /// All answers up to the end, with at most `max` records each.
    fn all(&self, max: u32) -> Vec<String> {
        let mut answers = Vec::new();
        let mut cursor = None;
        for _ in 0..1_000 {
            let (said, next) = self.ask(cursor.as_ref(), max, false);
            let end = said.ends_with("end");
            answers.push(said);
            cursor = Some(next);
            if end {
                return answers;
            }
        }
        panic!("the file never ends");
    }

    fn refused(&self, from: Option<&FileCursor>, parts: &[&str]) {
        let outcome = self.local.answer(from, 10, false);
        let Outcome::FileRefused { text } = &outcome else { panic!("{outcome:?}") };
        let named = ["file `legacy` (", "log) "];
        assert!(named.iter().chain(parts).all(|part| text.contains(part)), "{text}");
    }
}

const NDJSON: &str =
    "{\"k\":\"a\",\"slot\":5}\n\n{\"k\":7,\"slot\":\"6\"}\r\n{\"k\":\"c\",\"slot\":7}";
const CSV: &str = "k,slot,note\na,5,x\r\n\r\n7,6,\"two\nlines, \"\"quoted\"\"\"\nc,7,\n";

#[test]
fn lines_are_records_whatever_the_size_of_an_answer() {
    let here = here(FileFormat::Ndjson, NDJSON.as_bytes());
    assert_eq!(here.all(10), ["0=a@5 20=7@6 40=c@7 end"]);
    assert_eq!(here.all(2), ["0=a@5 20=7@6", "40=c@7 end"]);
    assert_eq!(here.all(1), ["0=a@5", "20=7@6", "40=c@7 end"]);
}

#[test]
fn a_record_of_ndjson_is_its_line_as_it_stands() {
    let line = r#"{ "k" : "a","slot":5, "n":12345678901234567890.10 }"#;
    let here = here(FileFormat::Ndjson, format!("\u{feff}{line}\n").as_bytes());
    let Outcome::FileRecords { records, .. } = here.local.answer(None, 9, false) else { panic!() };
    assert_eq!(records[0].value, line);
}

#[test]
fn rows_of_csv_become_objects_by_their_declared_kinds() {
    let here = here(FileFormat::Csv, CSV.as_bytes());
    let Outcome::FileRecords { records, cursor, end, .. } = here.local.answer(None, 9, false)
    else {
        panic!()
    };
    let values: Vec<&str> = records.iter().map(|record| record.value.as_str()).collect();
    assert_eq!(
        values,
        [
            r#"{"k":"a","slot":5,"note":"x"}"#,
            r#"{"k":"7","slot":6,"note":"two\nlines, \"quoted\""}"#,
            r#"{"k":"c","slot":7,"note":""}"#,
        ]
    );
    let at = |text: &str| CSV.find(text).unwrap() as u64;
    let places: Vec<_> = records.iter().map(|record| record.place).collect();
    let line = |offset, line| FilePlace::Line { offset, line };
    assert_eq!(places, [line(12, 2), line(at("7,6"), 4), line(at("c,7"), 6)]);
    assert_eq!((cursor.place, end), (line(CSV.len() as u64, 7), true));
    assert_eq!(here.ask(Some(&cursor), 9, false).0, "end");
    let one_by_one: Vec<_> = here.all(1).concat().split("end").map(str::to_owned).collect();
    assert_eq!(one_by_one[0], format!("12=a@5{}=7@6{}=c@7", at("7,6"), at("c,7")));
}

#[test]
fn a_bad_line_ends_an_answer_and_the_next_one_goes_on() {
    let rows: [(FileFormat, &[u8], &str, &str); 8] = [
        (FileFormat::Ndjson, b"{\"k\":\"a\",\"slot\":5}\n{oops\n", "19", "0001"),
        (FileFormat::Ndjson, b"{\"k\":\"a\",\"slot\":5}\n\xff\n", "19", "0001"),
        (FileFormat::Ndjson, b"{\"k\":\"a\",\"slot\":5}\n{\"slot\":5}\n", "19", "0002"),
        (FileFormat::Ndjson, b"{\"k\":\"a\",\"slot\":5}\n{\"k\":\"\",\"slot\":5}\n", "19", "0007"),
        (FileFormat::Ndjson, b"{\"k\":\"a\",\"slot\":5}\n{\"k\":[],\"slot\":5}\n", "19", "0003"),
        (FileFormat::Csv, b"k,slot\na,5\nb\n", "11", "0001"),
        (FileFormat::Csv, b"k,slot\na,5\nb,\xff\n", "11", "0001"),
        (FileFormat::Csv, b"k,slot\na,5\nb,soon\n", "11", "0003"),
    ];
    for (format, content, place, code) in rows {
        let good: &[u8] = match format {
            FileFormat::Ndjson => b"{\"k\":\"z\",\"slot\":9}\n",
            _ => b"z,9\n",
        };
        let here = here(format, &[content, good].concat());
        let (said, cursor) = here.ask(None, 10, false);
        let (records, bad) = said.split_once(' ').unwrap();
        assert!(records.ends_with("=a@5"), "{said}");
        assert_eq!(bad, format!("bad:{place}:SEM-{code}"), "{said}");
        let (said, _) = here.ask(Some(&cursor), 10, false);
        assert!(said.starts_with(&format!("{}=z@9", content.len())), "{said}");
    }
}

#[test]
fn a_bad_record_of_a_known_type_is_found_in_its_line() {
    let mut here = here(FileFormat::Ndjson, b"{\"claim_id\":\"a\"}\n");
    here.local.spec.kind = semel_schemas::claim::CLAIM.into();
    here.local.spec.key = "claim_id".into();
    here.local.spec.slot = None;
    let outcome = here.local.answer(None, 9, false);
    let Outcome::FileRecords { bad: Some(bad), .. } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(bad.fault.code, FaultCode::MissingField);
    assert!(bad.fault.text.contains("line 1"), "{}", bad.fault.text);
}

#[test]
fn a_line_longer_than_a_window_is_passed_over() {
    let long = format!("{{\"k\":\"{}\"}}\n", "x".repeat(2 * WINDOW));
    let content = format!("{{\"k\":\"a\",\"slot\":5}}\n{long}{{\"k\":\"z\",\"slot\":9}}\n");
    let here = here(FileFormat::Ndjson, content.as_bytes());
    let z = content.len() - 19;
    assert_eq!(here.all(10), ["0=a@5", "bad:19:SEM-0006", format!("{z}=z@9 end").as_str()]);
    let open = format!("k,slot\na,5\n\"{}", "x\n".repeat(WINDOW));
    let here = self::here(FileFormat::Csv, open.as_bytes());
    let (said, cursor) = here.ask(None, 10, false);
    assert_eq!(said, "7=a@5");
    here.refused(Some(&cursor), &["line 3", "quotation mark"]);
}

#[test]
fn a_quotation_that_is_never_closed_takes_no_later_line_into_its_value() {
    let here = here(FileFormat::Csv, b"k,slot,note\na,5,x\nb,6,\"oops\nc,7,y\n");
    assert_eq!(here.all(10), ["12=a@5 bad:18:SEM-0001", "end"]);
    let (_, cursor) = here.ask(None, 1, false);
    here.put(b"k,slot,note\na,5,x\nb,6,\"oops\"\nc,7,y\n");
    assert_eq!(here.ask(Some(&cursor), 10, false).0, "18=b@6 29=c@7 end");
    // A mark within a value that has no quotation is a mark.
    here.put(b"k,slot,note\na,5,x\nb,6,5\" pipe\nc,7,\"\"\"y\"\n");
    assert_eq!(here.ask(Some(&cursor), 10, false).0, "18=b@6 30=c@7 end");
}

#[test]
fn a_line_that_was_not_taken_may_be_mended() {
    let here = here(FileFormat::Ndjson, b"{\"k\":\"a\",\"slot\":5}\n{oops\n");
    let (said, cursor) = here.ask(None, 10, false);
    assert_eq!(said, "0=a@5 bad:19:SEM-0001 end");
    let before = FileCursor { place: FilePlace::Line { offset: 19, line: 2 }, ..cursor };
    here.put(b"{\"k\":\"a\",\"slot\":5}\n{\"k\":\"b\",\"slot\":6}\n");
    assert_eq!(here.ask(Some(&before), 10, false).0, "19=b@6 end");
    here.put(b"{\"k\":\"z\",\"slot\":5}\n{\"k\":\"b\",\"slot\":6}\n");
    here.refused(Some(&before), &["another file"]);
}

#[test]
fn many_windows_hold_each_record_once() {
    let mut ndjson = String::new();
    let mut csv = String::from("k,slot\n");
    for n in 0..70_000 {
        writeln!(ndjson, "{{\"k\":\"key number {n}\",\"slot\":{n}}}").unwrap();
        writeln!(csv, "\"key, number {n}, quoted\",{n}").unwrap();
    }
    for (format, content) in [(FileFormat::Ndjson, ndjson), (FileFormat::Csv, csv)] {
        assert!(content.len() > 2 * WINDOW);
        let here = here(format, content.as_bytes());
        let slots: Vec<String> = here
            .all(10_000)
            .iter()
            .flat_map(|said| said.split(' '))
            .filter_map(|word| word.split_once('@'))
            .map(|(_, slot)| slot.to_owned())
            .collect();
        assert_eq!(slots.len(), 70_000, "{format:?}");
        assert!(slots.iter().enumerate().all(|(n, slot)| *slot == n.to_string()), "{format:?}");
    }
}

#[test]
fn a_file_that_grows_gives_whole_lines_only() {
    let rows = [
        (FileFormat::Ndjson, "", ["{\"k\":\"a\",\"sl", "ot\":5}\n{\"k\":\"b\"", ",\"slot\":6}\n"]),
        (FileFormat::Csv, "k,slot\n", ["\"a", "\",5\nb,6", "\n"]),
    ];
    for (format, head, [one, two, three]) in rows {
        let here = here(format, b"");
        let (said, cursor) = here.ask(None, 10, true);
        assert_eq!(said, "end");
        let mut content = format!("{head}{one}");
        here.put(content.as_bytes());
        let (said, cursor) = here.ask(Some(&cursor), 10, true);
        assert_eq!(said, "end", "{format:?}");
        content.push_str(two);
        here.put(content.as_bytes());
        let (said, cursor) = here.ask(Some(&cursor), 10, true);
        assert_eq!(said, format!("{}=a@5 end", head.len()));
        content.push_str(three);
        here.put(content.as_bytes());
        let (said, _) = here.ask(Some(&cursor), 10, true);
        assert!(said.contains("=b@6") && !said.contains("=a"), "{said}");
    }
}

#[test]
fn another_file_under_the_same_name_is_refused() {
    let here = here(FileFormat::Ndjson, NDJSON.as_bytes());
    let (_, cursor) = here.ask(None, 1, false);
    here.put(NDJSON.replace("\"a\"", "\"b\"").as_bytes());
    here.refused(Some(&cursor), &["another file"]);
    here.put(&NDJSON.as_bytes()[..10]);
    here.refused(Some(&cursor), &["has 10 bytes", "cut off"]);
    here.put(NDJSON.as_bytes());
    assert_eq!(here.ask(Some(&cursor), 1, false).0, "20=7@6");
    fs::remove_file(&here.local.spec.path).unwrap();
    here.refused(Some(&cursor), &["is not there"]);
    fs::create_dir(&here.local.spec.path).unwrap();
    here.refused(None, &["is a folder"]);
}

#[test]
fn a_cursor_of_another_format_is_refused() {
    let here = here(FileFormat::Ndjson, NDJSON.as_bytes());
    let (_, cursor) = here.ask(None, 1, false);
    let other = FileCursor { place: FilePlace::Row { group: 0, row: 1 }, ..cursor };
    here.refused(Some(&other), &["another `format`"]);
}

#[test]
fn columns_that_are_not_there_are_named() {
    for (content, parts) in [
        ("key,slot\na,5\n", ["no column `k`", "line 1 names key, slot"]),
        ("k,slot,k\na,5,b\n", ["column `k` twice", "line 1"]),
    ] {
        here(FileFormat::Csv, content.as_bytes()).refused(None, &parts);
    }
}

#[test]
fn an_empty_file_ends_at_once() {
    for format in [FileFormat::Ndjson, FileFormat::Csv] {
        assert_eq!(here(format, b"").all(10), ["end"]);
    }
}

#[test]
fn settings_are_checked_without_the_file() {
    let spec = here(FileFormat::Ndjson, b"").local.spec;
    for (what, spec) in [
        ("`type` is empty", FileSpec { kind: String::new(), ..spec.clone() }),
        ("`key` is empty", FileSpec { key: String::new(), ..spec.clone() }),
        (
            "leave `columns` out",
            FileSpec { columns: [("a".to_owned(), ColumnKind::Text)].into(), ..spec.clone() },
        ),
    ] {
        let text = LocalFile::new("legacy", spec).unwrap_err();
        assert!(text.contains(what), "{text}");
    }
    let text = "path = \"a\"\nformat = \"xml\"\ntype = \"t\"\nkey = \"k\"\n";
    assert!(toml::from_str::<FileSpec>(text).unwrap_err().to_string().contains("ndjson"));
}

#[tokio::test]
async fn reading_is_done_beside_the_runtime() {
    let here = here(FileFormat::Ndjson, NDJSON.as_bytes());
    let outcome = RecordFile::read(&here.local, None, 10, false).await;
    assert!(matches!(outcome, Outcome::FileRecords { ref records, .. } if records.len() == 3));
}

#[cfg(feature = "parquet")]
mod of_parquet {
    use std::sync::Arc;

    use ::parquet::{arrow::ArrowWriter, file::properties::WriterProperties};
    use arrow_array::{
        ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMillisecondArray,
    };

    use super::*;

    /// Two rows a group.
    fn file(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
        file_of(columns, 2)
    }

    fn file_of(columns: Vec<(&str, ArrayRef)>, in_group: usize) -> Vec<u8> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties =
            WriterProperties::builder().set_max_row_group_row_count(Some(in_group)).build();
        let mut bytes = Vec::new();
        let mut writer =
            ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    }

    fn keys(keys: Vec<Option<&str>>) -> ArrayRef {
        Arc::new(StringArray::from(keys))
    }

    fn slots(slots: Vec<i64>) -> ArrayRef {
        Arc::new(Int64Array::from(slots))
    }

    #[test]
    fn rows_are_read_group_by_group() {
        let all = keys(["a", "b", "c", "d", "e"].map(Some).to_vec());
        let content = file(vec![("k", all), ("slot", slots(vec![1, 2, 3, 4, 5]))]);
        let here = here(FileFormat::Parquet, &content);
        assert_eq!(here.all(10), ["0.0=a@1 0.1=b@2", "1.0=c@3 1.1=d@4", "2.0=e@5 end"]);
        assert_eq!(here.all(1), ["0.0=a@1", "0.1=b@2", "1.0=c@3", "1.1=d@4", "2.0=e@5 end"]);
        let (_, cursor) = here.ask(None, 1, false);
        let other = keys(["a", "b", "c", "d", "f"].map(Some).to_vec());
        here.put(&file(vec![("k", other), ("slot", slots(vec![1, 2, 3, 4, 5]))]));
        here.refused(Some(&cursor), &["another file"]);
        here.put(b"no Parquet");
        here.refused(None, &["cannot be read as Parquet"]);
    }

    #[test]
    fn an_answer_holds_no_more_than_a_window_whatever_the_rows() {
        let large: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(700_000); 4]));
        let columns = vec![
            ("k", keys(["a", "b", "c", "d"].map(Some).to_vec())),
            ("slot", slots(vec![1, 2, 3, 4])),
            ("note", large),
        ];
        let here = here(FileFormat::Parquet, &file_of(columns, 4));
        assert_eq!(here.all(1).len(), 4);
        assert_eq!(here.all(10), ["0.0=a@1 0.1=b@2", "0.2=c@3 0.3=d@4 end"]);
    }

    #[test]
    fn timestamps_are_counts_of_their_unit_and_dates_are_refused_by_name() {
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1_700_000_000_123]));
        let days: ArrayRef = Arc::new(Date32Array::from(vec![19_000]));
        let one = || vec![("k", keys(vec![Some("a")])), ("slot", slots(vec![1]))];
        let content = file([one(), vec![("at", times)]].concat());
        let Outcome::FileRecords { records, .. } =
            here(FileFormat::Parquet, &content).local.answer(None, 9, false)
        else {
            panic!()
        };
        assert_eq!(records[0].value, r#"{"k":"a","slot":1,"at":1700000000123}"#);
        let content = file([one(), vec![("day", days)]].concat());
        here(FileFormat::Parquet, &content).refused(None, &["column `day` of type Date32"]);
    }

    #[test]
    fn a_row_becomes_an_object_and_a_null_no_field() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.1, 2.0, f64::NAN]));
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false, true]));
        let content = file(vec![
            ("k", keys(vec![Some("a"), None, Some("c")])),
            ("slot", slots(vec![1, 2, 3])),
            ("share", floats),
            ("done", flags),
        ]);
        let here = here(FileFormat::Parquet, &content);
        let Outcome::FileRecords { records, bad, cursor, .. } = here.local.answer(None, 9, false)
        else {
            panic!()
        };
        assert_eq!(records[0].value, r#"{"k":"a","slot":1,"share":0.1,"done":true}"#);
        let bad = bad.unwrap();
        assert_eq!(bad.fault.code, FaultCode::MissingField);
        assert!(bad.fault.text.contains("row 1 of row group 0"), "{}", bad.fault.text);
        assert_eq!(here.ask(Some(&cursor), 9, false).0, "bad:1.0:SEM-0003 end");
    }
}
