//! Figures of the layers: their density and the overlap of their support.

use super::figure::{Figure, Member, SIZE};
use super::number;
use super::plots::{Anchor, Axes, Canvas, Frame, Legend, Scale, Unit, fit, ink, text_width};
use super::run::{Edge, Flip, LayerFlip, Run};
use super::timeline::Timeline;

/// Figures of one run.
pub fn of_run(run: &Run) -> Vec<Figure> {
    [density(run), overlap(run)].into_iter().flatten().collect()
}

/// Figures of several runs, each with its label and colour.
pub fn of_runs(runs: &[Member<'_>]) -> Vec<Figure> {
    [densities(runs), mean_overlap(runs)]
        .into_iter()
        .flatten()
        .collect()
}

/// The colour of layer `index` of `count`, from input to output.
fn layer_ink(index: usize, count: usize) -> &'static str {
    let last = ink::ORDERED.len() - 1;
    if count <= 1 {
        ink::ORDERED[1]
    } else {
        ink::ORDERED[(index * last + (count - 1) / 2) / (count - 1)]
    }
}

/// Layer, weights and k, as the run ended or as its last flip left it.
fn budget(run: &Run) -> Vec<(String, u64, u64)> {
    if run.layers.is_empty() {
        let last = run
            .flips
            .iter()
            .rev()
            .find(|flip| flip.edge != Edge::Reactivate);
        let layers = last.map_or(&[][..], |flip| &flip.layers);
        return layers
            .iter()
            .map(|layer| (layer.name.clone(), layer.weights, layer.k))
            .collect();
    }
    run.layers
        .iter()
        .map(|layer| (layer.name.clone(), layer.weights, layer.k))
        .collect()
}

fn share(k: u64, weights: u64) -> f64 {
    k as f64 / weights.max(1) as f64
}

/// Where bars begin such that the names in front of them fit, within reason.
fn label_room<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let longest = names.map(|name| text_width(name, 12)).fold(0.0, f64::max);
    (longest + 20.0).clamp(64.0, 160.0)
}

/// A bar per layer: what is kept of all its weights.
fn density(run: &Run) -> Option<Figure> {
    let mut rows = budget(run);
    let dense = run.flips.is_empty() && rows.iter().all(|row| row.1 == row.2);
    if rows.is_empty() || dense {
        return None;
    }
    let (weights, kept) = rows
        .iter()
        .fold((0, 0), |sums, row| (sums.0 + row.1, sums.1 + row.2));
    let caption = format!(
        "Kept weights (k) of all weights of each layer; together {} of {}, density {}.",
        number::count(kept),
        number::count(weights),
        number::short_percent(share(kept, weights))
    );
    rows.push(("all".into(), weights, kept));
    let row_height = 27.0;
    let mut canvas = Canvas::new(SIZE.0, 52.0 + row_height * rows.len() as f64);
    canvas.bold(
        (12.0, 24.0),
        "Density per layer",
        15,
        Anchor::Start,
        ink::TEXT,
    );
    let left = label_room(rows.iter().map(|row| row.0.as_str()));
    let width = 280.0 - left;
    for (index, (name, weights, k)) in rows.iter().enumerate() {
        let total = index + 1 == rows.len();
        let top = 40.0 + row_height * index as f64 + if total { 6.0 } else { 0.0 };
        let baseline = top + 16.0;
        let bar = width * share(*k, *weights).min(1.0);
        canvas.hint(&format!(
            "{name}: {} of {}",
            number::count(*k),
            number::count(*weights)
        ));
        canvas.text(
            (left - 8.0, baseline),
            &fit(name, 12, left - 16.0),
            12,
            Anchor::End,
            ink::TEXT,
        );
        canvas.rect((left, top + 4.0), (width, 16.0), ink::GRID, 1.0);
        canvas.rect((left, top + 4.0), (bar.max(1.0), 16.0), ink::KEPT, 1.0);
        canvas.end_hint();
        canvas.bold(
            (340.0, baseline),
            &number::short_percent(share(*k, *weights)),
            12,
            Anchor::End,
            ink::TEXT,
        );
        let numbers = format!("{} / {}", number::count(*k), number::count(*weights));
        canvas.text((468.0, baseline), &numbers, 12, Anchor::End, ink::MUTED);
    }
    Some(Figure::new("density", "Density per layer", caption, canvas))
}

/// How much of the support survived from one threshold to the next, per layer.
fn overlap(run: &Run) -> Option<Figure> {
    let timeline = Timeline::of(run);
    let known = |layer: &LayerFlip| layer.overlap.filter(|value| value.is_finite());
    let flips: Vec<&Flip> = run
        .flips
        .iter()
        .filter(|flip| flip.layers.iter().any(|layer| known(layer).is_some()))
        .collect();
    let last = flips.last()?;
    // A layer that keeps everything has no support that could change.
    let changing = last.layers.iter().filter(|layer| known(layer).is_some());
    let names: Vec<&str> = changing.map(|layer| layer.name.as_str()).collect();
    let curve = |name: &str| -> Vec<(f64, f64)> {
        flips
            .iter()
            .filter_map(|flip| {
                let layer = flip.layers.iter().find(|layer| layer.name == name)?;
                Some((timeline.at(flip.step), known(layer)?))
            })
            .collect()
    };
    let curves: Vec<_> = names.iter().map(|name| curve(name)).collect();
    let least = curves
        .iter()
        .flatten()
        .map(|point| point.1)
        .fold(1.0, f64::min);
    // A legend of every layer would bury the plot of a deep network.
    let every = names.len().div_ceil(12);
    let legend: Vec<_> = (0..names.len())
        .filter(|index| index % every == 0 || index + 1 == names.len())
        .map(|index| {
            (
                names[index].to_string(),
                layer_ink(index, names.len()),
                false,
            )
        })
        .collect();
    let mut axes = Axes::new(&overlap_frame(
        "Overlap of the support",
        least,
        &timeline,
        &legend,
    ));
    for (index, points) in curves.iter().enumerate() {
        let color = layer_ink(index, names.len());
        axes.curve(points, color, false);
        for point in points.iter().filter(|_| points.len() <= 24) {
            let at = axes.at(*point);
            axes.canvas.hint(&format!(
                "{}: {}",
                names[index],
                number::short_percent(point.1)
            ));
            axes.canvas.dot(at, 3.4, color);
            axes.canvas.end_hint();
        }
    }
    let caption = format!(
        "Fraction of the kept weights that the threshold before had kept too: the nearer to 100 %, the more the \
         support has settled. At the last threshold {} over all layers.",
        last.overlap()
            .map_or(number::NONE.into(), number::short_percent)
    );
    Some(Figure::new(
        "overlap",
        "Overlap of the support from flip to flip",
        caption,
        axes.canvas,
    ))
}

fn overlap_frame<'a>(
    title: &'a str,
    least: f64,
    timeline: &'a Timeline,
    legend: &'a [(String, &'static str, bool)],
) -> Frame<'a> {
    let floor = (((least - 0.02) * 5.0).floor() / 5.0).clamp(0.0, 0.8);
    Frame {
        title,
        size: SIZE,
        x: timeline.span(),
        y: (floor, 1.0),
        scale: Scale::Linear,
        unit: Unit::Percent,
        x_label: "epoch",
        bands: &timeline.sparse,
        legend,
    }
}

/// A row per layer with a bar per run.
fn densities(runs: &[Member<'_>]) -> Option<Figure> {
    let known =
        |member: &'_ Member<'_>| Some(budget(member.run)).filter(|layers| !layers.is_empty());
    let budgets: Vec<_> = runs
        .iter()
        .filter_map(|member| Some((member, known(member)?)))
        .collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, ..) in budgets.iter().flat_map(|(_, layers)| layers) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return None;
    }
    let bar_row = 11.0;
    let row_height = 14.0 + bar_row * budgets.len() as f64;
    let title = "Density per layer";
    let entries: Vec<_> = budgets
        .iter()
        .map(|(member, _)| (member.label.clone(), member.ink, false))
        .collect();
    let legend = Legend::new(&entries, false, SIZE.0);
    let first = 40.0 + legend.height();
    let mut canvas = Canvas::new(SIZE.0, first + 6.0 + row_height * names.len() as f64);
    canvas.bold((12.0, 24.0), title, 15, Anchor::Start, ink::TEXT);
    legend.draw(&mut canvas);
    let left = label_room(names.iter().copied());
    let width = 410.0 - left;
    for (row, name) in names.iter().enumerate() {
        let top = first + row_height * row as f64;
        canvas.text(
            (left - 8.0, top + (row_height - 14.0) / 2.0 + 4.0),
            &fit(name, 12, left - 16.0),
            12,
            Anchor::End,
            ink::TEXT,
        );
        for (index, (member, layers)) in budgets.iter().enumerate() {
            let Some((_, weights, k)) = layers.iter().find(|layer| layer.0 == *name) else {
                continue;
            };
            let y = top + bar_row * index as f64;
            let label = number::short_percent(share(*k, *weights));
            canvas.hint(&format!("{}: {label}", member.label));
            canvas.rect((left, y + 2.0), (width, 7.0), ink::GRID, 1.0);
            canvas.rect(
                (left, y + 2.0),
                ((width * share(*k, *weights)).clamp(1.0, width), 7.0),
                member.ink,
                1.0,
            );
            canvas.end_hint();
            canvas.text((468.0, y + 9.0), &label, 10, Anchor::End, ink::MUTED);
        }
    }
    let caption =
        "Kept fraction of the weights of each layer, a bar per run in the colour of its curves.";
    Some(Figure::new("compare-layers", title, caption, canvas))
}

/// The overlap over all layers of every run.
fn mean_overlap(runs: &[Member<'_>]) -> Option<Figure> {
    let curves: Vec<Vec<(f64, f64)>> = runs
        .iter()
        .map(|member| {
            let timeline = Timeline::of(member.run);
            member
                .run
                .flips
                .iter()
                .filter_map(|flip| Some((timeline.at(flip.step), flip.overlap()?)))
                .collect()
        })
        .collect();
    let values = || curves.iter().flatten();
    values().next()?;
    let longest = runs
        .iter()
        .map(|member| Timeline::of(member.run))
        .max_by(|a, b| a.end.total_cmp(&b.end));
    let mut timeline = longest?;
    timeline.sparse.clear();
    let legend: Vec<_> = runs
        .iter()
        .zip(&curves)
        .filter(|(_, curve)| !curve.is_empty())
        .map(|(member, _)| (member.label.clone(), member.ink, member.dashed))
        .collect();
    let least = values().map(|point| point.1).fold(1.0, f64::min);
    let mut axes = Axes::new(&overlap_frame(
        "Overlap of the support",
        least,
        &timeline,
        &legend,
    ));
    for (member, curve) in runs.iter().zip(&curves) {
        axes.curve(curve, member.ink, member.dashed);
        for point in curve {
            let at = axes.at(*point);
            axes.canvas.dot(at, 3.4, member.ink);
        }
    }
    let caption =
        "Fraction of all kept weights that the threshold before had kept too, over all layers.";
    Some(Figure::new(
        "compare-overlap",
        "Overlap of the support from flip to flip",
        caption,
        axes.canvas,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_run_has_density_and_overlap() {
        let figures = of_run(&sample::run());
        let slugs: Vec<_> = figures.iter().map(|figure| figure.slug.as_str()).collect();
        assert_eq!(slugs, ["density", "overlap"]);
        let density = figures[0].canvas.svg_file();
        assert!(
            density.contains("50 / 500") && density.contains("43,050 / 430,500"),
            "{density}"
        );
    }

    #[test]
    fn compared_layers_say_which_bar_is_whose() {
        let runs = [sample::run(), sample::run()];
        let member = |run, label: &str, ink| Member {
            run,
            label: label.into(),
            ink,
            dashed: false,
        };
        let figures = of_runs(&[
            member(&runs[0], "left", ink::TRAIN),
            member(&runs[1], "right", ink::VALIDATION),
        ]);
        let layers = figures
            .iter()
            .find(|figure| figure.slug == "compare-layers")
            .unwrap();
        let drawn = layers.canvas.svg_file();
        assert!(drawn.contains(">left</text>") && drawn.contains(">right</text>"));
    }

    #[test]
    fn an_unfinished_run_takes_its_budget_from_the_last_threshold() {
        let mut run = sample::run();
        run.layers.clear();
        assert_eq!(budget(&run)[0], ("conv1".to_string(), 500, 50));
        run.flips.clear();
        assert!(of_run(&run).is_empty());
    }

    #[test]
    fn layers_are_coloured_from_input_to_output() {
        assert_eq!(layer_ink(0, 20), ink::ORDERED[0]);
        assert_eq!(layer_ink(19, 20), ink::ORDERED[7]);
        assert_eq!(layer_ink(0, 1), ink::ORDERED[1]);
    }
}
