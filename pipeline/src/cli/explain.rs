//! `semel explain`: what a fault code means and what to do, from the table of the codes.

use semel_schemas::fault::{Blame, FaultCode, Then};

use super::{Done, Failure, output};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The code, for example SEM-0012 or 12; none: all of them
    code: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Explained {
    code: &'static str,
    name: FaultCode,
    meaning: &'static str,
    blame: Blame,
    then: Then,
    advice: &'static str,
}

/// Prints one code, or the list.
pub(super) fn explain(args: &Args) -> Done {
    let asked = args.code.as_deref().map(named).transpose()?;
    let codes = asked.as_ref().map_or(FaultCode::ALL, std::slice::from_ref);
    if args.json {
        return codes.iter().try_for_each(|code| {
            let (code, name) = (code.text(), *code);
            let (meaning, advice) = (name.meaning(), name.advice());
            let (blame, then) = (name.blame(), name.then());
            output::json(&Explained { code, name, meaning, blame, then, advice })
        });
    }
    match asked {
        Some(code) => output::line(&format!(
            "{code}: {}\nto blame: {}. {}\nwhat to do: {}",
            code.meaning(),
            blame(code),
            then(code),
            code.advice(),
        )),
        None => FaultCode::ALL
            .iter()
            .try_for_each(|code| output::line(&format!("{code}  {}", code.meaning()))),
    }
}

/// Who has to change something.
pub(super) const fn blame(code: FaultCode) -> &'static str {
    match code.blame() {
        Blame::Input => "the record or who sent it",
        Blame::Us => "Semel or its settings",
        Blame::Outside => "a system outside",
    }
}

/// What the engine does.
pub(super) const fn then(code: FaultCode) -> &'static str {
    match code.then() {
        Then::Never => {
            "The record is a dead letter; trying it again as it is gives the same answer."
        }
        Then::Retry => "The engine tries again by itself.",
        Then::Rebuild => "The engine builds the connection or the task anew and tries again.",
    }
}

/// The code that a person means: `SEM-0012`, `sem-12`, `12`, or its name.
fn named(text: &str) -> Result<FaultCode, Failure> {
    let upper = text.trim().to_uppercase();
    let digits = upper.strip_prefix("SEM-").unwrap_or(&upper);
    let known = FaultCode::ALL.iter().copied().find(|code| match digits.parse::<u16>() {
        Ok(number) => code.text() == format!("SEM-{number:04}"),
        Err(_) => format!("{code:?}").eq_ignore_ascii_case(&digits.replace('_', "")),
    });
    known.ok_or_else(|| {
        Failure::Usage(format!(
            "`{text}` is no fault code; codes look like SEM-0012, and `semel explain` lists them"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_by_number_and_by_name() {
        for text in ["SEM-0012", "sem-12", "12", "nonce_stale", "NonceStale"] {
            assert_eq!(named(text).unwrap(), FaultCode::NonceStale, "{text}");
        }
        for text in ["", "SEM-9999", "70000", "nonce"] {
            assert!(matches!(named(text), Err(Failure::Usage(_))), "{text}");
        }
    }
}
