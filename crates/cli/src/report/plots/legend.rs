//! The legend of a drawing: what each colour stands for, in rows below the title.

use super::{Anchor, Canvas, fit, ink, text_width};

/// Size of the text.
const TEXT: u32 = 13;

/// Height of a row.
const ROW: f64 = 18.0;

/// Centre of the first row, below a title.
const FIRST: f64 = 43.0;

/// Name, colour and whether dashed.
pub type Entry = (String, &'static str, bool);

/// Entries in rows, each as wide as the drawing allows.
#[derive(Debug, Clone)]
pub struct Legend {
    rows: Vec<Vec<(String, Mark)>>,
}

/// How a legend shows a series.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mark {
    Line(&'static str, bool),
    Band,
}

impl Legend {
    /// The legend of `series`, and of the bands of sparse phases if there are some, in a drawing of this width.
    pub fn new(series: &[Entry], bands: bool, width: f64) -> Legend {
        let width = width - 24.0;
        let mut entries: Vec<_> = series
            .iter()
            .map(|(name, ink, dashed)| (fit(name, TEXT, width - 40.0), Mark::Line(ink, *dashed)))
            .collect();
        if bands {
            entries.push(("sparse phase".to_string(), Mark::Band));
        }
        let mut rows: Vec<Vec<(String, Mark)>> = Vec::new();
        let mut used = f64::INFINITY;
        for entry in entries {
            let needed = entry_width(&entry.0);
            if used + needed > width + 16.0 {
                rows.push(Vec::new());
                used = 0.0;
            }
            used += needed;
            if let Some(row) = rows.last_mut() {
                row.push(entry);
            }
        }
        Legend { rows }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Height of all rows.
    pub fn height(&self) -> f64 {
        ROW * self.rows.len() as f64
    }

    /// Draws the rows below the title.
    pub fn draw(&self, canvas: &mut Canvas) {
        for (row, entries) in self.rows.iter().enumerate() {
            let mut x = 12.0;
            let y = FIRST + ROW * row as f64;
            for (name, mark) in entries {
                match mark {
                    Mark::Line(ink, dashed) => {
                        canvas.polyline(vec![(x, y), (x + 18.0, y)], ink, 2.4, *dashed)
                    }
                    Mark::Band => canvas.rect((x, y - 6.0), (18.0, 12.0), ink::SPARSE, 0.2),
                }
                canvas.text((x + 23.0, y + 4.5), name, TEXT, Anchor::Start, ink::MUTED);
                x += entry_width(name);
            }
        }
    }
}

fn entry_width(name: &str) -> f64 {
    text_width(name, TEXT) + 23.0 + 16.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legends_wrap() {
        let series: Vec<_> = (0..9)
            .map(|index| (format!("a long layer name {index}"), ink::TRAIN, false))
            .collect();
        let legend = Legend::new(&series, true, 480.0);
        assert!(legend.rows() > 2);
        assert_eq!(legend.height(), 18.0 * legend.rows() as f64);
        assert_eq!(legend.rows.iter().map(Vec::len).sum::<usize>(), 10);
        assert_eq!(Legend::new(&[], false, 480.0).rows(), 0);
    }
}
