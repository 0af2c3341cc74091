//! What can stop a report.

use std::path::PathBuf;

/// Why no report was written. Every message is one line that names the file and the cure.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The list of runs is empty.
    #[error(
        "no run to report: give the folder of at least one run, for example runs/glyphs-lenet5-iht-10x"
    )]
    NoRun,
    /// A folder that holds nothing that a run writes.
    #[error("{} is not a run folder: it holds neither results.csv nor summary.json; give the folder that `skinny train` wrote", .0.display())]
    NotARun(PathBuf),
    /// A file of the run that exists and cannot be read.
    #[error("cannot read {}: {source}; check its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of the run that does not say what it should.
    #[error("{}, line {line}: {what}; restore the file, or remove it and the report does without", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A file of the report that cannot be written.
    #[error("cannot write {}: {source}; free space there or choose another folder with --out", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A picture that cannot be drawn.
    #[error("cannot draw {picture}: {what}; please report this with the run's files")]
    Draw {
        /// Which picture.
        picture: String,
        /// What the drawing library says.
        what: String,
    },
}
