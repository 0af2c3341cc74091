//! Arguments of the verbs that use a finished network.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, ValueEnum};

/// Arguments of `skinny eval`.
#[derive(Debug, Args)]
pub struct EvalArguments {
    /// A run folder; or a .skinny file, or weights in safetensors, together with --recipe.
    pub run: PathBuf,
    /// Which weights of the run.
    #[arg(long, value_enum, default_value_t = Which::Last)]
    pub weights: Which,
    /// The recipe that says the data (and of weights the network), for what is not a run folder.
    #[arg(long)]
    pub recipe: Option<String>,
    /// Where the data is; else $SKINNY_DATA, else the user's cache.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Threads to compute with [default: all cores].
    #[arg(long)]
    pub threads: Option<usize>,
    /// Compute the linear layers of a .skinny file with 8-bit weights and 8-bit inputs: faster, at the price of rounding.
    #[arg(long)]
    pub int8: bool,
}

/// Weights that a run keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// After the last step.
    Last,
    /// With the least error on the held-out pictures.
    Best,
}

impl Which {
    /// Its file name without the extension.
    pub fn name(self) -> &'static str {
        match self {
            Which::Last => "last",
            Which::Best => "best",
        }
    }
}

/// Arguments of `skinny predict`.
#[derive(Debug, Args)]
pub struct PredictArguments {
    /// A run folder or a .skinny file.
    pub run: PathBuf,
    /// Pictures, PNG or JPEG.
    #[arg(required = true)]
    pub pictures: Vec<PathBuf>,
    /// Classes to name for each picture.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..).map(|count| count as usize))]
    pub top: usize,
    /// Which weights of the run.
    #[arg(long, value_enum, default_value_t = Which::Last)]
    pub weights: Which,
    /// Threads to compute with [default: all cores].
    #[arg(long)]
    pub threads: Option<usize>,
    /// Compute the linear layers of a .skinny file with 8-bit weights and 8-bit inputs: faster, at the price of rounding.
    #[arg(long)]
    pub int8: bool,
}
