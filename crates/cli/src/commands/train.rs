//! `skinny train`: runs, their dense twins, several seeds, and the table at the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use skinny::data::DataRoots;
use skinny::sparsity::Method;
use skinny::train::{Job, JobOptions, Recipe, RunFolder, Summary, TrainError, Twin};

use crate::arguments::{Device, Seeds, TrainArguments};
use crate::commands::env::{environment, threads};
use crate::commands::finish::State;
use crate::commands::latency::Latency;
use crate::compare::runs::refuse_run;
use crate::compare::statistics::Sample;
use crate::failure::Failure;
use crate::output::{Output, bytes, note, percent, table, thousands};
use crate::progress::Display;

/// Trains what the arguments ask for.
pub fn train(arguments: &TrainArguments, output: Output) -> Result<(), Failure> {
    if arguments.device == Device::Gpu {
        return Err(Failure::usage(
            "this build has no engine for a GPU; use --device cpu, or leave it out",
        ));
    }
    let threads = threads(arguments.threads)?;
    let options = JobOptions {
        roots: DataRoots::new(arguments.data.as_deref()),
        threads,
        environment: environment(threads),
    };
    let session = Session {
        options,
        data: arguments.data.clone(),
        output,
        stop: stop_flag()?,
    };
    if let Some(folder) = &arguments.resume {
        return session.resume(folder);
    }
    // The default job compares with its dense twin; other recipes do so when they are asked to.
    let with_dense = arguments.with_dense || arguments.recipe.is_none();
    let name = arguments
        .recipe
        .as_deref()
        .unwrap_or("glyphs-lenet5-iht-10x");
    let mut recipe = Recipe::load(name, &arguments.settings)?;
    if let Some(weights) = &arguments.init {
        recipe.network.weights = Some(weights.clone());
        recipe.network.import = arguments.matching.options()?;
    } else if arguments.matching.any() {
        return Err(Failure::usage(
            "--match, --rename and --no-strict say how the weights of --init match; name a file with --init",
        ));
    }
    tell_matches(&recipe)?;
    match arguments.seeds {
        Some(seeds) => session.several(&recipe, seeds, arguments.out.as_deref(), with_dense),
        None => {
            recipe.seed = arguments.seed.unwrap_or(recipe.seed);
            let (folder, summary) =
                session.one(recipe, arguments.out.as_deref(), with_dense, true)?;
            session.tell(&folder, &summary)
        }
    }
}

/// Says which weights of a file are taken for which, where that is more than equal names.
fn tell_matches(recipe: &Recipe) -> Result<(), Failure> {
    if recipe.network.import == Default::default() {
        return Ok(());
    }
    let graph = recipe.network()?.graph()?;
    if let Some(weights) = recipe.starting_weights(&graph)? {
        for pair in &weights.pairs {
            note!("{pair}");
        }
        for line in weights.mismatches.lines() {
            note!("{line}");
        }
    }
    Ok(())
}

/// Set by the first Ctrl-C, which ends a run after its step; the second ends the program at once.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        note!("\nstopping after this step; press Ctrl-C again to stop at once");
    })
    .map_err(|error| Failure::usage(format!("cannot watch for Ctrl-C: {error}")))?;
    Ok(stop)
}

struct Session {
    options: JobOptions,
    /// As given by `--data`.
    data: Option<PathBuf>,
    output: Output,
    stop: Arc<AtomicBool>,
}

impl Session {
    fn resume(&self, folder: &Path) -> Result<(), Failure> {
        let job = Job::resume(folder, &self.options)?;
        let twin = self.twin(&job.resolved().recipe, Some(folder), false)?;
        let summary = self.run(job, twin)?;
        self.tell(folder, &summary)
    }

    /// One run, after its dense twin if that is wanted and not there. If `again`, the same command goes on after a twin that was
    /// interrupted and resumed.
    fn one(
        &self,
        recipe: Recipe,
        out: Option<&Path>,
        with_dense: bool,
        again: bool,
    ) -> Result<(PathBuf, Summary), Failure> {
        let twin = (self.twin(&recipe, out, with_dense)).map_err(|failure| match again {
            true => and_then_the_rest(failure),
            false => failure,
        })?;
        let job = Job::start(recipe, out, &self.options)?;
        let folder = job.folder().path().to_path_buf();
        let summary = self.run(job, twin)?;
        Ok((folder, summary))
    }

    /// A finished run of the same settings without sparsity: found beside the run, or trained. A dense run has none.
    fn twin(
        &self,
        recipe: &Recipe,
        out: Option<&Path>,
        train: bool,
    ) -> Result<Option<Twin>, Failure> {
        if recipe.sparsity.method == Method::Dense {
            return Ok(None);
        }
        let dense = recipe.dense_twin();
        let beside = match out {
            Some(out) => out
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new(".")),
            None => Path::new("runs"),
        };
        if let Some(found) = find_finished(beside, &dense)? {
            return Ok(Some(found));
        }
        if !train {
            return Ok(None);
        }
        // What would be refused after the twin's training is refused before it.
        Job::check(recipe.clone(), out, &self.options)?;
        let twin_out = out.map(|out| {
            let mut name = out.file_name().unwrap_or_default().to_os_string();
            name.push("-dense");
            out.with_file_name(name)
        });
        let job = Job::start(dense, twin_out.as_deref(), &self.options)?;
        let folder = job.folder().path().to_path_buf();
        let summary = self.run(job, None)?;
        Ok(Some(twin_of(folder, &summary)))
    }

    fn several(
        &self,
        recipe: &Recipe,
        seeds: Seeds,
        out: Option<&Path>,
        with_dense: bool,
    ) -> Result<(), Failure> {
        out.map_or(Ok(()), refuse_run)?;
        let mut runs = Vec::new();
        for seed in seeds.first..=seeds.last {
            let recipe = Recipe {
                seed,
                ..recipe.clone()
            };
            let out = out.map(|out| out.join(format!("seed-{seed}")));
            if let Some(out) = out.as_deref().and_then(Path::parent) {
                std::fs::create_dir_all(out).map_err(|error| {
                    Failure::usage(format!(
                        "{}: cannot be created: {error}; choose another --out",
                        out.display()
                    ))
                })?;
            }
            let done = out
                .as_deref()
                .filter(|path| path.join("summary.json").exists());
            let (folder, summary) = match done {
                Some(path) => {
                    let finished = self.finished(path, &recipe)?;
                    note!("{} is finished already", path.display());
                    (path.to_path_buf(), finished)
                }
                None => self
                    .one(recipe, out.as_deref(), with_dense, out.is_some())
                    .map_err(|failure| match out {
                        Some(_) => and_then_the_rest(failure),
                        None => failure,
                    })?,
            };
            self.tell(&folder, &summary)?;
            runs.push(summary);
        }
        self.output.text(&over_seeds(&runs))?;
        self.output
            .object(&json!({ "event": "seeds", "runs": runs }))
    }

    /// The summary of a finished run of the same settings and seed.
    fn finished(&self, path: &Path, recipe: &Recipe) -> Result<Summary, Failure> {
        match State::of(recipe, path)? {
            State::Finished(summary) => Ok(*summary),
            _ => Err(Failure::usage(format!(
                "{} holds a finished run of other settings, which is never overwritten; choose another --out",
                path.display()
            ))),
        }
    }

    fn run(&self, job: Job, twin: Option<Twin>) -> Result<Summary, Failure> {
        let folder = job.folder().clone();
        let mut display = Display::new(self.output, job.resolved(), folder.path());
        let result = job.run(twin, &mut |event| display.show(event), &self.stop);
        display.finish(result.as_ref().ok());
        let resume = self.resume_command(folder.path());
        let stopped = |message: String| Err(Failure { message, code: 5 });
        match result {
            Err(TrainError::Interrupted { step, folder }) => {
                self.output.object(&json!({
                    "event": "interrupted", "step": step, "run": folder, "resume": resume,
                }))?;
                stopped(format!(
                    "interrupted after step {step}; go on with: {resume}"
                ))
            }
            Err(error @ TrainError::Write { .. }) => {
                stopped(format!("{error}; go on with: {resume}"))
            }
            other => Ok(other?),
        }
    }

    /// What to type to go on with a run.
    fn resume_command(&self, folder: &Path) -> String {
        let data = self
            .data
            .as_deref()
            .map_or(String::new(), |data| format!(" --data {}", quoted(data)));
        format!("skinny train --resume {}{data}", quoted(folder))
    }

    /// The table at the end of a run, and what to type next.
    fn tell(&self, folder: &Path, summary: &Summary) -> Result<(), Failure> {
        // What is finished is not lost because it could not be timed.
        let latency = RunFolder::open(folder)
            .map_err(Failure::from)
            .and_then(|folder| Latency::of(&folder))
            .inspect_err(|failure| note!("the latency is not known: {}", failure.message))
            .ok();
        self.output.object(&json!({
            "event": "finished", "run": folder, "summary": summary,
            "latency": latency.map(|latency| json!({
                "batch": 1, "threads": 1, "dense_ms": latency.dense, "skinny_ms": latency.skinny,
            })),
        }))?;
        let next = match &summary.dense_twin {
            Some(twin) => format!("skinny report {} {}", quoted(folder), quoted(&twin.run)),
            None => format!("skinny report {}", quoted(folder)),
        };
        self.output.text(&format!(
            "\n{}\n\nnext: {next}",
            result_table(summary, latency)
        ))
    }
}

/// A run that can go on was not the last one of its command, which leaves out what is finished.
fn and_then_the_rest(failure: Failure) -> Failure {
    const REST: &str = ", then give this command again";
    match failure.code == 5 && !failure.message.ends_with(REST) {
        true => Failure {
            message: failure.message + REST,
            ..failure
        },
        false => failure,
    }
}

/// The hash that a run of this recipe has, every default filled in.
pub fn resolved_hash(recipe: &Recipe) -> Result<String, Failure> {
    let mut recipe = recipe.clone();
    recipe.sparsity = recipe
        .sparsity
        .resolved()
        .map_err(|error| Failure::usage(format!("[sparsity] {error}")))?;
    Ok(recipe.settings_hash(&recipe.network()?))
}

fn twin_of(run: PathBuf, summary: &Summary) -> Twin {
    Twin {
        run,
        test_error: summary.test_error,
        nonzeros: summary.nonzeros,
        bytes: summary.dense_bytes,
    }
}

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,=:@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// A finished run of this recipe in one of the folders below `beside`, or one level deeper.
fn find_finished(beside: &Path, recipe: &Recipe) -> Result<Option<Twin>, Failure> {
    let hash = recipe.settings_hash(&recipe.network()?);
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect();
        folders.sort();
        folders
    };
    let near = folders(beside);
    let deeper = near
        .iter()
        .flat_map(|path| folders(path))
        .collect::<Vec<_>>();
    Ok(near.into_iter().chain(deeper).find_map(|path| {
        let folder = RunFolder::open(&path).ok()?;
        let summary = folder.summary().ok()??;
        let same = summary.settings_hash == hash
            && summary.seed == recipe.seed
            && folder.recipe().ok()?.place() == recipe.place();
        same.then(|| twin_of(path, &summary))
    }))
}

/// Dense against skinny.
fn result_table(summary: &Summary, latency: Option<Latency>) -> String {
    let milliseconds = |of: fn(Latency) -> f64| {
        let time = latency.map(of);
        time.map_or("–".to_string(), |time| format!("{time:.3} ms"))
    };
    let dense_latency = milliseconds(|latency| latency.dense);
    let row = |cells: [&str; 3]| cells.map(str::to_string).to_vec();
    let own_error = percent(summary.test_error);
    if summary.method == "dense" {
        return table(&[
            vec![String::new(), "dense".into()],
            vec!["error".into(), own_error],
            vec!["non-zeros".into(), thousands(summary.nonzeros as u64)],
            vec!["file".into(), bytes(summary.packed_bytes)],
            vec!["latency".into(), dense_latency],
        ]);
    }
    let dense_error = summary
        .dense_twin
        .as_ref()
        .map_or("–".to_string(), |twin| percent(twin.test_error));
    // A thinner network has another one beside it, which only its dense twin knows.
    let (parameters, dense_bytes) = match &summary.dense_twin {
        Some(twin) => (Some(twin.nonzeros), Some(twin.bytes)),
        None if summary.method == "small_dense" => (None, None),
        None => (Some(summary.parameters), Some(summary.dense_bytes)),
    };
    let known = |text: Option<String>| text.unwrap_or_else(|| "–".into());
    let share = parameters.map_or(String::new(), |parameters| {
        let share = 100.0 * summary.nonzeros as f64 / parameters.max(1) as f64;
        format!(" ({share:.1} %)")
    });
    let smaller = dense_bytes.map_or(String::new(), |dense| {
        let smaller = dense as f64 / summary.packed_bytes.max(1) as f64;
        format!(" (÷ {smaller:.1})")
    });
    table(&[
        row(["", "dense", "skinny"]),
        row(["error", &dense_error, &own_error]),
        row([
            "non-zeros",
            &known(parameters.map(|parameters| thousands(parameters as u64))),
            &format!("{}{share}", thousands(summary.nonzeros as u64)),
        ]),
        row([
            "file",
            &known(dense_bytes.map(|dense| format!("{} as f32", bytes(dense)))),
            &format!("{}{smaller}", bytes(summary.packed_bytes)),
        ]),
        row([
            "latency",
            &dense_latency,
            &format!(
                "{}{}",
                milliseconds(|latency| latency.skinny),
                latency.map_or(String::new(), |latency| format!(
                    " (÷ {:.1}, batch 1, 1 thread)",
                    latency.dense / latency.skinny
                ))
            ),
        ]),
    ])
}

/// Mean ± standard deviation over the seeds.
fn over_seeds(runs: &[Summary]) -> String {
    let mut rows = vec![vec![
        "seed".into(),
        "dense error".into(),
        "skinny error".into(),
    ]];
    let sparse = runs.iter().any(|run| run.method != "dense");
    if !sparse {
        rows[0].truncate(2);
    }
    let dense: Vec<f64> = match sparse {
        true => runs
            .iter()
            .filter_map(|run| run.dense_twin.as_ref())
            .map(|twin| twin.test_error)
            .collect(),
        false => runs.iter().map(|run| run.test_error).collect(),
    };
    let own: Vec<f64> = runs.iter().map(|run| run.test_error).collect();
    for run in runs {
        let mut row = vec![run.seed.to_string()];
        if sparse {
            row.push(
                run.dense_twin
                    .as_ref()
                    .map_or("–".into(), |twin| percent(twin.test_error)),
            );
        }
        row.push(percent(run.test_error));
        rows.push(row);
    }
    let mut row = vec!["mean ± sd".to_string()];
    if sparse {
        row.push(if dense.len() == runs.len() {
            spread(&dense)
        } else {
            "–".into()
        });
    }
    row.push(spread(&own));
    rows.push(row);
    format!("\n{}", table(&rows))
}

/// Mean ± standard deviation (of a sample, n − 1) of fractions, in percent.
fn spread(values: &[f64]) -> String {
    match Sample::of(values) {
        None => "–".into(),
        Some(Sample { mean, sd: None, .. }) => percent(mean),
        Some(Sample {
            mean, sd: Some(sd), ..
        }) => format!("{:.3} ± {:.3} %", 100.0 * mean, 100.0 * sd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted(Path::new("runs/a-2")), "runs/a-2");
        assert_eq!(quoted(Path::new("my runs/it's")), r"'my runs/it'\''s'");
    }

    #[test]
    fn spread_is_that_of_a_sample() {
        assert_eq!(spread(&[0.007, 0.008, 0.009]), "0.800 ± 0.100 %");
        assert_eq!(spread(&[0.007]), "0.70 %");
    }
}
