//! One of many runs: left alone if it is finished, gone on with if it was interrupted, begun otherwise.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde_json::json;
use skinny::train::{Event, Job, JobOptions, Recipe, Resolved, RunFolder, Summary};

use crate::commands::train::resolved_hash;
use crate::failure::Failure;

/// The file in the folder of a run that can never be finished.
pub const FAILURE: &str = "failure.json";

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    /// What it has come to.
    pub summary: Summary,
    /// It was finished when this command came to it.
    pub before: bool,
}

/// What a folder holds of the run of a recipe.
#[derive(Debug)]
pub enum State {
    /// Nothing.
    ToDo,
    /// A run that goes on.
    Begun,
    /// The finished run.
    Finished(Box<Summary>),
    /// A run that can never be finished.
    Failed,
    /// Another run.
    Other,
}

impl State {
    /// Of the folder `path`.
    ///
    /// # Errors
    /// Files of a run that cannot be read.
    pub fn of(recipe: &Recipe, path: &Path) -> Result<State, Failure> {
        if path.join(FAILURE).exists() {
            return Ok(State::Failed);
        }
        let Ok(folder) = RunFolder::open(path) else {
            return Ok(State::ToDo);
        };
        let (summary, found) = (folder.summary()?, folder.recipe()?);
        let (seed, hash) = match &summary {
            Some(summary) => (summary.seed, summary.settings_hash.clone()),
            None => (found.seed, resolved_hash(&found)?),
        };
        let same = seed == recipe.seed
            && hash == resolved_hash(recipe)?
            && found.place() == recipe.place();
        Ok(match summary {
            _ if !same => State::Other,
            Some(summary) => State::Finished(Box::new(summary)),
            None => State::Begun,
        })
    }
}

/// Sees that the run of `recipe` in the folder `path` is finished.
///
/// # Errors
/// A folder that holds another run; a run that has diverged, now or before; an interruption.
pub fn finish(
    recipe: &Recipe,
    path: &Path,
    options: &JobOptions,
    observe: &mut dyn FnMut(&Resolved, Event<'_>),
    stop: &AtomicBool,
) -> Result<Finished, Failure> {
    let before = |summary: Box<Summary>| Finished {
        summary: *summary,
        before: true,
    };
    let job = match State::of(recipe, path)? {
        State::ToDo => Job::start(recipe.clone(), Some(path), options)?,
        State::Begun => match Job::resume(path, options) {
            Ok(job) => job,
            // Another process may have finished it meanwhile.
            Err(error) => match State::of(recipe, path)? {
                State::Finished(summary) => return Ok(before(summary)),
                _ => return Err(error.into()),
            },
        },
        State::Finished(summary) => return Ok(before(summary)),
        State::Failed => {
            return Err(Failure {
                message: format!(
                    "has failed before ({}); delete {} to try it again",
                    failure_of(path),
                    path.display()
                ),
                code: 4,
            });
        }
        State::Other => {
            return Err(Failure::usage(format!(
                "{} holds a run of other settings, which is never overwritten; choose another --out",
                path.display()
            )));
        }
    };
    let resolved = job.resolved().clone();
    let ended = job.run(None, &mut |event| observe(&resolved, event), stop);
    let finished = ended.map(|summary| Finished {
        summary,
        before: false,
    });
    finished.map_err(|error| {
        let failure = Failure::from(error);
        if failure.code == 4 {
            let text = json!({ "code": failure.code, "message": failure.message }).to_string();
            // Without it the run fails again in the same way.
            let _ = std::fs::write(path.join(FAILURE), text + "\n");
        }
        failure
    })
}

/// What a run that failed before has failed of.
pub fn failure_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path.join(FAILURE)).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    value["message"]
        .as_str()
        .unwrap_or("for a reason that is lost")
        .to_string()
}
