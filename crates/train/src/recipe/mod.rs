//! A recipe: everything that decides the outcome of a run, as a user writes it.
//!
//! A recipe is TOML. Keys that are left out have defaults; unknown keys are refused with the nearest known
//! one. The resolved recipe, every key with its value, is what a run folder keeps and what hashes are of.

mod builtin;
pub(crate) mod edit;
mod settings;

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use builtin::{BUILT_IN, BuiltIn};
pub use settings::{
    DataSettings, FactorSettings, NetworkSettings, Normalize, PhaseRates, TrainSettings,
};

use skinny_network::{Network, Operation};
use skinny_sparsity::{Method, PlanError, SettingsError, SparsitySettings};

use crate::RecipeError;
use crate::files;
use crate::thinner::thinner;

/// The settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the run; the run folder is called after it.
    pub name: String,
    /// Key of every random choice.
    #[serde(default)]
    pub seed: u64,
    /// What is learned from.
    pub data: DataSettings,
    /// What is trained.
    pub network: NetworkSettings,
    /// How it is trained.
    pub train: TrainSettings,
    /// How it becomes sparse.
    #[serde(default)]
    pub sparsity: SparsitySettings,
}

impl Recipe {
    /// Reads a recipe from TOML after applying `key=value` settings to it.
    pub fn from_toml(text: &str, settings: &[String]) -> Result<Recipe, RecipeError> {
        Recipe::edited(text, |table| {
            (settings.iter()).try_for_each(|setting| edit::set(table, setting))
        })
    }

    fn edited(
        text: &str,
        change: impl FnOnce(&mut toml::Table) -> Result<(), RecipeError>,
    ) -> Result<Recipe, RecipeError> {
        let mut table = edit::parse(text)?;
        change(&mut table)?;
        let recipe: Recipe = Recipe::deserialize(table).map_err(|error| edit::explain(&error))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// A built-in recipe by name, or a recipe file by path.
    pub fn load(name: &str, settings: &[String]) -> Result<Recipe, RecipeError> {
        Recipe::load_edited(name, |table| {
            (settings.iter()).try_for_each(|setting| edit::set(table, setting))
        })
    }

    /// The same, changed in any way before it is looked at.
    pub(crate) fn load_edited(
        name: &str,
        change: impl FnOnce(&mut toml::Table) -> Result<(), RecipeError>,
    ) -> Result<Recipe, RecipeError> {
        if let Some(built_in) = BUILT_IN.iter().find(|built_in| built_in.name == name) {
            return Recipe::edited(built_in.toml, change);
        }
        let path = Path::new(name);
        if path.extension().is_none() && !path.exists() {
            return Err(RecipeError::UnknownRecipe {
                name: name.to_string(),
                nearest: edit::nearest(name, BUILT_IN.iter().map(|built_in| built_in.name))
                    .unwrap_or_else(|| "glyphs-lenet5-iht-10x".to_string()),
            });
        }
        let text = std::fs::read_to_string(path).map_err(|source| RecipeError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let mut recipe = Recipe::edited(&text, change).map_err(|error| RecipeError::InFile {
            path: path.to_path_buf(),
            error: Box::new(error),
        })?;
        // Files and pictures are looked for beside the recipe that names them.
        let NetworkSettings { file, weights, .. } = &mut recipe.network;
        let pictures = &mut recipe.data.path;
        for file in [file, weights, pictures].into_iter().flatten() {
            if let Some(folder) = path.parent()
                && folder.join(&*file).exists()
            {
                *file = folder.join(&*file);
            }
        }
        Ok(recipe)
    }

    /// The whole recipe as TOML, every key written out.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a recipe holds nothing that TOML cannot express")
    }

    /// The network of the run: that of [`Self::whole_network`], for method `small_dense` made thinner.
    pub fn network(&self) -> Result<Network, RecipeError> {
        let network = self.whole_network()?;
        match self.sparsity.method {
            Method::SmallDense => thinner(&network, &self.sparsity),
            _ => Ok(network),
        }
    }

    /// The network that the recipe names.
    pub fn whole_network(&self) -> Result<Network, RecipeError> {
        let mut network = match (&self.network.name, &self.network.file) {
            (Some(name), None) => Network::load(name)?,
            (None, Some(file)) => Network::load(&file.to_string_lossy())?,
            _ => {
                return Err(RecipeError::Value {
                    key: "network".into(),
                    reason:
                        "give either `name` (a network of the zoo) or `file` (a network's TOML)"
                            .into(),
                });
            }
        };
        if let Some(classes) = self.network.classes {
            let last =
                network
                    .layers
                    .iter_mut()
                    .rev()
                    .find_map(|layer| match &mut layer.operation {
                        Operation::Conv(conv) => Some(&mut conv.out),
                        Operation::Linear(linear) => Some(&mut linear.out),
                        _ => None,
                    });
            if let Some(out) = last {
                *out = classes;
            }
        }
        if self.train.init_everywhere {
            for layer in &mut network.layers {
                layer.init.weight = None;
            }
        }
        Ok(network)
    }

    /// The same run without sparsity: same seed, epochs, schedule and data.
    pub fn dense_twin(&self) -> Recipe {
        let mut twin = self.clone();
        twin.sparsity = SparsitySettings::default();
        twin.name = match self.name.split_once("-iht") {
            Some((stem, _)) => format!("{stem}-dense"),
            None => format!("{}-dense", self.name),
        };
        twin
    }

    /// SHA-256 over every setting but name and seed, over the network itself and over the weights that it starts from,
    /// in hexadecimal. Where data and files lie does not matter; pictures of the user's own are told apart by [`Self::place`].
    pub fn settings_hash(&self, network: &Network) -> String {
        let mut settings = self.clone();
        settings.name = String::new();
        settings.seed = 0;
        settings.network = NetworkSettings::default();
        settings.data.path = None;
        // JSON of a struct has its fields in a fixed order, whatever the order of the user's file.
        let settings = serde_json::to_string(&settings).expect("a recipe is plain data");
        let mut hasher = Sha256::new();
        hasher.update(settings.as_bytes());
        hasher.update(network.to_toml().as_bytes());
        // What cannot be read is refused where it is used.
        if let Some(weights) = (network.graph().ok())
            .and_then(|graph| self.starting_weights(&graph).ok())
            .flatten()
        {
            for (name, tensor) in weights.tensors.iter() {
                hasher.update(name.as_bytes());
                for values in tensor.data.chunks(1 << 12) {
                    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                    hasher.update(&bytes);
                }
            }
        }
        hex(&hasher.finalize())
    }

    /// Where pictures of the user's own lie, by which alone they are known; none of published sets.
    pub fn place(&self) -> Option<String> {
        let path = self.data.path.as_deref()?;
        let place = path
            .canonicalize()
            .or_else(|_| std::path::absolute(path))
            .unwrap_or_else(|_| path.to_path_buf());
        (self.data.name == "folder").then(|| place.to_string_lossy().into_owned())
    }

    fn validate(&self) -> Result<(), RecipeError> {
        let refuse = |key: &str, reason: &str| {
            Err(RecipeError::Value {
                key: key.into(),
                reason: reason.into(),
            })
        };
        if !files::is_plain(&self.name) {
            return refuse(
                "name",
                "use letters, digits, `-`, `_` and `.`; the run folder is called after it",
            );
        }
        if self.data.path.is_some() && self.data.name != "folder" {
            return refuse(
                "data.path",
                "is for pictures of your own, `name = \"folder\"`; say where a published set lies with --data DIR or SKINNY_DATA",
            );
        }
        if self.network.name.is_some() == self.network.file.is_some() {
            return refuse(
                "network",
                "give either `name` (a network of the zoo) or `file` (a network's TOML)",
            );
        }
        if let Err(error) = self.network.import.check() {
            return refuse("network.import", &error.to_string());
        }
        if let Some(density) = self.sparsity.density
            && !(density > 0.0 && density <= 1.0)
        {
            // Before a ramp makes other densities of it.
            return Err(SettingsError::from(PlanError::Density { density }).into());
        }
        self.data.validate()?;
        self.train.validate()
    }
}

/// A hash as text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A message without line breaks.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn pictures_are_looked_for_beside_the_recipe() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        std::fs::create_dir(place("pictures")).unwrap();
        for (path, found) in [
            ("pictures", place("pictures")),
            ("src", PathBuf::from("src")),
        ] {
            let text = format!(
                "name = 'a'\ndata = {{ name = 'folder', path = '{path}' }}\nnetwork = {{ name = 'lenet5' }}\ntrain = {{}}\nsparsity = {{}}"
            );
            std::fs::write(place("recipe.toml"), text).unwrap();
            let recipe = Recipe::load(place("recipe.toml").to_str().unwrap(), &[]).unwrap();
            assert_eq!(recipe.data.path, Some(found));
        }
    }

    #[test]
    fn own_pictures_are_known_by_their_place_and_others_by_their_name() {
        let of = |data: &str| {
            let text = format!(
                "name = 'a'\ndata = {{ {data} }}\nnetwork = {{ name = 'lenet5' }}\ntrain = {{}}\nsparsity = {{}}"
            );
            Recipe::from_toml(&text, &[])
        };
        let recipe = |path: &str| of(&format!("name = 'folder', path = '{path}'")).unwrap();
        let place = |path: &str| recipe(path).place().unwrap();
        assert_eq!(place("src"), place("src/../src"));
        assert_ne!(place("src"), place("tests"));
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            place("nowhere"),
            place(here.join("nowhere").to_str().unwrap())
        );
        assert_eq!(of("name = 'mnist'").unwrap().place(), None);
        assert!(of("name = 'mnist', path = 'src'").is_err());
        let hash = |path: &str| {
            let recipe = recipe(path);
            recipe.settings_hash(&recipe.network().unwrap())
        };
        assert_eq!(
            hash("src"),
            hash("tests"),
            "a run whose pictures moved goes on"
        );
    }
}
