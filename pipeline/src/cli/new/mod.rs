//! `semel new`: a small working pipeline in a folder of its own: spec, cases, records to try.
//!
//! The files beside this one are what is written, with `NAME` replaced. Invariant: nothing that exists
//! is touched.

use std::{fs, path::PathBuf};

use semel_schemas::topic::TopicName;

use super::{Done, Failure, output};

/// What is written, by the end of its name.
const FILES: [(&str, &str); 3] = [
    (".toml", include_str!("pipeline.toml")),
    (".test.toml", include_str!("pipeline.test.toml")),
    ("records.ndjson", include_str!("records.ndjson")),
];

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The pipeline's name, and that of its folder
    name: String,
}

/// Writes them.
pub(super) fn new(args: &Args) -> Done {
    let name = &args.name;
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !plain || name.is_empty() || TopicName::new(name.clone()).is_err() {
        return Err(Failure::Usage(format!(
            "`{name}` is no name of a pipeline: small letters, digits and `-`, since its topics and \
             groups begin with it"
        )));
    }
    let folder = PathBuf::from(name);
    fs::create_dir(&folder).map_err(|error| {
        Failure::Failed(format!("the folder {} cannot be made: {error}", folder.display()))
    })?;
    for (end, text) in FILES {
        let file = if end.starts_with('.') { format!("{name}{end}") } else { end.to_owned() };
        let path = folder.join(file);
        fs::write(&path, text.replace("NAME", name)).map_err(|error| {
            Failure::Failed(format!("{} cannot be written: {error}", path.display()))
        })?;
        output::line(&path.display().to_string())?;
    }
    output::say(&format!("next: cd {name}; semel test {name}.toml; semel run {name}.toml"));
    Ok(())
}
