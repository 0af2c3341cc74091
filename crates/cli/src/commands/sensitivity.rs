//! `skinny sensitivity`: what each layer costs when it is thresholded alone, and the budget that follows from it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::json;
use skinny::data::DataRoots;
use skinny::sparsity::{Budget, LayerShape, Method, SparsitySettings, resolve};
use skinny::train::{
    DENSITIES, Engine, LayerSensitivity, Recipe, Sensitivity, SensitivityStep, Trained, csv_field,
};

use crate::arguments::SensitivityArguments;
use crate::commands::env::threads;
use crate::commands::source::{self, Source};
use crate::commands::train::stop_flag;
use crate::failure::Failure;
use crate::output::{self, Output, duration, note, percent, table, thousands};
use crate::report::plots::chart::{Axis, Chart, Range, Style, format};
use crate::report::plots::{Canvas, ink};
use crate::report::{write_drawings, write_whole};

/// Refuses a structure that leaves nothing to search.
pub fn refuse_fixed(recipe: &Recipe) -> Result<(), Failure> {
    let structure = recipe.sparsity.structure;
    match structure.fixed_density() {
        None => Ok(()),
        Some(_) => Err(Failure::usage(format!(
            "structure {structure} keeps the same share of every layer, so there is nothing to find out; give a recipe with sparsity.structure = \"unstructured\" (--recipe)"
        ))),
    }
}

/// Measures a network layer by layer.
pub fn sensitivity(arguments: &SensitivityArguments, output: Output) -> Result<(), Failure> {
    let threads = threads(arguments.threads)?;
    if let Some(density) = arguments.density
        && !(density > 0.0 && density <= 1.0)
    {
        return Err(Failure::usage(format!(
            "--density {density} is outside (0, 1]; write the kept share, as 0.1 for a tenth"
        )));
    }
    let source = source::open(
        &arguments.run,
        arguments.weights,
        arguments.recipe.as_deref(),
    )?;
    let recipe = source.recipe()?.clone();
    refuse_fixed(&recipe)?;
    source::refuse_learned(&arguments.run, &recipe)?;
    let stop = stop_flag()?;
    let found = measure(
        source,
        &recipe,
        &DataRoots::new(arguments.data.as_deref()),
        threads,
        arguments.densities.as_deref().unwrap_or(&DENSITIES),
        arguments.pictures,
        &stop,
        output,
    )?;
    let density = arguments.density.or(recipe.sparsity.density).unwrap_or(0.1);
    let settings = with_budget(&recipe.sparsity, found.budget(density), density);
    output.object(&json!({
        "event": "sensitivity", "sensitivity": found, "density": density, "budget": settings.layers,
    }))?;
    output.text(&courses(&found))?;
    output.text(&format!(
        "\nThe budget it suggests at density {density}, for a recipe:\n\n{}",
        toml(&settings)
    ))?;
    output.text(&beside_erk(&found, &settings, density))?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None if arguments.run.is_dir() => arguments.run.clone(),
        None => return Ok(()),
    };
    let title = format!(
        "Error when one layer is thresholded: {}",
        recipe.network()?.name
    );
    let plots = write_drawings(&[("sensitivity".into(), picture(&found, &title))], &out)?;
    let json = serde_json::to_string_pretty(&found).expect("a sensitivity is plain data");
    write_whole(&out.join("sensitivity.json"), (json + "\n").as_bytes())?;
    write_whole(&out.join("sensitivity.csv"), csv(&found).as_bytes())?;
    note!(
        "sensitivity.json, .csv and plots/sensitivity.svg and .png in {}",
        out.display()
    );
    output.object(&json!({ "event": "written", "out": out, "plots": plots }))
}

/// Measures the network of a source on the pictures of a recipe, and shows how far it has come.
#[allow(clippy::too_many_arguments)]
pub fn measure(
    mut source: Source,
    recipe: &Recipe,
    roots: &DataRoots,
    threads: usize,
    densities: &[f64],
    pictures: Option<usize>,
    stop: &AtomicBool,
    output: Output,
) -> Result<Sensitivity, Failure> {
    let material = source.material(recipe, roots)?;
    if material.validation.is_none() {
        note!(
            "this recipe held no pictures out: measured on pictures that the network was trained on, which flatters it; the test set is left alone"
        );
    }
    let mut trained = Trained::new(source.model, recipe.data.batch, threads)?;
    let mut display = Display::new(output);
    let engine: &mut dyn Engine = &mut trained.engine;
    let found = Sensitivity::measure(
        engine,
        &material,
        recipe,
        densities,
        pictures,
        stop,
        &mut |step| display.show(step),
    );
    display.finish();
    Ok(found?)
}

/// IHT with a budget per layer: the rest as in `settings` if they are of IHT already.
pub fn with_budget(
    settings: &SparsitySettings,
    layers: BTreeMap<String, f64>,
    density: f64,
) -> SparsitySettings {
    let mut new = match settings.method {
        Method::Iht => settings.clone(),
        _ => SparsitySettings {
            method: Method::Iht,
            structure: settings.structure,
            keep_dense: settings.keep_dense.clone(),
            ramp: Some(skinny::sparsity::Ramp::Cubic),
            ..SparsitySettings::default()
        },
    };
    new.density = Some(density);
    new.budget = Some(Budget::PerLayer);
    new.floor = None;
    new.layers = Some(layers);
    new
}

/// The part of a recipe that says the budget, with everything else that `settings` say.
fn toml(settings: &SparsitySettings) -> String {
    let table = BTreeMap::from([("sparsity", settings)]);
    toml::to_string(&table).expect("settings are plain data")
}

/// What each layer keeps, beside what ERK gives it at the same density.
fn beside_erk(found: &Sensitivity, settings: &SparsitySettings, density: f64) -> String {
    let erk = SparsitySettings {
        budget: Some(Budget::Erk),
        layers: None,
        ..settings.clone()
    };
    let shapes: Vec<LayerShape> = (found.layers.iter())
        .map(|layer| LayerShape {
            name: layer.name.clone(),
            shape: layer.shape.clone(),
        })
        .collect();
    let erk = SparsitySettings {
        // Exempt layers are not among those that were measured.
        keep_dense: Vec::new(),
        ..erk
    };
    let erk = resolve(&erk, &shapes, density, None).ok();
    let mut rows = vec![
        ["layer", "weights", "suggested", "erk"]
            .map(String::from)
            .to_vec(),
    ];
    for (index, layer) in found.layers.iter().enumerate() {
        let suggested = settings
            .layers
            .iter()
            .flatten()
            .find(|(name, _)| **name == layer.name);
        rows.push(vec![
            layer.name.clone(),
            thousands(layer.weights() as u64),
            suggested.map_or("–".into(), |(_, density)| share(*density)),
            erk.as_ref()
                .map_or("–".into(), |erk| share(erk[index].density)),
        ]);
    }
    table(&rows)
}

fn share(density: f64) -> String {
    format!("{:.2} %", 100.0 * density)
}

/// A row for each layer, a column for each density.
fn courses(found: &Sensitivity) -> String {
    let Some(longest) = found.layers.iter().max_by_key(|layer| layer.points.len()) else {
        return "no layer to threshold".into();
    };
    let mut rows = vec![vec!["error, one layer at".to_string()]];
    // Small layers round their densities; those of the largest are nearest to what was asked for.
    let largest = found
        .layers
        .iter()
        .max_by_key(|layer| layer.weights())
        .unwrap_or(longest);
    rows[0].extend(
        largest
            .points
            .iter()
            .map(|point| format::percent(point.density)),
    );
    for layer in &found.layers {
        let mut row = vec![layer.name.clone()];
        row.extend(
            layer
                .points
                .iter()
                .map(|point| format!("{:.2}", 100.0 * point.error)),
        );
        rows.push(row);
    }
    format!(
        "{} of {} {} pictures; whole network {}\n\n{}",
        "errors in percent",
        thousands(found.pictures as u64),
        if found.held_out {
            "held-out"
        } else {
            "training"
        },
        percent(found.error),
        table(&rows)
    )
}

fn csv(found: &Sensitivity) -> String {
    let mut text = String::from("layer,weights,density,k,error,loss\n");
    for layer in &found.layers {
        let (name, weights) = (csv_field(&layer.name), layer.weights());
        text.push_str(&format!(
            "{name},{weights},1,{weights},{},{}\n",
            found.error, found.loss
        ));
        for point in &layer.points {
            text.push_str(&format!(
                "{name},{weights},{},{},{},{}\n",
                point.density, point.k, point.error, point.loss
            ));
        }
    }
    text
}

/// A curve for each layer.
fn picture(found: &Sensitivity, title: &str) -> Canvas {
    let count = found.layers.len().max(1);
    let style = |(index, layer): (usize, &LayerSensitivity)| Style {
        name: layer.name.trim_end_matches(".weight").to_string(),
        ink: ink::ORDERED[index * ink::ORDERED.len() / count.max(ink::ORDERED.len())],
        dashed: false,
        hollow: false,
        bold: false,
    };
    let mut styles: Vec<Style> = found.layers.iter().enumerate().map(style).collect();
    if count <= ink::ORDERED.len() {
        // Few layers take colours that lie far apart.
        for (index, style) in styles.iter_mut().enumerate() {
            style.ink = ink::ORDERED[index * (ink::ORDERED.len() - 1) / (count - 1).max(1)];
        }
    }
    let points = || found.layers.iter().flat_map(|layer| &layer.points);
    let errors = || points().map(|point| point.error).chain([found.error]);
    let least = errors().filter(|error| *error > 0.0).fold(1.0, f64::min);
    let log = errors().fold(0.0, f64::max) > 3.0 * least;
    // An error of nothing lies on the lower end.
    let range = errors().map(|error| if log { error.max(least) } else { error });
    let whole = Style {
        name: "whole network".into(),
        ink: ink::DENSE,
        dashed: true,
        hollow: false,
        bold: false,
    };
    let legend: Vec<Style> = styles.iter().chain([&whole]).cloned().collect();
    let label = format!(
        "error on {} {} pictures, all other layers left as they are",
        thousands(found.pictures as u64),
        if found.held_out {
            "held-out"
        } else {
            "training"
        }
    );
    let mut chart = Chart::new(
        title,
        (820.0, 440.0),
        Axis {
            label: "density of the layer",
            range: Range::of(points().map(|point| point.density).chain([1.0]), true),
            format: format::percent,
        },
        Axis {
            label: &label,
            range: Range::of(range, log),
            format: format::percent,
        },
        &legend,
    );
    chart.level(found.error, None, &whole);
    for (layer, style) in found.layers.iter().zip(&styles) {
        let course = layer
            .points
            .iter()
            .map(|point| (point.density, point.error));
        let course: Vec<_> = [(1.0, found.error)].into_iter().chain(course).collect();
        chart.curve(&course, style);
    }
    chart.canvas
}

/// A bar on a terminal, a line per layer elsewhere, a JSON object per point for machines.
struct Display {
    output: Output,
    bar: Option<ProgressBar>,
    begun: Instant,
    layer: String,
}

impl Display {
    fn new(output: Output) -> Display {
        Display {
            output,
            bar: output::bar("{bar:30} {pos}/{len} points, {eta} left, {msg}", None),
            begun: Instant::now(),
            layer: String::new(),
        }
    }

    fn show(&mut self, step: SensitivityStep<'_>) {
        let SensitivityStep {
            layer,
            point,
            done,
            all,
        } = step;
        let left = self.begun.elapsed().as_secs_f64() / done as f64 * (all - done) as f64;
        // A reader that has gone away must not end the measurement.
        let _ = self.output.object(&json!({
            "event": "point", "layer": layer, "point": point, "done": done, "all": all, "seconds_left": left,
        }));
        match &self.bar {
            Some(bar) => {
                bar.set_length(all as u64);
                bar.set_position(done as u64);
                bar.set_message(format!(
                    "{layer} at {}: error {}",
                    format::percent(point.density),
                    percent(point.error)
                ));
            }
            None if self.layer != layer => {
                self.layer = layer.to_string();
                note!(
                    "{layer}: point {done} of {all}, about {} left",
                    duration(left)
                );
            }
            None => {}
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skinny::train::SensitivityPoint;

    fn found() -> Sensitivity {
        let layer = |name: &str, shape: &[usize], errors: [f64; 3]| LayerSensitivity {
            name: name.into(),
            shape: shape.to_vec(),
            points: ([0.5, 0.1, 0.01].into_iter().zip(errors))
                .map(|(density, error)| SensitivityPoint {
                    density,
                    k: (density * shape.iter().product::<usize>() as f64) as usize,
                    error,
                    loss: 3.0 * error,
                })
                .collect(),
        };
        Sensitivity {
            pictures: 5000,
            held_out: true,
            error: 0.0,
            loss: 0.01,
            layers: vec![
                layer("conv1.weight", &[20, 1, 5, 5], [0.0, 0.2, 0.9]),
                layer("fc1.weight", &[500, 800], [0.0, 0.001, 0.3]),
            ],
        }
    }

    #[test]
    fn the_budget_is_part_of_a_recipe() {
        let found = found();
        for method in ["dense", "iht", "rigl"] {
            let mut settings = SparsitySettings {
                method: serde_json::from_value(json!(method)).unwrap(),
                density: Some(0.3),
                structure: "block:4x1".parse().unwrap(),
                keep_dense: vec!["conv*".into()],
                ..SparsitySettings::default()
            };
            if method == "dense" {
                settings.density = None;
            }
            let settings = with_budget(&settings, found.budget(0.1), 0.1);
            let recipe = format!(
                "name = \"a\"\ndata = {{ name = \"mnist\" }}\nnetwork = {{ name = \"lenet5\" }}\ntrain = {{}}\n{}",
                toml(&settings)
            );
            let read = Recipe::from_toml(&recipe, &[]).unwrap().sparsity;
            assert_eq!(read, settings, "what is exempt stays so");
            assert!(read.resolved().is_ok(), "{recipe}");
        }
    }

    #[test]
    fn tables_and_picture_show_every_layer() {
        let found = found();
        let text = courses(&found);
        assert!(
            text.contains("conv1.weight") && text.contains("90.00"),
            "{text}"
        );
        assert_eq!(csv(&found).lines().count(), 1 + 2 * 4);
        let svg = picture(&found, "t").svg_file();
        for words in ["conv1", "fc1", "whole network", "held-out"] {
            assert!(svg.contains(words), "{words}");
        }
        assert!(!svg.contains("NaN"));
    }
}
