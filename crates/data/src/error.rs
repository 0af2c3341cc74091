//! What can go wrong with reading data, each in one line that names the thing and the cure.

use std::path::PathBuf;

/// An error of finding, reading or describing data. The command line exits with code 3.
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
    /// No thread could be started.
    #[error(
        "cannot start a thread to load data: {source}; close other programs or raise the limit of processes"
    )]
    Thread {
        /// Why it could not be started.
        source: std::io::Error,
    },
    /// A worker of a loader stopped because of a defect in the program.
    #[error("a worker of the loader of \"{name}\" panicked; please report this as a defect")]
    Worker {
        /// The set that was being loaded.
        name: String,
    },
}

impl DataError {
    /// `validation` of the `pictures` of a set cannot be held out.
    pub fn hold_out(validation: usize, pictures: usize, name: &str) -> DataError {
        let most = pictures.saturating_sub(1);
        DataError::Setting {
            key: "data.validation".into(),
            reason: format!(
                "{validation} of the {pictures} pictures of \"{name}\" cannot be held out; choose 1 to {most}"
            ),
        }
    }
}
