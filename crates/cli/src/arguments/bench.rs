//! Arguments of `skinny bench`.

use clap::{Args, ValueEnum};

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
    /// Change a key of the recipe of --train, e.g. `train.ema=0.998`; may be given several times.
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
