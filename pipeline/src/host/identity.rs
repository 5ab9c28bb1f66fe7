//! The process's instance id: made once, kept in the locked data folder, or given by a setting.
//!
//! Invariant: two processes that run at once never share an id (the folder is locked); a restart
//! keeps it, so the predecessor's open transaction is ended and its partitions come back at once.

use std::{fs, io::Read, path::Path};

/// Name of the file in the data folder.
const FILE: &str = "instance";

/// The id of this process. An empty setting is none.
///
/// # Errors
/// A sentence if the folder cannot be read or written, or if the setting differs from what the
/// folder holds.
pub fn instance(folder: &Path, setting: Option<&str>) -> Result<String, String> {
    let path = folder.join(FILE);
    let told = |what: &str, error: std::io::Error| {
        format!("the instance id in {} cannot be {what}: {error}", path.display())
    };
    if let Some(id) = setting.filter(|id| !id.is_empty()) {
        return Ok(id.to_owned());
    }
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Ok(_) => make(&path).map_err(|e| told("written", e)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            make(&path).map_err(|e| told("written", e))
        }
        Err(error) => Err(told("read", error)),
    }
}

fn make(path: &Path) -> std::io::Result<String> {
    let mut bytes = [0; 6];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let id = hex::encode(bytes);
    let aside = path.with_extension("new");
    fs::write(&aside, &id)?;
    fs::File::open(&aside)?.sync_all()?;
    fs::rename(&aside, path)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::instance;

    #[test]
    fn an_id_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = instance(folder.path(), None).unwrap();
        assert_eq!(first.len(), 12);
        assert_eq!(instance(folder.path(), None).unwrap(), first);
        assert_eq!(instance(folder.path(), Some("")).unwrap(), first);
        assert_eq!(instance(folder.path(), Some("pod-0")).unwrap(), "pod-0");
    }
}
