//! Arguments of the verbs that write and read files of networks.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use skinny::interchange::{InterchangeError, Matching, Options, Rename};
use skinny::model::{Level, ValueKind};

use super::Which;

/// Arguments of `skinny export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// A run folder; or a .skinny file, to pack it anew; or weights in safetensors, together with --recipe.
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
    /// The recipe that says the pictures to verify on, for a .skinny file; and the network and what is done to pictures, for weights.
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
        let options = Options {
            matching: match self.by {
                Some(MatchChoice::Order) => Matching::Order,
                Some(MatchChoice::Name) | None => Matching::Name,
            },
            rename: Rename::parse(&self.rename)?,
            strict: !self.no_strict,
        };
        options.check()?;
        Ok(options)
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
