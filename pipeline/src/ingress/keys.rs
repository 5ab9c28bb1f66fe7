//! API keys: who may write.
//!
//! One a line, `name key`, in a file or in an environment variable; never in the spec. Invariants: a
//! key is kept and compared as its digest, so neither a log line nor the time of a comparison tells
//! of it; names are what commands, limits and log lines know a caller by.

use std::{collections::BTreeMap, fs};

use sha2::{Digest, Sha256};

/// Characters that a key must have at least.
const KEY_MIN: usize = 16;

/// Who may write, by the digest of the key; nobody is asked where there are none.
#[derive(Clone, Default)]
pub struct Keys(BTreeMap<[u8; 32], String>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.values()).finish()
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

impl Keys {
    /// Reads them from where the setting points: `env:NAME`, `file:PATH`, or nowhere.
    ///
    /// # Errors
    /// One sentence, without any key in it.
    pub fn read(pointer: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let text = if pointer.is_empty() {
            return Ok(Self::default());
        } else if let Some(path) = pointer.strip_prefix("file:") {
            fs::read_to_string(path)
                .map_err(|e| format!("the file of API keys {path} cannot be read: {e}"))?
        } else if let Some(name) = pointer.strip_prefix("env:") {
            variable(name)
                .ok_or_else(|| format!("`keys` points to the variable {name}, which is not set"))?
        } else {
            return Err("`keys` is where API keys are: write `file:PATH` or `env:NAME`".to_owned());
        };
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut keys = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#')
        }) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, key] = words.as_slice() else {
                return Err(format!("line {number} of the API keys is not `name key`"));
            };
            if key.len() < KEY_MIN {
                return Err(format!(
                    "line {number} of the API keys: the key of `{name}` has fewer than {KEY_MIN} \
                     characters; make one with `openssl rand -hex 24`"
                ));
            }
            if keys.insert(digest(key), (*name).to_owned()).is_some() {
                return Err(format!("line {number} of the API keys repeats a key"));
            }
        }
        match keys.is_empty() {
            true => {
                Err("there is no API key where `keys` points: write lines of `name key`".into())
            }
            false => Ok(Self(keys)),
        }
    }

    /// Whether nobody is asked for a key.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the caller who gave this `Authorization` header; `None` if it gives no right.
    #[must_use]
    pub fn name(&self, authorization: Option<&str>) -> Option<&str> {
        if self.are_none() {
            return Some("anyone");
        }
        let (scheme, key) = authorization?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        self.0.get(&digest(key.trim())).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    const ANN: &str = "0123456789abcdef";

    #[test]
    fn a_caller_is_known_by_a_whole_key_and_nothing_less() {
        let text = format!("# ours\n\nann {ANN}\n  ben  fedcba9876543210 \n");
        let keys = Keys::parse(&text).unwrap();
        assert_eq!(keys.name(Some(&format!("Bearer {ANN}"))), Some("ann"));
        assert_eq!(keys.name(Some("bearer fedcba9876543210")), Some("ben"));
        for wrong in ["", "Bearer", "Bearer ", "Basic 0123456789abcdef", &ANN[..15], ANN] {
            assert_eq!(keys.name(Some(wrong)), None, "{wrong}");
        }
        assert_eq!(keys.name(None), None);
        assert_eq!(format!("{keys:?}").find(ANN), None);
    }

    #[test]
    fn without_keys_nobody_is_asked() {
        let keys = Keys::read("", &|_| None).unwrap();
        assert!(keys.are_none());
        assert_eq!(keys.name(None), Some("anyone"));
    }

    #[test]
    fn what_is_wrong_with_keys_is_told_without_them() {
        let read = |pointer: &str, text: &str| {
            let text = text.to_owned();
            Keys::read(pointer, &move |_| Some(text.clone())).unwrap_err()
        };
        for (pointer, text, want) in [
            ("env:K", "ann", "line 1 of the API keys is not `name key`"),
            ("env:K", "ann 0123456789 abcdef", "line 1 of the API keys is not `name key`"),
            ("env:K", "\nann secret", "line 2 of the API keys: the key of `ann` has fewer than 16"),
            ("env:K", "# none\n", "there is no API key"),
            ("env:K", "a 0123456789abcdef\nb 0123456789abcdef", "line 2 of the API keys repeats"),
            ("0123456789abcdef", "", "write `file:PATH` or `env:NAME`"),
            ("file:/nonexistent/keys", "", "/nonexistent/keys cannot be read"),
        ] {
            let told = read(pointer, text);
            assert!(told.contains(want), "{told}");
            assert!(!told.contains("secret") && !told.contains(ANN), "{told}");
        }
        assert!(Keys::read("env:K", &|_| None).unwrap_err().contains("which is not set"));
    }
}
