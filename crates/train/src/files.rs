//! Writing files so that a reader never sees half of one.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::TrainError;

/// Writes a file under a temporary name beside it, flushes it to the disk and renames it; its folder is created if
/// there is none.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let refuse = |source| TrainError::Write {
        path: path.to_path_buf(),
        source,
    };
    let temporary = temporary(path);
    let written = (path.parent().map_or(Ok(()), fs::create_dir_all))
        .and_then(|()| File::create(&temporary))
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        // Best effort: the old file, if any, is whole either way.
        let _ = fs::remove_file(&temporary);
        refuse(source)
    })
}

/// Whether a name can be that of a folder on any system, and of nothing outside: letters, digits, `-`, `_` and `.`, not first.
pub fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.chars().all(plain) && !name.starts_with('.')
}

/// The name under which a file is written before it is whole.
pub fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
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
        let impossible = path.join("below a file");
        let message = write(&impossible, b"x").unwrap_err().to_string();
        assert!(
            message.contains("kept/below a file") && !message.contains('\n'),
            "{message}"
        );
        write(&folder.path().join("new/folder/file"), b"x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
