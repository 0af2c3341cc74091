//! Standard output: results for people, or JSON for machines. Standard error: notes and progress.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// One JSON object per line instead of text.
    pub json: bool,
}

impl Output {
    /// Prints text, unless JSON is asked for.
    pub fn text(self, text: &str) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        print(text)
    }

    /// Prints a JSON object, if JSON is asked for.
    pub fn object(self, value: &serde_json::Value) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        print(&value.to_string())
    }
}

fn print(text: &str) -> Result<(), Failure> {
    write(format!("{text}\n").as_bytes())
}

/// Writes to standard output; a reader that has gone away (`skinny recipes | head`) is no failure.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// A line on standard error. One that cannot be written is lost, but the work goes on (`skinny train 2>&1 | head`).
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($text)*);
    }};
}
pub(crate) use note;

/// A progress bar on standard error, its length if that is known as yet; none where nobody would see it move.
///
/// The placeholders of `template` are those of [`ProgressStyle`].
pub fn bar(template: &str, length: Option<u64>) -> Option<ProgressBar> {
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    (io::stderr().is_terminal()).then(|| {
        // Each drawing is a write to the terminal; five of them a second are smooth enough.
        let target = ProgressDrawTarget::stderr_with_hz(5);
        ProgressBar::with_draw_target(length, target).with_style(style)
    })
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as kB or MB (powers of ten).
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.2} MB", count as f64 / 1e6),
    }
}

/// What follows the size of a network in a file that also has so many bytes, if any, of what prepares pictures.
pub fn prepares(count: u64) -> String {
    match count {
        0 => String::new(),
        count => format!(
            ", and {} that prepare pictures, outside the network's size",
            bytes(count)
        ),
    }
}

/// A fraction as percent.
pub fn percent(fraction: f64) -> String {
    format!("{:.2} %", 100.0 * fraction)
}

/// Seconds as `3.2 s`, `4 min 05 s` or `2 h 03 min`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {:02} min", s as u64 / 3600, s as u64 % 3600 / 60),
    }
}

/// A table of text: the first column left, the others right, two spaces between.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => line.push_str(&format!("{cell:<width$}")),
                _ => line.push_str(&format!("  {cell:>width$}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.pop();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(60_965_224), "60,965,224");
        assert_eq!(bytes(1_724_320), "1.72 MB");
        assert_eq!(bytes(215_000), "215.0 kB");
        assert_eq!(duration(245.0), "4 min 05 s");
        assert_eq!(duration(7380.0), "2 h 03 min");
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [
            vec!["a".into(), "10".into()],
            vec!["long".into(), "5".into()],
        ];
        assert_eq!(table(&rows), "a     10\nlong   5");
    }
}
