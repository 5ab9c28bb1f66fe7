//! JSON in and out. Errors name the field's path and become faults with the right code.

use serde::{Serialize, de::DeserializeOwned};

use crate::fault::{Fault, FaultCode};

/// Highest major version of every type that this build reads.
pub const MAJOR: u32 = 1;
/// The version that this build writes.
pub const VERSION: &str = "1.0";

/// Decodes a value of type `what`.
///
/// # Errors
/// [`FaultCode::Undecodable`] (not JSON), [`FaultCode::MissingField`] or [`FaultCode::WrongType`];
/// the text names the field's path.
pub fn decode<T: DeserializeOwned>(what: &str, value: &[u8]) -> Result<T, Fault> {
    let mut json = serde_json::Deserializer::from_slice(value);
    let decoded = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let text = inner.to_string();
        let code = match inner.classify() {
            serde_json::error::Category::Data if text.starts_with("missing field") => {
                FaultCode::MissingField
            }
            serde_json::error::Category::Data => FaultCode::WrongType,
            _ => FaultCode::Undecodable,
        };
        let place = if path == "." { String::new() } else { format!(", field `{path}`") };
        Fault::new(code, format!("the value is no `{what}`{place}: {text}"))
    })?;
    json.end().map_err(|error| {
        Fault::new(FaultCode::Undecodable, format!("the value is no `{what}`: {error}"))
    })?;
    Ok(decoded)
}

/// Encodes a value as JSON.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value)
        .expect("the catalog's types have string keys and no failing serializer")
}

/// Checks a `semel-version` header.
///
/// # Errors
/// [`FaultCode::UnknownVersion`] for a text that is no version or whose major is not [`MAJOR`].
pub fn check_version(version: Option<&str>) -> Result<(), Fault> {
    let Some(version) = version else { return Ok(()) };
    match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(MAJOR) => Ok(()),
        _ => Err(Fault::new(
            FaultCode::UnknownVersion,
            format!("schema version `{version}` is unknown: this build reads major {MAJOR}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::Claim;

    const GOOD: &str = r#"{"claim_id":"a","channel":"c","user":"11111111111111111111111111111111",
        "id":"twitch:c:a","amount":"5","slot":9,"signature":"SIG","tx_index":0,"ix_index":0}"#;

    fn good() -> String {
        GOOD.replace("SIG", &"1".repeat(64))
    }

    #[test]
    fn a_claim_without_a_block_time_is_read() {
        let claim: Claim = decode("claim", good().as_bytes()).unwrap();
        assert_eq!((claim.amount.0, claim.slot.0, claim.block_time), (5, 9, 0));
    }

    #[test]
    fn faults_name_the_field() {
        for (from, to, code, part) in [
            ("\"amount\":\"5\",", "", FaultCode::MissingField, "amount"),
            ("\"5\"", "-5", FaultCode::WrongType, "`amount`"),
            ("\"5\"", "\"99999999999999999999\"", FaultCode::WrongType, "`amount`"),
            ("\"slot\":9", "\"slot\":\"x\"", FaultCode::WrongType, "`slot`"),
            (":9,", ":9;", FaultCode::Undecodable, "claim"),
        ] {
            let fault =
                decode::<Claim>("claim", good().replacen(from, to, 1).as_bytes()).unwrap_err();
            assert_eq!(fault.code, code, "{fault}");
            assert!(fault.text.contains(part), "{fault}");
        }
    }

    #[test]
    fn versions_of_another_major_are_refused() {
        for (version, good) in [
            (None, true),
            (Some("1.0"), true),
            (Some("1.7"), true),
            (Some("2.0"), false),
            (Some("x"), false),
        ] {
            assert_eq!(check_version(version).is_ok(), good, "{version:?}");
        }
    }
}
