//! What can go wrong with data, each in one line that names the thing and the cure.

use std::path::PathBuf;

/// An error of reading, finding, fetching or describing data. The command line exits with code 3.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}; check that it exists and that you may read it", .path.display())]
    Read {
        /// What was being read.
        path: PathBuf,
        /// Why it could not be read.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {}: {source}; check free space and permissions, or choose another folder with --data DIR", .path.display())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// Why it could not be written.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}; {cure}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do about it.
        cure: String,
    },
    /// A set was not found in any place where data is looked for.
    #[error("data set \"{name}\" was not found in {places}; {cure}")]
    Missing {
        /// The set.
        name: String,
        /// The places looked at.
        places: String,
        /// What to do about it.
        cure: String,
    },
    /// A name that is not known.
    #[error("unknown {what} \"{name}\"; known are {known}")]
    Unknown {
        /// What kind of name it is, e.g. "data set".
        what: &'static str,
        /// The name as given.
        name: String,
        /// The names that are known, separated by commas.
        known: String,
    },
    /// A setting that cannot work.
    #[error("{key}: {reason}")]
    Setting {
        /// The setting, named as in a recipe, e.g. "data.batch".
        key: String,
        /// What is wrong with its value, and what would be right.
        reason: String,
    },
    /// Labels, pixels and shape of a set do not belong together.
    #[error("data set \"{name}\" is inconsistent: {reason}")]
    Inconsistent {
        /// The set.
        name: String,
        /// What does not agree with what.
        reason: String,
    },
    /// A download failed for good.
    #[error("cannot fetch {url}: {reason}; {cure}")]
    Fetch {
        /// What was being fetched.
        url: String,
        /// Why it failed.
        reason: String,
        /// What to do about it.
        cure: String,
    },
    /// A file differs from the published one.
    #[error("{}: checksum is {found} where {expected} is published; delete the file and fetch it again with `skinny data fetch`", .path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The published checksum, in hexadecimal.
        expected: String,
        /// The checksum of the file, in hexadecimal.
        found: String,
    },
    /// A worker of a loader stopped because of a defect in the program.
    #[error("a worker of the loader of \"{name}\" panicked; please report this as a defect")]
    Worker {
        /// The set that was being loaded.
        name: String,
    },
}
