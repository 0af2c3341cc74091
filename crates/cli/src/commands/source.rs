//! The finished network that a command is given: the folder of a run, a `.skinny` file, or weights with a recipe.

use std::path::Path;

use skinny::data::DataRoots;
use skinny::interchange::{Options, import_file};
use skinny::model::{Model, Unpacked};
use skinny::network::Preprocess;
use skinny::runtime;
use skinny::train::{Material, Recipe, RunFolder};

use crate::arguments::Which;
use crate::failure::Failure;
use crate::output;

/// A finished network and what it was trained by, if that is known.
pub struct Source {
    /// The network.
    pub model: Unpacked,
    /// The recipe of the run, or the one that was given.
    pub recipe: Option<Recipe>,
    /// Whether the source says what happens to pictures; weights alone do not.
    pub knows_preprocess: bool,
}

/// Whether a path names a `.skinny` file.
pub fn is_skinny(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "skinny")
}

/// Bytes of what prepares pictures, a whitening matrix; they are in a file, but outside the network's size.
pub fn preprocess_bytes(preprocess: &Preprocess) -> u64 {
    (preprocess.tensors().iter())
        .map(|(_, tensor)| 4 * tensor.data.len() as u64)
        .sum()
}

/// Opens what `path` names; `which` chooses among the weights of a run.
pub fn open(path: &Path, which: Which, recipe: Option<&str>) -> Result<Source, Failure> {
    let recipe = recipe.map(|recipe| Recipe::load(recipe, &[])).transpose()?;
    with_recipe(path, which, recipe)
}

/// The same with a recipe that has been read.
pub fn with_recipe(path: &Path, which: Which, recipe: Option<Recipe>) -> Result<Source, Failure> {
    if path.is_file() && which != Which::Last {
        return Err(Failure::usage(format!(
            "{} is a file, which has one set of weights; --weights {} is for run folders, leave it out",
            path.display(),
            which.name()
        )));
    }
    if is_skinny(path) {
        let file = Model::load(path)?;
        let (bytes, most) = (file.unpacked_bytes(), runtime::Options::default().memory);
        if bytes > most {
            return Err(Failure::data(format!(
                "{} has weights of {} once it is unpacked, more than the {} that a file may take; is it from a source that you trust?",
                path.display(),
                output::bytes(bytes),
                output::bytes(most)
            )));
        }
        return Ok(Source {
            model: file.unpack(),
            recipe,
            knows_preprocess: true,
        });
    }
    match recipe {
        Some(recipe) if !path.is_dir() => {
            let network = recipe.network()?;
            let graph = network.graph()?;
            let imported = import_file(path, &graph, &Options::default()).or_else(|error| {
                // They are not under the network's own names: perhaps under those that the recipe knows.
                let options = Options {
                    strict: true,
                    ..recipe.network.import.clone()
                };
                match error.mismatches().is_some() && options != Options::default() {
                    true => import_file(path, &graph, &options),
                    false => Err(error),
                }
            });
            let tensors = imported?.tensors;
            Ok(Source {
                model: Unpacked {
                    network,
                    preprocess: Preprocess::default(),
                    tensors,
                    masks: Default::default(),
                },
                recipe: Some(recipe),
                knows_preprocess: false,
            })
        }
        given => {
            let folder = RunFolder::open(path)?;
            Ok(Source {
                model: folder.unpacked(which.name())?,
                recipe: Some(given.map_or_else(|| folder.recipe(), Ok)?),
                knows_preprocess: true,
            })
        }
    }
}

/// Refuses a recipe by which pictures would be called held out that the run in `path` has learned from.
pub fn refuse_learned(path: &Path, recipe: &Recipe) -> Result<(), Failure> {
    if !path.is_dir() {
        return Ok(());
    }
    let own = RunFolder::open(path)?.recipe()?;
    let data = |recipe: &Recipe| (recipe.data.name.clone(), recipe.place());
    // The held-out pictures are the first of one order, whatever their number.
    match data(&own) == data(recipe) && recipe.data.validation > own.data.validation {
        false => Ok(()),
        true => Err(Failure::usage(format!(
            "{} has learned from pictures that data.validation={} would hold out (it held out {}); train it with so many held out first",
            path.display(),
            recipe.data.validation,
            own.data.validation
        ))),
    }
}

impl Source {
    /// The pictures of a recipe as this network reads them; weights alone learn here what is done to pictures.
    pub fn material(&mut self, recipe: &Recipe, roots: &DataRoots) -> Result<Material, Failure> {
        let graph = self.model.network.graph()?;
        let known = self.knows_preprocess.then_some(&self.model.preprocess);
        let material = Material::load_for(recipe, &graph, roots, known)?;
        self.model.preprocess = material.preprocess.clone();
        self.knows_preprocess = true;
        Ok(material)
    }

    /// The recipe, which says where pictures come from.
    pub fn recipe(&self) -> Result<&Recipe, Failure> {
        self.recipe.as_ref().ok_or_else(|| {
            Failure::usage(
                "a .skinny file does not say which pictures to measure it on; name a recipe that does with --recipe",
            )
        })
    }
}
