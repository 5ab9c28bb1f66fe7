//! `semel test`: the cases of a spec.

use std::path::{Path, PathBuf};

use semel::testing::cases;

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
    let only = args.only.as_deref();
    let ran = cases::run_file(boot::registry(), &args.spec, file, &boot::environment, only);
    let ran = ran.map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::Usage(lines.join("\nsemel: "))
    })?;
    for case in &ran {
        match &case.failed {
            None => output::line(&format!("holds  {}", case.name))?,
            Some(error) => output::line(&format!("FAILS  {}\n{error}", case.name))?,
        }
    }
    let bad = ran.iter().filter(|case| case.failed.is_some()).count();
    Ok((ran.len() - bad, bad))
}
