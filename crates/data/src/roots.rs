//! Where data is looked for.

use std::env;
use std::path::{Path, PathBuf};

use crate::DataError;

/// The folder `part` of the user's cache of skinny (`$XDG_CACHE_HOME/skinny` or `~/.cache/skinny`), for what can be
/// computed again; `None` if the user has no home.
#[must_use]
pub fn cache_folder(part: &str) -> Option<PathBuf> {
    cache(&|name: &str| env::var_os(name).map(PathBuf::from), part)
}

fn cache(variable: &impl Fn(&str) -> Option<PathBuf>, part: &str) -> Option<PathBuf> {
    set(variable, "XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set(variable, "HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("skinny").join(part))
}

/// A variable; an empty one counts as unset, as the XDG specification has it.
fn set(variable: &impl Fn(&str) -> Option<PathBuf>, name: &str) -> Option<PathBuf> {
    variable(name).filter(|path| !path.as_os_str().is_empty())
}

/// The folders in which data is looked for: that of `--data DIR` alone, or else first `$SKINNY_DATA` and then the user's
/// cache (`$XDG_CACHE_HOME/skinny/data` or `~/.cache/skinny/data`).
///
/// Each holds the folders of the publishers' archives side by side: `mnist/`, `fashion-mnist/`, ….
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRoots {
    places: Vec<PathBuf>,
}

impl DataRoots {
    /// The places of this process; `given` is the folder of `--data DIR`.
    #[must_use]
    pub fn new(given: Option<&Path>) -> Self {
        Self::from_variables(given, |name| env::var_os(name).map(PathBuf::from))
    }

    /// Exactly these places, first to last.
    #[must_use]
    pub fn from_places(places: Vec<PathBuf>) -> Self {
        Self { places }
    }

    fn from_variables(given: Option<&Path>, variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        if let Some(given) = given {
            return Self::from_places(vec![given.to_owned()]);
        }
        let set = |name: &str| set(&variable, name);
        let cache = cache(&variable, "data");
        let mut places: Vec<PathBuf> = Vec::new();
        for place in set("SKINNY_DATA").into_iter().chain(cache) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Self { places }
    }

    /// The places, first to last.
    #[must_use]
    pub fn places(&self) -> &[PathBuf] {
        &self.places
    }

    /// Where `skinny data fetch` puts what it downloads: the first place.
    ///
    /// # Errors
    /// [`DataError::Setting`] if there is no place at all (no `--data`, `$SKINNY_DATA` or `$HOME`).
    pub fn download_folder(&self) -> Result<&Path, DataError> {
        self.places
            .first()
            .map(PathBuf::as_path)
            .ok_or_else(|| DataError::Setting {
                key: "--data".into(),
                reason: "no folder for data is known; give one with --data DIR or set SKINNY_DATA"
                    .into(),
            })
    }

    /// The files of set `name`: the first place whose `folder` holds every one of `files`, each under its
    /// own name or with `.gz` added (the plain one is taken if both are there). A place that is itself
    /// called `folder` is taken as the folder.
    ///
    /// # Errors
    /// [`DataError::Missing`] listing the places, or what an incomplete one lacks.
    pub fn find(
        &self,
        name: &str,
        folder: &str,
        files: &[&str],
    ) -> Result<Vec<PathBuf>, DataError> {
        let mut incomplete = None;
        for place in self.folders(folder) {
            let found: Vec<Option<PathBuf>> = files
                .iter()
                .map(|file| {
                    [place.join(file), place.join(format!("{file}.gz"))]
                        .into_iter()
                        .find(|path| path.is_file())
                })
                .collect();
            if found.iter().all(Option::is_some) {
                return Ok(found.into_iter().flatten().collect());
            }
            if incomplete.is_none() && found.iter().any(Option::is_some) {
                let lacking: Vec<&str> = files
                    .iter()
                    .zip(&found)
                    .filter(|(_, found)| found.is_none())
                    .map(|(file, _)| *file)
                    .collect();
                incomplete = Some(format!(
                    "{} (it lacks {})",
                    place.display(),
                    lacking.join(", ")
                ));
            }
        }
        Err(DataError::Missing {
            name: name.to_owned(),
            places: incomplete.unwrap_or_else(|| self.describe(folder)),
            cure: format!(
                "run `skinny data fetch {name}`, or say where it is with --data DIR or SKINNY_DATA"
            ),
        })
    }

    fn folders(&self, folder: &str) -> impl Iterator<Item = PathBuf> {
        self.places.iter().flat_map(move |place| {
            let itself = place
                .file_name()
                .is_some_and(|name| name == folder)
                .then(|| place.clone());
            [place.join(folder)].into_iter().chain(itself)
        })
    }

    fn describe(&self, folder: &str) -> String {
        let places: Vec<String> = self
            .places
            .iter()
            .map(|place| place.join(folder).display().to_string())
            .collect();
        match places.as_slice() {
            [] => "no place at all".into(),
            [only] => only.clone(),
            [first @ .., last] => format!("{} or {last}", first.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn places(given: Option<&str>, variables: &[(&str, &str)]) -> Vec<String> {
        let roots = DataRoots::from_variables(given.map(Path::new), |name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| PathBuf::from(value))
        });
        roots
            .places()
            .iter()
            .map(|place| place.display().to_string())
            .collect()
    }

    fn fill(folder: &Path, files: &[&str]) {
        fs::create_dir_all(folder).unwrap();
        for file in files {
            fs::write(folder.join(file), "x").unwrap();
        }
    }

    #[test]
    fn a_folder_that_is_given_is_the_only_one_and_else_the_variable_comes_before_the_cache() {
        let all = [
            ("SKINNY_DATA", "/s"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        assert_eq!(places(Some("d"), &all), ["d"]);
        assert_eq!(places(None, &all), ["/s", "/x/skinny/data"]);
        assert_eq!(places(None, &all[2..]), ["/h/.cache/skinny/data"]);
        assert_eq!(
            places(
                None,
                &[("SKINNY_DATA", ""), ("XDG_CACHE_HOME", "x"), ("HOME", "/h")]
            ),
            ["/h/.cache/skinny/data"]
        );
        assert_eq!(places(None, &[all[0], ("HOME", "/h")])[0], "/s");
        assert!(places(None, &[]).is_empty());
        assert!(DataRoots::from_places(vec![]).download_folder().is_err());
        let roots = DataRoots::from_places(vec!["a".into(), "b".into()]);
        assert_eq!(roots.download_folder().unwrap(), Path::new("a"));
    }

    #[test]
    fn the_first_complete_place_wins() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        fill(&a.join("set"), &["one"]);
        fill(&b.join("set"), &["one.gz", "two", "two.gz"]);
        let roots = DataRoots::from_places(vec![a.clone(), b.clone()]);
        let found = roots.find("set", "set", &["one", "two"]).unwrap();
        assert_eq!(found, [b.join("set/one.gz"), b.join("set/two")]);
        fill(&a.join("set"), &["two.gz"]);
        let found = roots.find("set", "set", &["one", "two"]).unwrap();
        assert_eq!(found, [a.join("set/one"), a.join("set/two.gz")]);
    }

    #[test]
    fn the_folder_itself_may_be_given_but_only_under_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("set");
        fill(&set, &["one"]);
        let roots = DataRoots::from_places(vec![set.clone()]);
        assert_eq!(
            roots.find("set", "set", &["one"]).unwrap(),
            [set.join("one")]
        );
        // Another set with files of the same names must not be taken for this one.
        assert!(roots.find("other", "other", &["one"]).is_err());
    }

    #[test]
    fn what_is_not_found_lists_the_places_and_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        let roots = DataRoots::from_places(vec![a.clone(), b.clone()]);
        let message = roots
            .find("mnist", "mnist", &["one", "two"])
            .unwrap_err()
            .to_string();
        for part in [
            &*a.join("mnist").to_string_lossy(),
            &*b.join("mnist").to_string_lossy(),
            "skinny data fetch mnist",
        ] {
            assert!(message.contains(part), "{message}");
        }
        fill(&b.join("mnist"), &["one"]);
        let message = roots
            .find("mnist", "mnist", &["one", "two"])
            .unwrap_err()
            .to_string();
        assert!(message.contains("it lacks two"), "{message}");
        let message = DataRoots::from_places(vec![])
            .find("x", "x", &[])
            .unwrap_err()
            .to_string();
        assert!(message.contains("no place at all"), "{message}");
    }
}
