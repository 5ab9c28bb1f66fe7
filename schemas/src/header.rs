//! Record headers: the names Semel uses, and an ordered list of name–value pairs.
//!
//! Header names are lower case. A name may stand more than once on foreign records; the last one
//! counts, as in Kafka's `Headers.lastHeader`.

/// Derived from where a record came from: the same after every retry.
pub const ID: &str = "semel-id";
/// The record's type name in the catalog, for example `claim`.
pub const TYPE: &str = "semel-type";
/// The type's version, `major.minor`. Missing means `1.0`.
pub const VERSION: &str = "semel-version";
/// The `semel-id` of the record that caused this one.
pub const CAUSE: &str = "semel-cause";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// `topic/partition/offset` of a record that was forwarded to its right partition, or of the
/// record in a dead letter.
pub const ORIGIN: &str = "semel-origin";
/// Dead letters: the fault's code, for example `SEM-0001`.
pub const FAULT: &str = "semel-fault";
/// Dead letters: the fault's sentence.
pub const FAULT_TEXT: &str = "semel-fault-text";
/// Dead letters: the stage that refused the record.
pub const STAGE: &str = "semel-stage";

/// The one stage or sink that a record is meant for: other readers of its topic pass it over. Set on
/// commands about quarantined keys, and on dead letters that are taken again.
pub const TO: &str = "semel-to";

/// An ordered list of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends a header, as it came.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }

    /// Sets a header: earlier ones of the same name are removed.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.retain(|(n, _)| n != name);
        self.push(name, value);
    }

    /// The last value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_slice())
    }

    /// The last value of `name`, if it is UTF-8.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// The trace id of a W3C trace context (`version-trace id-parent id-flags`): 32 lower-case hex
    /// digits that are not all zero. One that is not well-formed is none.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        let mut parts = self.get_str(TRACEPARENT)?.split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let is_one = version.len() == 2
            && version != "ff"
            && trace.len() == 32
            && trace.chars().all(is_hex)
            && trace.chars().any(|c| c != '0');
        is_one.then_some(trace)
    }

    /// All headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_slice()))
    }

    /// Bytes of all names and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(|(n, v)| n.len() + v.len()).sum()
    }
}

impl FromIterator<(String, Vec<u8>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, Vec<u8>)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Headers, TRACEPARENT};

    #[test]
    fn a_trace_id_is_read_from_a_trace_context_and_from_nothing_else() {
        // The first one is the example of the W3C recommendation.
        for (text, want) in [
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                Some("4bf92f3577b34da6a3ce929d0e0e4736"),
            ),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
            ("00-4bf92f35", None),
            ("", None),
        ] {
            let mut headers = Headers::new();
            headers.push(TRACEPARENT, text);
            assert_eq!(headers.trace_id(), want, "{text}");
        }
    }
}
