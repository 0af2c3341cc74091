//! Writing files so that a reader never sees half of one.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::TrainError;

/// Writes a file under a temporary name beside it, flushes it to the disk and renames it.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let refuse = |source| TrainError::Write {
        path: path.to_path_buf(),
        source,
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = Path::new(&temporary);
    let written = File::create(temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(temporary, path));
    written.map_err(|source| {
        // Best effort: the old file, if any, is whole either way.
        let _ = fs::remove_file(temporary);
        refuse(source)
    })
}

/// Reads a whole text file of a run.
pub fn read_text(path: &Path) -> Result<String, TrainError> {
    fs::read_to_string(path).map_err(|error| TrainError::Read {
        path: path.to_path_buf(),
        reason: error.to_string(),
        cure: "is this the folder of a run?".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let missing = folder.path().join("no/such/folder");
        let message = write(&missing, b"x").unwrap_err().to_string();
        assert!(
            message.contains("no/such/folder") && !message.contains('\n'),
            "{message}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
