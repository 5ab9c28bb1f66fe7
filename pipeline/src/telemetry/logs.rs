//! Log lines: for people, or one JSON object a line for machines (`SEMEL_LOG_FORMAT=json`).
//!
//! `SEMEL_LOG` filters them (`warn,semel=debug`). They go to standard error: standard output is
//! data.

use tracing_subscriber::EnvFilter;

/// Which lines, in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// Reads the setting.
    ///
    /// # Errors
    /// One sentence.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        match text {
            None | Some("" | "human") => Ok(Self::Human),
            Some("json") => Ok(Self::Json),
            Some(other) => {
                Err(format!("SEMEL_LOG_FORMAT is `{other}`: set it to `human` or `json`"))
            }
        }
    }
}

/// Starts logging; `otherwise` is the filter where `filter` is not given or cannot be read.
pub fn start(format: Format, filter: Option<&str>, otherwise: &str) {
    let filter = filter
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(otherwise));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Human => lines.init(),
        Format::Json => lines.json().flatten_event(true).init(),
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn a_format_that_is_not_known_is_refused() {
        assert_eq!(Format::parse(None), Ok(Format::Human));
        assert_eq!(Format::parse(Some("json")), Ok(Format::Json));
        assert!(Format::parse(Some("xml")).unwrap_err().contains("`human` or `json`"));
    }
}
