//! Text → [`Spec`]: environment variables put in, unknown keys refused with the line number and the
//! nearest known key.

use std::fmt;

use super::Spec;

/// What is wrong with a spec, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// File name as given.
    pub file: String,
    /// Line, counted from 1; `None` if the whole file is meant.
    pub line: Option<usize>,
    /// One sentence.
    pub text: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.text),
            None => write!(f, "{}: {}", self.file, self.text),
        }
    }
}

impl std::error::Error for SpecError {}

/// A spec's text with its variables put in, for finding lines.
#[derive(Clone, Debug)]
pub struct Source {
    /// File name as given.
    pub file: String,
    /// Text.
    pub text: String,
}

impl Source {
    /// An error at a byte offset.
    #[must_use]
    pub fn error_at(&self, offset: usize, text: impl Into<String>) -> SpecError {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        SpecError { file: self.file.clone(), line: Some(line), text: text.into() }
    }

    /// An error at the first line at or after `offset` that sets `key`, or else at `offset`.
    #[must_use]
    pub fn error_at_key(&self, offset: usize, key: &str, text: impl Into<String>) -> SpecError {
        let rest = self.text.get(offset..).unwrap_or_default();
        let found = rest.match_indices(key).find(|(at, _)| {
            let after = rest[at + key.len()..].trim_start_matches([' ', '"', '\'']);
            let before = rest[..*at].chars().next_back();
            after.starts_with('=') && !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
        });
        self.error_at(offset + found.map_or(0, |(at, _)| at), text)
    }
}

/// Parses a spec. `variable` looks up environment variables.
///
/// # Errors
/// [`SpecError`] with the line.
pub fn parse(
    file: &str,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Spec, Source), SpecError> {
    let text = substitute(file, text, variable)?;
    let source = Source { file: file.to_owned(), text };
    match toml::from_str::<Spec>(&source.text) {
        Ok(spec) => Ok((spec, source)),
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            Err(source.error_at(offset, explain(error.message())))
        }
    }
}

/// Puts `${NAME}` and `${NAME:-default}` in, line by line; comments stay as they are.
fn substitute(
    file: &str,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, SpecError> {
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let error = |text: String| SpecError { file: file.to_owned(), line: Some(index + 1), text };
        let mut rest = line;
        while let Some(at) = rest.find("${").filter(|_| !line.trim_start().starts_with('#')) {
            out.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let Some(end) = inner.find('}') else {
                return Err(error("`${` without `}`".to_owned()));
            };
            let (name, default) = match inner[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (&inner[..end], None),
            };
            let value = variable(name).filter(|v| !v.is_empty()).or(default).ok_or_else(|| {
                error(format!("set the environment variable `{name}`, which has no default here"))
            })?;
            if value.contains(['\n', '"', '\'', '\\']) {
                return Err(error(format!(
                    "the environment variable `{name}` holds a quote, a backslash or a line break, \
                     which a spec cannot hold"
                )));
            }
            out.push_str(&value);
            rest = &inner[end + 1..];
        }
        out.push_str(rest);
    }
    Ok(out)
}

/// A parser's message, with the nearest known key where one is unknown.
#[must_use]
pub fn explain(message: &str) -> String {
    let message = message.lines().next().unwrap_or(message);
    let Some((unknown, known)) = unknown_key(message) else { return message.to_owned() };
    let nearest = known
        .iter()
        .map(|key| (strsim::damerau_levenshtein(key, &unknown), key))
        .min()
        .filter(|(distance, _)| *distance <= unknown.len().max(3) / 2);
    match nearest {
        Some((_, key)) => format!("unknown key `{unknown}`: did you mean `{key}`?"),
        None => format!("unknown key `{unknown}`: known here are {}", known.join(", ")),
    }
}

/// The unknown and the known keys of serde's message "unknown field `x`, expected one of `a`, `b`".
#[must_use]
pub fn unknown_key(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((unknown.to_owned(), known))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn error(text: &str) -> String {
        let lookup = |name: &str| (name == "SET").then(|| "x".to_owned());
        parse("p.toml", text, &lookup).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_line_and_the_nearest_key() {
        for (text, want) in [
            (
                "[pipeline]\nname = \"a\"\npartitons = 3\n",
                "p.toml:3: unknown key `partitons`: did you mean `partitions`?",
            ),
            (
                "[pipeline]\nname = \"a\"\n[log]\n\nbroker = \"\"\n",
                "p.toml:5: unknown key `broker`: did you mean `brokers`?",
            ),
            ("[pipeline]\nname = 3\n", "p.toml:2: invalid type: integer `3`, expected a string"),
            (
                "[pipeline]\nname = \"${NO}\"\n",
                "p.toml:2: set the environment variable `NO`, which has no default here",
            ),
            ("[pipeline\n", "p.toml:1: "),
        ] {
            let got = error(text);
            assert!(got.starts_with(want), "{got}");
        }
    }

    #[test]
    fn variables_are_put_in_but_not_in_comments() {
        let lookup = |name: &str| (name == "SET").then(|| "x".to_owned());
        let text = "# ${NO}\na = \"${SET}${OTHER:-y}\"\n";
        assert_eq!(substitute("f", text, &lookup).unwrap(), "# ${NO}\na = \"xy\"\n");
        let evil = |_: &str| Some("a\"\nb".to_owned());
        assert!(substitute("f", text, &evil).is_err());
    }

    const PAGE: &str = include_str!("../../../docs/spec.md");

    /// The first cells in backquotes of a section of the page.
    fn told(section: &str) -> BTreeSet<String> {
        let (_, rest) = PAGE.split_once(&format!("\n## `{section}`\n")).unwrap();
        let section = rest.split("\n## ").next().unwrap();
        let cells = section.lines().filter_map(|line| line.strip_prefix("| `"));
        cells.filter_map(|rest| Some(rest.split_once('`')?.0.to_owned())).collect()
    }

    #[test]
    fn the_page_about_specs_names_each_key_and_no_other() {
        for (section, text) in [
            ("[pipeline]", "[pipeline]"),
            ("[log]", "[log]"),
            ("[ingress]", "[ingress]"),
            ("[topics.NAME]", "[topics.a]"),
            ("[chains.NAME]", "[chains.a]"),
            ("[signers.NAME]", "[signers.a]"),
            ("[files.NAME]", "[files.a]"),
            ("[[stage]]", "[[stage]]"),
            ("[[sink]]", "[[sink]]"),
            ("[[sink.tables]]", "[[sink]]\n[[sink.tables]]"),
        ] {
            let text = error(&format!("{text}\nQQQQQQQQQQQQQQQQQQQQQQQQ = 1\n"));
            let (_, known) = text.split_once("known here are ").unwrap_or_else(|| panic!("{text}"));
            let known: BTreeSet<String> = known.split(", ").map(str::to_owned).collect();
            assert_eq!(told(section), known, "docs/spec.md, `{section}`");
        }
        let example = include_str!("../cli/new/pipeline.toml").replace("NAME", "orders");
        assert!(
            PAGE.contains(&format!("```toml\n{example}```")),
            "docs/spec.md has another example"
        );
    }
}
