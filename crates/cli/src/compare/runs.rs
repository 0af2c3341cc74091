//! The runs that are compared, as their folders tell of them; what is not finished or not readable is listed too.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use skinny::sparsity::Method;
use skinny::train::{Recipe, RunFolder, Summary, Sweep};
use toml::{Table, Value};

use crate::commands::finish::{FAILURE, failure_of};
use crate::failure::Failure;

/// How deep run folders are looked for.
const DEPTH: usize = 4;

/// The file of a sweep that lies beside its runs.
const SWEEP: &str = "sweep.toml";

/// The state of a run of a sweep that has not begun.
pub const TO_DO: &str = "to do";

/// A finished run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// What it has come to.
    pub summary: Summary,
    /// Its recipe.
    pub recipe: Recipe,
    /// The same as a table, every default filled in.
    pub table: Table,
}

/// A run that says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its folder, or that of runs, or a sweep's file.
    pub folder: PathBuf,
    /// `to do`, `begun`, `failed`, `unreadable` or `repeated`.
    pub state: &'static str,
    /// What is known of the reason; may be empty.
    pub reason: String,
}

impl Missing {
    fn new(folder: PathBuf, state: &'static str, reason: &str) -> Missing {
        Missing {
            folder,
            state,
            reason: reason.into(),
        }
    }
}

/// All runs found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Finished runs, by folder.
    pub runs: Vec<Run>,
    /// The others.
    pub missing: Vec<Missing>,
}

/// Whether a folder is that of one run.
fn is_run(path: &Path) -> bool {
    let has = |name: &str| path.join(name).is_file();
    // A recipe may also lie beside the sweep that names it.
    has("summary.json") || has(FAILURE) || has("recipe.toml") && !has(SWEEP)
}

/// Refuses to put several runs into the folder of one, in which nobody looks for others.
pub fn refuse_run(path: &Path) -> Result<(), Failure> {
    match is_run(path) {
        false => Ok(()),
        true => Err(Failure::usage(format!(
            "{} is the folder of a run, runs of their own cannot lie in it; choose another --out",
            path.display()
        ))),
    }
}

impl Found {
    /// The runs in some folders, each that of a run or one that holds such folders.
    ///
    /// # Errors
    /// A path under which there is no run at all.
    pub fn read(paths: &[PathBuf]) -> Result<Found, Failure> {
        let mut found = Found::default();
        for path in paths {
            let before = found.runs.len() + found.missing.len();
            found.walk(path, DEPTH);
            if found.runs.len() + found.missing.len() == before {
                return Err(Failure::usage(format!(
                    "{}: is neither the folder of a run nor one that holds such folders; give what `skinny train` or `skinny sweep` wrote",
                    path.display()
                )));
            }
        }
        found.runs.sort_by(|a, b| a.folder.cmp(&b.folder));
        found.set_repeated_aside();
        found.missing.sort_by(|a, b| a.folder.cmp(&b.folder));
        found.missing.dedup();
        Ok(found)
    }

    fn walk(&mut self, path: &Path, depth: usize) {
        if is_run(path) {
            match read(path) {
                Ok(run) => self.runs.push(run),
                Err(missing) => self.missing.push(missing),
            }
            return;
        }
        if depth == 0 {
            return;
        }
        // A sweep that lies beside its runs says which of them have not begun.
        if path.join(SWEEP).is_file() {
            match Sweep::load(&path.join(SWEEP)) {
                Ok(sweep) => {
                    let absent = (sweep.runs.iter()).map(|run| path.join(&run.id));
                    let absent = absent.filter(|run| !run.exists());
                    let missing = absent.map(|folder| Missing::new(folder, TO_DO, ""));
                    self.missing.extend(missing);
                }
                Err(error) => self.unreadable(path.join(SWEEP), &error),
            }
        }
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error)
                if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) =>
            {
                return;
            }
            Err(error) => return self.unreadable(path.to_path_buf(), &error),
        };
        let mut folders: Vec<PathBuf> = (entries.flatten())
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect();
        folders.sort();
        for folder in folders {
            self.walk(&folder, depth - 1);
        }
    }

    fn unreadable(&mut self, path: PathBuf, error: &dyn std::fmt::Display) {
        (self.missing).push(Missing::new(path, "unreadable", &error.to_string()));
    }

    /// A run given twice, or one of the same settings and seed, which comes to the same, must not count twice.
    fn set_repeated_aside(&mut self) {
        let mut first: BTreeMap<(String, u64, Option<String>), PathBuf> = BTreeMap::new();
        let runs = std::mem::take(&mut self.runs);
        for run in runs {
            let summary = &run.summary;
            let key = (
                summary.settings_hash.clone(),
                summary.seed,
                run.recipe.place(),
            );
            match first.get(&key) {
                Some(other) if *other == run.folder => {}
                Some(other) => {
                    let reason = format!("has settings and seed of {}", other.display());
                    (self.missing).push(Missing::new(run.folder, "repeated", &reason));
                }
                None => {
                    first.insert(key, run.folder.clone());
                    self.runs.push(run);
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<Run, Missing> {
    let missing = |state, reason: String| Missing::new(path.to_path_buf(), state, &reason);
    if path.join(FAILURE).exists() {
        return Err(missing("failed", failure_of(path)));
    }
    let unreadable = |error: &dyn std::fmt::Display| missing("unreadable", error.to_string());
    let folder = RunFolder::open(path).map_err(|error| unreadable(&error))?;
    let summary = folder.summary().map_err(|error| unreadable(&error))?;
    let Some(summary) = summary else {
        return Err(missing("begun", progress(path)));
    };
    if !summary.test_error.is_finite() {
        return Err(missing("unreadable", "its test error is no number".into()));
    }
    let recipe = folder.recipe().map_err(|error| unreadable(&error))?;
    let table: Table = (recipe.to_toml().parse()).map_err(|error| unreadable(&error))?;
    Ok(Run {
        folder: path.to_path_buf(),
        summary,
        recipe,
        table,
    })
}

/// How far a run has come.
fn progress(path: &Path) -> String {
    let rows = fs::read_to_string(path.join("results.csv")).unwrap_or_default();
    match rows.lines().count().saturating_sub(1) {
        0 => String::new(),
        1 => "1 epoch done".into(),
        epochs => format!("{epochs} epochs done"),
    }
}

impl Run {
    /// The value of a key that runs are grouped by; none if the run has none.
    ///
    /// `method`, `density`, `name`, `network`, `data`, `epochs` and `seed` speak for themselves; `case` is the name of the folder without
    /// its seed, or of the one above; everything else is a key of the recipe, as `sparsity.budget`.
    pub fn value(&self, key: &str) -> Option<String> {
        Some(match key {
            "method" => self.summary.method.clone(),
            "density" => self.density().to_string(),
            "name" => self.summary.name.clone(),
            "network" => self.summary.network.clone(),
            "data" => self.summary.data.clone(),
            "epochs" => self.summary.epochs.to_string(),
            "seed" => self.summary.seed.to_string(),
            "case" => self.case(),
            _ => text(lookup(&self.table, key)?),
        })
    }

    /// The density that its recipe asks for; 1 of a dense run.
    fn density(&self) -> f64 {
        match self.recipe.sparsity.method {
            Method::Dense => 1.0,
            _ => self.recipe.sparsity.density.unwrap_or(1.0),
        }
    }

    /// The name of the folder without its seed; where that is the whole name, as `skinny train --seeds` gives it, of the one above.
    fn case(&self) -> String {
        let name = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let own = name(&self.folder);
        let seed = format!("seed-{}", self.summary.seed);
        let case = own
            .strip_suffix(&seed)
            .unwrap_or(&own)
            .trim_end_matches('-');
        match (case, self.folder.parent()) {
            ("", Some(above)) => name(above),
            (case, _) => case.to_string(),
        }
    }

    /// What two runs must have in common to be compared: everything of data, network and training but the keys `except`, named as in
    /// [`Self::value`].
    pub fn context(&self, except: &[&str]) -> BTreeMap<String, String> {
        let mut context = BTreeMap::new();
        for part in ["data", "network", "train"] {
            if let Some(value) = self.table.get(part) {
                flatten(part, value, &mut context);
            }
        }
        // How often the state is saved does not matter.
        context.remove("train.checkpoint");
        context.remove("data.path");
        context.extend(self.recipe.place().map(|place| ("data.path".into(), place)));
        if context.contains_key("network.file") {
            // The run's own is thinner with method `small_dense`.
            let whole = self.recipe.whole_network().map(|network| network.name);
            let name = whole.unwrap_or_else(|_| self.summary.network.clone());
            context.insert("network.file".into(), name);
        }
        if context.contains_key("network.weights") {
            context.insert("network.weights".into(), "given".into());
        }
        let named = |key: &str| {
            except.iter().any(|name| match *name {
                "data" => ["data.name", "data.path"].contains(&key),
                "network" => ["network.name", "network.file", "network.classes"].contains(&key),
                "epochs" => key == "train.epochs",
                name => key == name,
            })
        };
        context.retain(|key, _| !named(key));
        context
    }

    /// Every setting but name and seed, to say in what runs of one group differ.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = self.context(&[]);
        if let Some(sparsity) = self.table.get("sparsity") {
            flatten("sparsity", sparsity, &mut settings);
        }
        settings
    }
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let mut value = table.get(parts.next()?)?;
    for part in parts {
        value = value.as_table()?.get(part)?;
    }
    Some(value)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string().replace('\n', " "),
    }
}

fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(&format!("{prefix}.{key}"), value, into);
            }
        }
        other => {
            into.insert(prefix.to_string(), text(other));
        }
    }
}
