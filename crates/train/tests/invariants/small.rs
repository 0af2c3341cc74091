//! Runs that take a fraction of a second: a small set in IDX files, two small networks, and what a run leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use skinny_data::DataRoots;
use skinny_train::{Event, Job, JobOptions, Recipe, Summary, TrainError};
use tempfile::TempDir;

/// Side of the square pictures.
const SIDE: usize = 12;

/// A convolution and two linear layers.
pub const PLAIN: &str = r#"
name = "plain"
input = [1, 12, 12]
layers = [
    { name = "conv1", type = "conv", out = 6, kernel = 3 },
    { name = "relu1", type = "relu" },
    { name = "pool1", type = "maxpool", kernel = 2 },
    { name = "flatten", type = "flatten" },
    { name = "fc1", type = "linear", out = 24 },
    { name = "relu2", type = "relu" },
    { name = "fc2", type = "linear", out = 10 },
]
"#;

/// BatchNorm, dropout and a second convolution besides.
pub const NORMED: &str = r#"
name = "normed"
input = [1, 12, 12]
layers = [
    { name = "conv1", type = "conv", out = 8, kernel = 3, padding = 1, bias = false },
    { name = "norm1", type = "batchnorm" },
    { name = "relu1", type = "relu" },
    { name = "pool1", type = "maxpool", kernel = 2 },
    { name = "drop1", type = "dropout", p = 0.3 },
    { name = "conv2", type = "conv", out = 12, kernel = 3 },
    { name = "norm2", type = "batchnorm" },
    { name = "relu2", type = "relu" },
    { name = "flatten", type = "flatten" },
    { name = "drop2", type = "dropout", p = 0.5 },
    { name = "fc1", type = "linear", out = 10 },
]
"#;

/// A folder with the set, the networks and the runs of one test.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// Writes set and networks into a new temporary folder.
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("mnist");
        fs::create_dir(&set).unwrap();
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
            fs::write(set.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
            fs::write(set.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
        }
        fs::write(folder.path().join("plain.toml"), PLAIN).unwrap();
        fs::write(folder.path().join("normed.toml"), NORMED).unwrap();
        Place { folder }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the set is.
    pub fn roots(&self) -> DataRoots {
        DataRoots::from_places(vec![self.folder.path().to_path_buf()])
    }

    /// A recipe for `network` (`plain` or `normed`): 4 epochs of 8 steps of 48 pictures, 96 of 480 held out.
    pub fn recipe(&self, network: &str, train: &str, sparsity: &str) -> Recipe {
        let text = format!(
            r#"
            name = "small"
            seed = 7
            data = {{ name = "mnist", batch = 48, validation = 96, augment = {} }}
            network = {{ file = "{}" }}
            train = {{ epochs = 4, batchnorm_batches = 2, {train} }}
            sparsity = {{ {sparsity} }}
            "#,
            match network {
                "normed" => r#"["shift:1", "mirror", "affine:10,0.1,5"]"#,
                _ => "[]",
            },
            self.path(&format!("{network}.toml")).display(),
        );
        Recipe::from_toml(&text, &[]).unwrap()
    }

    /// What a job needs to know.
    pub fn options(&self, threads: usize) -> JobOptions {
        JobOptions {
            roots: self.roots(),
            threads,
            environment: serde_json::Value::Null,
        }
    }

    /// Runs a recipe from start to end in folder `out`.
    pub fn run(&self, recipe: &Recipe, out: &str, threads: usize) -> Summary {
        let job = Job::start(
            recipe.clone(),
            Some(&self.path(out)),
            &self.options(threads),
        );
        job.unwrap()
            .run(None, &mut |_| {}, &AtomicBool::new(false))
            .unwrap()
    }

    /// Starts or goes on with a run until `stop` steps are done; whether it came to its end.
    pub fn run_until(&self, recipe: &Recipe, out: &str, threads: usize, stop: usize) -> bool {
        use std::sync::atomic::Ordering;
        let (path, options) = (self.path(out), self.options(threads));
        let job = match path.join("recipe.toml").exists() {
            true => Job::resume(&path, &options).unwrap(),
            false => Job::start(recipe.clone(), Some(&path), &options).unwrap(),
        };
        let flag = AtomicBool::new(false);
        let mut observe = |event: Event<'_>| {
            if let Event::Step { step, .. } = event {
                flag.store(step >= stop, Ordering::Relaxed);
            }
        };
        match job.run(None, &mut observe, &flag) {
            Ok(_) => true,
            Err(TrainError::Interrupted { step, .. }) => {
                assert_eq!(step, stop, "the run stops where it is told");
                false
            }
            Err(error) => panic!("{error}"),
        }
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

/// Everything in a finished run folder that must not depend on when it was stopped or on how many threads it had, as
/// (name, content); columns and keys that tell of time are left out.
pub fn outcome(run: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: &str| fs::read(run.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut files: Vec<(String, Vec<u8>)> = [
        "weights/last.safetensors",
        "layers.csv",
        "flips.jsonl",
        "confusion.csv",
        "mistakes.json",
    ]
    .map(|name| (name.to_string(), read(name)))
    .into();
    for name in ["weights/best.safetensors", "masks.safetensors"] {
        if run.join(name).exists() {
            files.push((name.into(), read(name)));
        }
    }
    let results = String::from_utf8(read("results.csv")).unwrap();
    let timeless: Vec<&str> = (results.lines())
        .map(|line| {
            let columns: Vec<_> = line.match_indices(',').collect();
            // The last two columns are images_per_second and seconds.
            &line[..columns[columns.len() - 2].0]
        })
        .collect();
    files.push(("results.csv".into(), timeless.join("\n").into_bytes()));
    let mut summary: serde_json::Value = serde_json::from_slice(&read("summary.json")).unwrap();
    summary["seconds"] = serde_json::Value::Null;
    files.push(("summary.json".into(), summary.to_string().into_bytes()));
    files
}

/// Fails with the name of the first file in which two runs differ.
pub fn assert_same(run: &Path, other: &Path, what: &str) {
    let (ours, theirs) = (outcome(run), outcome(other));
    assert_eq!(ours.len(), theirs.len(), "{what}: files");
    for ((name, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        assert!(ours == theirs, "{what}: {name} differs");
    }
}
