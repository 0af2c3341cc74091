//! The folder of a run: what it holds, and that a finished run is never overwritten.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use skinny_interchange::Options;
use skinny_model::Unpacked;
use skinny_network::{Preprocess, Tensors};
use skinny_sparsity::Mask;

use crate::engine::Engine;
use crate::files;
use crate::outcome::{Predictions, csv_field};
use crate::progress::{CSV_HEADER, Progress};
use crate::resolved::Resolved;
use crate::{Recipe, TrainError, whitening};

const RECIPE: &str = "recipe.toml";
const MASKS: &str = "masks.safetensors";
/// Held as long as a process works on the run.
const LOCK: &str = "checkpoint/lock";
const CURE: &str = "free some space or choose another folder with --out DIR";

/// A run folder on disk.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

/// `summary.json`: what a finished run has come to. Errors are fractions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this format.
    pub schema: u32,
    /// Name of the run.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// Its method.
    pub method: String,
    /// Its network.
    pub network: String,
    /// Its data set.
    pub data: String,
    /// Always `finished`.
    pub status: String,
    /// Epochs trained.
    pub epochs: usize,
    /// Steps trained.
    pub steps: usize,
    /// Kept fraction of the thresholded weights.
    pub density: f64,
    /// Trainable parameters, dropped ones included.
    pub parameters: usize,
    /// Weights that can be thresholded.
    pub weights: usize,
    /// Trainable parameters that are kept.
    pub nonzeros: usize,
    /// Bytes of all parameters as f32.
    pub dense_bytes: u64,
    /// Bytes of the `.skinny` file of the fewest bytes that keeps every bit, without a whitening matrix.
    pub packed_bytes: u64,
    /// Epoch of `best`, from 1.
    pub best_epoch: Option<usize>,
    /// Error of `best` on the held-out pictures.
    pub best_validation_error: Option<f64>,
    /// Error of `last` on the held-out pictures.
    pub validation_error: Option<f64>,
    /// Error of `last` on the test set.
    pub test_error: f64,
    /// Loss of `last` on the test set.
    pub test_loss: f64,
    /// Seconds of work.
    pub seconds: f64,
    /// What two runs have in common that differ only in name and seed.
    pub settings_hash: String,
    /// The dense run to compare with, if there is one.
    pub dense_twin: Option<Twin>,
}

/// The same run without sparsity: same seed, epochs, schedule and data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Twin {
    /// Its folder.
    pub run: PathBuf,
    /// Its test error, a fraction.
    pub test_error: f64,
    /// Its parameters that are not dropped.
    pub nonzeros: usize,
    /// Bytes of its parameters as f32.
    pub bytes: u64,
}

impl RunFolder {
    /// A new folder at `out`, or `runs/<name>` with a number where that is taken, with everything in it from which the
    /// run can be started again: its recipe, and the network and the weights that the recipe names.
    pub fn create(out: Option<&Path>, resolved: &Resolved) -> Result<RunFolder, TrainError> {
        let path = match out {
            Some(path) => {
                Self::check(path)?;
                path.to_path_buf()
            }
            None => claim(Path::new("runs"), &resolved.recipe.name)?,
        };
        let folder = RunFolder { path };
        // Two processes that begin the same run must not write, or remove, each other's files.
        let lock = folder.lock()?;
        Self::check(&folder.path)?;
        folder.write_recipe(resolved).inspect_err(|_| {
            // Best effort: a folder without a run is of no use.
            let _ = std::fs::remove_file(files::temporary(&folder.path.join(RECIPE)));
            let _ = std::fs::remove_file(folder.path.join("network.toml"));
            let _ = std::fs::remove_file(folder.weights("init"));
            let _ = std::fs::remove_dir(folder.path.join("weights"));
            let _ = std::fs::remove_file(folder.path.join(LOCK));
            let _ = std::fs::remove_dir(folder.path.join("checkpoint"));
            let _ = std::fs::remove_dir(&folder.path);
        })?;
        drop(lock);
        Ok(folder)
    }

    /// Whether a run may be put into `path`.
    pub fn check(path: &Path) -> Result<(), TrainError> {
        refuse_taken(path)
    }

    /// The folder of a run that exists.
    pub fn open(path: &Path) -> Result<RunFolder, TrainError> {
        let recipe = path.join(RECIPE);
        if recipe.is_file() {
            return Ok(RunFolder {
                path: path.to_path_buf(),
            });
        }
        if let Err(error) = recipe.try_exists()
            && error.kind() == ErrorKind::PermissionDenied
        {
            return Err(TrainError::Folder {
                folder: path.to_path_buf(),
                reason: format!("cannot be read: {error}; check its permissions"),
            });
        }
        let reason = match path.is_file() {
            true => "is a file, not the folder of a run; with weights alone name their recipe with --recipe, or where there is none, make a .skinny file of them: `skinny export FILE --recipe RECIPE --to MODEL.skinny`".into(),
            false => format!(
                "is not the folder of a run: it has no {RECIPE}; `skinny train --out {}` starts one",
                path.display()
            ),
        };
        Err(TrainError::Folder {
            folder: path.to_path_buf(),
            reason,
        })
    }

    /// Keeps other processes from training this run as long as the file is open.
    pub(crate) fn lock(&self) -> Result<File, TrainError> {
        let refuse = |reason: String| TrainError::Folder {
            folder: self.path.clone(),
            reason,
        };
        let path = self.path.join(LOCK);
        let file = std::fs::create_dir_all(self.path.join("checkpoint"))
            .and_then(|()| File::create(&path))
            .map_err(|error| refuse(format!("cannot be written: {error}; {CURE}")))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(refuse(
                "is being trained by another process; wait for it, or stop it with Ctrl-C".into(),
            )),
            // Where there are no locks, the user takes care.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the state is kept from which the run can go on.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint/state.safetensors")
    }

    /// The weights `best` or `last`.
    pub fn weights(&self, which: &str) -> PathBuf {
        self.path.join(format!("weights/{which}.safetensors"))
    }

    /// The recipe of the run, as it was resolved.
    pub fn recipe(&self) -> Result<Recipe, TrainError> {
        let path = self.path.join(RECIPE);
        Ok(Recipe::load(&path.to_string_lossy(), &[])?)
    }

    /// What the run has come to; `None` while it is not finished.
    pub fn summary(&self) -> Result<Option<Summary>, TrainError> {
        let path = self.path.join("summary.json");
        if !path.exists() {
            return Ok(None);
        }
        serde_json::from_str(&files::read_text(&path)?)
            .map(Some)
            .map_err(|error| TrainError::Read {
                path,
                reason: error.to_string(),
                cure: "delete it and resume the run to write it again".into(),
            })
    }

    /// What is done to a picture before the first layer.
    pub fn preprocess(&self) -> Result<Preprocess, TrainError> {
        let path = self.path.join("preprocess.json");
        let refuse = |reason: String, cure: String| TrainError::Read {
            path: path.clone(),
            reason,
            cure,
        };
        let mut preprocess = serde_json::from_str(&files::read_text(&path)?)
            .map_err(|error| refuse(error.to_string(), "train the run again".into()))?;
        if !whitening::recall(&mut preprocess) {
            return Err(refuse(
                "the whitening that it names is not in the cache of this user".into(),
                format!(
                    "set XDG_CACHE_HOME as it was in training, or start a run of {}/recipe.toml, which fits it again",
                    self.path.display()
                ),
            ));
        }
        Ok(preprocess)
    }

    /// The weights `which` (`last` or `best`) with network, preprocessing and masks: all that the finished network is.
    ///
    /// `last` has the masks of the end of the run, which may keep a weight that is zero; of `best`, whose support may be an earlier
    /// one, the weights that are not zero are kept.
    pub fn unpacked(&self, which: &str) -> Result<Unpacked, TrainError> {
        let path = self.weights(which);
        if !path.exists() {
            let own = self.path.display();
            let (reason, cure) = if self.weights("last").exists() {
                (
                    "is not there",
                    "the run held no pictures out to choose a best state; use --weights last"
                        .into(),
                )
            } else if self.path.join("summary.json").exists() {
                (
                    "is not there, though the run is finished: its weights were not kept",
                    format!("train it again with `skinny train {own}/{RECIPE} --out FOLDER`"),
                )
            } else {
                (
                    "the run has not come so far",
                    format!("finish it with `skinny train --resume {own}`"),
                )
            };
            return Err(TrainError::Read {
                path,
                reason: reason.into(),
                cure,
            });
        }
        Ok(Unpacked {
            network: self.recipe()?.network()?,
            preprocess: self.preprocess()?,
            tensors: Tensors::load(&path)?,
            masks: match which {
                "last" => self.masks()?,
                _ => BTreeMap::new(),
            },
        })
    }

    /// The masks of the end of the run; none if it ended dense.
    fn masks(&self) -> Result<BTreeMap<String, Mask>, TrainError> {
        let path = self.path.join(MASKS);
        let refuse = |reason: String| TrainError::Read {
            path: path.clone(),
            reason,
            cure: "train the run again, or export its weights without it by removing it".into(),
        };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(BTreeMap::new());
            }
            Err(error) => return Err(refuse(error.to_string())),
        };
        let file = SafeTensors::deserialize(&bytes).map_err(|error| refuse(error.to_string()))?;
        (file.iter())
            .map(|(name, view)| match view.dtype() {
                Dtype::BOOL => {
                    let kept = view.data();
                    Ok((name.to_owned(), Mask::from_fn(kept.len(), |i| kept[i] != 0)))
                }
                other => Err(refuse(format!("the mask {name} has type {other}"))),
            })
            .collect()
    }

    /// Writes the recipe, last, because it makes the folder one of a run. It names copies of the network and the weights
    /// beside it, so that nothing outside the folder but the data decides what becomes of the run.
    fn write_recipe(&self, resolved: &Resolved) -> Result<(), TrainError> {
        let refuse = |error: &dyn std::fmt::Display| TrainError::Folder {
            folder: self.path.clone(),
            reason: format!("cannot be written: {error}; {CURE}"),
        };
        // Says that what lies beside it is a run's, should the process be killed before the recipe is there.
        let marker = files::temporary(&self.path.join(RECIPE));
        std::fs::create_dir_all(&self.path)
            .and_then(|()| std::fs::write(marker, ""))
            .map_err(|error| refuse(&error))?;
        let mut recipe = resolved.recipe.clone();
        let write = |name: &str, bytes: &[u8]| match self.write(name, bytes) {
            Err(TrainError::Write { source, .. }) => Err(refuse(&source)),
            other => other,
        };
        if recipe.network.file.is_some() {
            // The recipe makes it thinner where it is to be.
            let network = resolved.recipe.whole_network()?;
            write("network.toml", network.to_toml().as_bytes())?;
            recipe.network.file = Some("network.toml".into());
        }
        if let Some(weights) = recipe.starting_weights(&resolved.graph)? {
            write("weights/init.safetensors", &weights.tensors.to_bytes()?)?;
            recipe.network.weights = Some("weights/init.safetensors".into());
            // They have the network's names now.
            recipe.network.import = Options {
                strict: recipe.network.import.strict,
                ..Options::default()
            };
        }
        if let Some(data) = &recipe.data.path {
            recipe.data.path = Some(std::path::absolute(data).map_err(|error| refuse(&error))?);
        }
        write(RECIPE, recipe.to_toml().as_bytes())
    }

    /// Writes what is done to pictures, and where and how the run was started, unless that is known already.
    pub fn write_start(
        &self,
        preprocess: &Preprocess,
        environment: &serde_json::Value,
    ) -> Result<(), TrainError> {
        let preprocess = serde_json::to_value(preprocess).expect("preprocessing is plain data");
        self.write("preprocess.json", pretty(&preprocess).as_bytes())?;
        match self.path.join("env.json").exists() {
            true => Ok(()),
            false => self.write("env.json", pretty(environment).as_bytes()),
        }
    }

    /// Writes `results.csv` and `flips.jsonl`.
    pub fn write_log(&self, progress: &Progress) -> Result<(), TrainError> {
        let mut rows = format!("{CSV_HEADER}\n");
        for row in &progress.rows {
            rows.push_str(&row.to_csv());
            rows.push('\n');
        }
        self.write("results.csv", rows.as_bytes())?;
        let mut flips = String::new();
        for flip in &progress.flips {
            flips.push_str(&serde_json::to_string(flip).expect("a flip is plain data"));
            flips.push('\n');
        }
        self.write("flips.jsonl", flips.as_bytes())
    }

    /// Writes named weights.
    pub fn write_weights(&self, which: &str, weights: &Tensors) -> Result<(), TrainError> {
        let bytes = weights.to_bytes()?;
        self.write(&format!("weights/{which}.safetensors"), &bytes)
    }

    /// Writes the masks as booleans in the shapes of their weights, and `layers.csv`.
    pub fn write_masks(&self, resolved: &Resolved, engine: &dyn Engine) -> Result<(), TrainError> {
        let mut csv = String::from("name,shape,weights,k,density,nonzeros\n");
        let mut masks: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        let mut values = Vec::new();
        for &index in &resolved.thresholded {
            let parameter = &resolved.graph.parameters[index];
            engine.read(crate::Section::Weights, index, &mut values);
            let nonzeros = values.iter().filter(|value| **value != 0.0).count();
            let kept = engine.mask(index).map_or(values.len(), |mask| mask.count());
            let shape: Vec<String> = parameter.shape.iter().map(usize::to_string).collect();
            let _ = writeln!(
                csv,
                "{},{},{},{kept},{:.6},{nonzeros}",
                csv_field(&parameter.name),
                shape.join("x"),
                values.len(),
                kept as f64 / values.len() as f64,
            );
            if let Some(mask) = engine.mask(index) {
                let bytes = (0..mask.len()).map(|i| u8::from(mask.get(i))).collect();
                masks.push((parameter.name.clone(), parameter.shape.clone(), bytes));
            }
        }
        self.write("layers.csv", csv.as_bytes())?;
        if masks.is_empty() {
            return Ok(());
        }
        let path = self.path.join(MASKS);
        let refuse = |error: safetensors::SafeTensorError| TrainError::Write {
            path: path.clone(),
            source: std::io::Error::other(error.to_string()),
        };
        let mut views = HashMap::new();
        for (name, shape, bytes) in &masks {
            let view = TensorView::new(Dtype::BOOL, shape.clone(), bytes).map_err(refuse)?;
            views.insert(name.clone(), view);
        }
        files::write(
            &path,
            &safetensors::serialize(&views, None).map_err(refuse)?,
        )
    }

    /// Writes what the test set gave, and at last `summary.json`, which makes the run a finished one.
    pub fn write_end(
        &self,
        summary: &Summary,
        predictions: &Predictions,
    ) -> Result<(), TrainError> {
        self.write("confusion.csv", predictions.confusion_csv().as_bytes())?;
        let mistakes =
            serde_json::to_value(&predictions.mistakes).expect("mistakes are plain data");
        self.write("mistakes.json", pretty(&mistakes).as_bytes())?;
        self.write_summary(summary)
    }

    /// Writes `summary.json`.
    pub fn write_summary(&self, summary: &Summary) -> Result<(), TrainError> {
        let value = serde_json::to_value(summary).expect("a summary is plain data");
        self.write("summary.json", pretty(&value).as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        files::write(&self.path.join(name), bytes)
    }
}

fn pretty(value: &serde_json::Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a value is plain data");
    text.push('\n');
    text
}

fn refuse_taken(path: &Path) -> Result<(), TrainError> {
    let refuse = |reason: String| {
        Err(TrainError::Folder {
            folder: path.to_path_buf(),
            reason,
        })
    };
    if path.join("summary.json").exists() {
        return refuse(
            "holds a finished run, which is never overwritten; choose another --out".into(),
        );
    }
    if path.join(RECIPE).exists() {
        return refuse(format!(
            "holds a run that is not finished; go on with `skinny train --resume {}` or choose another --out",
            path.display()
        ));
    }
    match std::fs::read_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            refuse(format!("cannot be used: {error}; choose another --out"))
        }
        Ok(entries) => {
            // A process that was killed in its first moment may have left what a run starts from, without its recipe.
            let begun = files::temporary(&path.join(RECIPE)).exists() || path.join(LOCK).exists();
            let own = |name: &std::ffi::OsStr| {
                let name = name.to_string_lossy();
                let name = name.strip_suffix(".part").unwrap_or(&name);
                begun && [RECIPE, "network.toml", "weights", "checkpoint"].contains(&name)
            };
            match entries.flatten().all(|entry| own(&entry.file_name())) {
                true => Ok(()),
                false => refuse("is not empty; choose another --out".into()),
            }
        }
        Err(_) => Ok(()),
    }
}

/// Creates `<runs>/<name>`, or `<name>-2`, `<name>-3`, … whichever is free; creation itself decides, so that two
/// runs that start together never share a folder.
fn claim(runs: &Path, name: &str) -> Result<PathBuf, TrainError> {
    let refuse = |folder: &Path, error: std::io::Error| TrainError::Folder {
        folder: folder.to_path_buf(),
        reason: format!("cannot be created: {error}; choose a folder with --out DIR"),
    };
    std::fs::create_dir_all(runs).map_err(|error| refuse(runs, error))?;
    for number in 1usize.. {
        let path = match number {
            1 => runs.join(name),
            _ => runs.join(format!("{name}-{number}")),
        };
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(refuse(&path, error)),
        }
    }
    unreachable!("some number is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_taken_get_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        assert_eq!(claim(&runs, "a").unwrap(), runs.join("a"));
        assert_eq!(claim(&runs, "a").unwrap(), runs.join("a-2"));
        assert_eq!(claim(&runs, "a").unwrap(), runs.join("a-3"));
    }

    #[test]
    fn who_comes_second_leaves_the_files_of_the_first_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let first = RunFolder { path: path.clone() };
        let lock = first.lock().unwrap();
        std::fs::write(path.join("network.toml"), "x").unwrap();
        let recipe = Recipe::load("mnist-lenet5-dense", &[]).unwrap();
        let resolved = Resolved::new(recipe, 1000).unwrap();
        let error = RunFolder::create(Some(&path), &resolved).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        assert!(path.join("network.toml").exists() && path.join(LOCK).exists());
        drop(lock);
        RunFolder::create(Some(&path), &resolved).unwrap();
        let again = RunFolder::create(Some(&path), &resolved).unwrap_err();
        assert!(again.to_string().contains("--resume"), "{again}");
    }

    #[test]
    fn folders_with_content_are_refused_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        assert!(RunFolder::check(&folder.path().join("new")).is_ok());
        let path = folder.path().join("used");
        std::fs::create_dir(&path).unwrap();
        assert!(RunFolder::check(&path).is_ok());
        std::fs::write(path.join("network.toml"), "x").unwrap();
        let own = RunFolder::check(&path).unwrap_err().to_string();
        assert!(own.contains("not empty"), "a file of the user's: {own}");
        std::fs::write(path.join("recipe.toml.part"), "x").unwrap();
        assert!(RunFolder::check(&path).is_ok(), "killed while it began");
        let early = folder.path().join("early");
        std::fs::create_dir_all(early.join("checkpoint")).unwrap();
        std::fs::write(early.join(LOCK), "").unwrap();
        assert!(RunFolder::check(&early).is_ok(), "killed a moment before");
        let refusal = |file: &str| {
            std::fs::write(path.join(file), "x").unwrap();
            RunFolder::check(&path).unwrap_err().to_string()
        };
        assert!(refusal("notes.txt").contains("not empty"));
        assert!(refusal("recipe.toml").contains("--resume"));
        assert!(refusal("summary.json").contains("never overwritten"));
    }
}
