//! `skinny slim`: the smallest network that loses no more than it may, found by sensitivity and IHT.
//!
//! Densities are chosen by what came out of those before, on the held-out pictures alone, and every trial is an ordinary run, so that
//! the same command goes on after an interruption. The test set confirms the winner and chooses nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};
use skinny::data::DataRoots;
use skinny::model::{PackOptions, pack};
use skinny::network::{Tensors, write_atomically};
use skinny::sparsity::{Budget, Method};
use skinny::train::{
    DENSITIES, Engine, JobOptions, Material, Predictions, Recipe, Resolved, RunFolder, Sensitivity,
    SlimSearch, Summary, Trained, nonzeros,
};

use crate::arguments::{BudgetChoice, SlimArguments, Which};
use crate::commands::env::{environment, threads};
use crate::commands::finish::finish;
use crate::commands::sensitivity::{measure, refuse_fixed, with_budget};
use crate::commands::source::{self, Source};
use crate::commands::train::{quoted, resolved_hash, stop_flag};
use crate::failure::Failure;
use crate::output::{self, Output, bytes, note, percent, table, thousands};
use crate::progress::Display;
use crate::report::plots::chart::{Axis, Chart, Range, Style, format};
use crate::report::plots::{Anchor, Canvas, ink};
use crate::report::{write_drawings, write_whole};

/// The weights that the search starts from, in its folder.
const START: &str = "start.safetensors";
/// What the search is and what it has come to.
const RECORD: &str = "slim.json";

/// Densities have three significant digits in a search; from here on they would be 1.
const NEARLY_ALL: f64 = 0.9995;

/// One density that was tried.
struct Trial {
    density: f64,
    run: PathBuf,
    /// None if the training diverged, or the recipe cannot reach this density.
    summary: Option<Summary>,
    good: bool,
}

/// Searches, and writes the winner.
pub fn slim(arguments: &SlimArguments, output: Output) -> Result<(), Failure> {
    let threads = threads(arguments.threads)?;
    let search = search(arguments)?;
    let source = open(arguments)?;
    let recipe = source.recipe()?.clone();
    if recipe.data.validation == 0 {
        return Err(Failure::usage(
            "the recipe holds no pictures out, and the test set must not choose; train the network with some held out, as --set data.validation=5000, and give that run",
        ));
    }
    refuse_fixed(&recipe)?;
    if arguments.budget == BudgetChoice::Recipe
        && recipe.sparsity.method == Method::Iht
        && recipe.sparsity.budget == Some(Budget::PerLayer)
    {
        return Err(Failure::usage(
            "the recipe gives each layer a density of its own, which no search changes; leave --budget recipe out",
        ));
    }
    source::refuse_learned(&arguments.run, &recipe)?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => Path::new("runs").join(format!("{}-slim", recipe.name)),
    };
    let options = JobOptions {
        roots: DataRoots::new(arguments.data.as_deref()),
        threads,
        environment: environment(threads),
    };
    let mut session = Session {
        arguments,
        recipe,
        start: keep_start(&out, &source.model.tensors)?,
        out,
        options,
        output,
        stop: stop_flag()?,
        sensitivity: None,
    };
    let record = session.record()?;
    let sensitivity = session.sensitivity(&source)?;
    let limit = sensitivity.error + arguments.max_error_increase / 100.0;
    note!(
        "held-out error {} now, {} at most allowed; by chance alone {} other pictures would give {:.2} points more or less",
        percent(sensitivity.error),
        percent(limit),
        thousands(sensitivity.pictures as u64),
        100.0 * by_chance(&sensitivity)
    );
    let search = SlimSearch {
        start: match arguments.start {
            Some(start) => start,
            None => sensitivity.density_for(arguments.max_error_increase / 100.0, search.least),
        },
        ..search
    };
    session.sensitivity = Some(sensitivity);
    let trials = session.walk(search, limit)?;
    session.tell(source, &trials, limit, record)
}

/// The search that the arguments ask for.
fn search(arguments: &SlimArguments) -> Result<SlimSearch, Failure> {
    let refuse = |flag: &str, value: f64, right: &str| {
        Err(Failure::usage(format!("{flag} {value} is {right}")))
    };
    let increase = arguments.max_error_increase;
    if !(0.0..=100.0).contains(&increase) {
        return refuse(
            "--max-error-increase",
            increase,
            "not between 0 and 100; it is in points, 0.2 for 0.2 % more errors",
        );
    }
    for (flag, value) in [
        ("--least", Some(arguments.least)),
        ("--start", arguments.start),
    ] {
        if let Some(value) = value
            && !(value > 0.0 && value < NEARLY_ALL)
        {
            let right = format!("outside (0, {NEARLY_ALL}); write a kept share, as 0.01");
            return refuse(flag, value, &right);
        }
    }
    if let Some(start) = arguments.start
        && start < arguments.least
    {
        return refuse("--start", start, "below --least; begin at it or above");
    }
    if arguments.tolerance.is_nan() || arguments.tolerance < 0.01 {
        return refuse(
            "--tolerance",
            arguments.tolerance,
            "below 0.01, closer than seeds can tell; 0.1 is a tenth",
        );
    }
    Ok(SlimSearch {
        start: 1.0,
        least: arguments.least,
        tolerance: arguments.tolerance,
        most: arguments.trials,
    })
}

/// The network and its recipe with the changes of the command line.
fn open(arguments: &SlimArguments) -> Result<Source, Failure> {
    let own = arguments.run.join("recipe.toml");
    let name = match &arguments.recipe {
        Some(name) => name.clone(),
        None if own.exists() => own.to_string_lossy().into_owned(),
        None => {
            return Err(Failure::usage(format!(
                "{} does not say how it was trained; name a recipe with --recipe",
                arguments.run.display()
            )));
        }
    };
    let mut recipe = Recipe::load(&name, &arguments.settings)?;
    recipe.seed = arguments.seed.unwrap_or(recipe.seed);
    if recipe.sparsity.method == Method::SmallDense {
        return Err(Failure::usage(
            "method small_dense makes another network of the recipe's; describe the thinner one in a network's TOML file",
        ));
    }
    source::with_recipe(&arguments.run, Which::Last, Some(recipe))
}

/// Keeps the weights that the search starts from, unless they are there; other weights belong to another search.
fn keep_start(out: &Path, tensors: &Tensors) -> Result<PathBuf, Failure> {
    let path = out.join(START);
    let bytes = tensors.to_bytes()?;
    match std::fs::read(&path) {
        Ok(there) if there == bytes => {}
        Ok(_) => return Err(another(out)),
        Err(_) => {
            std::fs::create_dir_all(out).map_err(|error| {
                Failure::usage(format!(
                    "{}: cannot be created: {error}; choose another --out",
                    out.display()
                ))
            })?;
            write_whole(&path, &bytes)?;
        }
    }
    Ok(path)
}

fn another(out: &Path) -> Failure {
    Failure::usage(format!(
        "{} holds a search from other weights or with other settings, which is never overwritten; choose another --out",
        out.display()
    ))
}

struct Session<'a> {
    arguments: &'a SlimArguments,
    recipe: Recipe,
    out: PathBuf,
    start: PathBuf,
    options: JobOptions,
    output: Output,
    stop: Arc<AtomicBool>,
    sensitivity: Option<Sensitivity>,
}

impl Session<'_> {
    /// The recipe of a trial.
    fn trial(&self, density: f64) -> Recipe {
        let mut recipe = self.recipe.clone();
        recipe.name = format!("{}-slim-{density}", self.recipe.name);
        recipe.network.weights = Some(self.start.clone());
        recipe.network.import = Default::default();
        recipe.sparsity = match (self.arguments.budget, &self.sensitivity) {
            (BudgetChoice::Sensitivity, Some(found)) => {
                with_budget(&self.recipe.sparsity, found.budget(density), density)
            }
            _ => {
                let mut own = with_budget(&self.recipe.sparsity, Default::default(), density);
                let is_iht = self.recipe.sparsity.method == Method::Iht;
                own.layers = self.recipe.sparsity.layers.clone().filter(|_| is_iht);
                own.floor = self.recipe.sparsity.floor.filter(|_| is_iht);
                own.budget = match is_iht {
                    true => self.recipe.sparsity.budget,
                    false => Some(Budget::Erk),
                };
                own
            }
        };
        // The density falls to that of the trial, from there at the least.
        let start = recipe.sparsity.start_density;
        recipe.sparsity.start_density = start.map(|start| start.max(density));
        recipe
    }

    /// What makes this search another than one that is there: kept, and compared when the command is given again.
    fn record(&self) -> Result<Value, Failure> {
        let settings = json!({
            "max_error_increase": self.arguments.max_error_increase,
            "least": self.arguments.least,
            "tolerance": self.arguments.tolerance,
            "start": self.arguments.start,
            "budget": format!("{:?}", self.arguments.budget).to_lowercase(),
            "seed": self.recipe.seed,
            "recipe": resolved_hash(&self.trial(0.5))?,
        });
        let path = self.out.join(RECORD);
        if let Ok(text) = std::fs::read_to_string(&path) {
            let there: Value = serde_json::from_str(&text).unwrap_or_default();
            return match there["settings"] == settings {
                true => Ok(settings),
                false => Err(another(&self.out)),
            };
        }
        self.write(RECORD, &json!({ "schema": 1, "settings": settings }))?;
        Ok(settings)
    }

    fn write(&self, name: &str, value: &Value) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).expect("a value is plain data");
        Ok(write_whole(&self.out.join(name), (text + "\n").as_bytes())?)
    }

    /// Measured once, then read.
    fn sensitivity(&self, source: &Source) -> Result<Sensitivity, Failure> {
        let path = self.out.join("sensitivity.json");
        if let Some(found) =
            (std::fs::read_to_string(&path).ok()).and_then(|text| serde_json::from_str(&text).ok())
        {
            return Ok(found);
        }
        note!("measuring the sensitivity of each layer");
        let found = measure(
            Source {
                model: source.model.clone(),
                recipe: None,
                knows_preprocess: source.knows_preprocess,
            },
            &self.recipe,
            &self.options.roots,
            self.options.threads,
            &DENSITIES,
            None,
            &self.stop,
            self.output,
        )?;
        let value = serde_json::to_value(&found).expect("a sensitivity is plain data");
        self.write("sensitivity.json", &value)?;
        Ok(found)
    }

    /// Tries one density after the other.
    fn walk(&self, search: SlimSearch, limit: f64) -> Result<Vec<Trial>, Failure> {
        // What is refused later is refused before hours of training.
        let images = Material::count(
            &self.recipe,
            &self.recipe.network()?.graph()?,
            &self.options.roots,
        )?;
        let mut trials: Vec<Trial> = Vec::new();
        loop {
            let tried: Vec<(f64, bool)> = (trials.iter())
                .map(|trial| (trial.density, trial.good))
                .collect();
            let Some(density) = search.next(&tried) else {
                return Ok(trials);
            };
            let recipe = self.trial(density);
            let run = self.out.join(format!("density-{density}"));
            note!(
                "trial {} of at most {}: density {density}",
                trials.len() + 1,
                search.most
            );
            let summary = match Resolved::new(recipe.clone(), images) {
                Ok(_) => self.one(&recipe, &run)?,
                Err(error) => {
                    // What is wrong at a high density too is wrong with the recipe.
                    Resolved::new(self.trial(0.9), images)?;
                    note!("{error}");
                    None
                }
            };
            let error = summary
                .as_ref()
                .and_then(|summary| summary.validation_error);
            let good = error.is_some_and(|error| error <= limit + 1e-12);
            note!(
                "density {density}: held-out error {}, {}",
                error.map_or("–".into(), percent),
                if good { "good" } else { "too much" }
            );
            // A reader that has gone away must not end the search.
            let _ = self.output.object(&json!({
                "event": "trial", "density": density, "run": run, "good": good, "summary": summary,
            }));
            trials.push(Trial {
                density,
                run,
                summary,
                good,
            });
        }
    }

    /// The summary of a trial; none if it has diverged.
    fn one(&self, recipe: &Recipe, run: &Path) -> Result<Option<Summary>, Failure> {
        let mut display: Option<Display> = None;
        let ended = finish(
            recipe,
            run,
            &self.options,
            &mut |resolved, event| {
                display
                    .get_or_insert_with(|| Display::new(self.output, resolved, run))
                    .show(event);
            },
            &self.stop,
        );
        if let Some(display) = display {
            display.finish(ended.as_ref().ok().map(|finished| &finished.summary));
        }
        match ended {
            Ok(finished) => Ok(Some(finished.summary)),
            Err(failure) if failure.code == 4 => {
                note!("{}", failure.message);
                Ok(None)
            }
            Err(failure) if failure.code == 5 => Err(Failure {
                message: "interrupted; give this command again to go on".into(),
                code: 5,
            }),
            Err(failure) => Err(failure),
        }
    }

    /// The road, the winner on the test set, and its file.
    fn tell(
        &self,
        source: Source,
        trials: &[Trial],
        limit: f64,
        settings: Value,
    ) -> Result<(), Failure> {
        let dense = self.measured(source)?;
        self.output.text(&road(trials, &dense))?;
        let sensitivity = self.sensitivity.as_ref();
        let plots = write_drawings(
            &[(
                "slim".into(),
                picture(trials, dense.held_out, limit, &self.recipe.name),
            )],
            &self.out,
        )?;
        let winner = (trials.iter().filter(|trial| trial.good))
            .filter_map(|trial| Some((trial, trial.summary.as_ref()?)))
            .min_by_key(|(_, summary)| (summary.nonzeros, summary.packed_bytes));
        let exported = match winner {
            Some((trial, _)) => Some(self.export(&trial.run)?),
            None => None,
        };
        let increase = self.arguments.max_error_increase / 100.0;
        let confirmed =
            winner.map(|(_, summary)| summary.test_error <= dense.test + increase + 1e-12);
        let steps: Vec<Value> = (trials.iter())
            .map(|trial| {
                json!({
                    "density": trial.density, "run": trial.run, "good": trial.good,
                    "validation_error": trial.summary.as_ref().and_then(|s| s.validation_error),
                    "nonzeros": trial.summary.as_ref().map(|s| s.nonzeros),
                    "packed_bytes": trial.summary.as_ref().map(|s| s.packed_bytes),
                })
            })
            .collect();
        let result = json!({
            "schema": 1, "settings": settings,
            "validation_error": sensitivity.map(|found| found.error),
            "validation_error_sd": sensitivity.map(by_chance), "test_error": dense.test,
            "nonzeros": dense.nonzeros, "dense_bytes": dense.bytes,
            "trials": steps,
            "winner": winner.map(|(trial, summary)| json!({
                "run": trial.run, "density": trial.density, "nonzeros": summary.nonzeros,
                "validation_error": summary.validation_error, "test_error": summary.test_error,
                "file": exported.as_ref().map(|file| &file.path),
                "file_bytes": exported.as_ref().map(|file| file.bytes),
                "preprocess_bytes": exported.as_ref().map(|file| file.preprocess),
                "confirmed": confirmed,
            })),
        });
        self.write(RECORD, &result)?;
        let mut event = result.clone();
        event["event"] = json!("slim");
        event["plots"] = json!(plots);
        self.output.object(&event)?;
        let (Some((_, summary)), Some(file)) = (winner, exported) else {
            return self.output.text(&format!(
                "\nno smaller network lost at most {} points on the held-out pictures; allow more with --max-error-increase, or train longer with --set train.epochs=N",
                self.arguments.max_error_increase
            ));
        };
        let times = |from: f64, to: f64| format!("(÷ {:.1})", from / to.max(1.0));
        self.output.text(&format!(
            "\n{}",
            table(&[
                ["", "given", "skinny"].map(String::from).to_vec(),
                vec![
                    "held-out error".into(),
                    percent(dense.held_out),
                    summary.validation_error.map_or("–".into(), percent)
                ],
                vec![
                    "test error".into(),
                    percent(dense.test),
                    percent(summary.test_error)
                ],
                vec![
                    "non-zeros".into(),
                    thousands(dense.nonzeros as u64),
                    format!(
                        "{} {}",
                        thousands(summary.nonzeros as u64),
                        times(dense.nonzeros as f64, summary.nonzeros as f64)
                    ),
                ],
                vec![
                    "file".into(),
                    format!("{} as f32", bytes(dense.bytes)),
                    format!(
                        "{} {}",
                        bytes(file.network()),
                        times(dense.bytes as f64, file.network() as f64)
                    ),
                ],
            ])
        ))?;
        if confirmed == Some(false) {
            note!(
                "what is chosen for its held-out error is often worse elsewhere; train with more pictures held out (data.validation), or take the next larger trial"
            );
        }
        self.output.text(&format!(
            "\nthe test set {} it: {} points allowed, {:+.2} found\n\n{}{}\nnext: skinny inspect {}",
            if confirmed == Some(true) {
                "confirms"
            } else {
                "does not confirm"
            },
            self.arguments.max_error_increase,
            100.0 * (summary.test_error - dense.test),
            file.path.display(),
            output::prepares(file.preprocess),
            quoted(&file.path)
        ))
    }

    /// The network that was given, on held-out pictures and on the test set.
    fn measured(&self, mut source: Source) -> Result<Given, Failure> {
        let graph = source.model.network.graph()?;
        let material = source.material(&self.recipe, &self.options.roots)?;
        let batch = self.recipe.data.batch;
        let mut trained = Trained::new(source.model, batch, self.options.threads)?;
        let engine: &mut dyn Engine = &mut trained.engine;
        let test = Predictions::of(engine, &material.test, &trained.model.preprocess, batch)?;
        Ok(Given {
            held_out: self
                .sensitivity
                .as_ref()
                .map_or(f64::NAN, |found| found.error),
            test: test.outcome.error(),
            nonzeros: nonzeros(&graph, &trained.model.tensors),
            bytes: graph.parameters.iter().map(|p| 4 * p.len() as u64).sum(),
        })
    }

    /// Writes the `.skinny` file of a run, every bit kept.
    fn export(&self, run: &Path) -> Result<Exported, Failure> {
        let model = RunFolder::open(run)?.unpacked("last")?;
        let packed = pack(&model, &PackOptions::default(), &mut |_| ())?;
        let path = self.out.join(format!("{}.skinny", self.recipe.name));
        write_atomically(&path, |out| std::io::Write::write_all(out, &packed)).map_err(
            |source| skinny::model::ModelError::Write {
                path: path.clone(),
                source,
            },
        )?;
        Ok(Exported {
            path,
            bytes: packed.len() as u64,
            preprocess: source::preprocess_bytes(&model.preprocess),
        })
    }
}

/// The file of the winner.
struct Exported {
    path: PathBuf,
    bytes: u64,
    /// Of those, what prepares pictures.
    preprocess: u64,
}

impl Exported {
    /// Bytes of the network alone.
    fn network(&self) -> u64 {
        self.bytes - self.preprocess
    }
}

/// Standard deviation of the error over draws of as many pictures.
fn by_chance(found: &Sensitivity) -> f64 {
    (found.error * (1.0 - found.error) / found.pictures.max(1) as f64).sqrt()
}

/// The network that the search starts from.
struct Given {
    held_out: f64,
    test: f64,
    nonzeros: usize,
    bytes: u64,
}

/// The densities in the order in which they were tried.
fn road(trials: &[Trial], dense: &Given) -> String {
    let header = [
        "trial",
        "density",
        "non-zeros",
        "file",
        "held-out error",
        "change",
        "",
    ];
    let mut rows = vec![header.map(String::from).to_vec()];
    for (index, trial) in trials.iter().enumerate() {
        let none = || "–".to_string();
        let summary = trial.summary.as_ref();
        let error = summary.and_then(|summary| summary.validation_error);
        rows.push(vec![
            (index + 1).to_string(),
            trial.density.to_string(),
            summary.map_or_else(none, |s| thousands(s.nonzeros as u64)),
            summary.map_or_else(none, |s| bytes(s.packed_bytes)),
            error.map_or_else(none, percent),
            error.map_or_else(none, |error| {
                format!("{:+.2}", 100.0 * (error - dense.held_out))
            }),
            match (trial.good, summary) {
                (true, _) => "good",
                (false, Some(_)) => "too much",
                (false, None) if trial.run.exists() => "diverged",
                (false, None) => "impossible",
            }
            .into(),
        ]);
    }
    table(&rows)
}

/// Trials by density, good and bad, under the limit.
fn picture(trials: &[Trial], dense: f64, limit: f64, name: &str) -> Canvas {
    let style = |name: &str, ink, dashed| Style {
        name: name.into(),
        ink,
        dashed,
        hollow: false,
        bold: false,
    };
    let good = style("good", ink::KEPT, false);
    let bad = style("too much", ink::WRONG, false);
    let given = style("given network", ink::DENSE, true);
    let most = style("most allowed", ink::VALIDATION, true);
    let points: Vec<(f64, f64, bool)> = (trials.iter())
        .filter_map(|trial| {
            let error = trial.summary.as_ref()?.validation_error?;
            Some((trial.density, error, trial.good))
        })
        .collect();
    let errors = || points.iter().map(|point| point.1).chain([dense, limit]);
    let least = errors().fold(f64::INFINITY, f64::min);
    let log = errors().fold(0.0, f64::max) > 4.0 * least;
    let mut chart = Chart::new(
        &format!("The search for a smaller network: {name}"),
        (760.0, 400.0),
        Axis {
            label: "density",
            range: Range::of(points.iter().map(|point| point.0), true),
            format: format::percent,
        },
        Axis {
            label: "error on the held-out pictures, trials numbered in their order",
            range: Range::of(errors(), log),
            format: format::percent,
        },
        &[good.clone(), bad.clone(), most.clone(), given.clone()],
    );
    chart.level(dense, None, &given);
    chart.level(limit, None, &most);
    for (number, (density, error, is_good)) in points.into_iter().enumerate() {
        chart.curve(&[(density, error)], if is_good { &good } else { &bad });
        let (x, y) = chart.at((density, error));
        let number = (number + 1).to_string();
        chart
            .canvas
            .text((x + 7.0, y - 7.0), &number, 12, Anchor::Start, ink::MUTED);
    }
    chart.canvas
}
