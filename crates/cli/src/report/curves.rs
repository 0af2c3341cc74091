//! Figures over time: loss, error, learning rate and the cost of each flip.

use super::figure::{Figure, Member, SIZE};
use super::number;
use super::plots::{Axes, Frame, Scale, Unit, ink};
use super::run::{Edge, Epoch, Run};
use super::timeline::Timeline;

/// A named curve.
struct Series {
    name: String,
    ink: &'static str,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// What a curve shows of an epoch.
type Measure = fn(&Epoch) -> Option<f64>;

/// Figures of one run.
pub fn of_run(run: &Run) -> Vec<Figure> {
    [loss(run), error(run), flip_cost(run), learning_rate(run)]
        .into_iter()
        .flatten()
        .collect()
}

/// Figures of several runs, each in its colour, laid over each other.
pub fn of_runs(runs: &[Member<'_>]) -> Vec<Figure> {
    let bands = common_phases(runs);
    let x = (
        0.0,
        runs.iter()
            .map(|member| Timeline::of(member.run).span().1)
            .fold(0.0, f64::max),
    );
    let shaded = if bands.is_empty() {
        ""
    } else {
        " Shaded: the sparse phases, which all runs share."
    };
    let overlay = |slug,
                   title: &str,
                   unit,
                   from_zero,
                   caption: &str,
                   points: &dyn Fn(&Run) -> Vec<(f64, f64)>| {
        let drawn = |member: &Member<'_>| Series {
            name: member.label.clone(),
            ink: member.ink,
            dashed: member.dashed,
            points: points(member.run),
        };
        let series: Vec<Series> = runs
            .iter()
            .map(drawn)
            .filter(|series| !series.points.is_empty())
            .collect();
        let caption = format!("{caption}{shaded}");
        // A curve that is alone has no legend.
        let title = match &series[..] {
            [one] if runs.len() > 1 => format!("{title}: {}", one.name),
            _ => title.to_string(),
        };
        draw(
            Chart {
                slug,
                title: &title,
                unit,
                from_zero,
                caption,
                x,
                bands: &bands,
            },
            &series,
        )
    };
    let curve =
        |measure: Measure| move |run: &Run| points(&run.epochs, &Timeline::of(run), measure);
    let held_out = |member: &Member<'_>| {
        member
            .run
            .epochs
            .iter()
            .any(|row| row.validation_error.is_some())
    };
    // One that has not come so far says nothing of the others.
    let mut begun = runs.iter().filter(|member| !member.run.epochs.is_empty());
    let (what, error): (&str, Measure) = if begun.all(held_out) {
        ("Held-out error", |row| row.validation_error)
    } else {
        ("Training error", |row| row.train_error)
    };
    let caption = format!("{what} of every run after each epoch.");
    [
        overlay(
            "compare-error",
            what,
            Unit::Percent,
            false,
            &caption,
            &curve(error),
        ),
        overlay(
            "compare-loss",
            "Training loss",
            Unit::Plain,
            false,
            "Mean training loss of every run over each epoch.",
            &curve(|row| row.train_loss),
        ),
        overlay(
            "compare-learning-rate",
            "Learning rate",
            Unit::Plain,
            true,
            "Learning rate of every run at the end of each epoch.",
            &curve(|row| row.lr),
        ),
        overlay(
            "compare-density",
            "Density over time",
            Unit::Percent,
            true,
            "Kept fraction of the weights of every run in each epoch.",
            &densities,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The density of each epoch as a level line.
fn densities(run: &Run) -> Vec<(f64, f64)> {
    let mut before = 0.0;
    let mut levels = Vec::new();
    for (now, density) in points(&run.epochs, &Timeline::of(run), |row| row.density) {
        levels.extend([(before, density), (now, density)]);
        before = now;
    }
    levels
}

fn loss(run: &Run) -> Option<Figure> {
    let caption = match Timeline::of(run).sparse.len() {
        0 => "Mean loss over each epoch; all weights learn all the time.".into(),
        _ => "Mean loss over each epoch. In the shaded sparse phases only the kept weights learn; each threshold \
              costs some loss, which the phase wins back."
            .into(),
    };
    let measures: (Measure, Measure) = (|row| row.train_loss, |row| row.validation_loss);
    train_and_validation(run, "loss", "Loss", Unit::Plain, caption, measures)
}

fn error(run: &Run) -> Option<Figure> {
    let held_out = run
        .epochs
        .iter()
        .filter_map(|row| Some((row.validation_error?, row.epoch)));
    let caption = match held_out.min_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((error, epoch)) => format!(
            "Wrongly classified fraction after each epoch; the held-out part of the training set was best at epoch {epoch} with {}.",
            number::percent(error)
        ),
        None => "Wrongly classified fraction of the training pictures in each epoch; nothing was held out.".into(),
    };
    let measures: (Measure, Measure) = (|row| row.train_error, |row| row.validation_error);
    train_and_validation(run, "error", "Error", Unit::Percent, caption, measures)
}

fn train_and_validation(
    run: &Run,
    slug: &'static str,
    title: &str,
    unit: Unit,
    mut caption: String,
    (train, validation): (Measure, Measure),
) -> Option<Figure> {
    let timeline = Timeline::of(run);
    let series = |name: &str, ink, dashed, rows: &[Epoch], timeline: &Timeline, measure| Series {
        name: name.into(),
        ink,
        dashed,
        points: points(rows, timeline, measure),
    };
    let mut drawn = Vec::new();
    if !run.twin.is_empty() {
        let twin = Run {
            epochs: run.twin.clone(),
            ..Run::default()
        };
        let time = Timeline::of(&twin);
        let held_out = series(
            "dense twin, held out",
            ink::DENSE,
            true,
            &run.twin,
            &time,
            validation,
        );
        let shown = if held_out.points.is_empty() {
            series(
                "dense twin, training",
                ink::DENSE,
                true,
                &run.twin,
                &time,
                train,
            )
        } else {
            held_out
        };
        caption.push_str(" Dashed: the dense twin, trained the same way without thresholds.");
        drawn.push(shown);
    }
    drawn.push(series(
        "training",
        ink::TRAIN,
        false,
        &run.epochs,
        &timeline,
        train,
    ));
    drawn.push(series(
        "held out",
        ink::VALIDATION,
        false,
        &run.epochs,
        &timeline,
        validation,
    ));
    drawn.retain(|series| !series.points.is_empty());
    let (x, bands) = (timeline.span(), &timeline.sparse[..]);
    draw(
        Chart {
            slug,
            title,
            unit,
            from_zero: false,
            caption,
            x,
            bands,
        },
        &drawn,
    )
}

fn learning_rate(run: &Run) -> Option<Figure> {
    let timeline = Timeline::of(run);
    let series = Series {
        name: "learning rate".into(),
        ink: ink::TRAIN,
        dashed: false,
        points: points(&run.epochs, &timeline, |row| row.lr),
    };
    let highest = series
        .points
        .iter()
        .map(|point| point.1)
        .fold(0.0, f64::max);
    let caption = format!(
        "Learning rate at the end of each epoch; its highest is {}.",
        number::value(highest)
    );
    draw(
        Chart {
            slug: "learning-rate",
            title: "Learning rate",
            unit: Unit::Plain,
            from_zero: true,
            caption,
            x: timeline.span(),
            bands: &timeline.sparse,
        },
        &[series],
    )
}

/// The loss just before and just after each flip.
fn flip_cost(run: &Run) -> Option<Figure> {
    let timeline = Timeline::of(run);
    let flips: Vec<_> = run
        .flips
        .iter()
        .filter_map(|flip| {
            Some((
                timeline.at(flip.step),
                flip.edge,
                flip.loss_before?,
                flip.loss_after?,
            ))
        })
        .collect();
    let dearest = flips
        .iter()
        .max_by(|a, b| (a.3 - a.2).total_cmp(&(b.3 - b.2)))?;
    let caption = format!(
        "Loss just before (ring) and just after (dot) each flip: the length of a stroke is what the flip cost. \
         The dearest is the {} at epoch {}: {} → {}.",
        dearest.1.word(),
        number::significant(dearest.0, 3),
        number::value(dearest.2),
        number::value(dearest.3),
    );
    let around = points(&run.epochs, &timeline, |row| row.train_loss);
    let values = flips
        .iter()
        .flat_map(|flip| [flip.2, flip.3])
        .chain(around.iter().map(|point| point.1));
    let (y, scale) = range(values.clone())?;
    let caption = caption + off_the_axis(values, y.0);
    let kinds = [Edge::Threshold, Edge::Reactivate, Edge::Regrow];
    let mut legend: Vec<_> = kinds
        .into_iter()
        .filter(|kind| flips.iter().any(|flip| flip.1 == *kind))
        .map(|kind| (kind.word().to_string(), edge_ink(kind), false))
        .collect();
    if !around.is_empty() {
        legend.push(("training loss".into(), ink::DENSE, true));
    }
    let mut axes = Axes::new(&Frame {
        title: "Cost of each flip",
        size: SIZE,
        x: timeline.span(),
        y,
        scale,
        unit: Unit::Plain,
        x_label: "epoch",
        bands: &timeline.sparse,
        legend: &legend,
    });
    axes.curve(&around, ink::DENSE, true);
    // Many flips stand close together.
    let size = if flips.len() > 24 { 0.5 } else { 1.0 };
    for (time, edge, before, after) in flips {
        let (from, to) = (axes.at((time, before)), axes.at((time, after)));
        axes.canvas.hint(&format!(
            "{} at epoch {time:.2}: {before:.4} → {after:.4}",
            edge.word()
        ));
        axes.canvas.line(from, to, edge_ink(edge), 2.6 * size);
        axes.canvas.ring(from, 3.6 * size, edge_ink(edge));
        axes.canvas.dot(to, 4.2 * size, edge_ink(edge));
        axes.canvas.end_hint();
    }
    Some(Figure::new(
        "flips",
        "Cost of each flip",
        caption,
        axes.canvas,
    ))
}

fn edge_ink(edge: Edge) -> &'static str {
    match edge {
        Edge::Threshold => ink::WRONG,
        Edge::Reactivate => ink::TRAIN,
        Edge::Regrow => ink::VALIDATION,
    }
}

/// What is measured of `rows` over time, without gaps.
fn points(rows: &[Epoch], timeline: &Timeline, measure: Measure) -> Vec<(f64, f64)> {
    rows.iter()
        .filter_map(|row| Some((timeline.at(row.step), measure(row)?)))
        .collect()
}

/// What a figure of curves says besides its curves.
struct Chart<'a> {
    slug: &'static str,
    title: &'a str,
    unit: Unit,
    /// Whether the vertical axis begins at zero whatever the values.
    from_zero: bool,
    caption: String,
    x: (f64, f64),
    bands: &'a [(f64, f64)],
}

fn draw(chart: Chart<'_>, series: &[Series]) -> Option<Figure> {
    let values = series
        .iter()
        .flat_map(|series| &series.points)
        .map(|point| point.1);
    let (y, scale) = range(values.clone())?;
    let (y, scale) = match chart.from_zero {
        true if y.1 > 0.0 => (
            (0.0, values.clone().fold(0.0, f64::max) * 1.08),
            Scale::Linear,
        ),
        _ => (y, scale),
    };
    let caption = chart.caption.clone() + off_the_axis(values, y.0);
    let legend: Vec<_> = series
        .iter()
        .map(|series| (series.name.clone(), series.ink, series.dashed))
        .collect();
    // The title names a curve that is alone.
    let legend = if legend.len() == 1 { &[] } else { &legend[..] };
    let Chart {
        slug,
        title,
        unit,
        x,
        bands,
        ..
    } = chart;
    let mut axes = Axes::new(&Frame {
        title,
        size: SIZE,
        x,
        y,
        scale,
        unit,
        x_label: "epoch",
        bands,
        legend,
    });
    for series in series {
        axes.curve(&series.points, series.ink, series.dashed);
    }
    Some(Figure::new(slug, title, caption, axes.canvas))
}

/// What a caption says of values that a logarithmic axis cannot show.
fn off_the_axis(mut values: impl Iterator<Item = f64>, least: f64) -> &'static str {
    match values.any(|value| value < least) {
        true => " What is below the axis, 0 for one, lies on its lower end.",
        false => "",
    }
}

/// The range of a vertical axis: logarithmic where the values span a lot, else from zero. `None` without values.
fn range(values: impl Iterator<Item = f64>) -> Option<((f64, f64), Scale)> {
    let (mut least, mut most, mut any) = (f64::INFINITY, 0.0f64, false);
    // What overflows every plot is drawn beyond its edge.
    for value in values.map(|value| value.min(1e30)) {
        any = true;
        most = most.max(value);
        if value > 0.0 {
            least = least.min(value);
        }
    }
    match any {
        false => None,
        true if most <= 0.0 => Some(((0.0, 1.0), Scale::Linear)),
        // Below a ten-thousandth of the highest nothing can be told apart on a plot.
        true if most / least > 3.0 => {
            Some(((least.max(most * 1e-4) * 0.8, most * 1.25), Scale::Log))
        }
        true => Some(((0.0, most * 1.08), Scale::Linear)),
    }
}

/// The sparse phases, where all runs have the same.
fn common_phases(runs: &[Member<'_>]) -> Vec<(f64, f64)> {
    let mut phases = runs.iter().map(|member| Timeline::of(member.run).sparse);
    let first = phases.next().unwrap_or_default();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-3;
    let same = |other: Vec<(f64, f64)>| {
        other.len() == first.len()
            && other
                .iter()
                .zip(&first)
                .all(|(a, b)| close(a.0, b.0) && close(a.1, b.1))
    };
    if phases.all(same) { first } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_run_has_four_figures_with_shaded_phases() {
        let figures = of_run(&sample::run());
        assert_eq!(
            figures
                .iter()
                .map(|figure| figure.slug.as_str())
                .collect::<Vec<_>>(),
            ["loss", "error", "flips", "learning-rate"]
        );
        for figure in &figures {
            let svg = figure.canvas.svg_file();
            let shaded = svg
                .matches(&format!("fill=\"{}\" fill-opacity=\"0.11\"", ink::SPARSE))
                .count();
            assert_eq!(shaded, 3, "{}", figure.slug);
        }
        assert!(
            figures[2].caption.contains("threshold at epoch 3"),
            "{}",
            figures[2].caption
        );
    }

    #[test]
    fn without_measurements_there_is_no_figure() {
        let mut run = sample::run();
        run.flips.clear();
        run.epochs.clear();
        assert!(of_run(&run).is_empty());
    }

    #[test]
    fn one_epoch_is_a_point() {
        let mut run = sample::run();
        run.epochs.truncate(1);
        run.flips.clear();
        let figures = of_run(&run);
        assert_eq!(figures.len(), 3);
        assert!(figures[0].canvas.svg_file().contains("<circle"));
    }

    #[test]
    fn axes_are_logarithmic_only_where_values_span_a_lot() {
        assert_eq!(
            range([0.01, 0.1].into_iter()),
            Some(((0.008, 0.125), Scale::Log))
        );
        assert_eq!(
            range([1.0, 2.0].into_iter()),
            Some(((0.0, 2.16), Scale::Linear))
        );
        assert_eq!(range([0.0].into_iter()), Some(((0.0, 1.0), Scale::Linear)));
        assert_eq!(range(std::iter::empty()), None);
        let ((least, _), _) = range([1e-30, 1.0].into_iter()).unwrap();
        assert!(least > 1e-5);
    }

    #[test]
    fn runs_are_overlaid_and_shaded_only_when_their_phases_agree() {
        let (first, mut second) = (sample::run(), sample::run());
        let both = |second: &Run| -> Vec<Figure> {
            let member = |run, label: &str, ink| Member {
                run,
                label: label.into(),
                ink,
                dashed: false,
            };
            of_runs(&[
                member(&first, "a", ink::TRAIN),
                member(second, "b", ink::WRONG),
            ])
        };
        let figures = both(&second);
        assert_eq!(figures.len(), 4);
        assert!(figures[0].caption.contains("Shaded"));
        second.flips.pop();
        assert!(!both(&second)[0].caption.contains("Shaded"));
    }
}
