//! A folder to run the program in, with a small set and a small network in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Side of the square pictures.
pub const SIDE: usize = 12;

const NETWORK: &str = r#"
name = "small"
input = [1, 12, 12]
layers = [
    { name = "conv1", type = "conv", out = 6, kernel = 3 },
    { name = "norm1", type = "batchnorm" },
    { name = "relu1", type = "relu" },
    { name = "pool1", type = "maxpool", kernel = 2 },
    { name = "flatten", type = "flatten" },
    { name = "drop1", type = "dropout", p = 0.2 },
    { name = "fc1", type = "linear", out = 24 },
    { name = "relu2", type = "relu" },
    { name = "fc2", type = "linear", out = 10 },
]
"#;

/// 5 epochs of 8 steps; thresholds, re-activations and a falling density within.
const RECIPE: &str = r#"
name = "small"
data = { name = "mnist", batch = 48, validation = 96, augment = ["shift:1"] }
network = { file = "small.net.toml" }
train = { epochs = 5, lr = 0.05, momentum = 0.9, nesterov = true, clip_norm = 1.0, schedule = "one-cycle", ema = 0.9, batchnorm_batches = 2, checkpoint = "3it" }
sparsity = { method = "iht", density = 0.1, budget = "erk", ramp = "cubic", final_thresholds = 2 }
"#;

/// What a finished process has said.
#[derive(Debug)]
pub struct Told {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Told {
    /// Fails unless the exit code is 0.
    #[track_caller]
    pub fn good(self) -> Told {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }

    /// Fails unless the program has refused with this exit code, in one line that has all these words.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) -> Told {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        let said: Vec<&str> = (self.err.lines())
            .filter(|line| line.starts_with("skinny: "))
            .collect();
        assert_eq!(said.len(), 1, "one line says what is wrong:\n{}", self.err);
        assert_eq!(self.err.lines().last(), Some(said[0]), "it comes last");
        for word in words {
            assert!(said[0].contains(word), "no {word:?} in: {}", said[0]);
        }
        self
    }

    /// The objects on standard output, one per line.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let objects: Vec<Value> = self.out.lines().map(parse).collect();
        assert!(objects.iter().all(Value::is_object), "{}", self.out);
        assert!(!objects.is_empty());
        objects
    }
}

/// A temporary folder with `small.toml` (a recipe), its network `small.net.toml` and its set in `data/mnist`.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// A new one.
    pub fn new() -> Place {
        let place = Place {
            folder: tempfile::tempdir().unwrap(),
        };
        place.write("small.toml", RECIPE);
        place.write("small.net.toml", NETWORK);
        place.write_set();
        place
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes the set afresh.
    pub fn write_set(&self) {
        for (part, pictures, seed) in [("train", 480, 1), ("t10k", 96, 2)] {
            let (pixels, labels) = pictures_of(pictures, seed);
            let header = |magic: u32, extents: &[usize]| -> Vec<u8> {
                let mut bytes = magic.to_be_bytes().to_vec();
                for extent in extents {
                    bytes.extend((*extent as u32).to_be_bytes());
                }
                bytes
            };
            let images = [header(0x803, &[pictures, SIDE, SIDE]), pixels].concat();
            let labels = [header(0x801, &[pictures]), labels].concat();
            self.write(&format!("data/mnist/{part}-images-idx3-ubyte"), images);
            self.write(&format!("data/mnist/{part}-labels-idx1-ubyte"), labels);
        }
    }

    /// The program in this folder, which sees no data but that in `data`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skinny"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("SKINNY_DATA", self.path("data"))
            .env("HOME", self.folder.path())
            .env_remove("XDG_CACHE_HOME")
            .env_remove("RUST_LOG");
        for array in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"] {
            command.env_remove(array);
        }
        command
    }

    /// Runs the program to its end, which is never a panic.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Told {
        self.finish(self.command(arguments))
    }

    /// Runs a command to its end, which is never a panic nor a wait for ever.
    #[track_caller]
    pub fn finish(&self, command: Command) -> Told {
        let output = assert_cmd::Command::from_std(command)
            .timeout(Duration::from_secs(120))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert!(!err.contains("panicked"), "{err}");
        let code = output.status.code();
        Told {
            code: code.unwrap_or_else(|| panic!("killed: {}\n{err}", output.status)),
            out,
            err,
        }
    }

    /// Trains the small recipe in folder `out` with further arguments.
    #[track_caller]
    pub fn train(&self, out: &str, more: &[&str]) -> Told {
        let start = ["train", "small.toml", "--threads", "1", "--out", out];
        self.run(&[&start, more].concat())
    }

    /// Starts a program without waiting for it; what it says is thrown away.
    pub fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }
}

/// A bright bar whose place says the class, and noise.
fn pictures_of(count: usize, seed: u32) -> (Vec<u8>, Vec<u8>) {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut pixels = Vec::with_capacity(count * SIDE * SIDE);
    let mut labels = Vec::with_capacity(count);
    for _ in 0..count {
        let label = random() as usize % 10;
        for index in 0..SIDE * SIDE {
            let line = if label < 5 {
                index / SIDE
            } else {
                index % SIDE
            };
            let bar = 2 * (label % 5) + 1 == line;
            pixels.push((random() % 120 + if bar { 120 } else { 0 }) as u8);
        }
        labels.push(label as u8);
    }
    (pixels, labels)
}

/// Fails with the name of the first file in which two finished runs differ, but for columns and keys that tell of time.
#[track_caller]
pub fn assert_same(run: &Path, other: &Path, what: &str) {
    let read = |run: &Path, name: &str| {
        fs::read(run.join(name)).unwrap_or_else(|e| panic!("{what}: {name}: {e}"))
    };
    for name in [
        "weights/last.safetensors",
        "weights/best.safetensors",
        "masks.safetensors",
        "layers.csv",
        "flips.jsonl",
        "confusion.csv",
        "mistakes.json",
        "preprocess.json",
        "recipe.toml",
    ] {
        assert!(
            read(run, name) == read(other, name),
            "{what}: {name} differs"
        );
    }
    let results = |run: &Path| -> Vec<String> {
        let text = String::from_utf8(read(run, "results.csv")).unwrap();
        let timeless = |line: &str| -> String {
            // The last two columns are images_per_second and seconds.
            let columns: Vec<&str> = line.split(',').collect();
            columns[..columns.len() - 2].join(",")
        };
        text.lines().map(timeless).collect()
    };
    assert_eq!(results(run), results(other), "{what}");
    let summary = |run: &Path| -> Value {
        let mut value: Value = serde_json::from_slice(&read(run, "summary.json")).unwrap();
        value["seconds"] = Value::Null;
        value
    };
    assert_eq!(summary(run), summary(other), "{what}");
}
