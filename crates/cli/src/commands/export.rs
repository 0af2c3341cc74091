//! `skinny export`: a finished network in one file.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::{Value, json};
use skinny::data::{DataRoots, Loader, LoaderOptions};
use skinny::model::{Model, ModelError, PackOptions, PackProgress, Unpacked, pack};
use skinny::network::write_atomically;
use skinny::train::{Engine, Material, Trained};

use crate::arguments::ExportArguments;
use crate::commands::env::threads;
use crate::commands::exchange::{self, Foreign};
use crate::commands::source::{self, Source};
use crate::failure::Failure;
use crate::output::{self, Output, bytes, note, percent, thousands};

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The packed file.
    Skinny,
    /// What another program reads.
    Foreign(Foreign),
}

impl Target {
    /// What the ending of a path asks for.
    fn of(path: &Path) -> Result<Target, Failure> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("skinny") => Ok(Target::Skinny),
            Some("onnx") => Ok(Target::Foreign(Foreign::Onnx)),
            Some("safetensors") if names_masks(path) => Ok(Target::Foreign(Foreign::Masks)),
            Some("safetensors") => Ok(Target::Foreign(Foreign::StateDict)),
            None if names_masks(path) => Ok(Target::Foreign(Foreign::Masks)),
            _ => Err(Failure::usage(format!(
                "--to {} has none of the endings that say what to write; end it in .skinny, .onnx or .safetensors",
                path.display()
            ))),
        }
    }
}

fn names_masks(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.is_some_and(|stem| stem.ends_with("masks"))
}

/// Writes the network of a run.
pub fn export(arguments: &ExportArguments, output: Output) -> Result<(), Failure> {
    let target = Target::of(&arguments.to)?;
    match target {
        Target::Foreign(foreign) => exchange::check(arguments, foreign)?,
        Target::Skinny if arguments.with_preprocess || !arguments.rename.is_empty() => {
            return Err(Failure::usage(
                "a .skinny file always has its preprocessing and the names of its network; leave --with-preprocess and --rename out",
            ));
        }
        Target::Skinny => {}
    }
    let threads = threads(arguments.threads)?;
    let mut source = source::open(
        &arguments.run,
        arguments.weights,
        arguments.recipe.as_deref(),
    )?;
    (source.model.tensors.check_finite())
        .map_err(|error| Failure::data(format!("{}: {error}", arguments.run.display())))?;
    if !source.knows_preprocess && (target == Target::Skinny || arguments.with_preprocess) {
        let recipe = source.recipe()?.clone();
        source.material(&recipe, &DataRoots::new(arguments.data.as_deref()))?;
    }
    match target {
        Target::Skinny => skinny(arguments, threads, source, output),
        Target::Foreign(foreign) => exchange::export(arguments, foreign, source, output),
    }
}

/// Writes a `.skinny` file.
fn skinny(
    arguments: &ExportArguments,
    threads: usize,
    source: Source,
    output: Output,
) -> Result<(), Failure> {
    let options = PackOptions {
        level: arguments.pack.into(),
        values: arguments.values.into(),
    };
    let folded;
    let model = match arguments.fold {
        false => &source.model,
        true => {
            let mut model = source.model.clone();
            let layers = model.fold_batchnorm()?;
            note!("{layers} batch normalizations folded");
            folded = model;
            &folded
        }
    };
    let mut display = Display::new();
    let file = pack(model, &options, &mut |progress| display.show(progress))?;
    display.finish();
    let written = Model::from_bytes(&file[..])?;
    let agreement = match arguments.verify {
        None => None,
        Some(pictures) => Some(Agreement::of(
            arguments,
            pictures as usize,
            threads,
            &source,
            written.unpack(),
        )?),
    };
    let path = &arguments.to;
    write_atomically(path, |out| out.write_all(&file)).map_err(|error| ModelError::Write {
        path: path.clone(),
        source: error,
    })?;

    let dense: u64 = (source.model.tensors.iter())
        .map(|(_, tensor)| 4 * tensor.data.len() as u64)
        .sum();
    let size = file.len() as u64;
    let preprocess = source::preprocess_bytes(&source.model.preprocess);
    output.object(&json!({
        "file": path, "file_bytes": size, "preprocess_bytes": preprocess,
        "dense_bytes": dense, "values": options.values.name(),
        "verified": agreement.as_ref().map(Agreement::json),
    }))?;
    output.text(&format!(
        "{}: {} (÷ {:.1}), values {}{}",
        path.display(),
        bytes(size - preprocess),
        dense as f64 / (size - preprocess) as f64,
        options.values.name(),
        output::prepares(preprocess)
    ))?;
    match agreement {
        Some(agreement) => output.text(&agreement.text()),
        None => Ok(()),
    }
}

/// What is seen of packing: a bar on a terminal, a line for each layer that takes its time elsewhere.
struct Display {
    bar: Option<ProgressBar>,
    last: Instant,
}

impl Display {
    fn new() -> Display {
        Display {
            bar: output::bar("packing {bar:30} {percent} % {msg}", None),
            last: Instant::now(),
        }
    }

    fn show(&mut self, progress: PackProgress<'_>) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(progress.total);
                bar.set_position(progress.done);
                bar.set_message(progress.parameter.to_owned());
            }
            None if self.last.elapsed() > Duration::from_secs(1) => {
                let share = progress.done as f64 / progress.total.max(1) as f64;
                note!("packed {} ({:.0} %)", progress.parameter, 100.0 * share);
                self.last = Instant::now();
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How what was written answers beside what was given.
struct Agreement {
    pictures: usize,
    /// Pictures that both put into the same class.
    same: usize,
    /// Pictures that each puts into the right class.
    right: [usize; 2],
    /// The largest difference of a logit.
    largest: f32,
}

impl Agreement {
    fn of(
        arguments: &ExportArguments,
        pictures: usize,
        threads: usize,
        source: &Source,
        written: Unpacked,
    ) -> Result<Agreement, Failure> {
        let recipe = source.recipe()?;
        let roots = DataRoots::new(arguments.data.as_deref());
        let graph = source.model.network.graph()?;
        let known = Some(&source.model.preprocess);
        let set = Material::load_for(recipe, &graph, &roots, known)?.test;
        let first: Vec<u32> = (0..set.len().min(pictures) as u32).collect();
        let set = std::sync::Arc::new(set.subset(&first));
        let batch = recipe.data.batch;
        let preprocess = written.preprocess.clone();
        let mut given = Trained::new(source.model.clone(), batch, threads)?;
        let mut packed = Trained::new(written, batch, threads)?;
        let classes = graph.output[0];
        let mut agreement = Agreement {
            pictures: set.len(),
            same: 0,
            right: [0; 2],
            largest: 0.0,
        };
        let mut logits = [Vec::new(), Vec::new()];
        for batch in Loader::new(set, &preprocess, LoaderOptions::evaluation(batch))? {
            let batch = batch?;
            given.engine.logits(&batch.images, &mut logits[0]);
            packed.engine.logits(&batch.images, &mut logits[1]);
            for (before, after) in logits[0].iter().zip(&logits[1]) {
                agreement.largest = agreement.largest.max((before - after).abs());
            }
            let [before, after] = [0, 1].map(|which| logits[which].chunks(classes));
            for ((before, after), label) in before.zip(after).zip(&batch.labels) {
                let top = [largest(before), largest(after)];
                agreement.same += usize::from(top[0] == top[1]);
                for (right, top) in agreement.right.iter_mut().zip(top) {
                    *right += usize::from(top == *label as usize);
                }
            }
        }
        Ok(agreement)
    }

    /// Error of what was given and of what was written, fractions.
    fn errors(&self) -> [f64; 2] {
        self.right
            .map(|right| 1.0 - right as f64 / self.pictures.max(1) as f64)
    }

    fn json(&self) -> Value {
        let [given, written] = self.errors();
        json!({
            "images": self.pictures, "same_class": self.same, "largest_logit_difference": self.largest,
            "error": given, "written_error": written,
        })
    }

    fn text(&self) -> String {
        let [given, written] = self.errors();
        format!(
            "verified on {} pictures: error {} as given, {} as written ({:+.2} points); {} in the same class; logits differ by at most {:.3e}",
            thousands(self.pictures as u64),
            percent(given),
            percent(written),
            100.0 * (written - given),
            thousands(self.same as u64),
            self.largest
        )
    }
}

/// The place of the largest value, the first of several.
fn largest(values: &[f32]) -> usize {
    (0..values.len())
        .rev()
        .max_by(|a, b| values[*a].total_cmp(&values[*b]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_wins() {
        assert_eq!(largest(&[0.0, 3.0, 3.0, -1.0]), 1);
    }

    #[test]
    fn endings_say_what_is_written() {
        for (path, target) in [
            ("a/b.skinny", Target::Skinny),
            ("b.onnx", Target::Foreign(Foreign::Onnx)),
            ("b.safetensors", Target::Foreign(Foreign::StateDict)),
            ("masks.safetensors", Target::Foreign(Foreign::Masks)),
            (
                "a/lenet5-masks.safetensors",
                Target::Foreign(Foreign::Masks),
            ),
            ("masks", Target::Foreign(Foreign::Masks)),
        ] {
            assert_eq!(Target::of(Path::new(path)).ok(), Some(target));
        }
        let refused = Target::of(Path::new("b.zip")).err().unwrap();
        assert!(refused.message.contains(".skinny") && refused.code == 2);
    }
}
