//! `skinny sweep`: many runs, side by side or on many machines; what is finished is left alone, what was interrupted goes on.

mod progress;

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;
use skinny::data::{DataError, DataRoots};
use skinny::train::{JobOptions, RecipeError, Resolved, Sweep, SweepRun, TrainError, refusal};

use crate::arguments::{Shard, SweepArguments};
use crate::commands::env::{default_threads, environment, threads};
use crate::commands::finish::{FAILURE, Finished, State, finish};
use crate::commands::plan::training_images;
use crate::commands::train::{quoted, stop_flag};
use crate::compare::runs::refuse_run;
use crate::failure::Failure;
use crate::output::{Output, note, percent, table, thousands};

use progress::Progress;

/// Trains what is left of a sweep.
pub fn sweep(arguments: &SweepArguments, output: Output) -> Result<(), Failure> {
    let sweep = Sweep::load(&arguments.sweep)?;
    let roots = DataRoots::new(arguments.data.as_deref());
    check(&sweep, &roots)?;
    let (index, count) = shard(arguments, |name| env::var(name).ok())?;
    let runs = sweep.shard(index, count);
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => Path::new("runs").join(&sweep.name),
    };
    refuse_run(&out)?;
    if arguments.list {
        return list(&runs, &out, output);
    }
    if count > 1 {
        note!(
            "shard {index} of {count}: {} of {} runs",
            runs.len(),
            sweep.runs.len()
        );
    }
    let jobs = arguments.jobs.clamp(1, runs.len().max(1));
    let threads = match arguments.threads {
        Some(_) => threads(arguments.threads)?,
        None => (default_threads() / jobs).max(1),
    };
    std::fs::create_dir_all(&out).map_err(|error| {
        Failure::usage(format!(
            "{}: cannot be created: {error}; choose another --out",
            out.display()
        ))
    })?;
    let session = Session {
        options: JobOptions {
            roots,
            threads,
            environment: environment(threads),
        },
        out: &out,
        stop: stop_flag()?,
        next: AtomicUsize::new(0),
        progress: Progress::new(&runs, ended(&runs, &out), &out, output),
        ends: Mutex::new((0..runs.len()).map(|_| None).collect()),
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| session.work(&runs));
        }
    });
    session.progress.finish();
    let ends = session
        .ends
        .into_inner()
        .unwrap_or_else(|error| error.into_inner());
    tell(&runs, &ends, &out, output)?;
    if session.stop.load(Ordering::Relaxed) && ends.iter().any(Option::is_none) {
        return Err(Failure {
            message: "interrupted; give this command again to go on".into(),
            code: 5,
        });
    }
    let failed: Vec<&Failure> = ends
        .iter()
        .flatten()
        .filter_map(|end| end.as_ref().err())
        .collect();
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(Failure {
            message: format!(
                "{} of {} runs failed, they are listed above",
                failed.len(),
                runs.len()
            ),
            code: first.code,
        }),
    }
}

/// Refuses a plan that cannot work before hours are spent on the others. Where the pictures are not here to be counted, a plan is
/// refused that could work with no number of them.
fn check(sweep: &Sweep, roots: &DataRoots) -> Result<(), Failure> {
    let mut counted = BTreeMap::new();
    for run in &sweep.runs {
        let refused = |error: TrainError| Failure {
            message: format!("run {}: {error}", run.id),
            code: error.exit_code(),
        };
        let network = run
            .recipe
            .network()
            .map_err(|error| refused(error.into()))?;
        let graph = (network.graph()).map_err(|error| refused(RecipeError::from(error).into()))?;
        let data = &run.recipe.data;
        // All that the number of pictures, and whether they fit the network, depends on.
        let key = (
            (&data.name, &data.path, data.validation, data.train),
            (graph.input, graph.output),
        );
        let images = match counted.get(&key) {
            Some(images) => *images,
            None => {
                let images = match training_images(&run.recipe, roots) {
                    Err(TrainError::Data(DataError::Missing { .. })) => None,
                    images => Some(images.map_err(refused)?),
                };
                *counted.entry(key).or_insert(images)
            }
        };
        let refusal = match images {
            Some(images) => Resolved::new(run.recipe.clone(), images).err(),
            None => refusal(run.recipe.clone()),
        };
        refusal.map_or(Ok(()), |error| Err(refused(error)))?;
    }
    Ok(())
}

/// Which shard of how many: as it is given, or as the array of a Slurm job or an indexed Kubernetes Job says.
fn shard(
    arguments: &SweepArguments,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(usize, usize), Failure> {
    if let Some(Shard { index, count }) = arguments.shard {
        return Ok((index, count));
    }
    let number = |name: &str| -> Result<Option<usize>, Failure> {
        variable(name)
            .map(|text| {
                text.trim().parse().map_err(|_| {
                    Failure::usage(format!(
                        "{name}={text} is no number; say which part to do with --shard 0/4"
                    ))
                })
            })
            .transpose()
    };
    let slurm = match number("SLURM_ARRAY_TASK_ID")? {
        // A part of an array that is handed in again says nothing of the whole, which --shards does.
        Some(id) if arguments.shards.is_some() => Some(id),
        Some(id) => {
            let least = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
            let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
            Some(id.saturating_sub(least) / step)
        }
        None => None,
    };
    let index = match slurm {
        Some(index) => Some(index),
        None => number("JOB_COMPLETION_INDEX")?,
    };
    let count = match arguments.shards {
        Some(count) => Some(count),
        None if slurm.is_some() => number("SLURM_ARRAY_TASK_COUNT")?,
        None => None,
    };
    match (index, count) {
        (None, None) => Ok((0, 1)),
        (Some(index), Some(count)) if index < count => Ok((index, count)),
        (Some(index), Some(count)) => Err(Failure::usage(format!(
            "there is no shard {index} of {count}; {}",
            match slurm {
                Some(_) => "number the tasks of the array from 0 without gaps, as --array=0-7",
                None => "give --shards the number of completions of the Job",
            }
        ))),
        (Some(index), None) => Err(Failure::usage(format!(
            "this is number {index} of an array of jobs; say how many there are with --shards N"
        ))),
        (None, Some(_)) => Err(Failure::usage(
            "--shards needs the array of a Slurm job or an indexed Kubernetes Job; write --shard 0/4 elsewhere",
        )),
    }
}

/// The file in the folder of a run that is finished.
const SUMMARY: &str = "summary.json";

/// How a run ended.
type End = Result<Finished, Failure>;

/// Which runs need no work any more: they are finished, or have failed.
fn ended(runs: &[&SweepRun], out: &Path) -> Vec<bool> {
    let has = |run: &&SweepRun, file| out.join(&run.id).join(file).exists();
    runs.iter()
        .map(|run| has(run, SUMMARY) || has(run, FAILURE))
        .collect()
}

struct Session<'a> {
    options: JobOptions,
    out: &'a Path,
    stop: std::sync::Arc<AtomicBool>,
    next: AtomicUsize,
    progress: Progress<'a>,
    /// One for each run; none for a run that was not begun or was interrupted.
    ends: Mutex<Vec<Option<End>>>,
}

impl Session<'_> {
    /// Takes one run after the other until none is left.
    fn work(&self, runs: &[&SweepRun]) {
        while !self.stop.load(Ordering::Relaxed) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(run) = runs.get(index) else { return };
            let path = self.out.join(&run.id);
            let begun = Instant::now();
            let end = catch_unwind(AssertUnwindSafe(|| {
                finish(
                    &run.recipe,
                    &path,
                    &self.options,
                    &mut |_, event| self.progress.show(index, event),
                    &self.stop,
                )
            }))
            .unwrap_or_else(|_| {
                Err(Failure {
                    message: "the program has panicked; please report this as a defect".into(),
                    code: 101,
                })
            });
            let end = match end {
                Err(failure) if failure.code == 5 && self.stop.load(Ordering::Relaxed) => None,
                end => Some(end),
            };
            self.progress.end(index, &end, begun.elapsed());
            let mut ends = self.ends.lock().unwrap_or_else(|error| error.into_inner());
            ends[index] = end;
        }
    }
}

/// The runs of a shard and what is there of each, without training.
fn list(runs: &[&SweepRun], out: &Path, output: Output) -> Result<(), Failure> {
    let mut rows = vec![["run", "state"].map(String::from).to_vec()];
    for run in runs {
        let path = out.join(&run.id);
        let state = match State::of(&run.recipe, &path) {
            Ok(State::ToDo) => "to do",
            Ok(State::Begun) => "begun",
            Ok(State::Finished(_)) => "finished",
            Ok(State::Failed) => "failed",
            Ok(State::Other) => "of other settings",
            Err(failure) => {
                note!("{}: {}", run.id, failure.message);
                "unreadable"
            }
        };
        output.object(&json!({ "run": path, "state": state, "recipe": run.recipe }))?;
        rows.push(vec![run.id.clone(), state.into()]);
    }
    output.text(&table(&rows))
}

/// The table at the end.
fn tell(
    runs: &[&SweepRun],
    ends: &[Option<End>],
    out: &Path,
    output: Output,
) -> Result<(), Failure> {
    let mut rows = vec![["run", "error", "non-zeros"].map(String::from).to_vec()];
    let mut states: Vec<(PathBuf, &str)> = Vec::new();
    for (run, end) in runs.iter().zip(ends) {
        let (state, cells) = match end {
            Some(Ok(Finished { summary, .. })) => (
                "finished",
                [
                    percent(summary.test_error),
                    thousands(summary.nonzeros as u64),
                ],
            ),
            Some(Err(_)) => ("failed", ["failed".to_string(), "–".into()]),
            None => ("to do", ["to do".to_string(), "–".into()]),
        };
        states.push((out.join(&run.id), state));
        rows.push([vec![run.id.clone()], cells.to_vec()].concat());
    }
    output.text(&format!("\n{}", table(&rows)))?;
    for (run, end) in runs.iter().zip(ends) {
        if let Some(Err(failure)) = end {
            output.text(&format!("failed: {}: {}", run.id, failure.message))?;
        }
    }
    let states: Vec<_> = (states.iter())
        .map(|(run, state)| json!({ "run": run, "state": state }))
        .collect();
    output.object(&json!({ "event": "sweep", "runs": states }))?;
    output.text(&format!(
        "\nnext: skinny compare {} --by method,density",
        quoted(out)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(shard: Option<Shard>, shards: Option<usize>) -> SweepArguments {
        SweepArguments {
            sweep: "sweep.toml".into(),
            data: None,
            out: None,
            jobs: 1,
            threads: None,
            shard,
            shards,
            list: false,
        }
    }

    fn found(
        shard_given: Option<Shard>,
        shards: Option<usize>,
        variables: &[(&str, &str)],
    ) -> Result<(usize, usize), String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_string())
        };
        shard(&arguments(shard_given, shards), variable).map_err(|failure| failure.message)
    }

    #[test]
    fn the_shard_is_given_or_that_of_the_array() {
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_MIN", "5"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
        ];
        let every_second = [
            ("SLURM_ARRAY_TASK_ID", "6"),
            ("SLURM_ARRAY_TASK_MIN", "0"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
        ];
        let kubernetes = [("JOB_COMPLETION_INDEX", "2")];
        let given = Some(Shard { index: 1, count: 3 });
        assert_eq!(found(None, None, &[]), Ok((0, 1)));
        assert_eq!(found(given, None, &slurm), Ok((1, 3)));
        assert_eq!(found(None, None, &slurm), Ok((2, 4)));
        assert_eq!(found(None, None, &every_second), Ok((3, 4)));
        assert_eq!(found(None, Some(8), &slurm), Ok((7, 8)));
        assert_eq!(found(None, Some(8), &kubernetes), Ok((2, 8)));
        for (shards, variables, words) in [
            (None, &kubernetes[..], "--shards N"),
            (Some(2), &kubernetes[..], "no shard 2 of 2; give --shards"),
            (Some(2), &[][..], "--shard 0/4"),
            (Some(7), &slurm[..], "no shard 7 of 7; number the tasks"),
            (None, &[("SLURM_ARRAY_TASK_ID", "x")][..], "is no number"),
        ] {
            let error = found(None, shards, variables).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
