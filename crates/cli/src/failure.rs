//! How the program fails: one line on standard error, and an exit code that says what kind of trouble it is.

use std::fmt::Display;

use skinny::data::DataError;
use skinny::data::catalog::CatalogError;
use skinny::interchange::InterchangeError;
use skinny::model::ModelError;
use skinny::network::{NetworkError, PreprocessError, TensorsError};
use skinny::runtime::RuntimeError;
use skinny::train::{RecipeError, TrainError};

use crate::report::ReportError;

/// What the user is told, and the exit code: 1 standard output cannot be written, 2 usage or recipe, 3 data or files,
/// 4 diverged, 5 interrupted but resumable.
#[derive(Debug)]
pub struct Failure {
    /// One line.
    pub message: String,
    /// Exit code.
    pub code: u8,
}

impl Failure {
    /// Wrong usage.
    pub fn usage(message: impl Display) -> Failure {
        Failure {
            message: message.to_string(),
            code: 2,
        }
    }

    /// Trouble with files or data.
    pub fn data(message: impl Display) -> Failure {
        Failure {
            message: message.to_string(),
            code: 3,
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        Failure {
            message: error.to_string(),
            code: error.exit_code(),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure {
            message: format!("cannot write the output: {error}"),
            code: 1,
        }
    }
}

impl From<InterchangeError> for Failure {
    fn from(error: InterchangeError) -> Self {
        match error {
            InterchangeError::Rename { .. } | InterchangeError::RenameInOrder => {
                Failure::usage(error)
            }
            error => Failure::data(error),
        }
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::NoRun | ReportError::NotARun(_) => Failure::usage(error),
            error => Failure::data(error),
        }
    }
}

macro_rules! failures {
    ($($error:ty => $kind:ident),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::$kind(error)
            }
        })*
    };
}

failures! {
    RecipeError => usage,
    NetworkError => usage,
    DataError => data,
    CatalogError => data,
    TensorsError => data,
    ModelError => data,
    PreprocessError => data,
    RuntimeError => data,
}
