//! `--set key=value`, and error messages that know the right key.

use toml::{Table, Value};

use super::one_line;
use crate::RecipeError;

/// Sets one dotted key of a recipe: `train.epochs=3`, `data.augment=["mirror"]`, `sparsity.density=0.1`.
///
/// The value is TOML where it reads as TOML, and a string otherwise.
pub(super) fn set(table: &mut Table, setting: &str) -> Result<(), RecipeError> {
    let malformed = || RecipeError::Setting {
        setting: setting.to_string(),
    };
    let (key, text) = setting.split_once('=').ok_or_else(malformed)?;
    let (key, text) = (key.trim(), text.trim());
    if key.is_empty() {
        return Err(malformed());
    }
    let value = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()));
    insert(table, key, value).map_err(|_| malformed())
}

/// Sets a dotted key.
pub(crate) fn insert(table: &mut Table, key: &str, value: Value) -> Result<(), RecipeError> {
    let malformed = || malformed(key);
    let mut parts = parts(key).ok_or_else(malformed)?;
    let last = parts.pop().ok_or_else(malformed)?;
    let table = table_at(table, parts).ok_or_else(malformed)?;
    table.insert(last, value);
    Ok(())
}

/// Sets a dotted key; a table is laid over the one that is there.
pub(crate) fn lay(table: &mut Table, key: &str, value: Value) -> Result<(), RecipeError> {
    let Value::Table(inner) = value else {
        return insert(table, key, value);
    };
    let parts = parts(key).ok_or_else(|| malformed(key))?;
    let table = table_at(table, parts).ok_or_else(|| malformed(key))?;
    lay_over(table, inner);
    Ok(())
}

fn lay_over(table: &mut Table, inner: Table) {
    for (key, value) in inner {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => lay_over(old, new),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

fn malformed(key: &str) -> RecipeError {
    RecipeError::Value {
        key: key.to_string(),
        reason: "is no key of a recipe; write table and key, for example train.epochs".into(),
    }
}

/// The table that the parts of a key lead to, made where it is missing; none where a part is no table.
fn table_at(table: &mut Table, parts: Vec<String>) -> Option<&mut Table> {
    parts.into_iter().try_fold(table, |table, part| {
        (table.entry(part))
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
    })
}

/// The parts of a dotted key, none of them empty; a part in quotes may have dots itself, as in TOML, and one without may
/// have any other character, as in `sparsity.layers.conv*`.
fn parts(key: &str) -> Option<Vec<String>> {
    if !key.contains(['"', '\'']) {
        let parts = key.split('.').map(str::to_string);
        return parts
            .map(|part| (!part.is_empty()).then_some(part))
            .collect();
    }
    let mut table = format!("{key} = 0").parse::<Table>().ok()?;
    let mut parts = Vec::new();
    loop {
        let mut entries = table.into_iter();
        let (Some((part, value)), None) = (entries.next(), entries.next()) else {
            return None;
        };
        parts.push(part);
        match value {
            Value::Table(inner) => table = inner,
            _ => return Some(parts),
        }
    }
}

/// The last part of a dotted key.
pub(crate) fn last_part(key: &str) -> String {
    (parts(key).and_then(|mut parts| parts.pop())).unwrap_or_else(|| key.to_string())
}

/// Reads TOML.
pub(crate) fn parse(text: &str) -> Result<Table, RecipeError> {
    text.parse()
        .map_err(|error: toml::de::Error| RecipeError::Syntax {
            line: error.span().map_or(1, |span| {
                text[..span.start.min(text.len())].matches('\n').count() + 1
            }),
            reason: one_line(error.message()),
        })
}

/// Turns serde's message into one that names the nearest known key.
pub(crate) fn explain(error: &toml::de::Error) -> RecipeError {
    let message = one_line(error.message());
    let place = place_of(&error.to_string());
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field")
        && let Some(unknown) = quoted.next()
    {
        let known: Vec<&str> = quoted.collect();
        let hint = match nearest(unknown, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys are {}", known.join(", ")),
        };
        return RecipeError::UnknownKey {
            key: unknown.to_string(),
            place,
            hint,
        };
    }
    RecipeError::Invalid {
        place,
        reason: message,
    }
}

/// The `in `a.b`` part of a TOML error, if there is one.
fn place_of(text: &str) -> String {
    text.lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix("in `")?
                .strip_suffix('`')
                .map(str::to_string)
        })
        .unwrap_or_else(|| "the recipe".to_string())
}

/// The known name most like `name`, if one is like it at all.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_toml_or_text() {
        let mut table = Table::new();
        for setting in [
            "a.b=3",
            "a.c = 0.5",
            "a.d=text",
            "e=[1, 2]",
            "f=\"10%\"",
            "g=10%",
            "h.\"fc*.weight\".lr=2",
            "i=1\nj = 2",
            "k.conv*=3",
        ] {
            set(&mut table, setting).unwrap();
        }
        let expected = r#"
            e = [1, 2]
            f = "10%"
            g = "10%"
            a = { b = 3, c = 0.5, d = "text" }
            h = { "fc*.weight" = { lr = 2 } }
            i = "1\nj = 2"
            k = { "conv*" = 3 }
        "#;
        assert_eq!(table, expected.parse().unwrap());
    }

    #[test]
    fn a_setting_without_key_or_value_is_refused() {
        for setting in ["epochs", "=3", "a.=3", ".a=3", "\"a=3", "\"a\" b=3"] {
            assert!(set(&mut Table::new(), setting).is_err(), "{setting}");
        }
    }
}
