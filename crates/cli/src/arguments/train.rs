//! Arguments of training, and what a recipe is changed by.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::MatchArguments;

/// A recipe with changes.
#[derive(Debug, Args)]
pub struct RecipeArguments {
    /// A built-in recipe (`skinny recipes`) or a recipe's TOML file.
    #[arg(default_value = "glyphs-lenet5-iht-10x")]
    pub recipe: String,
    /// Change a key of the recipe, e.g. `train.epochs=3`; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Where the data is; else $SKINNY_DATA, else the user's cache.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Arguments of `skinny train`.
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// A built-in recipe (`skinny recipes`) or a recipe's TOML file [default: glyphs-lenet5-iht-10x, with its dense twin].
    pub recipe: Option<String>,
    /// Change a key of the recipe, e.g. `train.epochs=3`; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Where the data is; else $SKINNY_DATA, else the user's cache.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The run folder [default: runs/NAME, numbered if taken]; with --seeds, a folder of run folders.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Key of every random choice, instead of the recipe's.
    #[arg(long, conflicts_with = "seeds", value_parser = clap::value_parser!(u64).range(0..=LARGEST_SEED))]
    pub seed: Option<u64>,
    /// Several seeds, first and last: 0..4 is five runs.
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub seeds: Option<Seeds>,
    /// Threads to compute with [default: all cores]; never changes a bit of the result.
    #[arg(long)]
    pub threads: Option<usize>,
    /// What to compute on.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    /// Start from these weights (safetensors, PyTorch's .pt or ONNX) instead of random ones.
    #[arg(long, value_name = "WEIGHTS")]
    pub init: Option<PathBuf>,
    /// How the weights of --init match.
    #[command(flatten)]
    pub matching: MatchArguments,
    /// Go on with an interrupted run.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["recipe", "settings", "out", "seed", "seeds", "init", "with_dense", "by", "rename", "no_strict"])]
    pub resume: Option<PathBuf>,
    /// Train the dense twin too, unless a finished one is there.
    #[arg(long)]
    pub with_dense: bool,
}

/// The largest seed that a recipe can hold, as TOML has it.
pub(super) const LARGEST_SEED: u64 = i64::MAX as u64;

/// First and last seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// First.
    pub first: u64,
    /// Last, included.
    pub last: u64,
}

fn seeds(text: &str) -> Result<Seeds, String> {
    let parse = |part: &str| part.trim().parse::<u64>().ok();
    text.split_once("..")
        .and_then(|(first, last)| {
            Some(Seeds {
                first: parse(first)?,
                last: parse(last.trim_start_matches('='))?,
            })
        })
        .filter(|seeds| {
            seeds.first <= seeds.last
                && seeds.last - seeds.first < 10_000
                && seeds.last <= LARGEST_SEED
        })
        .ok_or_else(|| "write first and last seed, for example 0..4 for five runs".to_string())
}

/// What to compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The best there is in this build.
    Auto,
    /// The processor.
    Cpu,
    /// A graphics processor; this build has none.
    Gpu,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_first_and_last() {
        assert_eq!(seeds("0..4"), Ok(Seeds { first: 0, last: 4 }));
        assert_eq!(seeds("3..=5"), Ok(Seeds { first: 3, last: 5 }));
        for wrong in [
            "4",
            "4..",
            "..4",
            "5..4",
            "a..b",
            "18446744073709551614..18446744073709551615",
        ] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }
}
