//! Sealed levels as files: written whole, then given their name; mapped into memory to be read.
//!
//! The format and all checks are `semel_operators::merkle::sealed`'s, over the bytes that are mapped
//! here. Invariants: a file that bears its name is complete, and nothing here ever writes it again; a
//! proof is served by reading its own nodes and the header, whatever the tree's size.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use memmap2::Mmap;
use semel_operators::merkle::{
    profile::Profile,
    sealed::{Sealed, profile_name, seal},
    tree::Tree,
};

/// Seals a tree that was built by `profile` to the file `path`, which must not exist yet.
///
/// # Errors
/// A sentence with the path; then there is no file of that name.
pub fn write(path: &Path, profile: &Profile, tree: &Tree) -> Result<(), String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    if path.exists() {
        return Err(wrong(
            &"it exists, and sealed levels are never overwritten: name another file",
        ));
    }
    let parts = seal(profile, tree).map_err(|why| wrong(&why))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Another process may be writing the same tree: each writes a part of its own.
    name.push(format!(".part-{}", std::process::id()));
    let part = folder.join(name);
    let written = || -> std::io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&part)?;
        let mut file = BufWriter::new(file);
        for slice in parts.slices() {
            file.write_all(slice)?;
        }
        file.into_inner()?.sync_all()?;
        fs::rename(&part, path)?;
        File::open(folder)?.sync_all()
    };
    written().map_err(|why| wrong(&format_args!("it cannot be written: {why}")))
}

/// A file of sealed levels, mapped.
#[derive(Debug)]
pub struct Levels {
    map: Mmap,
    path: PathBuf,
}

impl Levels {
    /// Maps a file. Reads nothing of it yet.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn open(path: &Path) -> Result<Self, String> {
        let unread = |why| format!("{} cannot be read: {why}", path.display());
        let file = File::open(path).map_err(unread)?;
        Ok(Self { map: map(&file).map_err(unread)?, path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the profile that they were sealed by.
    ///
    /// # Errors
    /// A file that does not begin with an undamaged header.
    pub fn profile_name(&self) -> Result<String, String> {
        profile_name(&self.map).map_err(|why| format!("{}: {why}", self.path.display()))
    }

    /// The tree, read in place.
    ///
    /// # Errors
    /// What does not fit the profile or the format.
    pub fn tree(&self, profile: &Profile) -> Result<Sealed<'_>, String> {
        Sealed::open(&self.map, profile).map_err(|why| format!("{}: {why}", self.path.display()))
    }
}

#[expect(unsafe_code, reason = "mapping a file is unsafe: nothing else may change or cut it")]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: a map is sound as long as nobody changes or cuts the file under it. Nothing of Semel
    // does: `write` gives a file its name when it is complete, and refuses a name that is taken. The
    // map is read-only, and its bytes are taken for nothing but bytes. Against another program that
    // writes there anyway nothing can be promised; a file that is cut ends the process (SIGBUS).
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use semel_operators::merkle::profile::PROFILES;

    use super::*;

    fn leaves(count: u8) -> Vec<[u8; 32]> {
        (0..count).map(|i| [i; 32]).collect()
    }

    #[test]
    fn a_file_of_every_profile_gives_the_proofs_of_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        for profile in PROFILES.iter() {
            let path = folder.path().join(format!("{profile}.levels"));
            let tree = Tree::build(&profile.rules(), leaves(77)).unwrap();
            write(&path, profile, &tree).unwrap();
            let levels = Levels::open(&path).unwrap();
            assert_eq!(levels.profile_name().as_ref(), Ok(&profile.name));
            let sealed = levels.tree(profile).unwrap();
            assert_eq!(sealed.check(), Ok(()));
            for index in 0..77 {
                assert_eq!(sealed.proof(index).unwrap(), tree.proof(index).unwrap());
            }
            let why = write(&path, profile, &tree).unwrap_err();
            assert!(why.contains("never overwritten"), "{why}");
        }
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), PROFILES.len(), "no part is left");
    }

    #[test]
    fn a_file_that_is_absent_empty_cut_or_of_another_kind_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.levels");
        let why = Levels::open(&path).unwrap_err();
        assert!(why.contains("a.levels cannot be read"), "{why}");
        let profile = &PROFILES[0];
        let tree = Tree::build(&profile.rules(), leaves(9)).unwrap();
        let good = seal(profile, &tree).unwrap().to_vec();
        for (bytes, want) in [
            (&b""[..], "no sealed levels"),
            (b"index,amount\n", "no sealed levels"),
            (&good[..good.len() - 32], "copy the file anew"),
        ] {
            fs::write(&path, bytes).unwrap();
            let why = Levels::open(&path).unwrap().tree(profile).map(|_| ()).unwrap_err();
            assert!(why.contains("a.levels: ") && why.contains(want), "{why}");
        }
        let absent = folder.path().join("no/such/folder.levels");
        let why = write(&absent, profile, &tree).unwrap_err();
        assert!(why.contains("cannot be written"), "{why}");
    }
}
