//! Text and tables as well-formed HTML.

use std::fmt::Write as _;

/// Appends `text` such that HTML and XML show it as it is; what no page may hold becomes U+FFFD.
pub fn escape_into(text: &str, html: &mut String) {
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' | '\t' => html.push(character),
            other if other.is_control() || matches!(other, '\u{fffe}' | '\u{ffff}') => {
                html.push('\u{fffd}')
            }
            // Marks that turn the direction of writing would let a name rearrange what stands around it.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => html.push('\u{fffd}'),
            other => html.push(other),
        }
    }
}

/// [`escape_into`] a new text.
pub fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    escape_into(text, &mut html);
    html
}

/// `text` as one word of a shell.
pub fn shell_word(text: &str) -> String {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "._/-+=:@%,".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Text, aligned to the left.
    Text(String),
    /// A number, aligned to the right.
    Number(String),
    /// HTML that is safe already, aligned to the left.
    Html(String),
}

/// A table with a header; rows for which `strong` holds are set off, such as totals.
pub fn table(header: &[&str], rows: &[Vec<Cell>], strong: impl Fn(usize) -> bool) -> String {
    let numeric = |column: usize| {
        rows.iter()
            .any(|row| matches!(row.get(column), Some(Cell::Number(_))))
    };
    let mut html = "<div class=\"wide\"><table><thead><tr>".to_string();
    for (column, name) in header.iter().enumerate() {
        let class = if numeric(column) {
            " class=\"number\""
        } else {
            ""
        };
        let _ = write!(html, "<th scope=\"col\"{class}>{}</th>", escape(name));
    }
    html.push_str("</tr></thead><tbody>");
    for (index, row) in rows.iter().enumerate() {
        html.push_str(if strong(index) {
            "<tr class=\"strong\">"
        } else {
            "<tr>"
        });
        for cell in row {
            let _ = match cell {
                Cell::Text(text) => write!(html, "<td>{}</td>", escape(text)),
                Cell::Number(text) => write!(html, "<td class=\"number\">{}</td>", escape(text)),
                Cell::Html(inner) => write!(html, "<td>{inner}</td>"),
            };
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes() {
        assert_eq!(
            escape("<a href=\"x\" on='y'>&\u{0}\u{202e}"),
            "&lt;a href=&quot;x&quot; on=&#39;y&#39;&gt;&amp;\u{fffd}\u{fffd}"
        );
        assert_eq!(escape("a\nb – Ä 日本"), "a\nb – Ä 日本");
    }

    #[test]
    fn shell_words() {
        assert_eq!(
            shell_word("runs/a-b_1.2/recipe.toml"),
            "runs/a-b_1.2/recipe.toml"
        );
        assert_eq!(shell_word("it's; rm -rf"), "'it'\\''s; rm -rf'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn tables_align_numbers_and_escape() {
        let rows = [vec![Cell::Text("<x>".into()), Cell::Number("1".into())]];
        let html = table(&["name", "n"], &rows, |row| row == 0);
        assert!(
            html.contains("<th scope=\"col\">name</th><th scope=\"col\" class=\"number\">n</th>")
        );
        assert!(
            html.contains(
                "<tr class=\"strong\"><td>&lt;x&gt;</td><td class=\"number\">1</td></tr>"
            )
        );
    }
}
