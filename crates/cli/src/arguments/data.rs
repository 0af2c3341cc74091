//! The verbs of `skinny data`.

use std::path::PathBuf;

use clap::Subcommand;

/// The verbs of `skinny data`.
#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// Name the sets that skinny knows, and say which are here.
    #[command(after_help = "Example:
  skinny data list")]
    List {
        /// Where the data is; else $SKINNY_DATA, else the user's cache.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Download a set, with resume and checksums.
    #[command(after_help = "Examples:
  skinny data fetch mnist
  skinny data fetch cifar10 --data /datasets --mirror https://mirror.example.org/cifar")]
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
    #[command(after_help = "Example:
  skinny data verify mnist --data /datasets")]
    Verify {
        /// The set.
        set: String,
        /// Where the data is; else $SKINNY_DATA, else the user's cache.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Count the pictures of a set by class, and measure mean and deviation.
    #[command(after_help = "Examples:
  skinny data info glyphs
  skinny data info my-pictures --shape 3x64x64")]
    Info {
        /// The set, or a folder of pictures: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*` alone.
        set: String,
        /// Where the data is; else $SKINNY_DATA, else the user's cache.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Shape that a folder's pictures are brought to: channels (1 or 3), height, width; 3x224x224 if not given.
        #[arg(long, value_name = "CxHxW")]
        shape: Option<String>,
    },
}
