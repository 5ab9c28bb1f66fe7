//! `semel produce`: records for a topic that a stage reads, from the command line or from a pipe.
//!
//! Invariant: a line that is wrong is told with its number; what was written before it is told too.

use std::{
    io::{BufRead, IsTerminal as _},
    path::PathBuf,
};

use semel::admin::{
    Answer, Ask,
    produce::{BATCH_BYTES_MAX, BATCH_MAX, NewRecord, Produce},
};
use semel_schemas::solana::Base64;

use super::{
    Done, Failure, boot,
    door::{self, Door},
    output,
};

/// Bytes of one line: more than any stage takes.
const LINE_MAX: u64 = 2 << 20;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The spec, a TOML file
    spec: PathBuf,
    /// The topic, with or without the pipeline's name before it
    topic: String,
    /// The value; without it values are read from standard input, one JSON object a line
    value: Option<String>,
    /// Their type; default: the one that the topic's reader expects
    #[arg(long = "type", short = 't', value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    keys: Keys,
    /// A header for each record: name=value
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Pass over lines that are wrong (they are told, and the exit code is 1)
    #[arg(long)]
    skip_bad: bool,
    /// Print where each record was written, as JSON
    #[arg(long)]
    json: bool,
}

/// Where keys come from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Keys {
    /// The key of every record
    #[arg(long, short)]
    key: Option<String>,
    /// The field of the value that is the key, names joined with `.`
    #[arg(long, value_name = "PATH")]
    key_field: Option<String>,
    /// What stands between key and value on a line (as kcat's -K)
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a header is name=value".to_owned()),
    }
}

/// Writes them.
pub(super) fn produce(args: &Args) -> Done {
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    let door = Door::open(&spec, plan)?;
    let mut writer = Writer { door, args, batch: Vec::new(), bytes: 0, written: 0, bad: 0 };
    let done = match &args.value {
        Some(value) => writer.line(1, value.as_bytes().to_vec()),
        None => writer.lines(),
    };
    done.and_then(|()| writer.flush()).map_err(|failure| writer.told(failure))?;
    if !args.json {
        output::say(&format!("{} records written to {}", writer.written, args.topic));
    }
    match writer.bad {
        0 => Ok(()),
        bad => Err(Failure::Failed(format!("{bad} lines were wrong and were passed over"))),
    }
}

struct Writer<'a> {
    door: Door,
    args: &'a Args,
    /// Number of the line, and its record.
    batch: Vec<(u64, NewRecord)>,
    bytes: usize,
    written: u64,
    bad: u64,
}

impl Writer<'_> {
    fn told(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Failed(text) if self.written > 0 => {
                Failure::Failed(format!("{text}; {} records before it were written", self.written))
            }
            failure => failure,
        }
    }

    fn lines(&mut self) -> Done {
        let input = std::io::stdin();
        if input.is_terminal() {
            output::say("one JSON object a line; Ctrl-D ends the input");
        }
        let mut input = input.lock();
        let bar = output::Progress::start("records");
        for number in 1_u64.. {
            let mut line = Vec::new();
            let read = std::io::Read::take(&mut input, LINE_MAX).read_until(b'\n', &mut line);
            let read =
                read.map_err(|e| Failure::Failed(format!("standard input cannot be read: {e}")))?;
            if read == 0 {
                break;
            }
            if read as u64 == LINE_MAX {
                return Err(Failure::Failed(format!(
                    "line {number} has more than {LINE_MAX} bytes"
                )));
            }
            while line.last().is_some_and(u8::is_ascii_whitespace) {
                line.pop();
            }
            if !line.is_empty() {
                self.line(number, line)?;
            }
            bar.set(self.written);
        }
        Ok(())
    }

    fn line(&mut self, number: u64, line: Vec<u8>) -> Done {
        match record(self.args, line) {
            Ok(record) => {
                self.bytes += record.key.0.len() + record.value.as_ref().map_or(0, |v| v.0.len());
                self.batch.push((number, record));
                let full = self.batch.len() >= BATCH_MAX || self.bytes >= BATCH_BYTES_MAX;
                if full { self.flush() } else { Ok(()) }
            }
            Err(text) => {
                // What came before it is written, and its number tells where to go on.
                self.flush()?;
                self.wrong(number, &text)
            }
        }
    }

    fn wrong(&mut self, number: u64, text: &str) -> Done {
        let place =
            if self.args.value.is_some() { String::new() } else { format!("line {number}: ") };
        if !self.args.skip_bad {
            return Err(Failure::Failed(format!("{place}{text}")));
        }
        self.bad += 1;
        output::say(&format!("semel: {place}{text}"));
        Ok(())
    }

    /// Writes what has gathered; up to the first that is refused.
    fn flush(&mut self) -> Done {
        self.bytes = 0;
        while !self.batch.is_empty() {
            match self.try_batch()? {
                None => self.batch.clear(),
                Some((index, text)) => {
                    let rest = self.batch.split_off(index);
                    if !self.batch.is_empty() {
                        // Those before it stand again without it.
                        self.try_batch()?;
                    }
                    self.batch = rest;
                    let (number, _) = self.batch.remove(0);
                    self.wrong(number, &text)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the batch, or tells which of it is refused and why; then nothing was written.
    fn try_batch(&mut self) -> Result<Option<(usize, String)>, Failure> {
        let ask = Ask::Produce(Produce {
            topic: self.args.topic.clone(),
            kind: self.args.kind.clone(),
            records: self.batch.iter().map(|(_, record)| record.clone()).collect(),
            by: door::who(),
        });
        let (mut written, mut bad) = (0, None);
        let json = self.args.json;
        self.door.ask(ask, &mut |answer| match answer {
            Answer::Produced { places } => {
                written = places.len() as u64;
                if json { places.iter().try_for_each(place) } else { Ok(()) }
            }
            Answer::BadRecord { index, text } => {
                bad = Some((index, text));
                Ok(())
            }
            other => Err(door::unexpected(&other)),
        })?;
        self.written += written;
        Ok(bad)
    }
}

fn place((partition, offset): &(u32, u64)) -> Done {
    output::json(&serde_json::json!({ "partition": partition, "offset": offset }))
}

/// A line as a record.
fn record(args: &Args, line: Vec<u8>) -> Result<NewRecord, String> {
    let keys = &args.keys;
    let (key, value) = match (&keys.key, &keys.key_field, &keys.key_separator) {
        (Some(key), ..) => (key.clone().into_bytes(), line),
        (None, Some(path), _) => (key_of(path, &line)?, line),
        (None, None, Some(separator)) => {
            let at = find(&line, separator.as_bytes())
                .ok_or_else(|| format!("there is no `{separator}` between key and value"))?;
            (line[..at].to_vec(), line[at + separator.len()..].to_vec())
        }
        (None, None, None) => return Err("no key is given".to_owned()),
    };
    let headers = args.headers.clone();
    Ok(NewRecord { key: Base64(key), value: Some(Base64(value)), headers })
}

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    line.windows(separator.len().max(1)).position(|window| window == separator)
}

fn key_of(path: &str, line: &[u8]) -> Result<Vec<u8>, String> {
    let value: serde_json::Value =
        serde_json::from_slice(line).map_err(|e| format!("the value is no JSON: {e}"))?;
    let field = path.split('.').try_fold(&value, |value, name| value.get(name));
    match field {
        Some(serde_json::Value::String(text)) if !text.is_empty() => Ok(text.clone().into_bytes()),
        Some(serde_json::Value::Number(number)) => Ok(number.to_string().into_bytes()),
        _ => Err(format!("the value has no field `{path}` that can be its key")),
    }
}
