//! The page: one file that needs nothing else, without scripts.

use std::fmt::Write as _;

use super::figure::{Figure, Member};
use super::html::{Cell, escape, shell_word, table};
use super::number;
use super::photo::Photo;
use super::plots::dark_rules;
use super::predictions;
use super::result;
use super::run::{Flip, Run};
use super::timeline::Timeline;

/// What has more rows than this is folded away.
const LONG: usize = 30;

/// The figures of one run by where they stand.
pub struct Figures {
    /// Loss, error, cost of flips, learning rate.
    pub curves: Vec<Figure>,
    /// Density, overlap, weights.
    pub layers: Vec<Figure>,
    /// Confusion matrix and mistakes.
    pub predictions: Vec<Figure>,
}

impl Figures {
    /// All of them, in the order of the page.
    pub fn all(self) -> impl Iterator<Item = Figure> {
        self.curves
            .into_iter()
            .chain(self.layers)
            .chain(self.predictions)
    }
}

/// The report of one run.
pub fn one(run: &Run, figures: &Figures) -> String {
    let mut html = String::new();
    let _ = write!(
        html,
        "<header><p class=\"brand\">skinny report</p><h1>{}</h1>",
        escape(&run.name())
    );
    let _ = writeln!(
        html,
        "<p class=\"lead\">{}</p>",
        escape(&result::sentence(run))
    );
    html.push_str(&notices(run));
    html.push_str(&result::against_dense(run));
    html.push_str(&result::facts(run));
    html.push_str("</header>\n");
    html.push_str(&body(run, figures, "h2"));
    document(&run.name(), &result::sentence(run), &html)
}

/// The report of several runs, with the figures that lay them over each other and those of each run.
pub fn several(runs: &[Member<'_>], shared: &[Figure], own: &[Figures]) -> String {
    let title = format!("{} runs compared", runs.len());
    let mut html = String::new();
    let _ = writeln!(
        html,
        "<header><p class=\"brand\">skinny report</p><h1>{title}</h1>"
    );
    let best = runs
        .iter()
        .filter_map(|member| Some((member.run.summary.as_ref()?.test_error?, member)));
    let lead = best.min_by(|a, b| a.0.total_cmp(&b.0)).map_or_else(
        || "No run is finished yet.".to_string(),
        |(_, best)| {
            format!(
                "Lowest test error: {}. {}",
                best.label,
                result::sentence(best.run)
            )
        },
    );
    let _ = writeln!(html, "<p class=\"lead\">{}</p>", escape(&lead));
    html.push_str(&result::side_by_side(runs));
    html.push_str("</header>\n");
    html.push_str(&section("h2", "Compared", &grid(shared)));
    let matrices: Vec<(String, &Figure)> = runs
        .iter()
        .zip(own)
        .filter_map(|(member, figures)| {
            Some((
                member.label.clone(),
                figures.predictions.iter().find(|f| f.slug == "confusion")?,
            ))
        })
        .collect();
    if !matrices.is_empty() {
        let all: String = matrices
            .iter()
            .map(|(name, figure)| drawn(figure, Some(name)))
            .collect();
        html.push_str(&section(
            "h2",
            "Predictions on the test set",
            &format!("<div class=\"grid\">{all}</div>"),
        ));
    }
    html.push_str("<section><h2>Each run</h2>\n");
    for (
        Member {
            run,
            label,
            ink,
            dashed,
        },
        figures,
    ) in runs.iter().zip(own)
    {
        let _ = write!(
            html,
            "<details class=\"run\"><summary>{} {}</summary>",
            result::swatch(ink, *dashed),
            escape(label)
        );
        let _ = writeln!(html, "<p>{}</p>", escape(&result::sentence(run)));
        html.push_str(&notices(run));
        html.push_str(&result::against_dense(run));
        html.push_str(&result::facts(run));
        html.push_str(&body(run, figures, "h3"));
        html.push_str("</details>\n");
    }
    html.push_str("</section>\n");
    document(&title, &lead, &html)
}

/// Everything below the head, under headings of level `level`.
fn body(run: &Run, figures: &Figures, level: &str) -> String {
    let mut html = section(level, "Training", &grid(&figures.curves));
    html.push_str(&section(level, "Sparsity", &grid(&figures.layers)));
    let matrix: String = figures
        .predictions
        .iter()
        .filter(|figure| figure.slug == "confusion")
        .map(|figure| drawn(figure, None))
        .collect();
    let shown = matrix + &mistakes(run);
    if !shown.is_empty() {
        html.push_str(&section(
            level,
            "Predictions on the test set",
            &format!("<div class=\"grid\">{shown}</div>"),
        ));
    }
    html.push_str(&section(level, "Layers", &layers(run)));
    html.push_str(&section(level, "Flips", &flips(run)));
    html.push_str(&section(level, "Reproduce", &reproduce(run)));
    html
}

fn document(title: &str, description: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n\
         <meta name=\"color-scheme\" content=\"light dark\" />\n\
         <meta name=\"description\" content=\"{}\" />\n<title>{} · skinny</title>\n\
         <style>\n{}@media screen and (prefers-color-scheme: dark){{{}}}\n</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         <footer>Written by skinny {}. Curves and numbers come from the files of the run folder.</footer>\n</body>\n</html>\n",
        escape(description),
        escape(title),
        include_str!("style.css"),
        dark_rules(".plot "),
        env!("CARGO_PKG_VERSION"),
    )
}

fn section(level: &str, title: &str, content: &str) -> String {
    if content.is_empty() {
        String::new()
    } else {
        format!("<section><{level}>{title}</{level}>\n{content}</section>\n")
    }
}

fn grid(figures: &[Figure]) -> String {
    if figures.is_empty() {
        return String::new();
    }
    let all: String = figures.iter().map(|figure| drawn(figure, None)).collect();
    format!("<div class=\"grid\">{all}</div>\n")
}

/// A figure with its caption, under `heading` where several runs stand side by side.
fn drawn(figure: &Figure, heading: Option<&str>) -> String {
    let heading = heading.map_or(String::new(), |heading| {
        format!("<p class=\"whose\">{}</p>", escape(heading))
    });
    let caption = escape(&figure.caption);
    if figure.panels.is_empty() {
        let svg = figure.canvas.svg_inline(&figure.title);
        return format!(
            "<figure>{heading}<div class=\"plot\">{svg}</div><figcaption>{caption}</figcaption></figure>\n"
        );
    }
    let panels: String = figure
        .panels
        .iter()
        .map(|panel| {
            format!(
                "<div class=\"plot\">{}</div>",
                panel.svg_inline(&figure.title)
            )
        })
        .collect();
    format!(
        "<figure class=\"full\">{heading}<p class=\"title\">{}</p><div class=\"grid panels\">{panels}</div>\
         <figcaption>{caption}</figcaption></figure>\n",
        escape(&figure.title)
    )
}

/// What is not there, and why.
fn notices(run: &Run) -> String {
    let mut lines = Vec::new();
    if !run.finished() {
        lines.push(
            match run
                .summary
                .as_ref()
                .and_then(|summary| summary.status.as_deref())
            {
                Some(status) => format!("This run did not finish: {status}."),
                None => "This run is not finished: what follows is its state so far.".into(),
            },
        );
    }
    let missing: Vec<String> = run
        .missing
        .iter()
        .map(|file| format!("{} ({file})", what_it_gives(file)))
        .collect();
    if !missing.is_empty() {
        lines.push(format!(
            "Not in the run folder, so not in this report: {}.",
            missing.join(", ")
        ));
    }
    lines.extend(run.notes.iter().cloned());
    if lines.is_empty() {
        return String::new();
    }
    let items: String = lines
        .iter()
        .map(|line| format!("<p>{}</p>", escape(line)))
        .collect();
    format!("<div class=\"notice\" role=\"note\">{items}</div>\n")
}

fn what_it_gives(file: &str) -> &'static str {
    match file {
        "results.csv" => "curves",
        "flips.jsonl" => "flips, overlap and weight histograms",
        "layers.csv" => "table of layers",
        "summary.json" => "result and sizes",
        "confusion.csv" => "confusion matrix",
        "mistakes.json" => "worst mistakes",
        "recipe.toml" => "settings",
        _ => "environment",
    }
}

fn mistakes(run: &Run) -> String {
    if run.mistakes.is_empty() {
        return String::new();
    }
    let classes = run
        .mistakes
        .iter()
        .flat_map(|mistake| [mistake.label, mistake.predicted]);
    let longest = classes
        .map(|class| predictions::label(run, class).chars().count())
        .max();
    let class = if longest > Some(5) {
        "mistakes roomy"
    } else {
        "mistakes"
    };
    let mut html = format!("<figure><p class=\"title\">Worst mistakes</p><div class=\"{class}\">");
    for mistake in &run.mistakes {
        let (label, predicted) = (
            escape(&predictions::label(run, mistake.label)),
            escape(&predictions::label(run, mistake.predicted)),
        );
        let photo = Photo::of(mistake);
        let blocky = if photo.width.max(photo.height) <= 64 {
            " class=\"blocky\""
        } else {
            ""
        };
        let _ = write!(
            html,
            "<div><img{blocky} src=\"{}\" alt=\"test picture {} of class {label}\" /><b>{label} → {predicted}</b><span>{}</span></div>",
            photo.data_url(),
            mistake.index,
            number::percent(mistake.confidence)
        );
    }
    let _ = writeln!(
        html,
        "</div><figcaption>{}</figcaption></figure>",
        escape(&predictions::mistakes_caption(&run.mistakes))
    );
    html
}

fn layers(run: &Run) -> String {
    if run.layers.is_empty() {
        return String::new();
    }
    let row = |name: String, shape: String, weights: u64, k: u64, nonzeros: Option<u64>| {
        vec![
            Cell::Text(name),
            Cell::Text(shape),
            Cell::Number(number::count(weights)),
            Cell::Number(number::count(k)),
            Cell::Number(number::short_percent(k as f64 / weights.max(1) as f64)),
            Cell::Number(nonzeros.map_or(number::NONE.into(), number::count)),
        ]
    };
    let mut rows: Vec<Vec<Cell>> = run
        .layers
        .iter()
        .map(|layer| {
            row(
                layer.name.clone(),
                layer.shape.replace('x', " × "),
                layer.weights,
                layer.k,
                layer.nonzeros,
            )
        })
        .collect();
    let total = |of: fn(&super::run::LayerRow) -> u64| run.layers.iter().map(of).sum::<u64>();
    let nonzeros: Option<u64> = run.layers.iter().map(|layer| layer.nonzeros).sum();
    rows.push(row(
        "all".into(),
        String::new(),
        total(|layer| layer.weights),
        total(|layer| layer.k),
        nonzeros,
    ));
    let last = rows.len() - 1;
    folded(
        table(
            &["layer", "shape", "weights", "k", "density", "non-zeros"],
            &rows,
            |row| row == last,
        ),
        rows.len(),
        "layers",
    )
}

fn flips(run: &Run) -> String {
    if run.flips.is_empty() {
        return String::new();
    }
    let timeline = Timeline::of(run);
    let known = |value: Option<f64>, write: fn(f64) -> String| {
        Cell::Number(value.map_or(number::NONE.into(), write))
    };
    let total = |flip: &Flip, of: fn(&super::run::LayerFlip) -> u64| {
        Cell::Number(if flip.layers.is_empty() {
            number::NONE.into()
        } else {
            number::count(flip.total(of))
        })
    };
    let row = |flip: &Flip| {
        vec![
            Cell::Number(number::significant(timeline.at(flip.step), 4)),
            Cell::Number(number::count(flip.step)),
            Cell::Text(flip.edge.word().into()),
            known(flip.density, number::short_percent),
            total(flip, |layer| layer.kept),
            total(flip, |layer| layer.dropped),
            total(flip, |layer| layer.reactivated),
            known(flip.overlap(), number::short_percent),
            known(
                flip.dropped_share().filter(|share| *share > 0.0),
                number::short_percent,
            ),
            known(flip.loss_before, number::value),
            known(flip.loss_after, number::value),
        ]
    };
    let header = [
        "epoch",
        "step",
        "flip",
        "density",
        "kept",
        "dropped",
        "re-activated",
        "overlap",
        "norm dropped",
        "loss before",
        "loss after",
    ];
    let rows: Vec<_> = run.flips.iter().map(row).collect();
    folded(table(&header, &rows, |_| false), rows.len(), "flips")
}

/// What is long behind a line that opens it.
fn folded(content: String, rows: usize, of: &str) -> String {
    if rows > LONG {
        format!("<details><summary>{rows} {of}</summary>{content}</details>\n")
    } else {
        content
    }
}

fn reproduce(run: &Run) -> String {
    let mut html = String::new();
    if let Some(recipe) = &run.recipe {
        let command = format!(
            "skinny train {}",
            shell_word(&run.folder.join("recipe.toml").to_string_lossy())
        );
        let _ = writeln!(html, "<pre class=\"command\">{}</pre>", escape(&command));
        let settings = format!("<pre>{}</pre>", escape(recipe.trim_end()));
        let _ = writeln!(
            html,
            "<h4>Settings (recipe.toml)</h4>{}",
            folded(settings, recipe.lines().count(), "lines")
        );
    }
    if !run.environment.is_empty() {
        let mut facts = run.environment.clone();
        let hash = run
            .summary
            .as_ref()
            .and_then(|summary| summary.settings_hash.clone());
        facts.extend(hash.map(|hash| ("settings hash".to_string(), hash)));
        let rows: Vec<_> = facts
            .into_iter()
            .map(|(key, value)| vec![Cell::Text(key), Cell::Text(value)])
            .collect();
        let _ = writeln!(
            html,
            "<h4>Environment (env.json)</h4>{}",
            table(&["what", "value"], &rows, |_| false)
        );
    }
    html
}
