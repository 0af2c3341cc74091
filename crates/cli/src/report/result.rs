//! What came out of a run, in words and beside its dense twin.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::figure::Member;
use super::html::{Cell, escape, table};
use super::number;
use super::run::{DenseTwin, Run};
use super::timeline::Timeline;
use crate::compare::statistics::Sample;

/// Whether the trained network keeps fewer weights than it has.
fn thinned(run: &Run) -> Option<f64> {
    let (weights, nonzeros) = run.weights_and_nonzeros()?;
    (nonzeros > 0 && nonzeros < weights).then(|| weights as f64 / nonzeros as f64)
}

fn method(run: &Run) -> Option<&str> {
    run.summary.as_ref()?.method.as_deref()
}

/// Whether a run has a dense one to stand beside: by its method, or if that is not known by what it kept.
fn is_skinny(run: &Run) -> bool {
    thinned(run).is_some() || method(run).is_some_and(|method| method != "dense")
}

/// Whether the network is a thinner one than that of its dense twin.
fn is_thinner(run: &Run) -> bool {
    method(run) == Some("small_dense")
}

fn twin(run: &Run) -> Option<&DenseTwin> {
    run.summary.as_ref()?.dense_twin.as_ref()
}

/// The result in one sentence.
pub fn sentence(run: &Run) -> String {
    let test_error = run.summary.as_ref().and_then(|summary| summary.test_error);
    let dense_error = twin(run).and_then(|twin| twin.test_error);
    let error = match (test_error, dense_error) {
        (Some(error), Some(dense)) if is_skinny(run) => {
            format!(
                "test error {} against {} dense",
                number::percent(error),
                number::percent(dense)
            )
        }
        (Some(error), _) => format!("test error {}", number::percent(error)),
        (None, _) => progress(run),
    };
    match (thinned(run), run.weights_and_nonzeros()) {
        (Some(factor), _) => format!("{} fewer weights, {error}.", number::factor(factor)),
        (None, Some((weights, _))) => format!(
            "{} network of {} weights, {error}.",
            if is_thinner(run) {
                "Thinner dense"
            } else {
                "Dense"
            },
            number::count(weights)
        ),
        (None, None) => {
            let mut letters = error.chars();
            letters.next().map_or(String::new(), |first| {
                first.to_uppercase().chain(letters).collect::<String>() + "."
            })
        }
    }
}

/// How far a run without a result has come.
fn progress(run: &Run) -> String {
    let Some(last) = run.epochs.last() else {
        return "no epoch recorded yet".into();
    };
    let done = number::significant(Timeline::of(run).end, 4);
    let done = match run.planned_epochs() {
        Some(planned) => format!("{done} of {}", number::plural(planned, "epoch")),
        None => format!("{done} epochs"),
    };
    match (last.validation_error, last.train_error) {
        (Some(error), _) => format!(
            "{done} done, held-out error {} so far",
            number::percent(error)
        ),
        (None, Some(error)) => format!(
            "{done} done, training error {} so far",
            number::percent(error)
        ),
        (None, None) => format!("{done} done"),
    }
}

/// The dense-against-skinny table, as far as its numbers are known.
pub fn against_dense(run: &Run) -> String {
    let Some(summary) = &run.summary else {
        return String::new();
    };
    let known = |text: Option<String>| text.unwrap_or_else(|| number::NONE.into());
    let skinny = is_skinny(run);
    let dense_error = if skinny {
        twin(run).and_then(|twin| twin.test_error)
    } else {
        summary.test_error
    };
    let mut rows = vec![Row {
        name: "test error",
        dense: known(dense_error.map(number::percent)),
        skinny: known(summary.test_error.map(number::percent)),
        change: known(
            summary
                .test_error
                .zip(dense_error)
                .map(|(skinny, dense)| number::points(skinny - dense)),
        ),
        better: summary
            .test_error
            .zip(dense_error)
            .is_some_and(|(skinny, dense)| skinny <= dense),
        share: None,
    }];
    let thinner = is_thinner(run);
    match (run.weights_and_nonzeros(), summary.nonzeros) {
        // Only its twin knows the network that it is thinner than.
        (_, Some(nonzeros)) if thinner => {
            let dense = twin(run).and_then(|twin| twin.nonzeros);
            rows.push(Row::of(
                "non-zero parameters",
                dense,
                nonzeros,
                number::count,
            ));
        }
        (Some((weights, nonzeros)), _) => rows.push(Row::smaller(
            "non-zero weights",
            weights,
            nonzeros,
            number::count,
        )),
        _ => {}
    }
    let own_bytes = summary.dense_bytes.filter(|_| !thinner);
    let dense_bytes = (twin(run).and_then(|twin| twin.bytes)).or(own_bytes);
    match summary.packed_bytes {
        Some(packed) if skinny => {
            let row = Row::of("file", dense_bytes, packed, number::bytes);
            let dense = match dense_bytes {
                Some(_) => format!("{} as f32", row.dense),
                None => row.dense,
            };
            rows.push(Row { dense, ..row });
        }
        // The one column is of this network.
        Some(packed) => rows.push(Row::smaller("file", packed, packed, number::bytes)),
        None => {}
    }
    let mut html =
        "<table class=\"versus\"><thead><tr><td></td><th scope=\"col\">dense</th>".to_string();
    html.push_str(if skinny {
        "<th scope=\"col\">skinny</th><td></td></tr></thead><tbody>"
    } else {
        "</tr></thead><tbody>"
    });
    for row in rows {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", row.name);
        let _ = write!(
            html,
            "<td>{}{}</td>",
            escape(&row.dense),
            bar(row.share.filter(|_| skinny).map(|_| 1.0), "dense")
        );
        if skinny {
            let _ = write!(
                html,
                "<td class=\"skinny\">{}{}</td>",
                escape(&row.skinny),
                bar(row.share, "kept")
            );
            let class = if row.better {
                "change better"
            } else {
                "change"
            };
            let _ = write!(html, "<td class=\"{class}\">{}</td>", escape(&row.change));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table>\n");
    if skinny && dense_error.is_none() {
        html.push_str("<p class=\"remark\">The dense twin was not trained: <code>skinny train --with-dense</code> fills its column.</p>\n");
    }
    html
}

/// A row of the dense-against-skinny table.
struct Row {
    name: &'static str,
    dense: String,
    skinny: String,
    change: String,
    /// Whether skinny is at least as good as dense.
    better: bool,
    /// Skinny as a fraction of dense, where a bar tells something.
    share: Option<f64>,
}

impl Row {
    /// The row of a dense value that may not be known.
    fn of(name: &'static str, dense: Option<u64>, skinny: u64, write: fn(u64) -> String) -> Row {
        match dense {
            Some(dense) => Row::smaller(name, dense, skinny, write),
            None => Row {
                name,
                dense: number::NONE.into(),
                skinny: write(skinny),
                change: number::NONE.into(),
                better: false,
                share: None,
            },
        }
    }

    fn smaller(name: &'static str, dense: u64, skinny: u64, write: fn(u64) -> String) -> Row {
        let change = if skinny == 0 {
            number::NONE.into()
        } else {
            format!(
                "÷\u{a0}{}",
                number::factor(dense as f64 / skinny as f64).trim_end_matches('×')
            )
        };
        let share = (dense > 0).then(|| (skinny as f64 / dense as f64).min(1.0));
        Row {
            name,
            dense: write(dense),
            skinny: write(skinny),
            change,
            better: skinny <= dense,
            share,
        }
    }
}

fn bar(share: Option<f64>, class: &str) -> String {
    share.map_or(String::new(), |share| {
        format!(
            "<span class=\"bar {class}\" style=\"width:{:.2}%\"></span>",
            share * 100.0
        )
    })
}

/// What was trained, in a line of facts.
pub fn facts(run: &Run) -> String {
    let mut facts: Vec<String> = Vec::new();
    if let Some(summary) = &run.summary {
        facts.extend(
            summary
                .method
                .iter()
                .map(|method| format!("method {method}")),
        );
        facts.extend(
            summary
                .network
                .iter()
                .map(|network| format!("network {network}")),
        );
        facts.extend(summary.data.iter().map(|data| format!("data {data}")));
        facts.extend(summary.seed.map(|seed| format!("seed {seed}")));
        facts.extend(summary.epochs.map(|epochs| number::plural(epochs, "epoch")));
        facts.extend(summary.steps.map(|steps| number::plural(steps, "step")));
        facts.extend(
            summary
                .parameters
                .map(|parameters| number::plural(parameters, "parameter")),
        );
        facts.extend(
            summary
                .test_loss
                .map(|loss| format!("test loss {}", number::value(loss))),
        );
        facts.extend(
            summary
                .validation_error
                .map(|error| format!("held-out error {}", number::percent(error))),
        );
        facts.extend(summary.best_epoch.zip(summary.best_validation_error).map(
            |(epoch, error)| {
                format!(
                    "best held-out error {} at epoch {epoch}",
                    number::percent(error)
                )
            },
        ));
    }
    let seconds = run.summary.as_ref().and_then(|summary| summary.seconds);
    facts.extend(
        seconds
            .or(run.epochs.last().and_then(|row| row.seconds))
            .map(number::duration),
    );
    let speed = run
        .epochs
        .iter()
        .filter_map(|row| row.images_per_second)
        .collect::<Vec<_>>();
    if !speed.is_empty() {
        let mean = speed.iter().sum::<f64>() / speed.len() as f64;
        facts.push(format!(
            "{} pictures per second",
            number::count(mean.round() as u64)
        ));
    }
    if facts.is_empty() {
        return String::new();
    }
    let items: String = facts
        .iter()
        .map(|fact| format!("<li>{}</li>", escape(fact)))
        .collect();
    format!("<ul class=\"facts\">{items}</ul>\n")
}

/// A row per run and, for runs that differ in nothing but their seed, mean ± standard deviation.
pub fn side_by_side(runs: &[Member<'_>]) -> String {
    let header = [
        "run",
        "method",
        "density",
        "test error",
        "against dense",
        "held-out error",
        "non-zero weights",
        "file",
        "time",
    ];
    let known = |text: Option<String>| Cell::Number(text.unwrap_or_else(|| number::NONE.into()));
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for Member {
        run,
        label,
        ink,
        dashed,
    } in runs
    {
        let summary = run.summary.as_ref();
        let test_error = summary.and_then(|summary| summary.test_error);
        let difference = twin(run)
            .and_then(|twin| twin.test_error)
            .zip(test_error)
            .map(|(dense, skinny)| skinny - dense);
        let validation = summary.and_then(|summary| summary.validation_error);
        rows.push(vec![
            Cell::Html(format!("{} {}", swatch(ink, *dashed), escape(label))),
            Cell::Text(
                summary
                    .and_then(|summary| summary.method.clone())
                    .unwrap_or_else(|| number::NONE.into()),
            ),
            known(
                run.weights_and_nonzeros().map(|(weights, kept)| {
                    number::short_percent(kept as f64 / weights.max(1) as f64)
                }),
            ),
            known(test_error.map(number::percent)),
            known(difference.map(number::points)),
            known(validation.map(number::percent)),
            known(
                run.weights_and_nonzeros()
                    .map(|(_, kept)| number::count(kept)),
            ),
            known(
                summary
                    .and_then(|summary| summary.packed_bytes)
                    .map(number::bytes),
            ),
            known(
                summary
                    .and_then(|summary| summary.seconds)
                    .map(number::duration),
            ),
        ]);
    }
    let single = rows.len();
    let spread = |values: &[f64]| known((values.len() > 1).then(|| mean_and_deviation(values)));
    for group in groups(runs) {
        let mut row = vec![
            Cell::Text(format!(
                "mean ± standard deviation of {}",
                group.test_errors.len()
            )),
            Cell::Text(group.method.into()),
            known(group.density.map(number::short_percent)),
            spread(&group.test_errors),
            Cell::Number(String::new()),
            spread(&group.validation_errors),
        ];
        row.resize(header.len(), Cell::Number(String::new()));
        rows.push(row);
    }
    table(&header, &rows, |row| row >= single)
}

/// A short stroke in the colour of a run's curves.
pub fn swatch(ink: &str, dashed: bool) -> String {
    let dash = if dashed {
        " stroke-dasharray=\"5 4\""
    } else {
        ""
    };
    format!(
        "<span class=\"plot swatch\"><svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 18 6\" aria-hidden=\"true\">\
         <path d=\"M0 3H18\" stroke=\"{ink}\" stroke-width=\"3\"{dash} /></svg></span>"
    )
}

/// What runs that differ only in their seed have come to.
struct Group<'a> {
    settings: &'a str,
    /// Where the pictures are from, if they are the user's own.
    place: Option<String>,
    seeds: BTreeSet<u64>,
    method: &'a str,
    density: Option<f64>,
    test_errors: Vec<f64>,
    validation_errors: Vec<f64>,
}

/// Finished runs of the same settings, where there are at least two.
fn groups<'a>(runs: &'a [Member<'_>]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for Member { run, .. } in runs {
        let Some(summary) = &run.summary else {
            continue;
        };
        let (Some(settings), Some(error)) = (&summary.settings_hash, summary.test_error) else {
            continue;
        };
        let place = run.place();
        let index = groups
            .iter()
            .position(|group| group.settings == settings && group.place == place)
            .unwrap_or_else(|| {
                groups.push(Group {
                    settings,
                    place,
                    seeds: BTreeSet::new(),
                    method: summary.method.as_deref().unwrap_or("run"),
                    density: run
                        .weights_and_nonzeros()
                        .map(|(weights, kept)| kept as f64 / weights.max(1) as f64),
                    test_errors: Vec::new(),
                    validation_errors: Vec::new(),
                });
                groups.len() - 1
            });
        let group = &mut groups[index];
        // The same seed comes to the same, and must not count twice.
        if (summary.seed).is_some_and(|seed| !group.seeds.insert(seed)) {
            continue;
        }
        group.test_errors.push(error);
        (group.validation_errors).extend(summary.validation_error);
    }
    groups.retain(|group| group.test_errors.len() > 1);
    groups
}

/// Mean and sample standard deviation of fractions, as percentages.
fn mean_and_deviation(values: &[f64]) -> String {
    let sample = Sample::of(values);
    let [mean, deviation] = [
        sample.map(|sample| sample.mean),
        sample.and_then(|sample| sample.sd),
    ]
    .map(|value| 100.0 * value.unwrap_or(f64::NAN));
    format!("{mean:.2} ± {deviation:.2}\u{a0}%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_sentence_says_what_is_known() {
        let mut run = sample::run();
        let error = run.summary.as_ref().unwrap().test_error.unwrap();
        assert_eq!(
            sentence(&run),
            format!(
                "10.0× fewer weights, test error {}.",
                number::percent(error)
            )
        );
        run.summary.as_mut().unwrap().dense_twin = Some(DenseTwin {
            run: None,
            test_error: Some(0.0074),
            nonzeros: None,
            bytes: None,
        });
        assert!(
            sentence(&run).ends_with("against 0.74\u{a0}% dense."),
            "{}",
            sentence(&run)
        );
        run.summary = None;
        run.layers.clear();
        assert!(
            sentence(&run).starts_with("15 of 15\u{a0}epochs done, held-out error "),
            "{}",
            sentence(&run)
        );
        run.epochs.clear();
        assert_eq!(sentence(&run), "No epoch recorded yet.");
    }

    #[test]
    fn a_dense_run_is_called_dense_and_compared_with_nothing() {
        let mut run = sample::run();
        run.summary.as_mut().unwrap().method = Some("dense".into());
        for layer in &mut run.layers {
            layer.k = layer.weights;
            layer.nonzeros = Some(layer.weights);
        }
        assert!(sentence(&run).starts_with("Dense network of 430,500 weights, test error "));
        assert!(!against_dense(&run).contains("skinny"));
    }

    #[test]
    fn a_thinner_network_stands_beside_the_one_that_it_is_thinner_than() {
        let mut run = sample::run();
        for layer in &mut run.layers {
            layer.k = layer.weights;
            layer.nonzeros = Some(layer.weights);
        }
        let summary = run.summary.as_mut().unwrap();
        summary.method = Some("small_dense".into());
        summary.nonzeros = Some(103_731);
        let html = against_dense(&run);
        assert!(
            html.contains("103,731") && html.contains("skinny"),
            "{html}"
        );
        // Nobody knows the other network.
        assert!(
            !html.contains("as f32") && !html.contains("430,500"),
            "{html}"
        );
        run.summary.as_mut().unwrap().dense_twin = Some(DenseTwin {
            run: None,
            test_error: Some(0.0074),
            nonzeros: Some(431_080),
            bytes: Some(1_724_320),
        });
        let html = against_dense(&run);
        for text in [
            "431,080",
            "÷\u{a0}4.2",
            "0.74\u{a0}%",
            "1.72\u{a0}MB as f32",
        ] {
            assert!(html.contains(text), "{text} in {html}");
        }
        let sentence = sentence(&run);
        assert!(
            sentence.starts_with("Thinner dense network of 430,500 weights"),
            "{sentence}"
        );
        assert!(
            sentence.ends_with("against 0.74\u{a0}% dense."),
            "{sentence}"
        );
    }

    #[test]
    fn the_table_divides_and_subtracts() {
        let mut run = sample::run();
        let summary = run.summary.as_mut().unwrap();
        summary.test_error = Some(0.0081);
        summary.dense_twin = Some(DenseTwin {
            run: None,
            test_error: Some(0.0074),
            nonzeros: Some(431_080),
            bytes: Some(1_724_320),
        });
        summary.packed_bytes = Some(174_320);
        let html = against_dense(&run);
        for text in [
            "0.81\u{a0}%",
            "0.74\u{a0}%",
            "+0.07\u{a0}points",
            "430,500",
            "43,050",
            "÷\u{a0}10.0",
            "1.72\u{a0}MB",
            "174\u{a0}kB",
            "÷\u{a0}9.9",
        ] {
            assert!(html.contains(text), "{text} in {html}");
        }
    }

    #[test]
    fn seeds_are_averaged() {
        assert_eq!(mean_and_deviation(&[0.007, 0.009]), "0.80 ± 0.14\u{a0}%");
        let (mut one, mut two, mut other) = (sample::run(), sample::run(), sample::run());
        one.summary.as_mut().unwrap().test_error = Some(0.007);
        two.summary.as_mut().unwrap().test_error = Some(0.009);
        other.summary.as_mut().unwrap().settings_hash = Some("another".into());
        let member = |run, label: &str| Member {
            run,
            label: label.into(),
            ink: "#2f6fc4",
            dashed: false,
        };
        let seeds = [&mut one, &mut two, &mut other].into_iter().zip(0..);
        seeds.for_each(|(run, seed)| run.summary.as_mut().unwrap().seed = Some(seed));
        let again = one.clone();
        let runs = [
            member(&one, "a"),
            member(&two, "b"),
            member(&other, "c"),
            member(&again, "a again"),
        ];
        let html = side_by_side(&runs);
        assert!(html.contains("<td>mean ± standard deviation of 2</td><td>iht</td>"));
        assert!(html.contains("0.80 ± 0.14\u{a0}%"));
        assert_eq!(html.matches("class=\"strong\"").count(), 1);
    }
}
