//! Names of layers in another tool's file and here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{InterchangeError, quote};

/// Replacements for the beginnings of names, at dots: `features.0=conv1` makes `conv1.weight` of `features.0.weight`.
///
/// The longest beginning that fits is replaced, once. An empty new beginning takes the old one away (`module=`), an empty
/// old one puts the new one before every name that no other fits (`=model`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rename {
    /// Old beginnings with the new ones.
    pub beginnings: BTreeMap<String, String>,
}

impl Rename {
    /// Reads replacements, each written `OLD=NEW`.
    ///
    /// # Errors
    /// [`InterchangeError::Rename`] for one without `=`, with nothing around it, or for a beginning given twice.
    pub fn parse<T: AsRef<str>>(pairs: &[T]) -> Result<Self, InterchangeError> {
        let mut rename = Self::default();
        for text in pairs.iter().map(AsRef::as_ref) {
            let refuse = |reason| InterchangeError::Rename {
                text: quote(text),
                reason,
            };
            let (old, new) = (text.split_once('=')).ok_or_else(|| refuse("there is no `=`"))?;
            if old.is_empty() && new.is_empty() {
                return Err(refuse("there is nothing to replace"));
            }
            if (rename.beginnings.insert(old.into(), new.into())).is_some() {
                return Err(refuse("the same name is replaced twice"));
            }
        }
        Ok(rename)
    }

    /// Whether every name stays as it is.
    pub fn is_empty(&self) -> bool {
        self.beginnings.is_empty()
    }

    /// The first old beginning that none of the names has, if there is one.
    pub fn unused<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Option<&str> {
        let begins = |name: &str, old: &str| {
            let rest = name.strip_prefix(old);
            rest.is_some_and(|rest| old.is_empty() || rest.is_empty() || rest.starts_with('.'))
        };
        let mut beginnings = self.beginnings.keys();
        let unused = beginnings.find(|old| !names.clone().any(|name| begins(name, old)));
        unused.map(String::as_str)
    }

    /// The new name of a tensor.
    pub fn apply(&self, name: &str) -> String {
        // From the whole name down to nothing, at each dot.
        let dots = name.rmatch_indices('.').map(|(at, _)| at);
        let ends = std::iter::once(name.len()).chain(dots).chain([0]);
        for end in ends {
            if let Some(new) = self.beginnings.get(&name[..end]) {
                let rest = name[end..].trim_start_matches('.');
                return match (new.is_empty(), rest.is_empty()) {
                    (true, _) => rest.to_owned(),
                    (_, true) => new.clone(),
                    _ => format!("{new}.{rest}"),
                };
            }
        }
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_is_replaced_at_a_dot() {
        let rename =
            Rename::parse(&["features.0=conv1", "features=f", "module=", "a.b.weight=x"]).unwrap();
        for (old, new) in [
            ("features.0.weight", "conv1.weight"),
            ("features.01.weight", "f.01.weight"),
            ("features", "f"),
            ("featuresX.0", "featuresX.0"),
            ("module.fc.bias", "fc.bias"),
            ("a.b.weight", "x"),
            ("a.b.bias", "a.b.bias"),
            ("", ""),
        ] {
            assert_eq!(rename.apply(old), new);
        }
        let all = Rename::parse(&["=model", "fc=fc"]).unwrap();
        assert_eq!(all.apply("conv1.weight"), "model.conv1.weight");
        assert_eq!(all.apply("fc.weight"), "fc.weight");
        let names = ["features.0.weight", "a.b.weight", "module.fc.bias"];
        assert_eq!(rename.unused(names.into_iter()), None);
        assert_eq!(rename.unused(names[..2].iter().copied()), Some("module"));
        let part = Rename::parse(&["feat=x"]).unwrap();
        assert_eq!(part.unused(names.into_iter()), Some("feat"));
        assert_eq!(
            Rename::parse(&["=m"]).unwrap().unused(names.into_iter()),
            None
        );
        assert!(Rename::default().is_empty() && !all.is_empty());
    }

    #[test]
    fn what_is_no_replacement_is_refused() {
        for pairs in [&["a"][..], &["="], &["a=b", "a=c"]] {
            let message = Rename::parse(pairs).unwrap_err().to_string();
            assert!(message.contains("OLD=NEW"), "{message}");
        }
    }
}
