//! Pictures of a comparison: error against density with bands, and what errors cost in bytes and milliseconds.

use super::groups::{Group, NONE};
use super::table::Comparison;
use crate::report::plots::chart::{Axis, Chart, Range, Style, format};
use crate::report::plots::{Anchor, Canvas, ink, text_width};

/// Size of the pictures; a long legend makes them higher.
const SIZE: (f64, f64) = (820.0, 460.0);

/// Colours of series, in this order; the method of this program has one of its own.
const COLOURS: [&str; 10] = [
    ink::TRAIN,
    ink::VALIDATION,
    ink::ORDERED[0],
    ink::WRONG,
    ink::ORDERED[5],
    ink::ORDERED[2],
    ink::ORDERED[7],
    ink::ORDERED[4],
    ink::TEXT,
    ink::ORDERED[6],
];

/// Of more series than these only the baseline and this program's own have bands: many on top of each other say nothing.
const BANDS_MAX: usize = 5;

/// Groups that differ in their density only.
struct Series<'a> {
    style: Style,
    /// From the least density.
    groups: Vec<&'a Group>,
    has_band: bool,
}

/// The pictures of a comparison by file name; a picture that would show nothing is left out.
pub fn pictures(comparison: &Comparison) -> Vec<(String, Canvas)> {
    let mut pictures = Vec::new();
    if comparison.groups.len() < 2 {
        return pictures;
    }
    let series = series(comparison);
    if let Some(canvas) = against_density(comparison, &series) {
        pictures.push(("error-density".to_string(), canvas));
    }
    let axis = |label, format| Cost { label, format };
    pictures.extend(
        pareto(
            comparison,
            &series,
            axis("bytes of the packed file", format::bytes),
            |group| Some(group.bytes),
        )
        .map(|canvas| ("error-bytes".to_string(), canvas)),
    );
    pictures.extend(
        pareto(
            comparison,
            &series,
            axis(
                "milliseconds of one picture on one thread",
                format::milliseconds,
            ),
            |group| group.milliseconds,
        )
        .map(|canvas| ("error-milliseconds".to_string(), canvas)),
    );
    pictures
}

/// The groups by everything but their density; the baseline comes first.
fn series(comparison: &Comparison) -> Vec<Series<'_>> {
    let density = comparison.keys.iter().position(|key| key == "density");
    let mut series: Vec<(String, Vec<&Group>)> = Vec::new();
    for group in &comparison.groups {
        let values = group.values.iter().enumerate();
        let name: Vec<&str> = values
            .filter(|(index, value)| Some(*index) != density && *value != NONE)
            .map(|(_, value)| value.as_str())
            .collect();
        let name = match name.is_empty() {
            true => comparison.metric.name().to_string(),
            false => name.join(", "),
        };
        match series.iter_mut().find(|(other, _)| *other == name) {
            Some((_, groups)) => groups.push(group),
            None => series.push((name, vec![group])),
        }
    }
    let (mut next, mut baselines, mut owns) = (0, 0, 0);
    let few = series.len() <= BANDS_MAX;
    (series.into_iter())
        .map(|(name, mut groups)| {
            groups.sort_by(|a, b| a.density.total_cmp(&b.density));
            let is_baseline = groups.iter().all(|group| group.is_baseline);
            let own = name.split(", ").any(|part| part == "iht");
            // The first of a kind has the colour of the kind.
            let of_its_own = match (is_baseline, own) {
                (true, _) => (take(&mut baselines) == 0).then_some(ink::DENSE),
                (_, true) => (take(&mut owns) == 0).then_some(ink::KEPT),
                _ => None,
            };
            let (ink, again) = of_its_own.map_or_else(
                || {
                    let number = take(&mut next);
                    (COLOURS[number % COLOURS.len()], number >= COLOURS.len())
                },
                |ink| (ink, false),
            );
            Series {
                style: Style {
                    name,
                    ink,
                    dashed: is_baseline,
                    hollow: again,
                    bold: own && !is_baseline,
                },
                groups,
                has_band: few || own || is_baseline,
            }
        })
        .collect()
}

/// Counts one more, and says how many there were before.
fn take(count: &mut usize) -> usize {
    *count += 1;
    *count - 1
}

fn styles(series: &[Series<'_>]) -> Vec<Style> {
    series.iter().map(|series| series.style.clone()).collect()
}

/// From the least to the largest error: means always, drawn intervals as far as they do not stretch the picture beyond use.
fn errors(comparison: &Comparison, series: &[Series<'_>]) -> Range {
    let means = || comparison.groups.iter().map(|group| group.error.mean);
    let least = means().fold(f64::INFINITY, f64::min);
    let most = means().fold(0.0, f64::max);
    let ends = (series.iter().filter(|series| series.has_band))
        .flat_map(|series| &series.groups)
        .filter_map(|group| group.error.interval)
        .flat_map(|(low, high)| [low.max(0.7 * least), high.min(1.5 * most)]);
    let log = most > 3.0 * least;
    Range::of(means().chain(ends), log)
}

fn error_label(comparison: &Comparison, series: &[Series<'_>]) -> String {
    let with_bands = series.iter().filter(|series| series.has_band);
    let names: Vec<&str> = with_bands
        .map(|series| series.style.name.as_str())
        .collect();
    let of = match names.len() {
        count if count == series.len() => " and 95 % interval".to_string(),
        0 => String::new(),
        _ => format!(", 95 % interval of {}", names.join(" and ")),
    };
    format!("{}, mean over seeds{of}", comparison.metric.name())
}

fn against_density(comparison: &Comparison, series: &[Series<'_>]) -> Option<Canvas> {
    let density = comparison.keys.iter().any(|key| key == "density");
    let densities = || comparison.groups.iter().map(|group| group.density);
    let (least, most) = densities().fold((1.0, 0.0), |(a, b): (f64, f64), d| (a.min(d), b.max(d)));
    if !density || most <= least {
        return None;
    }
    let mut chart = Chart::new(
        &title(comparison, "Error against density"),
        SIZE,
        Axis {
            label: "density (kept share of the weights)",
            range: Range::of(densities(), true),
            format: format::percent,
        },
        Axis {
            label: &error_label(comparison, series),
            range: errors(comparison, series),
            format: format::percent,
        },
        &styles(series),
    );
    // Bands lie below all curves.
    for Series { style, groups, .. } in series.iter().filter(|series| series.has_band) {
        let band: Vec<(f64, f64, f64)> = (groups.iter())
            .filter_map(|group| {
                let (low, high) = group.error.interval?;
                Some((group.density, low, high))
            })
            .collect();
        // Those of one density have no course between them.
        let rises = band.windows(2).all(|pair| pair[0].0 < pair[1].0);
        match is_level(groups) {
            true => {}
            false if rises && band.len() > 1 => {
                chart.band(&band, style.ink, if style.bold { 0.22 } else { 0.08 });
            }
            false => {
                for (density, low, high) in band {
                    chart.whisker(density, (low, high), style.ink);
                }
            }
        }
    }
    // What stands out lies above all others, levels below.
    let mut order: Vec<&Series<'_>> = series.iter().collect();
    order.sort_by_key(|series| (!is_level(&series.groups), series.style.bold));
    for Series { style, groups, .. } in order {
        match is_level(groups) {
            true => chart.level(groups[0].error.mean, groups[0].error.interval, style),
            false => {
                // Of those that end dense however sparse they were, there is no course.
                let points: Vec<_> = (groups.iter())
                    .map(|group| (group.density, group.error.mean))
                    .collect();
                match points.windows(2).all(|pair| pair[0].0 < pair[1].0) {
                    true => chart.curve(&points, style),
                    false => points
                        .iter()
                        .for_each(|point| chart.curve(&[*point], style)),
                }
            }
        }
    }
    Some(chart.canvas)
}

/// Whether groups are the dense baseline, which is a level that others are seen against.
fn is_level(groups: &[&Group]) -> bool {
    groups.len() == 1 && groups[0].is_baseline
}

/// A cost along the axis.
struct Cost<'a> {
    label: &'a str,
    format: fn(f64) -> String,
}

fn pareto(
    comparison: &Comparison,
    series: &[Series<'_>],
    axis: Cost<'_>,
    cost: fn(&Group) -> Option<f64>,
) -> Option<Canvas> {
    let costs: Vec<f64> = comparison.groups.iter().filter_map(cost).collect();
    let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = costs.iter().copied().fold(0.0, f64::max);
    if costs.len() < 2 || least <= 0.0 {
        return None;
    }
    let word = if axis.label.starts_with("bytes") {
        "bytes"
    } else {
        "milliseconds"
    };
    let mut styles = styles(series);
    for style in &mut styles {
        style.dashed = false;
    }
    let mut chart = Chart::new(
        &title(comparison, &format!("What errors cost in {word}")),
        SIZE,
        Axis {
            label: axis.label,
            range: Range::of(costs, most > 3.0 * least),
            format: axis.format,
        },
        Axis {
            label: &error_label(comparison, series),
            range: errors(comparison, series),
            format: format::percent,
        },
        &styles,
    );
    // Of a frontier nothing else is both cheaper and better.
    let mut points: Vec<(f64, &Group)> = (comparison.groups.iter())
        .filter_map(|group| Some((cost(group)?, group)))
        .collect();
    points.sort_by(|a, b| {
        a.0.total_cmp(&b.0)
            .then(a.1.error.mean.total_cmp(&b.1.error.mean))
    });
    let mut frontier: Vec<(f64, &Group)> = Vec::new();
    for (cost, group) in points {
        if frontier
            .last()
            .is_none_or(|(_, best)| group.error.mean < best.error.mean)
        {
            frontier.push((cost, group));
        }
    }
    let mut steps = Vec::new();
    for pair in frontier.windows(2) {
        let [(from, better), (to, best)] = [pair[0], pair[1]];
        steps.extend([
            (from, better.error.mean),
            (to, better.error.mean),
            (to, best.error.mean),
        ]);
    }
    let steps: Vec<(f64, f64)> = steps.iter().map(|&point| chart.at(point)).collect();
    let mut marks: Vec<(f64, f64)> = (steps.windows(2))
        .flat_map(|pair| marks_of_line([pair[0], pair[1]]))
        .collect();
    chart.canvas.polyline(steps, ink::BEFORE, 1.6, true);
    for (series, style) in series.iter().zip(&styles).rev() {
        for group in &series.groups {
            let Some(cost) = cost(group) else { continue };
            let interval = group.error.interval.filter(|_| series.has_band);
            if let Some(interval) = interval {
                chart.whisker(cost, interval, style.ink);
                let ends = [interval.0, interval.1].map(|error| chart.at((cost, error)));
                marks.extend(marks_of_line(ends));
            }
            let mean = (cost, group.error.mean);
            marks.push(chart.at(mean));
            chart.curve(&[mean], style);
        }
    }
    let with_whiskers = |group: &Group| {
        let mut series = series.iter().filter(|series| series.has_band);
        series.any(|series| series.groups.iter().any(|own| std::ptr::eq(*own, group)))
    };
    label(&mut chart, comparison, &frontier, &marks, with_whiskers);
    Some(chart.canvas)
}

/// A line as a row of marks, which is what it is to a name that looks for its place.
fn marks_of_line([from, to]: [(f64, f64); 2]) -> impl Iterator<Item = (f64, f64)> {
    let steps = ((to.0 - from.0).hypot(to.1 - from.1) / 4.0).ceil();
    (0..=steps as usize).map(move |step| {
        let share = step as f64 / steps.max(1.0);
        (
            from.0 + share * (to.0 - from.0),
            from.1 + share * (to.1 - from.1),
        )
    })
}

/// Names the points of the frontier, each where no other name and no mark stands; a thin line leads to a name that is
/// neither beside its point nor beside its whisker.
fn label(
    chart: &mut Chart,
    comparison: &Comparison,
    frontier: &[(f64, &Group)],
    marks: &[(f64, f64)],
    with_whiskers: impl Fn(&Group) -> bool,
) {
    const TEXT: u32 = 12;
    /// Height of a line of text.
    const LINE: f64 = 13.0;
    let mut taken: Vec<(f64, f64, f64)> = Vec::new();
    for (cost, group) in frontier {
        let (x, y) = chart.at((*cost, group.error.mean));
        let name = name(comparison, group);
        let width = text_width(&name, TEXT);
        // The corners first, then along the whisker, then its ends.
        let beside = [-7.0, 17.0, -21.0, 31.0, -35.0, 45.0, -49.0, 59.0];
        let interval = group.error.interval.filter(|_| with_whiskers(group));
        let (low, high) = interval.unwrap_or((group.error.mean, group.error.mean));
        let end = |error: f64| chart.at((*cost, error)).1;
        let places: Vec<(f64, f64)> = (beside.into_iter())
            .flat_map(|down| [(x + 8.0, y + down), (x - 8.0 - width, y + down)])
            .chain([
                (x - width / 2.0, end(high) - 8.0),
                (x - width / 2.0, end(low) + 18.0),
            ])
            .collect();
        let within =
            |(left, at): (f64, f64)| left > 68.0 && at > 76.0 && left + width < chart.right() + 8.0;
        let free = |(left, at): (f64, f64)| {
            let of_names = taken.iter().all(|&(other, line, wide)| {
                (at - line).abs() > LINE || left > other + wide + 4.0 || left + width + 4.0 < other
            });
            let of_marks = marks.iter().all(|&(x, y)| {
                x < left - 4.0 || x > left + width + 4.0 || y < at - LINE || y > at + 6.0
            });
            of_names && of_marks
        };
        // A name that would stand on another is left out; the legend and the table have it.
        let place = (places.into_iter()).find(|&place| within(place) && free(place));
        if let Some((left, at)) = place {
            taken.push((left, at, width));
            let middle = at - LINE / 3.0;
            if interval.is_none() && (middle - y).abs() > 1.5 * LINE {
                let near = (
                    x.clamp(left, left + width),
                    if middle < y { at + 4.0 } else { at - LINE },
                );
                chart
                    .canvas
                    .polyline(vec![(x, y), near], ink::MUTED, 0.8, false);
            }
            chart
                .canvas
                .text((left, at), &name, TEXT, Anchor::Start, ink::TEXT);
        }
    }
}

/// A group in few words: `iht 10 %`.
fn name(comparison: &Comparison, group: &Group) -> String {
    let parts = comparison.keys.iter().zip(&group.values);
    let parts: Vec<String> = parts
        .filter(|(key, value)| *value != NONE && !(*key == "density" && group.is_baseline))
        .map(|(key, value)| match (key.as_str(), value.parse::<f64>()) {
            ("density", Ok(density)) => format::percent(density),
            _ => value.clone(),
        })
        .collect();
    parts.join(" ")
}

/// With network and data, where all runs have them in common.
fn title(comparison: &Comparison, what: &str) -> String {
    let common = |value: fn(&crate::compare::runs::Run) -> &str| -> Option<String> {
        let mut values = comparison.runs.iter().map(value);
        let first = values.next()?;
        values
            .all(|other| other == first)
            .then(|| first.to_string())
    };
    let network = common(|run| run.summary.network.as_str());
    let data = common(|run| run.summary.data.as_str());
    match (network, data) {
        (Some(network), Some(data)) => format!("{what}: {network} on {data}"),
        (None, Some(data)) => format!("{what}: {data}"),
        _ => what.to_string(),
    }
}
