//! Arguments of the verbs that train many runs or compare them.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, ValueEnum};

use super::Which;
use super::train::LARGEST_SEED;

/// Arguments of `skinny sweep`.
#[derive(Debug, Args)]
pub struct SweepArguments {
    /// The sweep's TOML file.
    pub sweep: PathBuf,
    /// Where the data is; else $SKINNY_DATA, else the user's cache.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The folder of its run folders [default: runs/NAME].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Runs that are trained at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..).map(|count| count as usize))]
    pub jobs: usize,
    /// Threads of each run [default: all cores, divided among the jobs]; never changes a bit of the result.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Do only every N-th run, from number I on, 0 to N - 1.
    #[arg(long, value_name = "I/N", value_parser = shard, conflicts_with = "shards")]
    pub shard: Option<Shard>,
    /// Parts that an array of jobs divides the runs into; which part this is, SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX says
    /// [default: the size of the Slurm array].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..).map(|count| count as usize))]
    pub shards: Option<usize>,
    /// Show the runs instead of training them.
    #[arg(long)]
    pub list: bool,
}

/// Arguments of `skinny compare`.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// Folders of runs, or folders that hold them.
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// What makes a group: method, density, name, case (the folder without its seed), network, data, epochs, or keys of the recipe, as
    /// sparsity.budget.
    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        default_value = "method,density"
    )]
    pub by: Vec<String>,
    /// Which runs the others are set against.
    #[arg(long, value_name = "KEY=VALUE", default_value = "method=dense")]
    pub baseline: String,
    /// Which error: choices are made on the held-out pictures, results are told of the test set.
    #[arg(long, value_enum, default_value_t = ErrorChoice::Test)]
    pub error: ErrorChoice,
    /// Measure one picture on one thread with the runtime, for a run of each group.
    #[arg(long)]
    pub latency: bool,
    /// How the table is printed.
    #[arg(long, value_enum, default_value_t = TableChoice::Markdown)]
    pub format: TableChoice,
    /// Folder for compare.md, .csv and .json and the pictures.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Arguments of `skinny sensitivity`.
#[derive(Debug, Args)]
pub struct SensitivityArguments {
    /// A run folder; or a .skinny file, or weights in safetensors, together with --recipe.
    pub run: PathBuf,
    /// Which weights of the run.
    #[arg(long, value_enum, default_value_t = Which::Last)]
    pub weights: Which,
    /// The recipe that says the data (and of weights the network), for what is not a run folder.
    #[arg(long)]
    pub recipe: Option<String>,
    /// Densities to measure each layer at [default: eleven from 0.5 to 0.01].
    #[arg(long, value_delimiter = ',')]
    pub densities: Option<Vec<f64>>,
    /// Density of the whole network that the budget is for [default: the recipe's, else 0.1].
    #[arg(long)]
    pub density: Option<f64>,
    /// Measure on so many of the held-out pictures only.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..).map(|count| count as usize))]
    pub pictures: Option<usize>,
    /// Where the data is; else $SKINNY_DATA, else the user's cache.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Threads to compute with [default: all cores]; never changes a bit of the result.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Folder for sensitivity.json, .csv and the picture [default: the run folder].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Arguments of `skinny slim`.
#[derive(Debug, Args)]
pub struct SlimArguments {
    /// A run folder; or a .skinny file, or weights in safetensors, together with --recipe.
    pub run: PathBuf,
    /// The recipe of the trials [default: the run's]; what is not of IHT in its sparsity table is IHT with a cubic ramp instead.
    #[arg(long)]
    pub recipe: Option<String>,
    /// Change a key of the recipe, e.g. `train.epochs=3`; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// How much the error on the held-out pictures may grow, in points: 0.2 is 2 more wrong pictures of 1,000.
    #[arg(long, value_name = "POINTS", allow_negative_numbers = true)]
    pub max_error_increase: f64,
    /// How the layers share what is kept.
    #[arg(long, value_enum, default_value_t = BudgetChoice::Sensitivity)]
    pub budget: BudgetChoice,
    /// The density to try first [default: the one that sensitivity thinks safe without training].
    #[arg(long)]
    pub start: Option<f64>,
    /// Densities below it are not tried.
    #[arg(long, default_value_t = 0.002)]
    pub least: f64,
    /// How close to the best density the search ends: 0.1 is a tenth.
    #[arg(long, default_value_t = 0.1)]
    pub tolerance: f64,
    /// The most densities that are tried.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..).map(|count| count as usize))]
    pub trials: usize,
    /// The folder of the search [default: runs/NAME-slim].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Key of every random choice, instead of the recipe's.
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=LARGEST_SEED))]
    pub seed: Option<u64>,
    /// Where the data is; else $SKINNY_DATA, else the user's cache.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Threads to compute with [default: all cores]; never changes a bit of the result.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// How the layers of a trial share what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BudgetChoice {
    /// By what each layer costs when it is thresholded alone.
    Sensitivity,
    /// As the recipe says; ERK if it is not of IHT.
    Recipe,
}

/// The pictures that an error is measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ErrorChoice {
    /// The test set.
    Test,
    /// The held-out part of the training set.
    Validation,
}

/// Forms of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableChoice {
    /// A table that reads well as text.
    Markdown,
    /// Comma-separated values with every number in full.
    Csv,
}

/// One of several parts of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 0.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

fn shard(text: &str) -> Result<Shard, String> {
    let parse = |part: &str| part.trim().parse::<usize>().ok();
    text.split_once('/')
        .and_then(|(index, count)| {
            Some(Shard {
                index: parse(index)?,
                count: parse(count)?,
            })
        })
        .filter(|shard| shard.index < shard.count)
        .ok_or_else(|| "write number and count, for example 0/4 for the first of four".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_numbered_from_0() {
        assert_eq!(shard("0/4"), Ok(Shard { index: 0, count: 4 }));
        assert_eq!(shard("3/4"), Ok(Shard { index: 3, count: 4 }));
        for wrong in ["4/4", "0/0", "1", "a/b", "/", "-1/2"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }
}
