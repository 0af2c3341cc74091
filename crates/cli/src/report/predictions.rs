//! Figures of what the network predicts: confusion matrix and worst mistakes.

use super::figure::{Figure, SIZE};
use super::number;
use super::photo::Photo;
use super::plots::{Anchor, Canvas, fit, ink, text_width};
use super::run::{Confusion, Mistake, Run};

/// Figures of one run.
pub fn of_run(run: &Run) -> Vec<Figure> {
    let mut figures: Vec<Figure> = run.confusion.iter().filter_map(confusion).collect();
    figures.extend(mistakes(run));
    figures
}

/// The name of a class, its number where it has none.
pub fn label(run: &Run, class: usize) -> String {
    let named = run
        .confusion
        .as_ref()
        .and_then(|confusion| confusion.labels.get(class));
    named.cloned().unwrap_or_else(|| class.to_string())
}

fn confusion(confusion: &Confusion) -> Option<Figure> {
    let classes = confusion.labels.len();
    let longest = confusion
        .labels
        .iter()
        .map(|label| text_width(label, 11))
        .fold(0.0, f64::max);
    let left = (longest + 14.0).clamp(26.0, 96.0);
    let turned = longest > 26.0;
    let top = if turned {
        50.0 + longest.min(84.0)
    } else {
        66.0
    };
    let cell = ((SIZE.0 - left - 58.0) / classes as f64).min(40.0);
    let roomy = cell >= 13.0;
    let side = cell * classes as f64;
    // Cells too small to be told apart are drawn only where something was counted.
    let spread = cell < 6.0;
    let gap = if spread { 0.0 } else { 1.0 };
    let mut canvas = Canvas::new(SIZE.0, top + side + 12.0);
    canvas.bold(
        (12.0, 24.0),
        "Confusion matrix",
        15,
        Anchor::Start,
        ink::TEXT,
    );
    canvas.text((left, 42.0), "predicted →", 11, Anchor::Start, ink::MUTED);
    let size = if cell >= 24.0 { 11 } else { 8 };
    // Where classes are many, a label every so often.
    let every = (12.0 / cell).ceil().max(1.0) as usize;
    let worst = confusion
        .counts
        .iter()
        .enumerate()
        .flat_map(|(row, counts)| {
            counts
                .iter()
                .enumerate()
                .filter(move |(column, _)| *column != row)
                .map(move |(column, &count)| (count, row, column))
        });
    let (most, from, to) =
        worst.max_by_key(|(count, row, column)| (*count, std::cmp::Reverse((*row, *column))))?;
    if spread {
        canvas.rect((left, top), (side, side), ink::GRID, 0.45);
    }
    for (row, counts) in confusion.counts.iter().enumerate() {
        let total: u64 = counts.iter().sum();
        let y = top + cell * row as f64;
        let middle = y + cell / 2.0 + 4.0;
        if row % every == 0 {
            let name = &confusion.labels[row];
            canvas.text(
                (left - 7.0, middle),
                &fit(name, 11, left - 12.0),
                11,
                Anchor::End,
                ink::TEXT,
            );
            let x = left + cell * (row as f64 + 0.5);
            if turned {
                canvas.turned(
                    (x + 4.0, top - 6.0),
                    &fit(name, 11, 84.0),
                    11,
                    Anchor::Start,
                    ink::TEXT,
                    -90.0,
                );
            } else {
                canvas.text((x, top - 7.0), name, 11, Anchor::Middle, ink::TEXT);
            }
        }
        for (column, &count) in counts.iter().enumerate() {
            let corner = (left + cell * column as f64 + gap / 2.0, y + gap / 2.0);
            let (color, opacity) = match (row == column, count) {
                (_, 0) if spread => continue,
                (_, 0) => (ink::GRID, 0.45),
                (true, _) => (ink::KEPT, 0.1 + 0.5 * count as f64 / total as f64),
                (false, _) => (ink::WRONG, 0.12 + 0.5 * (count as f64 / most as f64).sqrt()),
            };
            canvas.hint(&format!(
                "{} → {}: {count}",
                confusion.labels[row], confusion.labels[column]
            ));
            let drawn = (cell - gap).max(1.2);
            canvas.rect(corner, (drawn, drawn), color, opacity);
            let text = count.to_string();
            if count > 0 && roomy && text_width(&text, size) <= cell + 2.0 {
                let centre = corner.0 + (cell - gap) / 2.0;
                canvas.text((centre, middle), &text, size, Anchor::Middle, ink::TEXT);
            }
            canvas.end_hint();
        }
        if roomy && total > 0 {
            let wrong = (total - counts[row]) as f64 / total as f64;
            let x = left + side + 8.0;
            canvas.text(
                (x, middle),
                &number::short_percent((wrong * 1e4).round() / 1e4),
                10,
                Anchor::Start,
                ink::MUTED,
            );
        }
    }
    if roomy {
        canvas.text(
            (left + side + 8.0, top - 7.0),
            "error",
            10,
            Anchor::Start,
            ink::MUTED,
        );
    }
    let caption = if most == 0 {
        "Test pictures by true class (row) and predicted class (column): every one is right."
            .to_string()
    } else {
        format!(
            "Test pictures by true class (row) and predicted class (column): right ones green, mistakes red. \
             The most frequent mistake takes “{}” for “{}” ({}).",
            confusion.labels[from],
            confusion.labels[to],
            number::plural(most, "time")
        )
    };
    Some(Figure::new(
        "confusion",
        "Confusion matrix",
        caption,
        canvas,
    ))
}

/// The worst mistakes as a mosaic.
fn mistakes(run: &Run) -> Option<Figure> {
    if run.mistakes.is_empty() {
        return None;
    }
    let (columns, room) = (6, 66.0);
    let (step_x, step_y) = (SIZE.0 / columns as f64, room + 40.0);
    let rows = run.mistakes.len().div_ceil(columns);
    let mut canvas = Canvas::new(SIZE.0, 44.0 + step_y * rows as f64);
    canvas.bold((12.0, 24.0), "Worst mistakes", 15, Anchor::Start, ink::TEXT);
    for (index, mistake) in run.mistakes.iter().enumerate() {
        let photo = Photo::of(mistake).shrunk(192);
        // A whole number of PNG pixels for each of the photo's, so that no seams show.
        let side =
            ((room * 3.0 / photo.width.max(photo.height) as f64).floor() / 3.0).max(1.0 / 3.0);
        let (left, top) = (
            step_x * (index % columns) as f64,
            40.0 + step_y * (index / columns) as f64,
        );
        let (width, height) = (side * photo.width as f64, side * photo.height as f64);
        let centre = left + step_x / 2.0;
        canvas.photo(
            (centre - width / 2.0, top + (room - height) / 2.0),
            side,
            photo,
        );
        let verdict = format!(
            "{} → {}",
            fit(&label(run, mistake.label), 12, 32.0),
            fit(&label(run, mistake.predicted), 12, 32.0)
        );
        canvas.bold(
            (centre, top + room + 14.0),
            &verdict,
            12,
            Anchor::Middle,
            ink::TEXT,
        );
        canvas.text(
            (centre, top + room + 27.0),
            &number::percent(mistake.confidence),
            10,
            Anchor::Middle,
            ink::MUTED,
        );
    }
    let caption = mistakes_caption(&run.mistakes);
    Some(Figure::new("mistakes", "Worst mistakes", caption, canvas))
}

/// What the mosaic shows.
pub fn mistakes_caption(mistakes: &[Mistake]) -> String {
    format!(
        "The {} on which the network was most certain and wrong: true → predicted class, and its confidence.",
        number::plural(mistakes.len() as u64, "test picture")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_matrix_shows_every_count_and_names_the_worst() {
        let confusion = Confusion {
            labels: vec!["cat".into(), "dog".into()],
            counts: vec![vec![90, 10], vec![3, 97]],
        };
        let figure = super::confusion(&confusion).unwrap();
        let svg = figure.canvas.svg_file();
        for text in [">90<", ">10<", ">3<", ">97<", "cat → dog: 10", "10\u{a0}%"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(
            figure.caption.contains("“cat” for “dog” (10\u{a0}times)"),
            "{}",
            figure.caption
        );
    }

    #[test]
    fn a_perfect_matrix_and_many_classes() {
        let counts = |classes: usize| {
            (0..classes)
                .map(|row| {
                    (0..classes)
                        .map(|column| u64::from(row == column) * 100)
                        .collect()
                })
                .collect()
        };
        let labels = |classes: usize| {
            (0..classes)
                .map(|class| format!("class number {class}"))
                .collect()
        };
        let many = Confusion {
            labels: labels(100),
            counts: counts(100),
        };
        let figure = super::confusion(&many).unwrap();
        assert!(figure.caption.contains("every one is right"));
        assert!(figure.canvas.width() == SIZE.0 && figure.canvas.height() < 600.0);
        let thousand = Confusion {
            labels: labels(1000),
            counts: counts(1000),
        };
        let svg = super::confusion(&thousand).unwrap().canvas.svg_file();
        assert!(svg.len() < 300_000, "{} bytes", svg.len());
        let one = Confusion {
            labels: labels(1),
            counts: counts(1),
        };
        assert!(
            super::confusion(&one).is_none(),
            "one class cannot be confused"
        );
    }

    #[test]
    fn the_mosaic_holds_every_mistake() {
        let run = sample::run();
        let figure = mistakes(&run).unwrap();
        assert_eq!(
            figure.canvas.svg_file().matches("<image ").count(),
            run.mistakes.len()
        );
        let wide = Mistake {
            height: 1,
            width: 4000,
            pixels: vec![0; 4000],
            channels: 1,
            ..run.mistakes[0].clone()
        };
        let run = Run {
            mistakes: vec![wide],
            ..run
        };
        assert!(mistakes(&run).unwrap().canvas.png().is_ok());
    }
}
