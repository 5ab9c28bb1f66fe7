//! What the disk does by itself: how often it syncs, and how fast it writes.

use std::{
    fs::File,
    io::{Seek, Write},
    path::Path,
    time::{Duration, Instant},
};

/// Bytes of one small write.
const SMALL: usize = 4_096;
/// Bytes of one large write.
const LARGE: usize = 1 << 20;

fn said(folder: &Path, error: &std::io::Error) -> String {
    format!("a file in {} cannot be written: {error}", folder.display())
}

/// Writes of 4 KiB a second, each of them synced (`fdatasync`) before the next, within a file that has
/// its size: as a journal does.
///
/// # Errors
/// A sentence if the folder cannot be written to.
pub(super) fn syncs(folder: &Path, during: Duration) -> Result<f64, String> {
    let path = folder.join("syncs");
    let measure = || -> std::io::Result<f64> {
        let mut file = File::create(&path)?;
        file.write_all(&vec![0; 64 * LARGE])?;
        file.sync_all()?;
        file.rewind()?;
        let (bytes, began, mut count) = ([7; SMALL], Instant::now(), 0_u32);
        while began.elapsed() < during {
            if (count as usize + 1).is_multiple_of(64 * LARGE / SMALL) {
                file.rewind()?;
            }
            file.write_all(&bytes)?;
            file.sync_data()?;
            count += 1;
        }
        Ok(f64::from(count) / began.elapsed().as_secs_f64())
    };
    let rate = measure().map_err(|e| said(folder, &e));
    std::fs::remove_file(&path).ok();
    rate
}

/// Bytes a second that reach the disk when `total` of them are written in order and synced once.
///
/// # Errors
/// A sentence if the folder cannot be written to.
pub(super) fn bandwidth(folder: &Path, total: u64) -> Result<f64, String> {
    let path = folder.join("bandwidth");
    let measure = || -> std::io::Result<f64> {
        let mut file = File::create(&path)?;
        // Not zeros: some disks and file systems do not write those.
        let bytes: Vec<u8> = (0..LARGE).map(|i| (i * 31 % 251) as u8).collect();
        let (began, mut written) = (Instant::now(), 0);
        while written < total {
            file.write_all(&bytes)?;
            written += LARGE as u64;
        }
        file.sync_data()?;
        Ok(written as f64 / began.elapsed().as_secs_f64())
    };
    let rate = measure().map_err(|e| said(folder, &e));
    std::fs::remove_file(&path).ok();
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_measured_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        assert!(syncs(folder.path(), Duration::from_millis(5)).unwrap() > 0.0);
        assert!(bandwidth(folder.path(), 1 << 20).unwrap() > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(syncs(Path::new("/no/such/folder"), Duration::ZERO).is_err());
    }
}
