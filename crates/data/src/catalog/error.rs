//! What can go wrong with known sets, each in one line that names the thing and the cure.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error of looking up or fetching a known set. The command line exits with code 3.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// No set has that name.
    #[error("unknown data set \"{name}\"; known are {known}")]
    UnknownSet {
        /// The name as given.
        name: String,
        /// The names that are known, separated by commas.
        known: String,
    },
    /// The set has no files to fetch.
    #[error("data set \"{name}\" has nothing to fetch: {reason}")]
    NothingToFetch {
        /// The set.
        name: &'static str,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// No mirror gave a file.
    #[error("no mirror gave {file} ({}); put {wanted} into {} by hand, or name the folder that holds {folder}/ with --data DIR", list(.failures), .place.display())]
    NoMirror {
        /// The file.
        file: &'static str,
        /// Every mirror with the reason why it failed, in the order tried.
        failures: Vec<MirrorFailure>,
        /// The files to be put there by hand.
        wanted: String,
        /// Where they belong.
        place: PathBuf,
        /// The set's folder.
        folder: &'static str,
    },
    /// The disk is full.
    #[error("no space left for {}, which needs {bytes} more bytes; free some, or choose another folder with --data DIR", .path.display())]
    Full {
        /// The file that did not fit.
        path: PathBuf,
        /// Number of bytes that it still needs.
        bytes: u64,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}; check that the folder is writable, or choose another with --data DIR", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}; check that you may read it, or choose another folder with --data DIR", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else is fetching or unpacking the same file in the same folder.
    #[error("{} is being written by another process; wait for it, or choose another folder with --data DIR", .path.display())]
    Busy {
        /// The partial file, or the lock.
        path: PathBuf,
    },
    /// An archive, or another file, does not hold what it should.
    #[error("{}: {reason}; delete it and fetch it again", .path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificates of `SSL_CERT_FILE` cannot be used.
    #[error("certificates in {}: {reason}; correct SSL_CERT_FILE or unset it", .path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a mirror did not give a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorFailure {
    /// The address asked.
    pub url: String,
    /// The reason, on one line.
    pub reason: String,
}

impl fmt::Display for MirrorFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.url, self.reason)
    }
}

fn list(failures: &[MirrorFailure]) -> String {
    failures
        .iter()
        .map(MirrorFailure::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl CatalogError {
    /// The error of writing `path`, which still needs `bytes`.
    pub(super) fn write(path: &Path, bytes: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, bytes },
            _ => Self::Write { path, source },
        }
    }

    /// The error of reading `path`.
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mirror_is_listed_on_one_line_with_the_cure() {
        let error = CatalogError::NoMirror {
            file: "a.gz",
            failures: vec![
                MirrorFailure {
                    url: "http://x/a.gz".into(),
                    reason: "HTTP status 404".into(),
                },
                MirrorFailure {
                    url: "http://y/a.gz".into(),
                    reason: "host not found".into(),
                },
            ],
            wanted: "a.gz and b.gz".into(),
            place: "data/set".into(),
            folder: "set",
        };
        assert_eq!(
            error.to_string(),
            "no mirror gave a.gz (http://x/a.gz: HTTP status 404; http://y/a.gz: host not found); \
             put a.gz and b.gz into data/set by hand, or name the folder that holds set/ with --data DIR"
        );
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let path = Path::new("a.part");
        let full = CatalogError::write(path, 12, io::ErrorKind::StorageFull.into()).to_string();
        assert!(
            full.starts_with("no space left for a.part, which needs 12 more bytes"),
            "{full}"
        );
        let other =
            CatalogError::write(path, 12, io::ErrorKind::ReadOnlyFilesystem.into()).to_string();
        assert!(
            other.starts_with("cannot write a.part: read-only filesystem"),
            "{other}"
        );
    }
}
