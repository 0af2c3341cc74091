//! What can go wrong with a run, each in one line that names the thing and the cure.

use std::path::PathBuf;

use skinny_data::DataError;
use skinny_interchange::InterchangeError;
use skinny_model::ModelError;
use skinny_network::{NetworkError, PreprocessError, TensorsError};
use skinny_sparsity::{BudgetError, SettingsError};

/// Why a recipe was refused.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The text is not TOML.
    #[error("the recipe is not readable TOML, line {line}: {reason}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// What the reader found.
        reason: String,
    },
    /// An error in a named file.
    #[error("{}: {error}", .path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The error.
        error: Box<RecipeError>,
    },
    /// Neither a built-in recipe nor a file.
    #[error(
        "there is no recipe `{name}`; did you mean `{nearest}`? `skinny recipes` lists them all; a file of your own ends in .toml"
    )]
    UnknownRecipe {
        /// As given.
        name: String,
        /// The built-in recipe most like it.
        nearest: String,
    },
    /// A recipe file that cannot be read.
    #[error("cannot read the recipe {}: {source}; `skinny recipes` lists the built-in ones", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of a sweep that cannot be read.
    #[error("cannot read the sweep {}: {source}; give a TOML file that names a recipe and a grid of its keys, as `skinny sweep --help` shows", .path.display())]
    ReadSweep {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}` in {place}; {hint}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The table it stands in.
        place: String,
        /// The nearest known key, or all of them.
        hint: String,
    },
    /// A value of the wrong type or out of its set.
    #[error("{place}: {reason}")]
    Invalid {
        /// The key or table.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A value that cannot work.
    #[error("`{key}`: {reason}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with its value, and what would be right.
        reason: String,
    },
    /// More flips than their records have room for.
    #[error(
        "`sparsity`: has {flips} flips of {layers} layers, and a checkpoint holds the records of at most {most} together; flip less often"
    )]
    TooManyRecords {
        /// Flips of the plan.
        flips: usize,
        /// Layers that flip.
        layers: usize,
        /// Flips times layers at the most.
        most: usize,
    },
    /// A `--set` that is not `key=value`.
    #[error("`{setting}` is not a setting; write key=value, for example --set train.epochs=3")]
    Setting {
        /// As given.
        setting: String,
    },
    /// The network was refused.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The sparsity table makes no plan.
    #[error("[sparsity] {0}")]
    Sparsity(#[from] SettingsError),
    /// The density cannot be shared among the layers.
    #[error("[sparsity] {0}")]
    Budget(#[from] BudgetError),
}

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe was refused.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The data was refused.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The data does not fit the network.
    #[error(
        "the data set \"{data}\" has pictures of {found} and {classes} classes, the network \"{network}\" takes {expected} and gives {outputs}; choose another network or another set"
    )]
    Mismatch {
        /// The set.
        data: String,
        /// Its pictures, channels x height x width.
        found: String,
        /// Its classes.
        classes: usize,
        /// The network.
        network: String,
        /// What it takes.
        expected: String,
        /// Its outputs.
        outputs: usize,
    },
    /// The classes of the data are not those that the network was trained on.
    #[error(
        "class {class} of the data set \"{data}\" is {found}, the network was trained with {expected} there; name the set that it was trained on, or give the class folders their old names"
    )]
    Classes {
        /// The set.
        data: String,
        /// The number of the first class that differs, from 0.
        class: usize,
        /// Its name in the set, quoted.
        found: String,
        /// Its name in the network, quoted.
        expected: String,
    },
    /// Loss, gradient or weights are not finite any more.
    #[error("training diverged at step {step}: {what} is {value}; the last good state is in {}; lower train.lr, or set train.clip_norm=1", .checkpoint.display())]
    Diverged {
        /// The step.
        step: usize,
        /// The quantity.
        what: String,
        /// Its value.
        value: f64,
        /// Where the last good state is.
        checkpoint: PathBuf,
    },
    /// Weights that cannot be ranked any more.
    #[error(
        "the threshold before step {step} failed: {reason}; lower train.lr, or set train.clip_norm=1"
    )]
    Threshold {
        /// The step.
        step: usize,
        /// Why.
        reason: String,
    },
    /// Somebody asked the run to stop; it can go on.
    #[error("interrupted after step {step}; go on with: skinny train --resume {}", .folder.display())]
    Interrupted {
        /// Steps done.
        step: usize,
        /// The run folder.
        folder: PathBuf,
    },
    /// Somebody asked a measurement to stop.
    #[error("stopped; give this command again to begin anew")]
    Stopped,
    /// A run folder that is not to be written into.
    #[error("{}: {reason}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A file of the run that cannot be written.
    #[error("cannot write {}: {source}; free some space, what was saved before is whole", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the run that cannot be read.
    #[error("cannot read {}: {reason}; {cure}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to do.
        cure: String,
    },
    /// Weights that cannot be read or do not fit the network.
    #[error(transparent)]
    Weights(#[from] TensorsError),
    /// A network that cannot be packed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file of weights that cannot be read.
    #[error(transparent)]
    Import(#[from] InterchangeError),
    /// Preprocessing that does not fit the data.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
}

impl TrainError {
    /// The exit code of the command line: 2 usage or recipe, 3 data, 4 diverged, 5 resumable.
    pub fn exit_code(&self) -> u8 {
        match self {
            TrainError::Recipe(_)
            | TrainError::Mismatch { .. }
            | TrainError::Classes { .. }
            | TrainError::Folder { .. } => 2,
            TrainError::Data(_)
            | TrainError::Read { .. }
            | TrainError::Weights(_)
            | TrainError::Model(_)
            | TrainError::Import(_)
            | TrainError::Preprocess(_) => 3,
            TrainError::Diverged { .. } | TrainError::Threshold { .. } => 4,
            TrainError::Interrupted { .. } | TrainError::Stopped | TrainError::Write { .. } => 5,
        }
    }
}
