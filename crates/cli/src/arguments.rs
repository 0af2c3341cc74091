//! The command line as data: verbs, flags and their help.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use skinny::interchange::{InterchangeError, Matching, Options, Rename};
use skinny::model::{Level, ValueKind};

/// Train convolutional networks that are a fraction of the size and at least as accurate.
#[derive(Debug, Parser)]
#[command(
    name = "skinny",
    version,
    about,
    long_about = "Train convolutional networks that are a fraction of the size and at least as accurate, by iterative hard \
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
        /// Where to put it; one run's report goes into its folder.
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
const LARGEST_SEED: u64 = i64::MAX as u64;

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
    #[arg(long, default_value_t = 1)]
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

/// Arguments of `skinny bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// `.skinny` files, run folders, or networks (of the zoo or TOML files), which get random weights.
    #[arg(required_unless_present = "train", value_name = "MODEL")]
    pub models: Vec<String>,
    /// Images at once [default: 1; with --train the recipe's, 128 for a network].
    #[arg(long, value_delimiter = ',', value_name = "N,…", value_parser = positive)]
    pub batch: Vec<usize>,
    /// Threads to compute with [default: 1; with --train all cores].
    #[arg(long, value_delimiter = ',', value_name = "N,…", value_parser = positive)]
    pub threads: Vec<usize>,
    /// Densities of the random masks of a network without weights [default: 1]; with --train, time a sparse phase of this
    /// density instead of a dense one.
    #[arg(long, value_delimiter = ',', value_name = "D,…", value_parser = share)]
    pub density: Vec<f64>,
    /// Other programs to run the same weights with, in turn with ours; compared only if the outputs agree.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "PROGRAM,…",
        conflicts_with = "train"
    )]
    pub against: Vec<Peer>,
    /// Show every layer: the kernel that it gets, and what the others would cost; with --train, its time.
    #[arg(long)]
    pub layers: bool,
    /// Choose kernels by measuring them, and keep the choice beside the file.
    #[arg(long, conflicts_with = "train")]
    pub tune: bool,
    /// Compute linear layers with 8-bit weights and 8-bit inputs; other programs are then compared though they differ.
    #[arg(long, conflicts_with = "train")]
    pub int8: bool,
    /// Time to measure for each line of the table, in seconds [default: 3; with --train 10].
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Time training steps of this recipe; a network of the zoo or a network's TOML file stands for itself with plain settings.
    #[arg(long, value_name = "RECIPE", conflicts_with = "models")]
    pub train: Option<String>,
    /// Change a key of the recipe of --train, e.g. `train.optimizer=adamw`; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Load the model, run it once and say what that took.
    #[arg(long, hide = true, conflicts_with = "train")]
    pub probe: bool,
}

/// Another program that runs networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// ONNX Runtime.
    Onnxruntime,
    /// ONNX Runtime with a statically quantized model.
    OnnxruntimeInt8,
    /// PyTorch, traced and frozen.
    Torch,
}

impl Peer {
    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Onnxruntime => "onnxruntime",
            Peer::OnnxruntimeInt8 => "onnxruntime-int8",
            Peer::Torch => "torch",
        }
    }
}

fn positive(text: &str) -> Result<usize, String> {
    let number = text.trim().parse::<usize>().ok();
    number
        .filter(|number| (1..=65_536).contains(number))
        .ok_or_else(|| "give whole numbers from 1 to 65536".to_string())
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok();
    number
        .filter(|number| *number > 0.0 && *number <= 1.0)
        .ok_or_else(|| {
            "give what is kept, above 0 and at most 1; 0.25 keeps a quarter of the weights"
                .to_string()
        })
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok();
    number
        .filter(|number| (0.0..=3600.0).contains(number))
        .ok_or_else(|| "give seconds from 0 to 3600".to_string())
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
    #[arg(long, default_value_t = 1)]
    pub top: usize,
    /// Which weights of the run.
    #[arg(long, value_enum, default_value_t = Which::Last)]
    pub weights: Which,
    /// Compute the linear layers of a .skinny file with 8-bit weights and 8-bit inputs: faster, at the price of rounding.
    #[arg(long)]
    pub int8: bool,
}

/// Arguments of `skinny export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// A run folder; or a .skinny file, to pack it anew.
    pub run: PathBuf,
    /// The file to write; its ending says what is written.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Which weights of the run.
    #[arg(long, value_enum, default_value_t = Which::Last)]
    pub weights: Which,
    /// How the values of a .skinny file are stored; f32 keeps every bit.
    #[arg(long, value_enum, default_value_t = ValueChoice::F32)]
    pub values: ValueChoice,
    /// What the bytes of a .skinny file are spent on.
    #[arg(long, value_enum, default_value_t = PackChoice::Small)]
    pub pack: PackChoice,
    /// Fold each batch normalization into the layer before it (.skinny and .onnx).
    #[arg(long)]
    pub fold: bool,
    /// Put into an .onnx model what is done to the values of pictures: it then reads 0 to 255. Resizing stays outside.
    #[arg(long)]
    pub with_preprocess: bool,
    /// Names of layers in a .safetensors file, where they are to be others; may be given several times.
    #[arg(long, value_name = "OLD=NEW")]
    pub rename: Vec<String>,
    /// Compare what was written with what was given, on so many test pictures.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub verify: Option<u32>,
    /// The recipe that says the pictures to verify on, for a .skinny file.
    #[arg(long)]
    pub recipe: Option<String>,
    /// Where the data is; else $SKINNY_DATA, else the user's cache.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Threads to compute with [default: all cores].
    #[arg(long)]
    pub threads: Option<usize>,
}

/// How tensors of a file match the parameters of a network.
#[derive(Debug, Args)]
pub struct MatchArguments {
    /// Whether tensors are matched with parameters by their names or one after the other [default: name].
    #[arg(long = "match", value_enum, value_name = "BY")]
    pub by: Option<MatchChoice>,
    /// Another beginning for names of the file, before they are matched; `module=` takes one away. May be given several times.
    #[arg(long, value_name = "OLD=NEW")]
    pub rename: Vec<String>,
    /// Take what matches, and say what does not.
    #[arg(long)]
    pub no_strict: bool,
}

impl MatchArguments {
    /// Whether one of them was given.
    pub fn any(&self) -> bool {
        self.by.is_some() || !self.rename.is_empty() || self.no_strict
    }

    /// As the library takes them.
    pub fn options(&self) -> Result<Options, InterchangeError> {
        Ok(Options {
            matching: match self.by {
                Some(MatchChoice::Order) => Matching::Order,
                Some(MatchChoice::Name) | None => Matching::Name,
            },
            rename: Rename::parse(&self.rename)?,
            strict: !self.no_strict,
        })
    }
}

/// What tensors are matched by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MatchChoice {
    /// The names.
    Name,
    /// The order; shapes must agree.
    Order,
}

/// Arguments of `skinny import`.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// A file of weights: safetensors, PyTorch's .pt or .pth, or ONNX.
    pub file: PathBuf,
    /// The network that the weights are for: a network of the zoo, or a network's TOML file.
    #[arg(long)]
    pub network: Option<String>,
    /// The .safetensors file to write, with the names of the network.
    #[arg(long, value_name = "FILE", requires = "network")]
    pub to: Option<PathBuf>,
    /// How they match.
    #[command(flatten)]
    pub matching: MatchArguments,
}

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ValueChoice {
    /// Four bytes each.
    F32,
    /// Two bytes each, rounded.
    F16,
    /// A byte each and a factor for each output channel.
    Int8,
    /// The nearest of 16 values that the layer has.
    Codebook16,
    /// The nearest of 256 values that the layer has.
    Codebook256,
}

impl From<ValueChoice> for ValueKind {
    fn from(choice: ValueChoice) -> Self {
        match choice {
            ValueChoice::F32 => ValueKind::F32,
            ValueChoice::F16 => ValueKind::F16,
            ValueChoice::Int8 => ValueKind::Int8,
            ValueChoice::Codebook16 => ValueKind::Codebook16,
            ValueChoice::Codebook256 => ValueKind::Codebook256,
        }
    }
}

/// What bytes are spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PackChoice {
    /// Cheap to load.
    Fast,
    /// The fewest bytes.
    Small,
}

impl From<PackChoice> for Level {
    fn from(choice: PackChoice) -> Self {
        match choice {
            PackChoice::Fast => Level::Fast,
            PackChoice::Small => Level::Small,
        }
    }
}

/// The verbs of `skinny data`.
#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// Name the sets that skinny knows, and say which are here.
    List {
        /// Where the data is; else $SKINNY_DATA, else the user's cache.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Download a set, with resume and checksums.
    Fetch {
        /// The set.
        set: String,
        /// Where to put it; else $SKINNY_DATA, else the user's cache.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Another address to download from, tried first; may be given several times.
        #[arg(long, value_name = "URL")]
        mirror: Vec<String>,
    },
    /// Compare the files of a set with the published checksums.
    Verify {
        /// The set.
        set: String,
        /// Where the data is; else $SKINNY_DATA, else the user's cache.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Count the pictures of a set by class, and measure mean and deviation.
    Info {
        /// The set, or a folder of pictures in class folders.
        set: String,
        /// Where the data is; else $SKINNY_DATA, else the user's cache.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Shape of a folder's pictures: channels, height, width.
        #[arg(long, value_name = "CxHxW", default_value = "3x224x224")]
        shape: String,
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

    #[test]
    fn shards_are_numbered_from_0() {
        assert_eq!(shard("0/4"), Ok(Shard { index: 0, count: 4 }));
        assert_eq!(shard("3/4"), Ok(Shard { index: 3, count: 4 }));
        for wrong in ["4/4", "0/0", "1", "a/b", "/", "-1/2"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }

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
