//! `semel test`: the cases of a spec.

use std::path::{Path, PathBuf};

use semel::{
    spec::parse::Source,
    testing::cases::{self, Cases},
};

use super::{Done, Failure, boot, output};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The spec, a TOML file
    spec: PathBuf,
    /// The files of cases; none: NAME.test.toml beside the spec NAME.toml
    cases: Vec<PathBuf>,
    /// Only cases whose name holds this
    #[arg(long)]
    only: Option<String>,
}

/// Runs them.
pub(super) fn test(args: &Args) -> Done {
    let files = if args.cases.is_empty() {
        vec![args.spec.with_extension("test.toml")]
    } else {
        args.cases.clone()
    };
    let (mut good, mut bad) = (0_usize, 0_usize);
    for file in &files {
        let (passed, failed) = of_file(args, file)?;
        good += passed;
        bad += failed;
    }
    output::line(&format!("{good} cases hold, {bad} fail"))?;
    match (good, bad) {
        (0, 0) => Err(Failure::Usage("there is no such case".to_owned())),
        (_, 0) => Ok(()),
        _ => Err(Failure::Failed("see the differences above".to_owned())),
    }
}

fn of_file(args: &Args, file: &Path) -> Result<(usize, usize), Failure> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::Usage(format!("the cases {name} cannot be read: {e}")))?;
    let source = Source { file: name, text };
    let cases: Cases = toml::from_str(&source.text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        Failure::Usage(source.error_at(offset, error.message()).to_string())
    })?;
    let variable =
        |name: &str| cases.variables.get(name).cloned().or_else(|| boot::environment(name));
    let (_, plan) = boot::load(&args.spec, &variable)?;
    let (mut good, mut bad) = (0, 0);
    for case in &cases.case {
        if args.only.as_ref().is_some_and(|only| !case.name.contains(only)) {
            continue;
        }
        match cases::run(&plan, case) {
            Ok(()) => {
                good += 1;
                output::line(&format!("holds  {}", case.name))?;
            }
            Err((offset, text)) => {
                bad += 1;
                output::line(&format!("FAILS  {}", case.name))?;
                output::line(&source.error_at(offset, text).to_string())?;
            }
        }
    }
    Ok((good, bad))
}
