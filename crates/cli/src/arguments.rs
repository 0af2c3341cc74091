//! The command line as data: verbs, flags and their help.

mod bench;
mod data;
mod evaluate;
mod exchange;
mod studies;
mod train;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use bench::*;
pub use data::*;
pub use evaluate::*;
pub use exchange::*;
pub use studies::*;
pub use train::*;

/// Train convolutional networks that are a fraction of the size and hardly less accurate.
#[derive(Debug, Parser)]
#[command(
    name = "skinny",
    version,
    about,
    long_about = "Train convolutional networks that are a fraction of the size and hardly less accurate, by iterative hard \
                  thresholding: phases in which only the k largest weights of each layer live, in turn with phases in \
                  which all of them train.",
    after_help = "Start with `skinny train`: a two-minute job on data that the program draws itself.",
    propagate_version = true
)]
pub struct Arguments {
    /// One JSON object per event or result on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Train a network by a recipe, and compare it with its dense twin.
    #[command(after_help = "Examples:
  skinny train                                          the default: glyphs-lenet5-iht-10x, two minutes, no file needed
  skinny train mnist-lenet5-iht-10x --with-dense        real digits (skinny data fetch mnist)
  skinny train mnist-lenet5-iht-10x --seeds 0..4        five runs, mean ± standard deviation
  skinny train mnist-lenet5-iht-10x --set sparsity.density=0.05 --set train.epochs=30
  skinny train my-recipe.toml --out runs/mine
  skinny train --resume runs/mine                       go on where it was interrupted")]
    Train(TrainArguments),
    /// Measure the test error of a run.
    #[command(after_help = "Examples:
  skinny eval runs/glyphs-lenet5-iht-10x
  skinny eval runs/glyphs-lenet5-iht-10x --weights best
  skinny eval lenet5.skinny --recipe mnist-lenet5-iht-20x
  skinny eval weights.safetensors --recipe mnist-lenet5-dense")]
    Eval(EvalArguments),
    /// Classify pictures.
    #[command(after_help = "Examples:
  skinny predict runs/mnist-lenet5-iht-10x digit.png another.jpg --top 3
  skinny predict lenet5.skinny digit.png")]
    Predict(PredictArguments),
    /// Train many runs: a grid of recipe keys and seeds, side by side or on many machines.
    #[command(after_help = "Examples:
  skinny sweep sweep.toml --jobs 2                      two runs at a time; give it again to go on after an interruption
  skinny sweep sweep.toml --shard 0/4                   the first of four machines; shards are numbered from 0
  skinny sweep sweep.toml --list                        the runs and what is there of each
In the array of a Slurm job or an indexed Kubernetes Job the shard is that of the task, see examples/.

A sweep.toml:
  name = \"densities\"
  recipe = \"mnist-lenet5-iht-10x\"
  seeds = \"0..2\"
  grid = { sparsity.density = [0.25, 0.1], train.lr = [0.05, 0.1] }")]
    Sweep(SweepArguments),
    /// Set groups of runs against each other, paired by seed: means, intervals, and what is only noise.
    #[command(after_help = "Examples:
  skinny compare runs/lenet5-methods --by method,density
  skinny compare runs/lenet5-methods --by method,density --latency --out results/lenet5-methods
  skinny compare runs/lenet5-ablations --by case --baseline case=default --error validation
  skinny compare runs/a runs/b --by train.lr --format csv

A folder that holds run folders stands for all of them. Differences are means over pairs of runs with the same seed, data, network and
training; their intervals are those of Student's t. With --out, the pictures are error against density, and against bytes and (--latency) milliseconds.")]
    Compare(CompareArguments),
    /// Measure what each layer costs when it is thresholded alone, and the budget that follows from it.
    #[command(after_help = "Examples:
  skinny sensitivity runs/mnist-lenet5-dense
  skinny sensitivity runs/mnist-lenet5-dense --density 0.05 --densities 0.5,0.2,0.1,0.05,0.02
  skinny sensitivity lenet5.skinny --recipe mnist-lenet5-dense --out sensitivity

Measured on the held-out pictures of the recipe, without training; the test set is left alone. The budget goes into a recipe as it is printed.")]
    Sensitivity(SensitivityArguments),
    /// Find the smallest network that loses no more than it may, by sensitivity and iterative hard thresholding.
    #[command(after_help = "Examples:
  skinny slim runs/mnist-lenet5-dense --max-error-increase 0.2
  skinny slim weights.safetensors --recipe mnist-lenet5-iht-10x --max-error-increase 0.1 --out runs/slim
  skinny slim runs/mnist-lenet5-dense --max-error-increase 0.2 --set train.epochs=6 --trials 5

Every density that is tried is a run of its own below --out; the held-out pictures decide, the test set confirms the winner. Give the
command again to go on after an interruption.")]
    Slim(SlimArguments),
    /// Show, before anything is trained, the phases and what each layer will keep.
    #[command(after_help = "Examples:
  skinny plan mnist-lenet5-iht-20x
  skinny plan mnist-lenet5-iht-20x --set sparsity.budget=erk")]
    Plan(RecipeArguments),
    /// Show the layers of a network: shapes, parameters, multiply-accumulates (1 MAC = 2 FLOP).
    #[command(after_help = "Examples:
  skinny summary lenet5
  skinny summary my-net.toml
  skinny summary --list")]
    Summary {
        /// A network of the zoo, a network's TOML file, or a .skinny file.
        #[arg(required_unless_present = "list")]
        network: Option<String>,
        /// Name the networks of the zoo.
        #[arg(long)]
        list: bool,
    },
    /// Write a finished network into one file.
    #[command(after_help = "Examples:
  skinny export runs/mnist-lenet5-iht-20x --to lenet5.skinny
  skinny export runs/mnist-lenet5-iht-20x --to tiny.skinny --values codebook16 --verify 10000
  skinny export runs/resnet --to resnet.skinny --pack fast --fold
  skinny export runs/resnet --to resnet.onnx --with-preprocess
  skinny export runs/resnet --to resnet.safetensors --rename fc=classifier.0
  skinny export runs/resnet --to masks.safetensors

The ending of --to says what is written:
  .skinny             the packed file
  .onnx               an ONNX model, opset 17, dense weights with their zeros
  .safetensors        weights that load_state_dict(strict=True) of the same network in PyTorch takes
  masks.safetensors   masks as booleans, for torch.nn.utils.prune (any name that ends in masks)")]
    Export(ExportArguments),
    /// Take weights for a network from a file of PyTorch, ONNX or safetensors; no pickle is run.
    #[command(after_help = "Examples:
  skinny import weights.pt                                           the tensors of the file
  skinny import weights.pt --network lenet5                          what would match
  skinny import weights.pt --network lenet5 --to lenet5.safetensors
  skinny import alexnet.pth --network my-alexnet.toml --match order --to start.safetensors
  skinny import model.onnx --network my-net.toml --rename backbone= --rename head=fc --to start.safetensors

Every parameter and every tensor has to match in name and shape, unless --no-strict is given. `skinny train --init` takes the same
files and options.")]
    Import(ImportArguments),
    /// Show what a packed file holds, layer by layer, and what its bytes go to.
    #[command(after_help = "Examples:
  skinny inspect lenet5.skinny
  skinny inspect lenet5.skinny --plots masks
  skinny inspect lenet5.skinny --json

The floor of an index is the entropy of a mask of that density: H(d)/d bits for each kept weight.")]
    Inspect {
        /// A .skinny file, or a run folder to be packed in passing.
        file: PathBuf,
        /// Folder for a picture of each layer's mask.
        #[arg(long, value_name = "DIR")]
        plots: Option<PathBuf>,
    },
    /// Measure how fast a model is on this machine, and how fast other programs run it; or how fast it is trained.
    #[command(after_help = "Examples:
  skinny bench model.skinny --batch 1,16 --threads 1,2
  skinny bench model.skinny --against onnxruntime,torch
  skinny bench model.skinny --layers --json
  skinny bench nin-cifar10 --density 1,0.25,0.1      random weights and masks: what would it be like?
  skinny bench --train mnist-lenet5-iht-10x --threads 1
  skinny bench --train nin-cifar10 --batch 128 --density 0.1 --layers

Other programs run in Python, in an environment that you make once:
  python3 -m venv peers && peers/bin/pip install onnxruntime onnx numpy torch safetensors
  SKINNY_PYTHON=peers/bin/python skinny bench model.skinny --against onnxruntime")]
    Bench(BenchArguments),
    /// Draw what runs have come to: one offline HTML page, and plots as SVG and PNG.
    #[command(after_help = "Examples:
  skinny report runs/glyphs-lenet5-iht-10x
  skinny report runs/mnist-lenet5-dense runs/mnist-lenet5-iht-10x --out compared")]
    Report {
        /// Run folders.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Where to put it [default: the folder of the run; runs/compared for several].
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Name, download, check and describe data sets.
    #[command(after_help = "Examples:
  skinny data list
  skinny data fetch mnist
  skinny data verify mnist --data /datasets
  skinny data info glyphs")]
    Data {
        /// What to do with data.
        #[command(subcommand)]
        verb: DataVerb,
    },
    /// List the built-in recipes, or show one as TOML to start from.
    #[command(after_help = "Examples:
  skinny recipes
  skinny recipes mnist-lenet5-iht-10x > my-recipe.toml")]
    Recipes {
        /// The recipe to show.
        name: Option<String>,
    },
    /// Show what the program sees of this machine.
    #[command(after_help = "Example:
  skinny env --json")]
    Env,
    /// Print a completion script for a shell.
    #[command(after_help = "Example:
  skinny completions bash > ~/.local/share/bash-completion/completions/skinny")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write the pages of all verbs into a folder.
    #[command(after_help = "Examples:
  skinny man | man -l -
  skinny man --out ~/.local/share/man/man1")]
    Man {
        /// Folder for the pages of all verbs.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }
}
