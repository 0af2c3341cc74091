//! A reader of comma-separated values (RFC 4180) that knows the line of every record.

/// One record: its fields and the line on which it begins, from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub line: usize,
    pub fields: Vec<String>,
}

/// Why a text is no table.
#[derive(Debug, PartialEq)]
pub struct CsvError {
    pub line: usize,
    pub what: String,
}

/// Splits `text` into records; empty lines are skipped.
///
/// # Errors
/// A quoted field that never ends, or text right behind a closing quote.
pub fn records(text: &str) -> Result<Vec<Record>, CsvError> {
    let mut records = Vec::new();
    let mut record = Record {
        line: 1,
        fields: Vec::new(),
    };
    let mut field = String::new();
    let mut line = 1;
    let mut characters = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .chars()
        .peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if field.is_empty() => {
                let opened = line;
                loop {
                    match characters.next() {
                        Some('"') if characters.peek() == Some(&'"') => {
                            characters.next();
                            field.push('"');
                        }
                        Some('"') => break,
                        Some(other) => {
                            line += usize::from(other == '\n');
                            field.push(other);
                        }
                        None => {
                            return Err(CsvError {
                                line: opened,
                                what: "a quoted field never ends".into(),
                            });
                        }
                    }
                }
                if !matches!(characters.peek(), None | Some(',' | '\n' | '\r')) {
                    return Err(CsvError {
                        line,
                        what: "text right behind a closing quote".into(),
                    });
                }
            }
            ',' => record.fields.push(std::mem::take(&mut field)),
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' => {
                finish(&mut records, &mut record, &mut field);
                line += 1;
                record.line = line;
            }
            other => field.push(other),
        }
    }
    finish(&mut records, &mut record, &mut field);
    Ok(records)
}

/// Closes a record; one without any text is an empty line.
fn finish(records: &mut Vec<Record>, record: &mut Record, field: &mut String) {
    if !record.fields.is_empty() || !field.is_empty() {
        record.fields.push(std::mem::take(field));
        records.push(Record {
            line: record.line,
            fields: std::mem::take(&mut record.fields),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<Vec<String>> {
        records(text)
            .unwrap()
            .into_iter()
            .map(|record| record.fields)
            .collect()
    }

    #[test]
    fn plain_quoted_and_empty_fields() {
        assert_eq!(fields("a,b\n1,\n"), [["a", "b"], ["1", ""]]);
        assert_eq!(fields("\"x,\"\"y\"\"\",2\r\n"), [["x,\"y\"", "2"]]);
        assert_eq!(fields("a,b"), [["a", "b"]]);
        assert_eq!(fields("\n\na,b\n"), [["a", "b"]]);
        assert!(fields("").is_empty());
    }

    #[test]
    fn lines_are_counted_through_quoted_line_breaks() {
        let read = records("a,b\n\"x\ny\",1\n\nz,2\n").unwrap();
        assert_eq!(
            read.iter().map(|record| record.line).collect::<Vec<_>>(),
            [1, 2, 5]
        );
    }

    #[test]
    fn broken_quotes_name_their_line() {
        assert_eq!(records("a\n\"b").unwrap_err().line, 2);
        assert_eq!(records("a\n\"b\"c").unwrap_err().line, 2);
    }
}
